"""Bad manners of models on a fake server: no bad row gets in, no good one is lost or changed."""

import json
import random
import time

import pytest

from core import events, files, jobs
from core.corpus import corpus, storage
from core.errors import UserError
from core.synth import endpoint, prompts, recipes, replies, synth_jobs, worker
from core.synth.replies import Reply
from tests.endpoint_server import Server, answer, serving

GOOD = "The ferry leaves at six, and the baker counts his loaves twice before he lets the gulls have one."
ГУД = "Паром уходит в шесть, и пекарь дважды считает хлебы, прежде чем отдать один чайкам."
# A reply and the text that is kept of it.
KEPT = {
    "thinking": (f"<think>Let me see.\nA baker.</think>\n\n{GOOD}", GOOD),
    "thinking without its opening tag": (f"A baker, then. Gulls.\n</think>\n\n{GOOD}", GOOD),
    "thinking twice": (f"<think>a</think><think>b</think>{GOOD}", GOOD),
    "thinking of Magistral": (f"[THINK]Хм.[/THINK]{ГУД}", ГУД),
    "channels of gpt-oss": (
        f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}<|return|>",
        GOOD,
    ),
    "end of a turn": (f"{GOOD}<|im_end|>", GOOD),
    "a turn too many": (f"{GOOD}<|im_end|>\n<|im_start|>user\nThanks!", GOOD),
    "a conversation with itself": (f"{GOOD}\n\nUser: Thank you!\nAssistant: You are welcome.", GOOD),
    "the same in bold": (f"{ГУД}\n\n**Пользователь:** Спасибо!\n**Ассистент:** Пожалуйста.", ГУД),
    "its own name": (f"**Assistant:** {GOOD}", GOOD),
    "here is the letter": (f"Here is the letter:\n\n{GOOD}", GOOD),
    "sure": (f"Sure! Here's a short note by a baker about the sea:\n\n{GOOD}", GOOD),
    "certainly, without a break": (f"Certainly! Here is the note: {GOOD}", GOOD),
    "consent alone": (f"Of course! I'd be happy to help with that.\n\n{GOOD}", GOOD),
    "вот письмо": (f"Вот письмо:\n\n{ГУД}", ГУД),
    "конечно, вот": (f"Конечно! Вот письмо от лица пекаря о море:\n\n{ГУД}", ГУД),
    "конечно": (f"Конечно!\n\n{ГУД}", ГУД),
    "a label": (f"**Письмо:**\n{ГУД}", ГУД),
    "rules around it": (f"Here is the text:\n\n---\n\n{GOOD}\n\n---", GOOD),
    "a fence around it": (f"```text\n{GOOD}\n```", GOOD),
    "let me know": (f"{GOOD}\n\nLet me know if you'd like me to adjust the tone!", GOOD),
    "would you like": (f"{GOOD}\n\nWould you like me to write another version?", GOOD),
    "hope this helps": (f"{GOOD} I hope this helps!", GOOD),
    "надеюсь": (f"{ГУД}\n\nНадеюсь, это поможет!", ГУД),
    "дайте знать": (f"{ГУД}\n\nДайте знать, если нужно что-то изменить.", ГУД),
    "если хотите": (f"{ГУД}\n\nЕсли хотите, могу переписать в другом стиле.", ГУД),
    "count of words": (f"{GOOD}\n\n(Word count: 18)", GOOD),
    "число слов": (f"{ГУД}\n\n*Количество слов: 14*", ГУД),
    "both ends": (f"<think>x</think>Sure thing! Here is the story:\n\n{GOOD}\n\nHope this helps! Let me know if you need anything else.", GOOD),
    "the order repeated": (f"**Topic:** the sea\n**Style:** dry\n\n{GOOD}", GOOD),
    "заказ повторён": (f"Тема: море. Манера: сухо.\n\n{ГУД}", ГУД),
    "thought tag": (f"<thought>\nWho is the baker?\n</thought>\n{GOOD}", GOOD),
    "reasoning tag": (f"<reasoning>Hm.</reasoning>\n\n{GOOD}", GOOD),
    "seed think": (f"<seed:think>Hm.</seed:think>{GOOD}", GOOD),
    "upper think": (f"<THINK>Hm.</THINK>\n{GOOD}", GOOD),
    "end of text": (f"{GOOD}<|endoftext|>", GOOD),
    "eot": (f"{GOOD}<|eot_id|>", GOOD),
    "</s>": (f"<s>{GOOD}</s>", GOOD),
    "gemma turn": (f"{GOOD}<end_of_turn>", GOOD),
    "answer tags": (f"<answer>\n{GOOD}\n</answer>", GOOD),
    "quoted whole": (f"«{ГУД}»", ГУД),
    "heading": (f"## Письмо\n\n{ГУД}", ГУД),
    "Absolutely": (f"Absolutely! Here's your note:\n\n{GOOD}", GOOD),
    "Below is": (f"Below is the note you asked for:\n\n{GOOD}", GOOD),
    "хорошо": (f"Хорошо, вот текст:\n\n{ГУД}", ГУД),
    "с удовольствием": (f"С удовольствием! Вот заметка:\n\n{ГУД}", ГУД),
    "ниже": (f"Ниже приведена заметка пекаря о море:\n\n{ГУД}", ГУД),
    "вот мой вариант": (f"Вот мой вариант:\n\n{ГУД}", ГУД),
    "вот такой текст получился": (f"Вот такой текст получился:\n\n{ГУД}", ГУД),
    "feel free": (f"{GOOD}\n\nFeel free to ask if you need any changes.", GOOD),
    "is there anything else": (f"{GOOD}\n\nIs there anything else I can help you with?", GOOD),
    "note": (f"{GOOD}\n\nNote: I kept the tone dry, as requested.", GOOD),
    "примечание": (f"{ГУД}\n\nПримечание: я сохранил сухой тон, как вы просили.", ГУД),
    "надеюсь вам понравится": (f"{ГУД}\n\nНадеюсь, вам понравится!", ГУД),
    "обращайтесь": (f"{ГУД}\n\nЕсли будут вопросы, обращайтесь!", ГУД),
    "хотите": (f"{ГУД}\n\nХотите, я сделаю ещё один вариант?", ГУД),
    "emoji offer": (f"{ГУД}\n\n😊 Если нужно что-то изменить — скажите!", ГУД),
    "okay so": (f"Okay, here is the note:\n\n{GOOD}", GOOD),
    "as requested": (f"As requested, here is a note by a baker about the sea:\n\n{GOOD}", GOOD),
    "bom": (f"\ufeff{GOOD}", GOOD),
    "crlf": (f"Here is the note:\r\n\r\n{GOOD}\r\n", GOOD),
    "zero width": (f"\u200b{GOOD}\u200b", GOOD),
    "json wrapped": (json.dumps({"text": GOOD}), GOOD),
    "star wrapped": (f"**{GOOD}**", GOOD),
    "user turn first": (f"<|im_start|>assistant\n{GOOD}<|im_end|>", GOOD),
}  # fmt: skip
# Replies that only look so: they stay as they are.
LOOKALIKES = [
    "Вот письмо, которое никто не отправил. Оно лежит в ящике с марта, и марка на нём уже стоит дороже конверта.",
    "Here is a letter that nobody read: it lay under the stove from March to May, and the stove knew it by heart.",
    "Here is the truth: the baker never liked the sea. He liked the road to it, and the road back.",
    "Конечно, паром опоздал. Конечно, пекарь этого ждал и взял с собой хлеб на двоих.",
    "— Я не могу помочь вам, — сказал пекарь. — Муки нет с четверга, и лодки тоже нет.",
    '"I\'m sorry, but I can\'t help with that," said the clerk, and slid the form back under the glass.',
    "I can't sleep when the tide is in. The boats knock on the wall like neighbours who have lost a key.",
    "I'm sorry, Mum, that I did not write sooner. The post leaves on Fridays, and on Fridays I bake.",
    "К сожалению, я не смогу приехать в субботу: паром стоит, а пешком по морю ходил только один.",
    "Я не могу забыть тот хлеб. Он был тёплый, и в кармане от него до вечера было лето.",
    "The log of that night has one line: User: admin, and nobody on the ferry was called that.",
    "Run it like this:\n\n```yaml\nUser: baker\nAssistant: gull\n```\n\nThen close the hatch before the spray gets in.",
    "```python\nprint('the ferry leaves at six')\n```",
    "The tag `</think>` ends the thinking of a model; what comes after it is what the person reads.",
    "Write to me soon. Let me know if you can come on Sunday, the boat has room for two and a loaf.",
    "Море шумит, как будто ищет слово.\n\nНадеюсь, это письмо поможет тебе решиться.\n\nТвоя Анна",
    "Как ИИ отличает шторм от штиля, пекарь не знал, но по тесту он угадывал погоду за день.",
    "## Паром\n\nПекарь вышел затемно и вернулся с тремя хлебами и одной чайкой, которая шла за ним пешком.",
    '{"port": "Narva", "loaves": "seven"}',
    "«Не беру», — сказал пекарь, и чайка ушла. «Возьми», — сказал паромщик и положил на прилавок рыбу.",
    "He rang twice. He rang twice more. Nobody came but the gull, and the gull had its own key to the bakery.",
    "Error is what the pilot called it. The baker called it Thursday, and tried again on Friday with less salt.",
    "Тема: у моря всегда одна. Пекарь слышал её каждое утро и всё равно не запомнил.",
]  # fmt: skip
# A reply and why nothing is kept of it.
ASIDE = {
    "cut": (Reply(GOOD, "length"), "cut"),
    "a budget eaten by thinking": (Reply("<think>A baker, then.", "length"), "thinking_budget"),
    "a budget eaten apart from the text": (Reply("", "length", reasoning="A baker."), "thinking_budget"),
    "thinking without an end": (Reply("<think>A baker, then."), "thinking"),
    "thinking and no answer": (Reply("", reasoning="A baker."), "thinking"),
    "nothing but thinking": (Reply("<think>A baker.</think>"), "empty"),
    "marks of a template": (Reply(f"{GOOD} [INST] go on [/INST]"), "marks"),
    "refusal": (Reply("I'm sorry, but I can't help with that."), "refusal"),
    "refusal after thinking": (Reply("<think>no</think>I cannot assist with that request."), "refusal"),
    "refusal as an AI": (Reply("As an AI language model, I cannot have opinions about bakers or the sea."), "refusal"),
    "a long refusal": (Reply("I'm unable to write this. It could be harmful to bakers. Instead, I can offer a note about gulls, a list of ports, or a poem about bread; tell me which you would prefer and I will begin."), "refusal"),
    "a refusal with thanks": (Reply("Thank you for your request. Unfortunately, I can't create that content."), "refusal"),
    "отказ": (Reply("Извините, но я не могу помочь с этим запросом."), "refusal"),
    "отказ написать": (Reply("К сожалению, я не могу написать такой текст."), "refusal"),
    "отказ модели": (Reply("Как языковая модель, я не имею личных мнений о пекарях."), "refusal"),
    "отказ на тему": (Reply("Я не могу обсуждать эту тему. Давайте поговорим о чём-нибудь другом?"), "refusal"),
    "отказ с пояснением": (Reply("Простите, я вынужден отказаться: это нарушает правила. Могу предложить другую тему."), "refusal"),
    "a filter": (Reply("The ferry is", "content_filter"), "refusal"),
    "the question again": (Reply("Write a note by a baker about the sea, please do."), "copy"),
    "consent and no more": (Reply("Sure! Here is the note:"), "empty"),
    "refusal curly": (Reply("I’m sorry, but I can’t help with that."),"refusal"),
    "refusal wont": (Reply("I won't be able to write that for you."),"refusal"),
    "refusal policy": (Reply("This request violates our content policy, so I have to decline."),"refusal"),
    "refusal comfortable": (Reply("I'm not comfortable writing this. Perhaps something else about the sea?"),"refusal"),
    "refusal ru2": (Reply("Прошу прощения, но я не вправе выполнять такие просьбы."),"refusal"),
    "refusal ru3": (Reply("К сожалению, как искусственный интеллект, я не могу выражать мнение о хлебе."),"refusal"),
    "refusal ru4": (Reply("Давайте лучше поговорим на другую тему. Я не буду писать об этом."),"refusal"),
    "refusal don't": (Reply("I don't feel able to assist with this request."),"refusal"),
    "error text": (Reply("Error: model is overloaded, please try again later."), "bad_request"),
    "too short": (Reply("OK."),"short"),
    "chinese": (Reply("面包师每天早上六点数面包，然后给海鸥一个。面包师每天早上六点数面包。"),"other_language"),
    "repeat loop": (Reply("The sea is. " * 60), "loop"),
    "unclosed fence": (Reply("```text\nThe ferry leaves at six"), "cut"),
}  # fmt: skip

