"""The blind arena: two answer the same prompts, a person votes without knowing who is who, and sees what the votes say."""

import json
from functools import partial
from pathlib import Path

import gradio as gr

from core import events, jobs, paths
from core.arena import judging, matches, numbers, prompts, verdict, votes
from core.chat import chat_models, reply_gpu
from core.chat.types import Sampling
from core.errors import UserError
from core.runs import runs
from ui import buttons, temp_files, templates
from ui.errors import Refused, inform, show_errors
from ui.playground_show import LATEX, literal, thought, typed
from ui.text import Say

TICK_SECONDS = 2
KEYS = (paths.assets() / "arena.js").read_text(encoding="utf-8")
BUNDLED = sorted(path.stem for path in (paths.assets() / "prompts").glob("*.json"))
OWN = f"(set) => ({{__type__: 'update', interactive: !{json.dumps(BUNDLED)}.includes(set)}})"  # others can be deleted
# Worked out in the browser, at once: a late answer would clear a verdict that was asked for, or show another match's.
OF_MATCH = "(match, verdict) => verdict?.includes(` data-match=\"${match}\"`) ? verdict : ''"


def build(say: Say, at_home: bool = False) -> dict:
    """The part; returns what fills it. `at_home` adds the judge and the file of preference pairs."""
    gr.Markdown(say("arena.intro"))
    with gr.Row():
        a = gr.Dropdown([], label=say("arena.a"), interactive=True)
        b = gr.Dropdown([], label=say("arena.b"), interactive=True)
        chosen = gr.Dropdown(
            set_choices(say),
            label=say("arena.set"),
            info=say("arena.set.info"),
            value=set_choices(say)[0][1],
            interactive=True,
        )
        longest = gr.Number(
            Sampling().max_new_tokens,
            precision=0,
            minimum=16,
            maximum=2048,
            label=say("playground.max_new_tokens"),
            info=say("arena.longest.info"),
        )
        start = gr.Button(say("arena.start"), variant="primary", min_width=120)
        buttons.needs(start, a, b)
    build_own(say, chosen)
    with gr.Row():
        match = gr.Dropdown([], label=say("arena.match"), info=say("arena.match.info"), interactive=True, scale=4)
        stop = gr.Button(say("arena.stop"), size="sm", min_width=100, interactive=False)
        go_on = gr.Button(say("arena.go_on"), size="sm", min_width=100, interactive=False)
        delete = gr.Button(say("arena.delete"), size="sm", min_width=100)
    status, spot, timer = gr.HTML(), gr.State(), gr.Timer(TICK_SECONDS, active=False)
    booth = build_booth(say)
    show = gr.Button(say("arena.show"))
    for button in (delete, show):
        buttons.needs(button, match)
    result = gr.HTML(elem_id=f"verdict-{say.lang}")
    drawn = [spot, status, booth["question"], booth["left"], booth["right"], *booth["buttons"], booth["undo"]]
    drawn += [stop, go_on, timer]
    hidden, redraw = {"show_progress": "hidden"}, (partial(draw, say), match, drawn)
    start.click(partial(on_start, say), [a, b, chosen, longest], match, **hidden)
    match.change(*redraw, **hidden)
    for button, name in zip(booth["buttons"], votes.VERDICTS, strict=True):
        button.click(partial(on_vote, say, name), [match, spot], drawn, concurrency_id="vote", **hidden)
    booth["undo"].click(partial(on_undo, say), match, drawn, concurrency_id="vote", **hidden)
    timer.tick(partial(on_tick, say), [match, spot, status], drawn, **hidden)
    judged = show.click(partial(on_show, say), match, result, **hidden)
    for event in (match.change, judged.then):
        event(None, [match, result], result, js=OF_MATCH, **hidden)
    for button, ask in ((stop, partial(jobs.ask, request="stop")), (go_on, _resume)):
        button.click(partial(on_ask, say, ask), match, None, **hidden).then(*redraw, **hidden)
    delete.click(partial(on_delete, say), match, match, **hidden)
    if at_home:
        build_at_home(say, match)
    choices = [a, b, chosen, match]
    return {"load": partial(on_load, say), "inputs": choices, "outputs": choices}


