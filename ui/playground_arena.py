"""The blind arena: two answer the same prompts, a person votes without knowing who is who, and sees what the votes say."""

from functools import partial
from pathlib import Path

import gradio as gr

from core import jobs
from core.arena import judging, matches, numbers, prompts, verdict, votes
from core.chat import chat_models
from core.errors import UserError
from core.runs import runs
from ui import playground_arena_html as markup
from ui import temp_files
from ui.errors import Refused
from ui.playground_show import LATEX, literal, thought, typed
from ui.text import Say

TICK_SECONDS = 2
# Arrow keys or digits press the four buttons while they can be seen and nobody is typing.
KEYS = """() => {
  if (window.soulsmithVotes) return;
  window.soulsmithVotes = true;
  const votes = {ArrowLeft: 'left', 1: 'left', ArrowRight: 'right', 2: 'right', ArrowUp: 'tie', 3: 'tie',
                 ArrowDown: 'bad', 4: 'bad'};
  document.addEventListener('keydown', (event) => {
    const vote = votes[event.key];
    if (!vote || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target.closest('input, textarea, select, [contenteditable]')) return;
    const button = document.getElementById('vote-' + vote);
    if (!button || button.offsetParent === null || button.disabled) return;
    event.preventDefault();
    button.click();
  });
}"""


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
        start = gr.Button(say("arena.start"), variant="primary", min_width=120)
    with gr.Accordion(say("arena.own"), open=False):
        own_name = gr.Textbox(label=say("arena.own.name"))
        own = gr.Textbox(label=say("arena.own.text"), info=say("arena.own.info"), lines=6, max_lines=20)
        with gr.Row():
            save = gr.Button(say("arena.own.save"))
            drop = gr.Button(say("arena.own.delete"))
    with gr.Row():
        match = gr.Dropdown([], label=say("arena.match"), info=say("arena.match.info"), interactive=True, scale=4)
        stop = gr.Button(say("arena.stop"), size="sm", min_width=100)
        go_on = gr.Button(say("arena.go_on"), size="sm", min_width=100)
        delete = gr.Button(say("arena.delete"), size="sm", min_width=100)
    status, spot, timer = gr.HTML(), gr.State(), gr.Timer(TICK_SECONDS)
    booth = build_booth(say)
    show = gr.Button(say("arena.show"))
    result = gr.HTML(elem_id=f"verdict-{say.lang}")
    drawn = [spot, status, booth["question"], booth["left"], booth["right"], *booth["buttons"]]
    private = {"show_progress": "hidden", "api_visibility": "private"}
    start.click(partial(on_start, say), [a, b, chosen], match, show_progress="hidden").success(
        partial(draw, say), match, drawn, **private
    ).then(lambda: "", None, result, **private)
    save.click(partial(on_own, say), [own_name, own], chosen, show_progress="hidden")
    boxes = [chosen, own_name, own]
    drop.click(partial(on_own_delete, say), boxes, boxes, show_progress="hidden")
    match.input(partial(draw, say), match, drawn, **private).then(lambda: "", None, result, **private)
    for button, name in zip(booth["buttons"], votes.VERDICTS, strict=True):
        button.click(partial(on_vote, say, name), [match, spot], drawn, concurrency_id="vote", **private)
    timer.tick(partial(on_tick, say), [match, spot, status], drawn, **private)
    show.click(partial(on_show, say), match, result, show_progress="hidden")
    for button, ask in ((stop, jobs.stop), (go_on, _resume)):
        button.click(partial(on_ask, say, ask), match, None, **private).then(
            partial(draw, say), match, drawn, **private
        )
    delete.click(partial(on_delete, say), match, match, **private).success(partial(draw, say), match, drawn, **private)
    if at_home:
        build_at_home(say, match)
    choices = [a, b, chosen, match]
    return {"load": partial(on_load, say), "inputs": choices, "outputs": choices}


def build_booth(say: Say) -> dict:
    """The prompt, two answers without names, four buttons."""
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
    return {"question": question, **sides, "buttons": buttons}


def build_at_home(say: Say, match: gr.Dropdown) -> None:
    """A model as a judge, and the votes as a file: for the machine's owner."""
    with gr.Accordion(say("arena.judge"), open=False):
        gr.Markdown(say("arena.judge.about"))
        with gr.Row():
            url = gr.Textbox(label=say("arena.judge.url"), placeholder="http://127.0.0.1:11434/v1")
            model = gr.Textbox(label=say("arena.judge.model"), placeholder="qwen3:8b")
            judge = gr.Button(say("arena.judge.start"))
    pairs, file = gr.Button(say("arena.pairs")), gr.File(label=say("arena.pairs.file"), visible=False)
    judge.click(partial(on_judge, say), [match, url, model], None, show_progress="hidden")
    pairs.click(partial(on_pairs, say), match, file, show_progress="hidden")


def on_load(say: Say, *values: str | None) -> list:
    """Who can stand, the sets, the matches; what is chosen stays: a value is sent only where it is new."""
    found = chat_models.listed()
    choices = runs.disambiguate([(f"{say(f'chat_model.{one.kind}')}: {one.title}", one.id) for one in found])
    ids = [one.id for one in found]
    run = next((one for one in found if one.kind == "run"), None)
    usual = [f"base:{run.base_model}" if run else None, run.id if run else None]
    new = [{} if value in ids else {"value": usual[index]} for index, value in enumerate(values[:2])]
    sides = [gr.Dropdown(choices=choices, **value) for value in new]
    known = [id for _, id in set_choices(say)]
    listed = match_choices(say)
    ids = [id for _, id in listed]
    new_set = {} if values[2] in known else {"value": set_choices(say)[0][1]}
    new_match = {} if values[3] in ids else {"value": (ids or [None])[0]}
    return [*sides, gr.Dropdown(choices=set_choices(say), **new_set), gr.Dropdown(choices=listed, **new_match)]