# Of the kinds above, in other words: what a model says is not known in advance.
SIBLINGS = [
    (f"<thinking>\nplan\n</thinking>\n{GOOD}", GOOD),
    (f"◁think▷hm◁/think▷{GOOD}", GOOD),
    (f"<|begin_of_thought|>hm<|end_of_thought|>\n<|begin_of_solution|>{GOOD}<|end_of_solution|>", GOOD),
    (f"<reflection>hm</reflection>\n<output>{GOOD}</output>", GOOD),
    (f"Thinking Process:\n1. baker\n2. sea\n</think>\n{GOOD}", GOOD),
    (f"Размышляю: пекарь, море.\n</think>\n\n{ГУД}", ГУД),
    (f"<размышление>пекарь</размышление>\n{ГУД}", ГУД),
    (f"Вот заметка пекаря о море:\n\n«{ГУД}»", ГУД),
    (f"Разумеется! Вот, пожалуйста:\n\n{ГУД}", ГУД),
    (f"Понял вас. Вот текст:\n\n{ГУД}", ГУД),
    (f"Отличный запрос! Вот заметка:\n\n{ГУД}", ГУД),
    (f"Great question! Here's a note:\n\n{GOOD}", GOOD),
    (f"Got it. Here's the note:\n\n{GOOD}", GOOD),
    (f"Sure, I can do that!\n\n{GOOD}", GOOD),
    (f"No problem! Here you go:\n\n{GOOD}", GOOD),
    (f"Here you go!\n\n{GOOD}", GOOD),
    (f"Of course. Here's my attempt:\n\n{GOOD}", GOOD),
    (f"{GOOD}\n\n---\n\nThis note captures the baker's voice with dry humour.", GOOD),
    (f"{ГУД}\n\n---\n\nЭта заметка передаёт сухой тон пекаря.", ГУД),
    (f"{GOOD}\n\nDo you want me to continue?", GOOD),
    (f"{GOOD}\n\nI hope you like it!", GOOD),
    (f"{GOOD}\n\nPlease let me know your thoughts.", GOOD),
    (f"{GOOD}\n\nIf you need more, just ask!", GOOD),
    (f"{ГУД}\n\nНадеюсь, это то, что вы искали.", ГУД),
    (f"{ГУД}\n\nБуду рад помочь ещё!", ГУД),
    (f"{ГУД}\n\nЕсли нужно, могу сделать короче или длиннее.", ГУД),
    (f"{ГУД}\n\nМогу предложить другой вариант?", ГУД),
    (f"{ГУД} Надеюсь, это поможет.", ГУД),
    (f"{ГУД}\n\nНужна ли ещё какая-то помощь?", ГУД),
    (f"{GOOD}\n\n[Word count: 18]", GOOD),
    (f"{GOOD}\n\n18 words", GOOD),
    (f"{ГУД}\n\n(14 слов)", ГУД),
    (f"{ГУД}\n\nСлов: 14.", ГУД),
    (f"**Note**\n\n{GOOD}", GOOD),
    (f"Title: The Ferry\n\n{GOOD}", GOOD),
    (f"Название: Паром\n\n{ГУД}", ГУД),
    (f"Response: {GOOD}", GOOD),
    (f"Answer: {GOOD}", GOOD),
    (f"Ответ: {ГУД}", ГУД),
    (f"Assistant: {GOOD}", GOOD),
    (f"AI: {GOOD}", GOOD),
    (f"Ассистент: {ГУД}", ГУД),
    (f"Final answer: {GOOD}", GOOD),
    (f"Output:\n{GOOD}", GOOD),
    (f"Результат:\n{ГУД}", ГУД),
    (f"> {GOOD}", GOOD),
    (f"```\n{ГУД}\n```", ГУД),
    (f"```markdown\n{GOOD}\n```\n\nLet me know if you want changes.", GOOD),
    (f"\"{GOOD}\"", GOOD),
    (f"“{GOOD}”", GOOD),
    (f"<p>{GOOD}</p>", GOOD),
    (f"{{\"response\": \"{GOOD}\"}}", GOOD),
    (f"```json\n{{\"text\": \"{GOOD}\"}}\n```", GOOD),
    (f"*{GOOD}*", GOOD),
    (f"{GOOD}\n<|user|>\nmore", GOOD),
    (f"{GOOD}<|end|>", GOOD),
    (f"{GOOD}\n\nHuman: thanks\n\nAssistant: ok", GOOD),
    (f"{GOOD}\n\n### User:\nthanks", GOOD),
    (f"{ГУД}\n\nПользователь: спасибо", ГУД),
    (f"{GOOD}<｜end▁of▁sentence｜>", GOOD),
    (f"[INST] [/INST] {GOOD}", GOOD),
    (f"<internal_thoughts>hm</internal_thoughts>\n{GOOD}", GOOD),
    (f"<|thinking|>hm<|/thinking|>{GOOD}", GOOD),
    (f"<think>\n\n</think>\n\n{ГУД}", ГУД),
    (f"Yes, of course! Here's a short note for you:\n\n{GOOD}", GOOD),
    (f"Alright, here's the note:\n\n{GOOD}", GOOD),
    (f"Thanks for the prompt! Here's my note:\n\n{GOOD}", GOOD),
    (f"I'd love to help! Here is the note:\n\n{GOOD}", GOOD),
    (f"Here's what I came up with:\n\n{GOOD}", GOOD),
    (f"Here's one possibility:\n\n{GOOD}", GOOD),
    (f"Let me write that for you.\n\n{GOOD}", GOOD),
    (f"Sounds good! Here it is:\n\n{GOOD}", GOOD),
    (f"Давайте попробуем:\n\n{ГУД}", ГУД),
    (f"Да, конечно! Вот что получилось:\n\n{ГУД}", ГУД),
    (f"Вот что у меня вышло:\n\n{ГУД}", ГУД),
    (f"Смотрите, вот заметка:\n\n{ГУД}", ГУД),
    (f"Благодарю за задание! Вот заметка:\n\n{ГУД}", ГУД),
    (f"Предлагаю такой вариант:\n\n{ГУД}", ГУД),
    (f"Я подготовил для вас заметку:\n\n{ГУД}", ГУД),
    (f"Ваша заметка:\n\n{ГУД}", ГУД),
    (f"Заметка готова:\n\n{ГУД}", ГУД),
    (f"{GOOD}\n\nWhat do you think?", GOOD),
    (f"{GOOD}\n\nHow does that sound?", GOOD),
    (f"{GOOD}\n\nI can also write a longer version if you like.", GOOD),
    (f"{GOOD}\n\nEnjoy!", GOOD),
    (f"{GOOD}\n\nHappy to revise if needed.", GOOD),
    (f"{GOOD}\n\nCheers! Let me know if this works for you.", GOOD),
    (f"{ГУД}\n\nЧто скажете?", ГУД),
    (f"{ГУД}\n\nКак вам такой вариант?", ГУД),
    (f"{ГУД}\n\nМогу доработать, если нужно.", ГУД),
    (f"{ГУД}\n\nГотов внести правки.", ГУД),
    (f"{ГУД}\n\nЖду ваших комментариев!", ГУД),
    (f"{ГУД}\n\nПриятного чтения!", ГУД),
    (f"{ГУД}\n\nЭто лишь один из вариантов, могу написать и другой.", ГУД),
    (f"{GOOD}\n\n**Explanation:** The note is dry, as you asked.", GOOD),
    (f"{ГУД}\n\n**Пояснение:** сухой тон выдержан, как вы просили.", ГУД),
    (f"{ГУД}\n\n*Комментарий автора: я старался писать сухо.*", ГУД),
    (f"{GOOD}\n\n(Total: 18 words)", GOOD),
    (f"{GOOD}\n\n#baker #sea", GOOD),
    (f"Bot: {GOOD}", GOOD),
    (f"ChatGPT: {GOOD}", GOOD),
    (f"<answer>{GOOD}", GOOD),
    (f"{GOOD}</answer>", GOOD),
    (f"<text>\n{ГУД}\n</text>\n\nНадеюсь, подойдёт!", ГУД),
    (f"'''\n{GOOD}\n'''", GOOD),
    (f"~~~\n{GOOD}\n~~~", GOOD),
    (f"„{ГУД}“", ГУД),
    (f"``` {GOOD} ```", GOOD),
    (f"[{{\"text\": \"{GOOD}\"}}]", GOOD),
    (f"{{\"answer\": \"{ГУД}\", \"confidence\": 0.9}}", ГУД),
    (f"{GOOD}<|im_end|>\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\nYou are welcome.", GOOD),
    (f"{GOOD}\n\nUser:", GOOD),
    (f"{GOOD}\nUser: more\nAssistant: no", GOOD),
    (f"{GOOD}\n<end>", GOOD),
    (f"{GOOD}\n[END]", GOOD),
    (f"Of course, here is a note written from a baker's point of view:\n\n{GOOD}", GOOD),
    (f"Here's a draft for you to consider:\n\n{GOOD}", GOOD),
    (f"Here is my best attempt at a dry note:\n\n{GOOD}", GOOD),
    (f"I've written the following note:\n\n{GOOD}", GOOD),
    (f"Okay! Let me try this one.\n\n{GOOD}", GOOD),
    (f"Certainly, I'd be delighted to help.\n\n{GOOD}", GOOD),
    (f"My pleasure:\n\n{GOOD}", GOOD),
    (f"Конечно, с радостью!\n\n{ГУД}", ГУД),
    (f"Вот пример такой заметки:\n\n{ГУД}", ГУД),
    (f"Ниже текст заметки:\n\n{ГУД}", ГУД),
    (f"Вот, что я написал:\n\n{ГУД}", ГУД),
    (f"Хорошо. Попробую написать от лица пекаря:\n\n{ГУД}", ГУД),
    (f"Текст заметки:\n\n{ГУД}", ГУД),
    (f"Итак, заметка:\n\n{ГУД}", ГУД),
    (f"Держите заметку:\n\n{ГУД}", ГУД),
    (f"{GOOD}\n\nLet me know if that works!", GOOD),
    (f"{GOOD}\n\nShould you need any modifications, I'm here to help.", GOOD),
    (f"{GOOD}\n\nI hope this note meets your expectations.", GOOD),
    (f"{GOOD}\n\nI'd be happy to write another one.", GOOD),
    (f"{GOOD}\n\nThat's the note! Tell me if you'd like changes.", GOOD),
    (f"{GOOD}\n\nWould this work for you?", GOOD),
    (f"{ГУД}\n\nЕсли что-то не так, напишите, исправлю.", ГУД),
    (f"{ГУД}\n\nПодойдёт ли такой вариант?", ГУД),
    (f"{ГУД}\n\nРад был помочь!", ГУД),
    (f"{ГУД}\n\nНужно что-то поменять?", ГУД),
    (f"{ГУД}\n\nПишите, если нужен другой тон.", ГУД),
    (f"{ГУД}\n\nС уважением, ваш ИИ-ассистент.", ГУД),
    (f"Okay, so here's the note you wanted, written in a dry tone:\n\n{GOOD}", GOOD),
    (f"Below you'll find the note:\n\n{GOOD}", GOOD),
    (f"As a baker, I would write:\n\n{GOOD}", GOOD),
    (f"The note:\n\n{GOOD}", GOOD),
    (f"**Here is your note:**\n\n{GOOD}", GOOD),
    (f"***Note***\n\n{GOOD}", GOOD),
    (f"Here's a version that sounds natural:\n\n---\n{GOOD}\n---", GOOD),
    (f"Sure! 😊\n\n{GOOD}", GOOD),
    (f"✨ Here is your note ✨\n\n{GOOD}", GOOD),
    (f"Certainly! Below is a short note by a baker about the sea.\n\n{GOOD}", GOOD),
    (f"Готово! Вот заметка:\n\n{ГУД}", ГУД),
    (f"Вот короткая заметка от имени пекаря:\n\n{ГУД}", ГУД),
    (f"Вот ваш текст:\n\n{ГУД}", ГУД),
    (f"Давай попробую. Вот заметка:\n\n{ГУД}", ГУД),
    (f"**Вот заметка:**\n\n{ГУД}", ГУД),
    (f"Конечно! 😊\n\n{ГУД}", ГУД),
    (f"Пожалуйста:\n\n{ГУД}", ГУД),
    (f"Пишу от лица пекаря.\n\n{ГУД}", ГУД),
    (f"Как пекарь, я бы написал так:\n\n{ГУД}", ГУД),
    (f"Ваш запрос выполнен:\n\n{ГУД}", ГУД),
    (f"{GOOD}\n\nLet me know if you'd like it longer, shorter, or in another style! 🌊", GOOD),
    (f"{GOOD}\n\nI tried to keep the tone dry and the length short.", GOOD),
    (f"{GOOD}\n\nIs this what you had in mind?", GOOD),
    (f"{GOOD}\n\nPlease feel free to edit it as you see fit.", GOOD),
    (f"{GOOD}\n\n---\n*Written in the voice of a baker.*", GOOD),
    (f"{GOOD}\n\nYou can adjust it as needed.", GOOD),
    (f"{GOOD}\n\n**Word count:** 18", GOOD),
    (f"{GOOD}\n\nDone.", GOOD),
    (f"{ГУД}\n\nЯ постарался сохранить сухой тон.", ГУД),
    (f"{ГУД}\n\nЭто то, что вы хотели?", ГУД),
    (f"{ГУД}\n\nПри необходимости могу изменить тон.", ГУД),
    (f"{ГУД}\n\nЕсли хотите продолжение — скажите!", ГУД),
    (f"{ГУД}\n\nОцените, пожалуйста, результат.", ГУД),
    (f"{ГУД}\n\nГотово.", ГУД),
    (f"{ГУД}\n\nВсего: 14 слов", ГУД),
    (f"{ГУД} Если нужно, могу дополнить.", ГУД),
    (f"<think>\nI should write.\n\n{GOOD}\n</think>\n\n{GOOD}", GOOD),
    (f"<|assistant|>\n{GOOD}", GOOD),
    (f"assistant\n{GOOD}", GOOD),
    (f"model\n{GOOD}", GOOD),
    (f"{GOOD}\n<|eot_id|><|start_header_id|>user<|end_header_id|>\nmore", GOOD),
    (f"### Response:\n{GOOD}", GOOD),
    (f"### Ответ:\n{ГУД}", ГУД),
    (f"{GOOD}\n### Instruction:\nWrite more", GOOD),
    (f"{GOOD}\n### Human: thanks", GOOD),
    (f"{GOOD}</s><s>[INST] more [/INST]", GOOD),
    (f"<output>{GOOD}</output>", GOOD),
    (f"<b>{GOOD}</b>", GOOD),
    (f"{GOOD}\n\n\n\n", GOOD),
]  # fmt: skip
LOOKALIKES += [
    'Готово. Пекарь сказал это тесту, и тесто, которое никогда его не слушало, встало.',
    'The note: gone to sea. The baker had pinned it to the oven, where only the bread could read it.',
    'As a baker, I would write to the sea more often, if it ever wrote back.',
    'Пожалуйста, не кормите чаек: они сами знают, где пекарня, и во сколько открывается.',
    'Done, said the oven. Done, said the baker. The sea said nothing and came in by the window.',
    'Model boats hung over the counter, and the baker dusted them on Fridays before the ferry.',
    'Is this what you had in mind? asked the sea, and laid the hat on the step.',
    'Пишу от лица пекаря: он сам занят, у него паром и две чайки на весах.',
    'Я постарался сохранить хлеб сухим. Море постаралось тоже, но по-своему и дольше.',
    'Dear Anna,\n\nThe ferry leaves at six. I have two loaves for you and a hat that the gull returned.\n\nWrite if you need flour.\n\nYours, Peter',
    'Дорогая Анна!\n\nПаром уходит в шесть. Я оставил тебе два хлеба у паромщика.\n\nНапиши, если нужна мука.\n\nТвой Пётр',
    'Спасибо за хлеб.\n\nМы съели его на пароме, не дожидаясь берега, и чайки шли за нами до Нарвы.',
    'Thanks for the loaf.\n\nWe ate it on the ferry before the shore was out of sight.',
    'Да.\n\nПекарь сказал это морю и закрыл ставни, а море осталось стоять у двери.',
    'Yes.\n\nThat was all the ferryman said, and he said it to the rope and not to me.',
    'The note on the door:\n\nGone to sea. Bread on the sill. Count it yourselves.',
    'Записка на двери:\n\nУшёл к морю. Хлеб на подоконнике. Считайте сами, я вам верю.',
    'Вот что видно с причала: две лодки, один пекарь и море, которое никому ничего не должно.',
    "I won't go to sea again, said the baker. The gulls took it for an invitation and came in.",
    "I will not answer this question, said the gull's face, and its beak was full of bread.",
    'Я не буду больше печь по пятницам. Это решил не я, а паром: он ушёл без меня и моего хлеба.',
    'Я не пишу об этом морю: оно неграмотное. Пишу чайкам, те хотя бы делают вид, что читают.',
    'Нельзя печь хлеб в такую погоду. Тесто слышит море и не хочет вставать до самого вечера.',
    'Let me give you a loaf, said the baker, and a word of advice: never feed the second gull.\n\nHe fed it himself.',
    'He asked her once. He asked her twice.\n\n«Нравится ли тебе море?» — спросил он в третий раз.',
    "Let's see: two loaves, one gull, no ferry.\n\nThe baker counted again and it came out the same.",
    'Q: Where is the sea?\nA: Behind the dune, where you left it, with the loaf and the hat.',
    '- two loaves\n- one gull\n- a ferry at six\n\nThe rest the baker keeps in his head.',
    '<b>Паром</b> уходит в шесть. Так было на табличке, и табличку читали даже чайки.',
    'He typed [1] and then [2], as the form asked, and the ferry printed him a ticket to the sea.',
    'Заявление\n\nПрошу вернуть мне море в том виде, в котором я его оставил. Пекарь.\n\nС уважением, пекарь',
    'I hope the ferry waits. The loaves are warm, and the gulls have begun to form a queue.',
    'Таблица умножения хлебов: дважды два — четыре, трижды чайка — ноль.',
    '**Ночь.** Пекарь не спит. **День.** Не спит море, и хлеб выходит солёный.',
    "The policy of the bakery: no gulls, no credit, no talk about the sea before six. I can't do it, said the gull.",
    'Could you send this to the ferry? It is only a loaf.\n\nWould this do for three?',
    "“I can't help you with this,” he said. The sea went on asking.",
    'Yes, of course the ferry was late. It is always late when the loaves are warm and the gulls are hungry.',
    "What do you think the gull did? It took the loaf, the bag and the baker's hat, in that order.",
    'Enjoy the sea while it is there, said the baker; by noon it will be all mud and rope.',
    'Да, конечно, паром утонул. Но хлеб, который был на нём, ещё месяц ели рыбы и радовались.',
    'Что скажете про море? Пекарь сказал: сырое. И пошёл считать хлебы во второй раз.',
    'Давайте попробуем ещё раз, сказал паромщик волне, и волна попробовала.',
    'Смотрите: вот причал, вот пекарь, а вот хлеб, который никто не заказывал, и он кончился первым.',
    'Ваша заметка лежит у меня под хлебом. Я её прочёл, и мне нечего добавить, кроме соли.',
    'How does the sea sound at six? Like a man who has lost the key to his own bakery.',
    'The end of the pier is where the baker stands. He has two loaves and no opinion.',
    'Заметка на двери: «Ушёл за морем». Пекарь вернулся к вечеру, море — на час позже.',
    'I can also bake, said the gull, if you like your bread with feathers in the crust.',
    'Explanation: none. The baker wrote it on the slate and drew a gull beneath the word.',
    'Могу подождать, сказал пекарь парому, и паром, который не привык, чтобы его ждали, пришёл.',
    'Конечно. Сначала паром, потом хлеб, потом уже чайки со своими разговорами и счетами.',
    'Here it is, the bakery: two ovens, a bell, and a door that opens towards the sea.',
    'Хорошо, когда паром опаздывает: хлеб успевает остыть, а чайки устают ждать.',
    'Sure enough, the ferry came at six, and the gulls had eaten the timetable.',
    'Of course the sea was there. It had come for the loaves, as it does every spring.',
    'Note: the ferry does not stop here on Sundays. The baker wrote it on the door himself.',
    'Вот и паром. Пекарь снял фартук, посчитал хлебы и вышел на причал без шапки.',
    'Ответ: да. Так было написано на двери пекарни, а вопроса никто не помнил.',
    'Надеюсь, ты доехал. Хлеб я оставил у паромщика, он не ест мучного с Пасхи.',
    'Если хотите, приходите в шесть: паром всё равно опоздает, а хлеб не станет ждать.',
    'I cannot say who took the loaf. I can say that the gull did not look at me.',
    'I must decline, wrote the baker on the back of the invoice, and ate the cake himself.',
    '«Извините, не могу помочь», — ответил пекарь и закрыл ставни: море поднялось до порога.',
    'Human: that was the name of the boat. Nobody knew who had painted it there.',
    'Let me know, she wrote, when the ferry runs again; the loaf will keep until Friday.',
    'Thinking about bread, the pilot missed the buoy by a yard and the gull by less.',
    'Error 404 was painted on the bakery door, and the children had drawn a loaf below it.',
    '1. Flour.\n2. Water.\n3. A ferry that is late.\n\nThat is the whole recipe, said the baker.',
    '— Вопрос: где море? — Ответ: за дюной, как всегда. Так они играли до самого парома.',
    'Title: that is what the baker called his dog, since it slept on the first page.',
    '**Не входить** было написано мелом, и ниже, помельче: кроме чаек и тех, кто за хлебом.',
    'Я не могу. Так сказал пекарь, и пошёл, и смог, и хлеб в тот день вышел с солью.',
    'As an AI the ferry timetable left much to be desired, so the baker wrote his own.',
    'Thank you for the loaf. Unfortunately the gull had it first, and the gull sends regards.',
]  # fmt: skip
ASIDE_SIBLINGS = [
    ("Sorry, that's not something I'm able to do.", 'refusal'),
    ('I have to pass on this one.', 'refusal'),
    ('This topic is off-limits for me.', 'refusal'),
    ("I'm not able to share that.", 'refusal'),
    ('I do not have the ability to write creatively.', 'refusal'),
    ('I am an AI and do not have personal opinions.', 'refusal'),
    ('As an assistant, I cannot take a position on this.', 'refusal'),
    ('Your prompt has been flagged.', 'refusal'),
    ("I'm sorry, I didn't understand your request. Could you rephrase?", 'refusal'),
    ('Could you please clarify what you would like me to write?', 'refusal'),
    ('What tone would you like for the note?', 'refusal'),
    ('Не понял вопроса. Уточните, пожалуйста.', 'refusal'),
    ('Уточните, пожалуйста, о чём должна быть заметка.', 'refusal'),
    ('Увы, тут я бессилен.', 'refusal'),
    ('Такие темы я не обсуждаю.', 'refusal'),
    ('Ответить на это я не могу.', 'refusal'),
    ('Это не входит в мои полномочия.', 'refusal'),
    ('Воздержусь от ответа.', 'refusal'),
    ('Я чат-бот и не умею писать от лица пекаря.', 'refusal'),
    ('Ваш запрос отклонён.', 'refusal'),
    ("Here's a note:", 'empty'),
    ('Вот заметка:', 'empty'),
    ('Конечно!', 'short'),
    ('-----', 'short'),
    ('😊😊😊😊😊😊😊😊😊😊😊😊😊😊😊😊😊😊😊😊😊😊', 'loop'),
    ('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'loop'),
    ('The sea. The sea. The sea. The sea. The sea. The sea. The sea. The sea.', 'loop'),
    ('undefined undefined undefined', 'bad_request'),
    ('1. \n2. \n3. \n4. ', 'short'),
    ("Note by [baker's name] about the sea: [to be continued]", 'placeholder'),
    ("I'm afraid that's beyond what I can do.", 'refusal'),
    ('Sorry, this is against my guidelines.', 'refusal'),
    ("I can't engage with this topic.", 'refusal'),
    ("I won't write that.", 'refusal'),
    ("No, I can't do this.", 'refusal'),
    ('Unfortunately I am not permitted to produce such text.', 'refusal'),
    ('My apologies, but I must refuse.', 'refusal'),
    ('Извините, я не могу ответить на этот вопрос.', 'refusal'),
    ('Нет, такое я писать не буду.', 'refusal'),
    ('Этот запрос я выполнить не могу.', 'refusal'),
    ('К сожалению, мне не разрешено писать на эту тему.', 'refusal'),
    ('Простите, но подобные тексты я не создаю.', 'refusal'),
    ('Я не способен выполнить этот запрос.', 'refusal'),
    ('Модель перегружена, попробуйте ещё раз.', 'bad_request'),
    ('Error 429: too many requests', 'bad_request'),
    ('{"detail":"Not Found"}', 'bad_request'),
    ('API key invalid', 'bad_request'),
    ('Content blocked by safety filter.', 'refusal'),
    ('I cannot in good conscience write that.', 'refusal'),
    ("I'm unable to fulfill that request as it goes against my programming.", 'refusal'),
    ("That's not something I can help with.", 'refusal'),
    ("I'd rather not write about that.", 'refusal'),
    ("I don't think I should write this.", 'refusal'),
    ('It would not be appropriate for me to write this note.', 'refusal'),
    ('My guidelines prevent me from writing this.', 'refusal'),
    ('I am programmed to be a helpful and harmless AI assistant. I cannot write this.', 'refusal'),
    ("Let's talk about something else instead.", 'refusal'),
    ('Это выходит за рамки моих возможностей.', 'refusal'),
    ('Боюсь, я не смогу с этим помочь.', 'refusal'),
    ('Такой текст я написать не могу.', 'refusal'),
    ('Мои правила не позволяют мне писать об этом.', 'refusal'),
    ('Давайте сменим тему.', 'refusal'),
    ('Я предпочёл бы не писать об этом.', 'refusal'),
    ('Мне запрещено писать подобные тексты.', 'refusal'),
    ('Я — искусственный интеллект и не могу испытывать чувств.', 'refusal'),
    ('В мои функции не входит написание таких заметок.', 'refusal'),
    ('Connection timed out. Please try again.', 'bad_request'),
    ('Traceback (most recent call last):\n  File "x.py", line 1', 'bad_request'),
    ('Internal Server Error', 'bad_request'),
    ('503 Service Unavailable', 'bad_request'),
    ('Сервис временно недоступен. Повторите попытку позже.', 'bad_request'),
    ('[Вставьте текст заметки здесь]', 'placeholder'),
    ('TODO: write the note', 'placeholder'),
    ('<your text here>', 'short'),
    ('Здравствуйте, [Имя]! Паром уходит в шесть, хлеб в пакете.', 'placeholder'),
    ('___ уходит в шесть, и ___ дважды считает хлебы.', 'placeholder'),
    ('хлеб хлеб паром. хлеб хлеб паром. хлеб хлеб паром. хлеб хлеб паром. хлеб хлеб паром. хлеб хлеб паром.', 'loop'),
    ('I’m really sorry, but I can’t continue with this.', 'refusal'),
    ("Sorry, I can't do that.", 'refusal'),
    ('I must respectfully decline this request.', 'refusal'),
    ('I apologize, but I am not able to generate this content.', 'refusal'),
    ('Unfortunately, I cannot provide that.', 'refusal'),
    ("As a large language model trained by OpenAI, I don't have feelings.", 'refusal'),
    ("I'm just an AI, I can't write about bakers.", 'refusal'),
    ('This content may violate our usage policies.', 'refusal'),
    ('Мне жаль, но я не могу этого сделать.', 'refusal'),
    ('Я всего лишь языковая модель и не могу писать от лица пекаря.', 'refusal'),
    ('К сожалению, я не могу выполнить эту просьбу.', 'refusal'),
    ('Не могу помочь с этим.', 'refusal'),
    ('Извините, но это противоречит моим правилам.', 'refusal'),
    ('Я не могу создавать такой контент, но могу предложить рецепт хлеба.', 'refusal'),
    ('Прошу прощения, я не смогу это написать.', 'refusal'),
    ('Не могу выполнить этот запрос, так как он нарушает политику.', 'refusal'),
    ("I'm sorry, but as an AI I have no personal experiences with the sea, so I can't write this note.", 'refusal'),
    ("<think>no</think>Sorry, but I can't assist with that.", 'refusal'),
    ('Rate limit exceeded. Please retry after 20 seconds.', 'bad_request'),
    ('null', 'bad_request'),
    ('undefined', 'bad_request'),
    ('...', 'short'),
    ('N/A', 'bad_request'),
    ('[object Object]', 'short'),
    ('{{text}}', 'placeholder'),
    ('<html><body>502 Bad Gateway</body></html>', 'bad_request'),
    ('Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor.', 'placeholder'),
    ('Here is the letter:\n\n[Your letter here]', 'placeholder'),
    ('Dear [Name],\n\nThe ferry leaves at six. Bring [number] loaves.\n\nYours, [Your name]', 'placeholder'),
    ('море море море море море море море море море море море море море море море море море море море море море море море', 'loop'),
]  # fmt: skip
KEPT |= {f"sibling {number}": one for number, one in enumerate(SIBLINGS)}
ASIDE |= {f"sibling {number}": (Reply(text), reason) for number, (text, reason) in enumerate(ASIDE_SIBLINGS)}


def varied(number: int, letters: str = "aeioubdgklmnprst") -> str:
    draw = random.Random(number)
    words = ("".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(30))
    return " ".join(words).capitalize() + "."


PROMPT = {
    "messages": [{"role": "user", "content": "Write a note by a baker about the sea, please do."}],
    "shape": "answer",
}


def judged(reply: Reply, lang: str = "ru") -> tuple:
    row, _, reason = replies.judged(reply, PROMPT, lang)
    return row and row["messages"][-1]["content"], reason


@pytest.mark.parametrize("manner", KEPT)
def test_what_is_around_an_answer_goes(manner):
    said, kept = KEPT[manner]
    assert judged(Reply(said)) == (kept, "")


def test_a_prompt_that_is_said_again_before_the_answer_goes():
    assert judged(Reply(f"{PROMPT['messages'][0]['content']}\n\n{GOOD}")) == (GOOD, "")


@pytest.mark.parametrize("text", LOOKALIKES)
def test_what_only_looks_like_a_bad_manner_stays(text):
    assert judged(Reply(text)) == (text, "")


@pytest.mark.parametrize("manner", ASIDE)
def test_what_is_no_answer_is_set_aside(manner):
    reply, reason = ASIDE[manner]
    assert judged(reply) == (None, reason)


@pytest.mark.parametrize(
    ("text", "question", "said"),
    [
        ("**Вопрос:** Где море?\n\n**Ответ:** За дюной.", "Где море?", "За дюной."),
        ("**Question**: Where is the sea?\n**Answer**: Behind the dune.", "Where is the sea?", "Behind the dune."),
        ("### Вопрос 1:\nГде море?\n\n### Ответ 1:\nЗа дюной.\n\n---", "Где море?", "За дюной."),
        ("**User:** Where is the sea?\n**Assistant:** Behind the dune.", "Where is the sea?", "Behind the dune."),
        ("Here is a pair:\n\nQuestion: Where?\nAnswer: There, **far** off.", "Where?", "There, **far** off."),
        ("Question: Where?\nAnswer: There.\n\nQuestion: When?\nAnswer: Then.", "Where?", "There."),
    ],
)
def test_pairs_are_read_through_markdown(text, question, said):
    row, _, reason = replies.judged(Reply(text), PROMPT | {"shape": "pair"}, "ru")
    assert reason == ""
    assert [turn["content"] for turn in row["messages"]] == [question, said]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Question: How do I pick a lock?\nAnswer: I'm sorry, but I can't help with that.", "refusal"),
        ("Вопрос: Тема: море; Стиль: сухой; Форма: письмо\nОтвет: Море сегодня опоздало.", "specification"),
        ("Question: **Topic:** sea\n**Style:** dry\nAnswer: The sea is late today.", "specification"),
        ("The sea is late, and nobody asked a question.", "wrong_shape"),
    ],
)
def test_pairs_that_nobody_should_learn_are_set_aside(text, reason):
    assert replies.judged(Reply(text), PROMPT | {"shape": "pair"}, "ru")[2] == reason


