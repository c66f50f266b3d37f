"""The arena: who stands where, what votes say, how they leave, how a judge is asked."""

import json
import math
import shutil
from random import Random

import gradio as gr
import pytest

from core import errors, jobs, paths
from core.arena import __main__ as command
from core.arena import judging, matches, numbers, prompts, verdict, votes
from core.chat import chat, types
from core.corpus import corpus
from core.errors import ErrorElsewhere
from core.runs import database, gpu_access
from core.synth.replies import Reply
from tests.conftest import raises
from ui import playground_arena
from ui.text import Say


@pytest.fixture
def match() -> str:
    """A match of 12 answered prompts: a says short things, b long ones."""
    asked = [{"topic": "sea" if index < 6 else "bread", "prompt": f"question {index}"} for index in range(12)]
    request = {"name": "base / tuned", "a": "base:x", "b": "run:y", "titles": {"a": "x", "b": "y"}, "set": "own"}
    request |= {"prompts": asked, "sampling": {}, "system": "be brief", "on_cpu": False}
    directory = jobs.create(paths.arena(), request)
    rows = [{"prompt": index, "a": said(f"short {index}"), "b": said(f"long {index} " * 5)} for index in range(12)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (directory / "answers.jsonl").write_text(text + '{"prompt": 12, "a"')  # the last line is being written
    return directory.name


def said(text: str) -> dict:
    return {"text": text, "tokens": len(text.split()), "finish_reason": "stop"}


def vote(match: str, winners: str) -> None:
    """One letter a prompt: a, b, t for a tie, n for neither."""
    for prompt, winner in enumerate(winners):
        left = matches.sides(match, prompt)[0]
        shown = {"t": "tie", "n": "bad"}.get(winner) or ("left" if winner == left else "right")
        votes.cast(match, prompt, shown)


def test_sides_are_shuffled_and_stay_where_they_are(match):
    sides = [matches.sides(match, prompt) for prompt in range(200)]
    assert 70 < sides.count("ab") < 130
    assert sides.count("ab") + sides.count("ba") == 200
    assert sides == [matches.sides(match, prompt) for prompt in range(200)]


def test_a_half_written_answer_is_left_for_later(match):
    assert len(matches.answers(jobs.find(paths.arena(), match))) == 12


def evidence(share: float, wins: int, losses: int) -> float:
    """The uniform mixture of likelihoods over the likelihood of a share."""
    mixture = 1 / ((wins + losses + 1) * math.comb(wins + losses, wins))
    return mixture / (share**wins * (1 - share) ** losses)


@pytest.mark.parametrize(("wins", "count"), [(5, 10), (9, 10), (1, 30), (600, 1000)])
def test_the_interval_ends_where_the_evidence_is_one_to_twenty(wins, count):
    for bound in verdict.interval(wins, count):
        assert evidence(bound, wins, count - wins) == pytest.approx(20, rel=1e-6)


def test_the_interval_opens_to_the_ends():
    assert verdict.interval(0, 0) == (0, 1)
    assert verdict.interval(8, 8)[1] == 1
    assert verdict.interval(0, 8)[0] == 0


def test_seven_to_nil_is_not_sure_and_eight_to_nil_is():
    """Somebody who looks after every vote would be told of a winner among equals far more often than once in twenty."""
    assert verdict.interval(7, 7)[0] < 0.5 < verdict.interval(8, 8)[0]


def test_equals_are_told_apart_less_than_once_in_twenty_however_often_one_looks():
    random, wrong = Random(0), 0
    for _ in range(300):
        wins = 0
        for count in range(1, 101):
            wins += random.random() < 0.5
            low, high = verdict.interval(wins, count)
            if low > 0.5 or high < 0.5:
                wrong += 1
                break
    assert wrong / 300 < 0.05


@pytest.mark.parametrize(
    ("wins", "losses", "others", "more"),
    [
        (11, 1, 0, 0),
        (1, 11, 5, 0),
        (5, 5, 0, None),
        (0, 0, 0, None),
        (9, 1, 0, 2),
        (7, 3, 0, 48),
        (7, 3, 10, 96),
        (501, 500, 0, None),
    ],
)
def test_the_votes_that_are_missing_are_counted(wins, losses, others, more):
    assert verdict.more_votes(wins, losses, others) == more


def test_a_verdict_counts_by_winner_whatever_the_side(match):
    vote(match, "bbbbatnbbbbb")
    found = verdict.of(votes.of_match(match))
    counted = {key: found[key] for key in ("votes", "wins", "losses", "ties", "bad", "split", "more")}
    assert counted == {"votes": 12, "wins": 9, "losses": 1, "ties": 1, "bad": 1, "split": 0, "more": 3}
    assert (found["topics"]["sea"]["wins"], found["topics"]["bread"]["wins"]) == (4, 5)
    assert found["length"] == {"longer": 9, "count": 10, "warns": False}


def test_the_rate_counts_votes_with_a_winner_only():
    found = verdict.of(
        [{"topic": "", "verdict": said, "text_a": "a", "text_b": "b"} for said in ("b", "a", "b", "tie", "bad")]
    )
    assert found["rate"] == pytest.approx(2 / 3)
    assert verdict.of([])["rate"] is None


def test_length_warns_as_soon_as_it_is_sure():
    def bias(count: int) -> dict:
        return verdict.length_bias([{"verdict": "b", "text_a": "a", "text_b": "much longer"}] * count)

    assert [bias(count)["warns"] for count in (0, 7, 8)] == [False, False, True]


def test_length_does_not_warn_when_the_shorter_ones_win(match):
    vote(match, "aaaaaaaaabbb")
    assert verdict.of(votes.of_match(match))["length"] == {"longer": 3, "count": 12, "warns": False}


def test_a_second_vote_replaces_the_first(match):
    vote(match, "a")
    vote(match, "b")
    assert [row["verdict"] for row in votes.of_match(match)] == ["b"]


def test_votes_leave_as_pairs_and_outlive_their_match(match, tmp_path):
    vote(match, "btab")
    shutil.rmtree(jobs.find(paths.arena(), match))
    assert votes.write_pairs(tmp_path / "pairs.jsonl", match) == 3
    lines = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert lines[1] == {
        "prompt": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "question 2"}],
        "chosen": [{"role": "assistant", "content": "short 2"}],
        "rejected": [{"role": "assistant", "content": "long 2 " * 5}],
    }


