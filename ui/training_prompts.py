"""The search for a better prompt, below the form of a profile: start it, follow it, put what it found into the fields."""

import json
import math
import time
from functools import partial

import gradio as gr

from core import jobs, paths
from core.chat import profiles
from core.corpus import corpus as corpora
from core.errors import UserError
from core.prompt_search import searches
from core.runs import runs
from core.training.config import TrainConfig
from ui import buttons, templates, training_approach
from ui.errors import Refused, inform, show_errors
from ui.text import Say

TICK_SECONDS = 2
EXCERPT = 240  # characters of a prompt in the table
ASKED = ("pause", "resume", "stop", "delete")
SETTINGS = [name for name in searches.FIELDS if name not in ("base_model", "corpus")]  # taken from the form of a run


def build(say: Say, form: dict, profile: dict) -> tuple[list, list]:
    """The part, inside that of the profile; the inputs and outputs of on_open()."""
    with profile["part"]:
        gr.Markdown(f"### {say('prompt_search.title')}\n\n{say('prompt_search.about')}")
        words = {"label": say("prompt_search.corpus"), "info": say("prompt_search.corpus.info")}
        corpus = gr.Dropdown([], elem_id=f"prompt-search-corpus-{say.lang}", **words)
        start = gr.Button(say("prompt_search.start"))
        buttons.needs(start, corpus)
        listing = gr.Dropdown([], label=say("prompt_search.listing"), visible=False)
        with gr.Row():
            asks = {name: _button(say, name) for name in (*ASKED, "take", "undo")}
        status = gr.HTML(elem_id=f"prompt-search-{say.lang}")
    probe, before, timer = gr.State(""), gr.State([]), gr.Timer(TICK_SECONDS, active=False)
    quiet, watched = {"show_progress": "hidden"}, [listing, probe]
    name, base_model, system_prompt, examples = profile["fields"]
    asked = {"base_model": base_model, "corpus": corpus, "system_prompt": system_prompt, "examples": examples}
    asked |= {name: form[name] for name in SETTINGS}
    start.click(partial(on_start, say), inputs_kwargs=asked, outputs=watched, **quiet)
    timer.tick(look, listing, probe, **quiet)
    listing.change(look, listing, probe, **quiet)
    drawn = [status, *(asks[name] for name in ASKED), asks["take"], timer]
    probe.change(partial(draw, say), probe, drawn, **quiet)
    for name in ASKED:
        asks[name].click(partial(on_ask, say, name), listing, watched, **quiet)
    fields = profile["fields"]
    filled = [*fields, profile["saved"], before, asks["undo"]]
    asks["take"].click(partial(on_take, say), [listing, profile["saved"], *fields], filled, **quiet)
    asks["undo"].click(on_undo, before, filled, **quiet)
    return [form["corpus"], corpus, listing], [corpus, *watched]


def _button(say: Say, name: str) -> gr.Button:
    return gr.Button(say(f"prompt_search.{name}"), size="sm", min_width=100, visible=False)


def on_open(say: Say, of_form: str | None, chosen: str | None, search_id: str | None) -> tuple:
    """The corpora of chats, that of the form chosen unless another is, and the searches, the newest first."""
    offered = [(card["name"], card["id"]) for card in corpora.listed() if card.get("kind") == "chat"]
    known = [id for _, id in offered]
    value = next((id for id in (chosen, of_form, *known) if id in known), None)
    return gr.Dropdown(choices=offered, value=value), *_listed(search_id)


def _listed(search_id: str | None) -> tuple:
    """The list of searches with one of them chosen, the newest where that is gone; and what its table shows."""
    known = {path.name: jobs.request(path)["name"] for path in jobs.listed(paths.prompt_searches())}
    choices = [(f"{name} · {runs.created_at(id)}", id) for id, name in known.items()]
    value = search_id if search_id in known else next(iter(known), None)
    return gr.Dropdown(choices=choices, value=value, visible=bool(known)), look(value)