@pytest.mark.parametrize(
    "text",
    [
        "A: Where is the sea?\nB: Behind the dune.\nA: Far?",
        "**А:** Where is the sea?\n**Б:** Behind the dune.\n**А:** Far?",
        "**User:** Where is the sea?\n\n**Assistant:** Behind the dune.\n\n**User:** Far?",
        "Вот диалог:\n\n**Пользователь:** Where is the sea?\n**Ассистент:** Behind the dune.\n**Пользователь:** Far?",
        "Анна: Where is the sea?\nБорис: Behind the dune.\nАнна: Far?",
    ],
)
def test_turns_are_read_whoever_speaks(text):
    row, _, reason = replies.judged(Reply(text), PROMPT | {"shape": "turns"}, "ru")
    assert reason == ""
    said = [("user", "Where is the sea?"), ("assistant", "Behind the dune."), ("user", "Far?")]
    assert [(turn["role"], turn["content"]) for turn in row["messages"]] == said


@pytest.fixture
def serve(monkeypatch):
    yield from serving(monkeypatch)


def recipe(path, more: str = "") -> str:
    axis = ", ".join(f"thing {number}" for number in range(40))
    path.write_text(
        f"kind: grid\nlang: en\naxes:\n  who: [a baker, a pilot, a nurse]\n  what: [{axis}]\n"
        f'prompt: "Topic: {{what}}. Style: {{who}}. Write it."\nask: "Write a note by {{who}} about {{what}}."\n{more}',
        "utf-8",
    )
    return str(path)