def build_own(say: Say, chosen: gr.Dropdown) -> None:
    """A person's own sets of prompts, folded: kept, edited and deleted."""
    with gr.Accordion(say("arena.own"), open=False):
        name = gr.Textbox(label=say("arena.own.name"))
        own = gr.Textbox(label=say("arena.own.text"), info=say("arena.own.info"), lines=6, max_lines=20)
        with gr.Row():
            save = gr.Button(say("arena.own.save"))
            edit = gr.Button(say("arena.own.edit"))
            drop = gr.Button(say("arena.own.delete"), interactive=False)
    buttons.needs(save, name, own)
    chosen.change(None, chosen, drop, js=OWN)
    boxes, hidden = [chosen, name, own], {"show_progress": "hidden"}
    save.click(partial(on_own, say), boxes[1:], boxes, **hidden)
    drop.click(partial(on_own_delete, say), boxes, boxes, **hidden)
    edit.click(partial(on_own_edit, say), boxes, boxes[1:], **hidden)


def build_booth(say: Say) -> dict:
    """The prompt, two answers without names, four buttons, and one that takes the latest vote back."""
    question = gr.Chatbot(show_label=False, height=150, buttons=[], latex_delimiters=LATEX, elem_id="arena-question")
    with gr.Row(equal_height=True):
        sides = {}
        for side in matches.SIDES:
            sides[side] = gr.Chatbot(
                label=say(f"arena.{side}"),
                height=320,
                buttons=[],
                autoscroll=False,  # a long answer is read from its beginning
                latex_delimiters=LATEX,
                elem_id=f"arena-{side}",
            )
    with gr.Row():
        buttons = [
            gr.Button(say(f"arena.vote.{name}"), elem_id=f"vote-{name}", interactive=False) for name in votes.VERDICTS
        ]
        undo = gr.Button(say("arena.undo"), elem_id="vote-undo", interactive=False)
    return {"question": question, **sides, "buttons": buttons, "undo": undo}


def build_at_home(say: Say, match: gr.Dropdown) -> None:
    """A model as a judge, and the votes as a corpus or a file: for the machine's owner."""
    with gr.Accordion(say("arena.judge"), open=False):
        gr.Markdown(say("arena.judge.about"))
        with gr.Row():
            url = gr.Textbox(label=say("arena.judge.url"), placeholder="http://127.0.0.1:11434/v1")
            model = gr.Textbox(label=say("arena.judge.model"), placeholder="qwen3:8b")
            judge = gr.Button(say("arena.judge.start"))
        buttons.needs(judge, match, url, model)
    with gr.Accordion(say("arena.learn"), open=False):
        gr.Markdown(say("arena.learn.about"))
        with gr.Row():
            name = gr.Textbox(label=say("arena.learn.name"), elem_id=f"pairs-name-{say.lang}")
            make = gr.Button(say("arena.learn.make"))
            pairs = gr.Button(say("arena.pairs"))
        for button in (make, pairs):
            buttons.needs(button, match)
        file = gr.File(label=say("arena.pairs.file"), visible=False)
    judge.click(partial(on_judge, say), [match, url, model], None, show_progress="hidden")
    make.click(partial(on_corpus, say), [match, name], name, show_progress="hidden")
    pairs.click(partial(on_pairs, say), match, file, show_progress="hidden")


def on_load(say: Say, a: str | None, b: str | None, prompt_set: str | None, match: str | None, asked: str = "") -> list:
    """The models, the sets and the matches; what is chosen stays: a value is sent only where it is new.

    `asked`: the id of a run that the address names; it is chosen, and its base.
    """
    models = chat_models.listed()
    names = [(f"{say(f'chat_model.{one.kind}')}: {one.title}", one.id) for one in models]
    if run := next((one for one in models if asked and one.id == asked), None):
        a = b = None
    run = run or next((one for one in models if one.kind == "run"), None)
    sides, sets, played = runs.disambiguate(names), set_choices(say), match_choices(say)
    return [
        _choice(sides, a, f"base:{run.base_model}" if run else None),
        _choice(sides, b, run.id if run else None),
        _choice(sets, prompt_set, sets[0][1]),
        _choice(played, match, played[0][1] if played else None),
    ]