def test_two_equal_answers_are_no_pair(match, tmp_path):
    directory = jobs.find(paths.arena(), match)
    rows = [{"prompt": 0, "a": said("same"), "b": said("same")}, {"prompt": 1, "a": said("one"), "b": said("two")}]
    (directory / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vote(match, "ab")
    assert [pair["chosen"][0]["content"] for pair in votes.pairs(match)] == ["two"]


def test_a_vote_for_a_reply_that_was_cut_is_no_pair(match, tmp_path):
    directory = jobs.find(paths.arena(), match)
    whole, cut = said("whole"), said("cut in the") | {"finish_reason": "length"}
    rows = [{"prompt": 0, "a": cut, "b": whole}, {"prompt": 1, "a": cut, "b": whole}]
    (directory / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vote(match, "a")
    with raises("VotedForCutReplies", match="be longer, and vote again"):
        votes.make_corpus("mine", match)
    vote(match, "ab")  # where the reply that lost was cut, nothing is learned of how it ended
    card = votes.make_corpus("mine", match)
    assert (card["pairs"], card["reasons"]) == (1, {"cut_reply": 1})
    with database.opened() as db, db.conn:  # a vote of before
        db.conn.execute("update votes set finish_a = null, finish_b = null")
    assert len(votes.pairs(match)) == 2


def test_the_page_says_how_long_a_reply_may_be(monkeypatch, home):
    asked = []
    monkeypatch.setattr(matches, "create", lambda *args: asked.append(args) or home)
    for longest in (900, None):
        playground_arena.on_start(Say("en"), "base:x", "run:y", "en", longest)
    assert [sampling for *_, sampling in asked] == [{"max_new_tokens": 900}, {"max_new_tokens": 200}]


def test_without_a_winner_there_are_no_pairs(match, tmp_path):
    vote(match, "tn")
    with raises("NoPairs", match="a pair needs a winner"):
        votes.write_pairs(tmp_path / "pairs.jsonl", match)


def test_votes_become_a_corpus_of_pairs_and_what_prefers_neither_is_set_aside(match, capsys, monkeypatch):
    vote(match, "abtn")
    votes.cast(match, 5, "left", voter="judge:x")  # is no person's vote
    monkeypatch.setattr("sys.argv", ["core.arena", "pairs", match, "--preferences", "Мой вкус", "--json"])
    command.main()
    card = corpus.card(json.loads(capsys.readouterr().out)["id"])
    assert (card["name"], card["kind"], card["pairs"]) == ("Мой вкус", "preference", 2)
    assert (card["rows_in"], card["rows_kept"], card["rows_set_aside"]) == (4, 2, 2)
    assert card["reasons"] == {"vote_tie": 1, "vote_bad": 1}
    assert [aside["excerpt"] for aside in corpus.set_aside(card["id"])] == ["question 2", "question 3"]
    first, second = corpus.rows(card["id"])
    said_of = {name: [turn["content"] for turn in first[name]] for name in ("messages", "chosen", "rejected")}
    assert said_of == {"messages": ["be brief", "question 0"], "chosen": ["short 0"], "rejected": ["long 0 " * 5]}
    assert (second["chosen"][0]["content"], second["rejected"][0]["content"]) == ("long 1 " * 5, "short 1")
    assert second["fields"] == {"topic": "sea", "chosen_model": "run:y", "rejected_model": "base:x"}
    assert second["source"] == {"file": match, "line": "2"}


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_the_page_makes_a_corpus_of_votes_and_says_what_became_of_each(match, lang, monkeypatch):
    informed = []
    monkeypatch.setattr(gr, "Info", informed.append)
    vote(match, "aabtt")
    assert playground_arena.on_corpus(Say(lang), match, "") == ""
    assert corpus.listed()[0]["pairs"] == 3
    assert f"{Say(lang)('corpora.reason.vote_tie')} (2)" in informed[0]


def test_a_deleted_set_of_prompts_can_be_kept_again(home):
    text = "Кто ты?\n# море\nЧто такое море?\nКак\\nплыть?"
    id = prompts.save("Мой набор", text)
    with pytest.raises(gr.Error, match="Сохраните или уберите их"):
        playground_arena.on_own_delete(Say("ru"), id, "", "черновик")
    chosen, name, kept = playground_arena.on_own_delete(Say("ru"), id, "", "")
    assert (name, kept, chosen.value) == ("Мой набор", text, "ru")
    with raises("PromptsMissing"):
        prompts.load(id)
    assert prompts.save(name, kept) == id
    with pytest.raises(gr.Error, match="входит в Soulsmith и остаётся"):
        playground_arena.on_own_delete(Say("ru"), "ru", "", "")
    assert prompts.load("ru")


def test_own_prompts_have_topics(home):
    text = "# море\nЧто такое море?\nКто ты?\n\n#хлеб\nКак печь\\nхлеб?"
    assert prompts.load(prompts.save("Мой набор", text)) == [
        {"topic": "море", "prompt": "Что такое море?"},
        {"topic": "море", "prompt": "Кто ты?"},
        {"topic": "хлеб", "prompt": "Как печь\nхлеб?"},
    ]
    (paths.home() / "prompts" / "own-damaged.json").write_text("[")
    assert [one["id"] for one in prompts.listed()] == ["en", "ru", "own-мой-набор"]
    with raises("PromptsEmpty"):
        prompts.save("x", "# only a topic")
    with raises("PromptsMissing"):
        prompts.load("../../job")


def test_the_built_in_sets_match_in_number_and_topics():
    english, russian = prompts.load("en"), prompts.load("ru")
    assert len(english) == len(russian) == 24
    assert len({one["topic"] for one in english}) == len({one["topic"] for one in russian}) == 6


class Judge:
    """A server whose opinion is a function of the two answers in the order shown."""

    def __init__(self, opinion):
        self.opinion = opinion

    def __call__(self, url, model):
        return self

    def ask(self, messages, **_):
        text = messages[0]["content"]
        first, second = text.split("[Answer 1]\n")[1].split("\n\n[Answer 2]\n")
        return Reply(self.opinion(first, second.split("\n\nReply with")[0]))


@pytest.mark.parametrize(
    ("opinion", "verdicts"),
    [
        (lambda one, other: "1" if len(one) > len(other) else "Answer: 2.", ["b"] * 12),
        (lambda one, other: "<think>1 or 2?</think>1", ["split"] * 12),
        (lambda one, other: "tie", ["tie"] * 12),
        (lambda one, other: "bad", ["bad"] * 12),
    ],
)
def test_a_judge_is_asked_in_both_orders(match, monkeypatch, opinion, verdicts):
    monkeypatch.setattr(judging, "Endpoint", Judge(opinion))
    request = {"url": "http://there", "model": "m", "match": match}
    assert judging.work(jobs.find(paths.arena(), match), request, lambda *_, **__: None) == {"judged": 12}
    assert [row["verdict"] for row in votes.of_match(match, "judge:m")] == verdicts


def test_a_judge_that_says_nothing_useful_is_given_up(match, monkeypatch):
    monkeypatch.setattr(judging, "Endpoint", Judge(lambda *_: "I like both equally"))
    with raises("JudgeUnclear", match="3 times in a row, but: I like both"):
        judging.work(jobs.find(paths.arena(), match), {"url": "", "model": "m", "match": match}, lambda *_, **__: None)


def test_numbers_stand_next_to_opinions(match):
    directory = jobs.find(paths.arena(), match)
    (directory / "measured.json").write_text(
        json.dumps({"a": {"held_out_loss": 2.0}, "b": {"held_out_loss": None}}), encoding="utf-8"
    )
    found = numbers.of(directory, jobs.request(directory))
    assert found["a"]["perplexity"] == pytest.approx(7.389, abs=1e-3)
    assert found["b"]["perplexity"] is None
    assert (found["a"]["tokens"], found["b"]["tokens"]) == (2, 10)
    assert (found["a"]["repetition"], found["b"]["repetition"]) == (0, pytest.approx(5 / 7))
    assert numbers.languages("море sea 海") == {"cyrillic": 0.5, "latin": 0.375, "cjk": 0.125}


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_the_verdict_shows_votes_topics_judges_and_numbers_escaped(match, lang):
    say, directory = Say(lang), jobs.find(paths.arena(), match)
    assert say("arena.no_votes") in playground_arena.on_show(say, match)
    vote(match, "bbbbbtnbbbbb")
    votes.cast(match, 0, "split", "judge:<i>m</i>")
    (directory / "judges").mkdir()
    jobs.create(directory / "judges", {"name": "m", "judge": True, "match": match, "url": "", "model": "<i>m</i>"})
    (directory / "measured.json").write_text(
        json.dumps({"a": {"held_out_loss": 2.0}, "b": {"held_out_loss": None}}), encoding="utf-8"
    )
    shown = playground_arena.on_show(say, match)
    assert "<i>" not in shown
    for words in (
        say("arena.counts", wins=10, losses=0, ties=1, bad=1),
        say("arena.sure.b"),
        say("arena.split", count=1),
        say("arena.length", longer=10, count=10),
        say("arena.held_out_loss"),
        say("arena.judge.status", name="&lt;i&gt;m&lt;/i&gt;", state=say("arena.state.queued"), done=0, total=0),
        "<td>bread</td><td>5</td><td>0</td><td>1</td>",
        "<td>sea</td><td>5</td><td>0</td><td>1</td>",
    ):
        assert words in shown
    assert "<td>2</td><td>—</td>" in shown
    assert say("arena.all_voted") in playground_arena.draw(say, match)[1]


def test_answers_wait_for_a_run_that_has_the_card(match, monkeypatch):
    """A run that is there already, and one that begins in the middle of a reply."""
    directory = jobs.find(paths.arena(), match)
    (directory / "answers.jsonl").unlink()
    monkeypatch.setattr(matches, "WAIT_SECONDS", 0)
    monkeypatch.setattr(gpu_access.reply_gpu, "is_taken_by", lambda run_id: True)
    training, seen = [None, "run", "run", None] + 12 * [None], []
    monkeypatch.setattr(gpu_access, "training", lambda: training.pop(0) if training else None)
    closed = [ErrorElsewhere("ChatClosed", {}, "closed")]

    def talk(asked, *_, **__):
        if closed:
            raise closed.pop()
        yield {side: types.Reply(text=asked[side].model_id) for side in asked}

    monkeypatch.setattr(chat, "talk", talk)
    monkeypatch.setattr(matches, "measure", lambda *_: None)
    request = jobs.request(directory)
    assert matches.answer(directory, request, lambda event, **_: seen.append(event)) == {"answers": 12}
    assert seen == ["progress", "waiting", "resumed", *["progress"] * 12, "measuring"]
    assert [row["b"]["text"] for row in matches.answers(directory)] == ["run:y"] * 12


def test_a_match_s_id_cannot_leave_its_folder(home):
    for name in ("..", "../runs", "", "nothing"):
        with raises("JobGone"):
            jobs.find(paths.arena(), name)


def test_a_job_says_how_it_ended(home, tmp_path):
    directory = jobs.create(paths.exports(), {"name": "x"})
    assert jobs.state(directory) == "queued"

    def work(path, request, report):
        report("progress", done=1, total=2)
        raise errors.named("PromptsEmpty")

    assert jobs.run(directory, work) == "failed"
    assert jobs.progress(directory)["failed"]["trouble"] == "PromptsEmpty"
    jobs.ask(directory, "stop")
    assert jobs.run(directory, work) == "stopped"
    assert jobs.state(directory) == "stopped"
    jobs.delete(directory)
    assert not directory.exists()


def test_stop_and_continue_are_on_while_they_have_a_use(match):
    say, directory = Say("en"), jobs.find(paths.arena(), match)
    spot = playground_arena.draw(say, match)[0]

    def useful(drawn: list) -> list[bool]:
        return [button.interactive for button in drawn[-3:-1]]

    assert useful(playground_arena.draw(say, match)) == [True, False]
    assert jobs.run(directory, lambda *_: jobs.end_if_requested(directory) or {}) == "finished"
    assert useful(playground_arena.on_tick(say, match, spot, "")) == [False, False]
    assert useful(playground_arena.draw(say, None)) == [False, False]


def test_a_vote_is_taken_back_and_its_prompt_comes_again(match):
    vote(match, "ab")
    say = Say("en")
    drawn = playground_arena.draw(say, match)
    assert drawn[0] == 2
    assert drawn[9].interactive
    assert playground_arena.on_undo(say, match)[0] == 1
    assert playground_arena.on_undo(say, match)[0] == 0
    assert not playground_arena.on_undo(say, match)[9].interactive
    assert votes.of_match(match) == []


def test_a_judge_s_votes_stay_when_a_person_s_is_taken_back(match):
    vote(match, "a")
    votes.cast(match, 0, "left", "judge:m")
    votes.take_back(match)
    assert votes.voters(match) == ["judge:m"]


def test_a_set_of_prompts_is_edited(home):
    say, id = Say("en"), prompts.save("mine", "# sea\none\ntwo")
    assert playground_arena.on_own_edit(say, id, "", "") == ("mine", "# sea\none\ntwo")
    with pytest.raises(gr.Error):
        playground_arena.on_own_edit(say, id, "", "another text that was typed")
    assert prompts.save("mine", "# sea\none") == id
    assert len(prompts.load(id)) == 1


def test_sets_of_prompts_are_edited_one_after_the_other(home, monkeypatch):
    monkeypatch.setattr(gr, "Info", lambda *_: None)
    say, boxes = Say("en"), ("", "")
    ids = [prompts.save(name, text) for name, text in (("first", "one"), ("second", "two"))]
    for id in ids:
        name, text = playground_arena.on_own_edit(say, id, *boxes)
        chosen, *boxes = playground_arena.on_own(say, name, f"{text}\nthree")
        assert (chosen.value, boxes) == (id, ["", ""])
    assert [len(prompts.load(id)) for id in ids] == [2, 2]


def test_stop_ends_a_match_that_is_measuring(match, monkeypatch):
    directory, asked = jobs.find(paths.arena(), match), []

    def measure(model_id, _, look):
        asked.append(model_id)
        jobs.ask(directory, "stop")
        look()

    monkeypatch.setattr(matches, "held_out_rows", lambda _: [{}])
    monkeypatch.setattr(chat, "measure", measure)
    with jobs.lock(directory), pytest.raises(jobs.Stopped):
        matches.measure(directory, jobs.request(directory))
    assert asked == ["base:x"]
    assert not (directory / "measured.json").exists()


def test_stop_ends_a_match_in_the_middle_of_a_reply(match, monkeypatch):
    directory = jobs.find(paths.arena(), match)
    seen = []

    def talk(*_, **__):
        for words in range(100):
            seen.append(words)
            jobs.ask(directory, "stop")
            yield {}

    monkeypatch.setattr(chat, "talk", talk)
    request = jobs.request(directory) | {"prompts": [{"topic": "", "prompt": "x"}] * 20}
    with jobs.lock(directory), pytest.raises(jobs.Stopped):
        matches.answer(directory, request, lambda *_, **__: None)
    assert seen == [0]