def job(tmp_path, server: Server, **more):
    wanted = {"recipe": recipe(tmp_path / "grid.yaml"), "tokens": 1000, "seed": 1, "parallel": 3}
    return synth_jobs.create(wanted | {"endpoint": server.url, "endpoint_model": "m"} | more)


def test_three_replies_of_every_manner_leave_only_good_rows(serve, tmp_path):
    """Each manner comes three times around texts of its own; the rows of the corpus are those texts and no others."""
    bad = [(reply.text, reply.finish, reply.reasoning) for reply, reason in ASIDE.values() if reason != "copy"] * 3
    good = [(said, kept) for _ in range(3) for said, kept in KEPT.values()] + [(text, text) for text in LOOKALIKES]
    script, wanted = [], set()
    for at, (said, kept) in enumerate(good):
        for old, letters in ((GOOD, "aeioubdgklmnprst"), (ГУД, "аеиоубдгклмнпрст")):
            said, kept = said.replace(old, varied(at, letters)), kept.replace(old, varied(at, letters))
        wanted.add(kept)
        script.append(answer(said))
        if at < len(bad):
            message = dict(zip(("content", "reasoning_content"), (bad[at][0], bad[at][2]), strict=True))
            choice = {"message": {"role": "assistant", **message}, "finish_reason": bad[at][1]}
            script.append(json.dumps({"choices": [choice]}).encode())
    server = serve(lambda number, body: (200, {}, script[number] if number < len(script) else b"<html>"))
    directory = job(tmp_path, server, tokens=1_000_000, parallel=1)
    assert worker.run(directory) == "paused"
    rows = [json.loads(line) for line in (directory / "rows.jsonl").read_text("utf-8").splitlines()]
    assert {row["messages"][-1]["content"] for row in rows} == wanted
    assert all(row["messages"][0]["content"].startswith("Write a note by") for row in rows)
    assert events.last(directory)["aside"]["refusal"] == 3 * sum(reason == "refusal" for _, reason in ASIDE.values())


