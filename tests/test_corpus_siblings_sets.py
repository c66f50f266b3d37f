"""Shapes of data sets of the hub: questions with passages and choices, chats that are one text, printed arrays."""

import json

import pytest

from tests.test_corpus_formats import lines, made, said

PASSAGE = "На куполе стоит статуя, её видно с моря."
SQUAD = {"context": PASSAGE, "question": "Что на куполе?", "title": "Собор"}
ASKED = f"Что на куполе?\n\n{PASSAGE}"


@pytest.mark.parametrize(
    "answers",
    [
        {"text": ["статуя"], "answer_start": [17]},
        [{"text": "статуя", "answer_start": 17}],
        "{'text': ['статуя'], 'answer_start': [17]}",
        "{'text': array(['статуя'], dtype=object), 'answer_start': array([17], dtype=int32)}",
    ],
    ids=["hub", "file", "cell", "cell of numpy"],
)
def test_an_answer_out_of_a_passage_is_the_reply(tmp_path, answers):
    assert said(made(tmp_path, "a.jsonl", lines([SQUAD | {"answers": answers}]))) == [
        [("user", ASKED), ("assistant", "статуя")]
    ]


def test_a_file_of_squad_is_a_row_a_question(tmp_path):
    qas = [
        {"question": SQUAD["question"], "answers": [{"text": "статуя", "answer_start": 17}] * 2},
        {"question": "Кто её лепил?", "is_impossible": True, "answers": []},
    ]
    data = {"version": "v2.0", "data": [{"title": "Собор", "paragraphs": [{"context": PASSAGE, "qas": qas}]}]}
    card = made(tmp_path, "a.json", json.dumps(data))
    assert (said(card), card["reasons"]) == ([[("user", ASKED), ("assistant", "статуя")]], {"empty_reply": 1})


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"choices": {"text": ["Солнце", "Марс"], "label": ["A", "B"]}, "answerKey": "B"}, "Солнце\nМарс"),
        ({"choices": {"text": ["Солнце", "Марс"], "label": ["1", "2"]}, "answerKey": "2"}, "Солнце\nМарс"),
        ({"options": ["A) Солнце", "B) Марс"], "answer": "B"}, "A) Солнце\nB) Марс"),
        ({"options": {"A": "Солнце", "B": "Марс"}, "answer": "Марс"}, "Солнце\nМарс"),
        ({"A": "Солнце", "B": "Марс", "answer": "B"}, "Солнце\nМарс"),
        ({"choices": "['Солнце' 'Марс']", "answer": "1"}, "Солнце\nМарс"),
    ],
)
def test_a_question_has_its_choices_and_the_reply_is_one_of_them(tmp_path, row, asked):
    card = made(tmp_path, "a.jsonl", lines([{"question": "Что из этого планета?"} | row]))
    assert said(card) == [[("user", f"Что из этого планета?\n\n{asked}"), ("assistant", "Марс")]]


def test_what_would_be_lost_of_a_row_sets_it_aside(tmp_path):
    rows = [
        {"question": "q", "choices": ["x", "y"], "answer": 7},
        {"question": "q", "context": {"title": ["t"], "sentences": [["a"]]}, "answer": "a"},
        {"question": "q", "answer": {"value": "a", "aliases": []}},
        {"instruction": "q", "output": "nan"},
        {"question": "q", "answer": "a"},
    ]
    card = made(tmp_path, "a.jsonl", lines(rows))
    assert said(card) == [[("user", "q"), ("assistant", "a")]]
    assert card["reasons"] == {"nested_field": 2, "no_such_choice": 1, "empty_reply": 1}


@pytest.mark.parametrize("empty", ["<noinput>", "No input", "nan", "None"])
def test_a_word_for_no_input_is_none(tmp_path, empty):
    card = made(tmp_path, "a.jsonl", lines([{"instruction": "Дай совет", "input": empty, "output": "Спи"}]))
    assert said(card) == [[("user", "Дай совет"), ("assistant", "Спи")]]
    assert card["repairs"] == {"placeholder_dropped": 1}