def look(search_id: str | None) -> str:
    """What is known of a search, as text: the page is drawn anew only when it changes."""
    try:
        return json.dumps(searches.progress(jobs.find(paths.prompt_searches(), search_id or "")), ensure_ascii=False)
    except (UserError, OSError, ValueError, LookupError):  # gone, or its events are damaged
        return ""


@show_errors
def on_start(
    say: Say, base_model: str | None, corpus: str | None, system_prompt: str, examples: list[list[str]], **settings
):
    """Start a search in the background; the prompt in the fields is one of its candidates."""
    if not corpus:
        raise Refused(say("prompt_search.no_corpus"))
    given = {name: value for name, value in settings.items() if value is not None}  # an emptied number: its default
    config = TrainConfig((base_model or "").strip(), corpus, **given)
    prompt = {"system_prompt": system_prompt or "", "examples": training_approach.pairs(examples)}
    directory = searches.create(config, **prompt)
    searches.start(directory)
    return _listed(directory.name)


def draw(say: Say, probe: str) -> list:
    """How far the search is, its candidates, the buttons that make sense now."""
    if not probe:
        return ["", *[gr.Button(visible=False)] * (len(ASKED) + 1), gr.Timer(active=False)]
    seen = json.loads(probe)
    state, active = seen["state"], seen["state"] in jobs.ACTIVE
    useful = {"pause": state == "running", "stop": state == "running", "delete": not active}
    useful |= {"resume": state in jobs.RESUMABLE, "take": "best" in seen["ending"]}
    useful_now = [gr.Button(visible=useful[name]) for name in (*ASKED, "take")]
    return [status(say, seen), *useful_now, gr.Timer(active=active)]


def status(say: Say, seen: dict) -> str:
    """A search as HTML: its state, how far it is, what it found, every candidate with its losses."""
    ending = seen["ending"]
    profile = {one.id: one.name for one in profiles.listed()}.get(ending.get("profile"), "")
    best = ending.get("best")
    numbered = [one | {"best": number == best} for number, one in enumerate(seen["candidates"])]
    rows = sorted(numbered, key=_place)
    return templates.render(say, "prompt_search", seen=seen, ending=ending, rows=rows, profile=profile, excerpt=EXCERPT)


def _place(one: dict) -> tuple:
    """The best one first, then those that went furthest, by their loss."""
    judged = one["judging"] or {"rows": 0, "loss": math.inf}
    return not one["best"], -judged["rows"], judged["loss"]


@show_errors
def on_ask(say: Say, name: str, search_id: str | None) -> tuple:
    """Pause, stop, go on with or delete a search."""
    directory = jobs.find(paths.prompt_searches(), search_id or "")
    searches.ASKED[name](directory)
    time.sleep(0.3)  # a search that goes on takes its lock
    return _listed(search_id)


@show_errors
def on_take(say: Say, search_id: str | None, *fields) -> list:
    """The prompt that was found in the fields; what they held is kept for Undo."""
    seen = searches.progress(jobs.find(paths.prompt_searches(), search_id or ""))
    saved, *values = fields
    found, profile_id = seen["candidates"][seen["ending"]["best"]], seen["ending"]["profile"]
    known = {one.id: one.name for one in profiles.listed()}
    name = known.get(profile_id, seen["request"]["name"])
    examples = found["examples"] or [["", ""]] * training_approach.EMPTY_ROWS
    listed = gr.Dropdown(
        choices=[(name, id) for id, name in known.items()], value=profile_id if profile_id in known else None
    )
    inform(say("prompt_search.taken"))
    filled = [name, seen["request"]["base_model"], found["system_prompt"], examples, listed]
    return [*filled, [*values, saved], gr.Button(visible=True)]


def on_undo(before: list) -> list:
    """The fields as they were; of the list nothing where its profile was deleted since."""
    if not before:
        return [*[gr.skip()] * 5, [], gr.Button(visible=False)]
    *values, saved = before
    known = [one.id for one in profiles.listed()]
    return [*values, saved if saved in known else None, [], gr.Button(visible=False)]