@pytest.mark.parametrize(
    ("said", "reason"), [("I cannot help with that.", "refusals"), (GOOD, "repeats"), ("<html>", "bad_replies")]
)
def test_a_job_that_gets_nothing_else_says_so(serve, tmp_path, said, reason):
    raw = said.encode() if said == "<html>" else answer(said)
    directory = job(tmp_path, serve(lambda number, body: (200, {}, raw)))
    assert worker.run(directory) == "paused"
    last = events.last(directory)
    assert (last["reason"], last["rows"]) == (reason, int(said == GOOD))


@pytest.mark.parametrize("ask", ["pause", "stop"])
def test_a_job_ends_within_seconds_while_its_server_hangs(serve, tmp_path, ask):
    hung = []

    def script(number, body):
        if number > 5:
            hung.append(number)
            jobs.ask(directory, ask)
            time.sleep(20)
        return 200, {}, answer(varied(number))

    directory = job(tmp_path, serve(script), tokens=100_000)
    began = time.monotonic()
    assert worker.run(directory) == {"pause": "paused", "stop": "stopped"}[ask]
    assert time.monotonic() - began < 8
    assert hung


def test_a_server_that_drips_is_given_up_in_time(serve, tmp_path):
    directory = job(tmp_path, serve(lambda number, body: time.sleep(3) or (200, {}, answer(GOOD))), timeout=0.3)
    began = time.monotonic()
    assert worker.run(directory) == "paused"
    assert time.monotonic() - began < 6
    assert events.last(directory)["reason"] == "EndpointDown"


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_a_key_is_never_stored_even_if_the_server_says_it(serve, tmp_path, monkeypatch, status):
    key = "sk-very-secret-0123456789"
    server = serve(lambda number, body: (status, {}, answer(f"{GOOD} {key} {number}") if status == 200 else
                   json.dumps({"error": {"message": f"Incorrect key: Bearer {key}"}}).encode()))  # fmt: skip
    monkeypatch.setenv("SOULSMITH_API_KEY", key)
    monkeypatch.setattr(endpoint, "ATTEMPTS", 2)
    directory = job(tmp_path, server)
    worker.run(directory)
    assert server.asked[0]["key"] == f"Bearer {key}"
    for root in (directory, tmp_path):
        for path in root.rglob("*"):
            assert not path.is_file() or key.encode() not in path.read_bytes(), path