def _choice(choices: list[tuple[str, str]], chosen: str | None, usual: str | None) -> gr.Dropdown:
    known = chosen in [value for _, value in choices]
    return gr.Dropdown(choices=choices) if known else gr.Dropdown(choices=choices, value=usual)


def set_choices(say: Say) -> list[tuple[str, str]]:
    """The sets of prompts, the page's language first."""
    sets = sorted(prompts.listed(), key=lambda one: one["id"] != say.lang)
    return [(f"{one['title']} · {one['count']}", one["id"]) for one in sets]


def match_choices(say: Say) -> list[tuple[str, str]]:
    return [
        (f"{jobs.request(path)['name']} · {runs.created_at(path.name)}", path.name)
        for path in jobs.listed(paths.arena())
    ]


@show_errors
def on_start(say: Say, a: str | None, b: str | None, chosen: str, longest: float | None):
    if not a or not b:
        raise Refused(say("arena.two"))
    directory = matches.create(a, b, chosen, {"max_new_tokens": int(longest or Sampling().max_new_tokens)})
    return gr.Dropdown(choices=match_choices(say), value=directory.name)


@show_errors
def on_own(say: Say, name: str, text: str):
    """Keep a person's own prompts, choose them and empty the boxes for the next set."""
    id = prompts.save(name, text)
    inform(say("arena.own.kept", name=prompts.title(id)))
    return gr.Dropdown(choices=set_choices(say), value=id), "", ""


@show_errors
def on_own_edit(say: Say, chosen: str, _name: str, draft: str):
    """Put the chosen set into the boxes; kept under its name it replaces itself, under another it is a new one."""
    return prompts.title(chosen), prompts.edited(chosen, draft)


@show_errors
def on_own_delete(say: Say, chosen: str, _name: str, draft: str):
    """Delete a person's own set; its text is put into the boxes, so that it can be kept again."""
    name, text = prompts.delete(chosen, draft)
    inform(say("arena.own.deleted", name=name))
    return gr.Dropdown(choices=set_choices(say), value=set_choices(say)[0][1]), name, text


def draw(say: Say, match_id: str | None) -> list:
    """How far the answers are, and the first prompt that waits for a vote."""
    try:
        directory = jobs.find(paths.arena(), match_id)
    except UserError:
        return [None, "", [], [], [], *[gr.Button(interactive=False)] * 7, gr.Timer(active=False)]
    request, rows = jobs.request(directory), matches.answers(directory)
    voted = {vote["prompt_index"] for vote in votes.of_match(match_id, votes.PERSON)}
    row = next((row for row in rows if row["prompt"] not in voted), None)
    line = status_line(say, directory, len(request["prompts"]), len(rows), len(voted))
    state = jobs.state(directory)
    useful = [*[row is not None] * 4, bool(voted), state in jobs.ACTIVE, state in jobs.RESUMABLE]
    rest = [*(gr.Button(interactive=one) for one in useful), gr.Timer(active=state in jobs.ACTIVE)]
    if row is None:
        return [None, line, [], [], [], *rest]
    question = [{"role": "user", "content": typed(request["prompts"][row["prompt"]]["prompt"])}]
    answers = [shown(say, row[side]["text"]) for side in matches.sides(match_id, row["prompt"])]
    return [row["prompt"], line, question, *answers, *rest]


def status_line(say: Say, directory: Path, count: int, answered: int, voted: int) -> str:
    """How far the answers and the votes on `count` prompts are."""
    state = jobs.state(directory)
    failed = jobs.progress(directory)["failed"] if state == "failed" else None
    if state == "running" and (events.last(directory) or {}).get("event") == "waiting":
        state = "waiting"
    values = {"count": count, "answered": answered, "voted": voted}
    return templates.render(say, "arena_status", state=state, failed=failed, **values)