@pytest.mark.parametrize(
    "text",
    [
        "### Human: привет### Assistant: и тебе### Human: ещё### Assistant: да",
        "<|im_start|>user\nпривет<|im_end|>\n<|im_start|>assistant\nи тебе<|im_end|>\n"
        "<|im_start|>user\nещё<|im_end|>\n<|im_start|>assistant\nда<|im_end|>",
        "<s>[INST] привет [/INST] и тебе </s><s>[INST] ещё [/INST] да </s>",
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nпривет<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nи тебе<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nещё<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nда<|eot_id|>",
        "<bos><start_of_turn>user\nпривет<end_of_turn>\n<start_of_turn>model\nи тебе<end_of_turn>\n"
        "<start_of_turn>user\nещё<end_of_turn>\n<start_of_turn>model\nда<end_of_turn>\n",
        "<|user|>\nпривет</s>\n<|assistant|>\nи тебе</s>\n<|user|>\nещё</s>\n<|assistant|>\nда</s>",
        "USER: привет ASSISTANT: и тебе</s>USER: ещё ASSISTANT: да</s>",
    ],
    ids=["guanaco", "chatml", "llama2", "llama3", "gemma", "zephyr", "vicuna"],
)
def test_a_chat_that_is_one_text_with_the_marks_of_a_template_is_a_chat(tmp_path, text):
    turns = [("user", "привет"), ("assistant", "и тебе"), ("user", "ещё"), ("assistant", "да")]
    card = made(tmp_path, "a.jsonl", lines([{"text": text}, {"text": text}]))
    assert (said(card), card["repairs"]) == ([turns, turns], {"template_read": 2})


def test_words_before_the_marks_are_the_system_turn(tmp_path):
    prompt = "Below is an instruction.\n\n### Instruction:\nПереведи\n\n### Input:\ncat\n\n### Response:\nкот"
    llama = "<s>[INST] <<SYS>>\nКратко.\n<</SYS>>\n\nКто ты? [/INST] Бот </s>"
    assert said(made(tmp_path, "a.jsonl", lines([{"text": prompt}, {"text": llama}]))) == [
        [("system", "Below is an instruction."), ("user", "Переведи\n\ncat"), ("assistant", "кот")],
        [("system", "Кратко."), ("user", "Кто ты?"), ("assistant", "Бот")],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "In ChatML a turn begins with <|im_start|>user and ends with <|im_end|>.",
        "<|im_start|>user\nтолько вопрос<|im_end|>",
        "Use ### Human: before the question.",
        "[/INST] begins the reply of [INST].",
        "Use this:\n\n### Instruction:\n{question}\n\n### Response:\n",
    ],
)
def test_a_text_about_templates_stays_a_text(tmp_path, text):
    assert said(made(tmp_path, "a.jsonl", lines([{"text": text}] * 2))) == [text] * 2


def test_printed_arrays_keep_their_items_apart(tmp_path):
    code = r"def f():\n    return {}\n {"
    cell = f"[{{'from': 'human', 'value': 'it\\'s \"q\" }}\\n {{'}}\n {{'from': 'gpt', 'value': '{code}'}}]"
    doubled = cell.replace('"', '""')
    turns = [("user", 'it\'s "q" }\n {'), ("assistant", "def f():\n    return {}\n {")]
    assert said(made(tmp_path, "a.csv", f'conversations\n"{doubled}"\n')) == [turns]


def test_the_only_list_of_turns_is_the_chat_whatever_its_name(tmp_path):
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    rows = [{"id": "1", "items": turns}, {"log": turns, "meta": [{"k": 1}]}, {"one": turns, "two": turns}]
    card = made(tmp_path, "a.jsonl", lines(rows))
    assert (said(card), card["reasons"]) == ([[("user", "q"), ("assistant", "a")]] * 2, {"unknown_fields": 1})