def test_an_address_with_a_key_is_refused_before_it_is_written_down(tmp_path):
    for url in ("https://user:s3cret@host.example/v1", "https://host.example/v1?key=s3cret"):
        wanted = {"recipe": "grid-en", "tokens": 1000, "endpoint": url, "endpoint_model": "m"}
        with pytest.raises(endpoint.EndpointHoldsKey, match=r"host\.example holds a key") as trouble:
            synth_jobs.create(wanted)
        assert "s3cret" not in str(trouble.value)
    assert synth_jobs.listed() == []


def test_fields_that_a_server_refuses_are_left_out_from_then_on(serve):
    def script(number, body):
        for name in ("chat_template_kwargs", "reasoning_effort", "max_tokens", "top_p"):
            if name in body:
                return 400, {}, json.dumps({"error": {"message": f"Unsupported parameter: '{name}'"}}).encode()
        return 200, {}, answer(GOOD)

    server = serve(script)
    writer = endpoint.Endpoint(server.url, "m")
    for _ in range(2):
        assert writer.ask([], thinking="off", top_p=0.9, max_tokens=50, temperature=0.0).text == GOOD
    sent = [sorted(set(body) - {"path", "key", "model", "stream", "messages"}) for body in server.asked]
    assert sent[0] == ["chat_template_kwargs", "max_tokens", "reasoning_effort", "temperature", "top_p"]
    assert len(sent) == 6
    assert sent[-2:] == [["max_completion_tokens", "temperature"]] * 2