def shown(say: Say, text: str) -> list[dict]:
    """An answer as a Chatbot's messages, thinking folded."""
    thinking, ended, rest = thought(text)
    messages = [{"role": "assistant", "content": literal(rest) or "—"}]
    if thinking.strip():
        metadata = {"title": say("playground.thinking"), "status": "done" if ended else "pending"}
        messages.insert(0, {"role": "assistant", "content": literal(thinking), "metadata": metadata})
    return messages


@show_errors
def on_vote(say: Say, name: str, match_id: str | None, spot: int | None) -> list:
    """Keep the vote and show the next prompt."""
    if match_id and spot is not None:
        votes.cast(match_id, spot, name)
    return draw(say, match_id)


@show_errors
def on_undo(say: Say, match_id: str | None) -> list:
    """Take the latest vote back and show its prompt again."""
    votes.take_back(_match(say, match_id).name)
    return draw(say, match_id)


def on_tick(say: Say, match_id: str | None, spot: int | None, line: str | None) -> list:
    """Follow the answers; redraw only what changed."""
    drawn = draw(say, match_id)
    if drawn[0] != spot:
        return drawn
    status = gr.skip() if drawn[1] == (line or "") else drawn[1]
    return [gr.skip(), status, *[gr.skip()] * (len(drawn) - 5), *drawn[-3:]]


@show_errors
def on_show(say: Say, match_id: str | None) -> str:
    """Who was who, and what the votes say."""
    directory = _match(say, match_id)
    request = jobs.request(directory)
    voters = votes.voters(match_id)
    return templates.render(
        say,
        "arena_verdict",
        match=match_id,
        titles=request["titles"],
        verdicts={voter: verdict.of(votes.of_match(match_id, voter)) for voter in voters},
        numbers=numbers.of(directory, request),
        judges=[_judge(path) for path in jobs.listed(directory / "judges")],
    )


def _judge(directory: Path) -> dict:
    """A job of a judge: its model, its state, how far it is, why it failed."""
    state, seen = jobs.state(directory), jobs.progress(directory)
    done = {key: seen.get("progress", {}).get(key, 0) for key in ("done", "total")}
    failed = seen["failed"] if state == "failed" else None
    return {"model": jobs.request(directory)["model"], "state": state, "failed": failed} | done


@show_errors
def on_ask(say: Say, ask, match_id: str | None) -> None:
    ask(_match(say, match_id))


def _match(say: Say, match_id: str | None) -> Path:
    if not match_id:
        raise Refused(say("arena.no_match"))
    return jobs.find(paths.arena(), match_id)


def _resume(directory: Path) -> None:
    if jobs.state(directory) in jobs.RESUMABLE:
        jobs.start(directory, "core.arena", reply_gpu.environment())


@show_errors
def on_delete(say: Say, match_id: str | None):
    """Delete the answers; the votes stay, with the texts they were cast on."""
    jobs.delete(_match(say, match_id))
    played = match_choices(say)
    return gr.Dropdown(choices=played, value=played[0][1] if played else None)


@show_errors
def on_judge(say: Say, match_id: str | None, url: str, model: str) -> None:
    _match(say, match_id)
    judging.start(match_id, url, model)
    inform(say("arena.judge.started"))


@show_errors
def on_pairs(say: Say, match_id: str | None):
    """Write this match's votes as preference pairs and offer the file."""
    out = temp_files.folder() / "pairs.jsonl"
    inform(say("arena.pairs.made", count=votes.write_pairs(out, match_id)))
    return gr.File(value=str(out), visible=True)


@show_errors
def on_corpus(say: Say, match_id: str | None, name: str) -> str:
    """Make a corpus of preference pairs of this match's votes, say what became of them, and empty the name."""
    _match(say, match_id)
    card = votes.make_corpus(name or say("arena.learn.default"), match_id)
    sentence = say("arena.learn.made", name=card["name"], count=card["pairs"])
    if reasons := [f"{say(f'corpora.reason.{reason}')} ({count})" for reason, count in card["reasons"].items()]:
        sentence += " " + say("arena.learn.aside", reasons=", ".join(reasons))
    inform(sentence)
    return ""