def set_choices(say: Say) -> list[tuple[str, str]]:
    """The sets of prompts, the page's language first."""
    found = sorted(prompts.listed(), key=lambda one: one["id"] != say.lang)
    return [(f"{one['title']} · {one['count']}", one["id"]) for one in found]


def match_choices(say: Say) -> list[tuple[str, str]]:
    return [(f"{jobs.request(path)['name']} · {runs.created_at(path.name)}", path.name) for path in matches.listed()]


def on_start(say: Say, a: str | None, b: str | None, chosen: str):
    if not a or not b:
        raise Refused(say("arena.two"))
    directory = _command(say, matches.create, a, b, chosen)
    return gr.Dropdown(choices=match_choices(say), value=directory.name)


def on_own(say: Say, name: str, text: str):
    """Keep a person's own prompts and choose them."""
    id = _command(say, prompts.save, name, text)
    gr.Info(say("arena.own.kept", name=prompts.title(id)))
    return gr.Dropdown(choices=set_choices(say), value=id)


def on_own_delete(say: Say, chosen: str, _name: str, draft: str):
    """Delete a person's own set; its text is put into the boxes, so that it can be kept again."""
    _command(say, prompts.check_own, chosen)
    name, text = prompts.title(chosen), prompts.written(chosen)
    if draft.strip() not in ("", text):
        raise Refused(say.trouble(prompts.DraftInTheWay()))
    prompts.delete(chosen)
    gr.Info(say("arena.own.deleted", name=name))
    return gr.Dropdown(choices=set_choices(say), value=set_choices(say)[0][1]), name, text


def draw(say: Say, match_id: str | None) -> list:
    """How far the answers are, and the first prompt that waits for a vote."""
    try:
        directory = matches.find(match_id)
    except UserError:
        return [None, "", [], [], [], *[gr.Button(interactive=False)] * 4]
    request, rows = jobs.request(directory), matches.answers(directory)
    voted = {vote["prompt_index"] for vote in votes.of_match(match_id, votes.PERSON)}
    row = next((row for row in rows if row["prompt"] not in voted), None)
    line = markup.status(say, directory, request, len(rows), len(voted))
    buttons = [gr.Button(interactive=row is not None)] * 4
    if row is None:
        return [None, line, [], [], [], *buttons]
    asked = request["prompts"][row["prompt"]]["prompt"]
    left = matches.left(match_id, row["prompt"])
    sides = [row[left], row["ba"["ab".index(left)]]]
    question = [{"role": "user", "content": typed(asked)}]
    return [row["prompt"], line, question, *[shown(say, reply["text"]) for reply in sides], *buttons]


def shown(say: Say, text: str) -> list[dict]:
    """An answer as a Chatbot's messages, thinking folded."""
    thinking, ended, rest = thought(text)
    found = []
    if thinking.strip():
        metadata = {"title": say("playground.thinking"), "status": "done" if ended else "pending"}
        found.append({"role": "assistant", "content": literal(thinking), "metadata": metadata})
    return [*found, {"role": "assistant", "content": literal(rest) or "—"}]


def on_vote(say: Say, name: str, match_id: str | None, spot: int | None) -> list:
    """Keep the vote and show the next prompt."""
    if match_id and spot is not None:
        _command(say, votes.cast, match_id, spot, name)
    return draw(say, match_id)


def on_tick(say: Say, match_id: str | None, spot: int | None, line: str | None) -> list:
    """Follow the answers; redraw only what changed."""
    found = draw(say, match_id)
    if found[0] == spot and found[1] == (line or ""):
        return [gr.skip()] * len(found)
    return found if found[0] != spot else [gr.skip(), found[1], *[gr.skip()] * (len(found) - 2)]


def on_show(say: Say, match_id: str | None) -> str:
    """Who was who, and what the votes say."""
    directory = _found(say, match_id)
    request = jobs.request(directory)
    found = {voter: verdict.of(votes.of_match(match_id, voter)) for voter in votes.voters(match_id)}
    judges = [(jobs.request(path), jobs.state(path), jobs.progress(path)) for path in jobs.listed(directory / "judges")]
    return markup.verdict(say, request, found, numbers.of(directory, request), judges)


def on_ask(say: Say, ask, match_id: str | None) -> None:
    ask(_found(say, match_id))


def _found(say: Say, match_id: str | None) -> Path:
    if not match_id:
        raise Refused(say("arena.no_match"))
    return _command(say, matches.find, match_id)


def _resume(directory: Path) -> None:
    if jobs.state(directory) in ("stopped", "failed", "lost"):
        jobs.start(directory, "core.arena")


def on_delete(say: Say, match_id: str | None):
    """Delete the answers; the votes stay, with the texts they were cast on."""
    _command(say, jobs.delete, _found(say, match_id))
    listed = match_choices(say)
    return gr.Dropdown(choices=listed, value=listed[0][1] if listed else None)


def on_judge(say: Say, match_id: str | None, url: str, model: str) -> None:
    _found(say, match_id)
    _command(say, judging.start, match_id, url, model)
    gr.Info(say("arena.judge.started"))


def on_pairs(say: Say, match_id: str | None):
    """Write this match's votes as preference pairs and offer the file."""
    out = temp_files.folder() / "pairs.jsonl"
    count = _command(say, votes.write_pairs, out, match_id)
    gr.Info(say("arena.pairs.made", count=count))
    return gr.File(value=str(out), visible=True)


def _command(say: Say, command, *args):
    try:
        return command(*args)
    except UserError as error:
        raise Refused(say.trouble(error)) from error