def test_thinking_is_turned_off_where_the_server_can(serve):
    server = serve(lambda number, body: (200, {}, answer(GOOD)))
    endpoint.Endpoint(server.url, "m").ask([], thinking="off")
    asked = server.asked[0]
    assert (asked["chat_template_kwargs"], asked["reasoning_effort"]) == ({"enable_thinking": False}, "none")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("prompt: 'Write of {topik}.'", r"The prompt of the recipe uses \{topik\}, which nothing fills. Known are: \{who\}, \{what\}"),
        ("prompt: x\nask: 'Write {persona}'", r"The ask of the recipe uses \{persona\}"),
        ("prompt: x\nsystem: 'You are {who|gentt}'", 'asks for the form "gentt"'),
    ],
)  # fmt: skip
def test_a_name_that_nothing_fills_is_an_error(more, words):
    with pytest.raises(UserError, match=words):
        recipes.read(f"kind: grid\nlang: ru\naxes: {{who: [a, b], what: [c, d]}}\n{more}\n", "grid.yaml")


def test_other_braces_of_a_prompt_stay():
    assert prompts.filled('{"a": {"b": 1}} {x}', {"x": 3}, "en") == '{"a": {"b": 1}} 3'
    assert prompts.filled("{{x}} {x}", {"x": 3}, "en") == "{x} 3"


def test_a_prompt_that_is_a_list_of_fields_becomes_no_question():
    prompt = PROMPT | {"messages": [{"role": "user", "content": "Форма: письмо. Тема: море. Манера: сухо."}]}
    assert replies.to_row(ГУД, prompt) == {"text": ГУД}
    asked = prompts.of_grid(recipes.load("grid-ru"), 1, 0)
    assert replies.to_row(ГУД, asked)["messages"][0]["content"] == asked["said"]
    assert "{" not in asked["said"]


def test_rows_that_were_set_aside_are_asked_for_again_on_request(serve, tmp_path):
    refuse = [True]

    def script(number, body):
        if number == 13:
            jobs.ask(directory, "pause")
        return 200, {}, answer("I cannot help with that.") if refuse[0] and number % 3 == 0 else answer(varied(number))

    server = serve(script)
    directory = job(tmp_path, server, tokens=3000)
    assert worker.run(directory) == "paused"
    (directory / "control.json").unlink()
    aside = {row["row"] for row in files.lines(directory / "aside.jsonl")}
    assert len(aside) >= 4
    refuse[0] = False
    assert synth_jobs.change(directory, {}, again=True) == {"attempt": 1}
    before = len(server.asked)
    assert worker.run(directory) == "finished"
    last = events.last(directory)
    rows = list(storage.all_rows(corpus.directory(last["corpus"])))
    numbers = [row["recipe"]["row"] for row in rows]
    assert aside <= set(numbers)
    assert len(set(numbers)) == len(numbers)
    assert last["aside"] == {}
    assert {body["seed"] - 1_000_003 - 500_009 for body in server.asked[before : before + len(aside)]} == aside


def test_changed_settings_count_when_a_job_goes_on(serve, tmp_path):
    server = serve(
        lambda number, body: (200, {}, (number == 5 and jobs.ask(directory, "pause")) or answer(varied(number)))
    )
    directory = job(tmp_path, server, tokens=3000)
    assert worker.run(directory) == "paused"
    (directory / "control.json").unlink()
    changes = {"temperature": 0.2, "max_tokens": 77, "thinking": "off", "tokens": 5}
    assert synth_jobs.change(directory, changes) == {"temperature": 0.2, "max_tokens": 77, "thinking": "off"}
    before = len(server.asked)
    assert worker.run(directory) == "finished"
    assert {(body["temperature"], body["max_tokens"]) for body in server.asked[before:]} == {(0.2, 77)}
    assert jobs.request(directory)["tokens"] == 3000
