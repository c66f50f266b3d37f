"""What a run of the Training tab goes on from, and the corpora that are read beside the first one."""

import re
from functools import partial

import gradio as gr

from core import paths
from core.chat import imported
from core.corpus import corpus, token_counter
from core.errors import UserError
from core.models import models
from core.runs import promote_checkpoint, runs, starts
from core.training import mixing
from ui import templates
from ui.errors import show_errors, warn
from ui.text import Say

OWN = ("base_model", "method", "precision", "max_length")  # fields that a start brings besides those of its adapter
SHARE = "20"


def build_start(say: Say) -> gr.Dropdown:
    """The choice of a start; empty for a new adapter."""
    words = {"label": say("training.start"), "info": say("training.start.info")}
    return gr.Dropdown(
        [(say("training.start.none"), "")], value="", allow_custom_value=True, elem_id="setting-start", **words
    )


def build_mix(say: Say) -> dict:
    """Further corpora with their shares: {"mix": the corpora, "shares": a text that mixed() reads, "told"}."""
    others = gr.Dropdown(
        multiselect=True,
        label=say("training.mix"),
        info=say("training.mix.info"),
        elem_id="setting-mix",
        elem_classes="wide",
    )
    words = {"label": say("training.mix.shares"), "info": say("training.mix.shares.info")}
    percents = gr.Textbox(SHARE, elem_id="setting-shares", **words)
    told = gr.HTML()
    return {"mix": others, "shares": percents, "told": told}


def connect(say: Say, form: dict, parts: dict) -> None:
    """Let the choices fill the form, and say what the shares mean."""
    quiet = {"show_progress": "hidden"}
    names = [name for name in form if name not in ("name", "start", "mix")]
    form["start"].input(partial(on_start, say, names), form["start"], [form[name] for name in names], **quiet)
    told = [form["mix"], parts["shares"], form["corpus"], form["base_model"], form["epochs"]]
    gr.on([part.change for part in told], partial(on_told, say), told, parts["told"], **quiet)


def choices(say: Say, titles: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What a run can go on from: every run that has weights, its checkpoints, and imported adapters.

    `titles` are (title, id) of runs.
    """
    found = [(say("training.start.none"), "")]
    for title, run_id in titles:
        if starts.has_weights(run_id):
            found.append((title, f"{starts.RUN}{run_id}"))
        steps = reversed(promote_checkpoint.kept(run_id))
        found += [(f"{title} · checkpoint-{step}", f"{starts.RUN}{run_id}/checkpoint-{step}") for step in steps]
    folders = {folder.name: (folder, card["id"]) for folder, card in imported.listed()}
    named = [(f"{say('chat_model.adapter')}: {id}", name) for name, (_, id) in folders.items()]
    return found + [(title, str(folders[name][0])) for title, name in runs.disambiguate(named)]


@show_errors
def on_start(say: Say, names: list[str], start: str | None) -> list:
    """The form's fields that a start brings; what it does not say stays as it is."""
    known = starts.fields((start or "").strip()) if start else {}
    adapter = ("lora_rank", "lora_alpha", "target_modules", "use_rslora", "use_dora", "train_embeddings")
    if "mix" in known:  # of a run: its corpora are not what is trained on now
        known = still_there(say, known | {"corpus": None, "mix": ()})
    brought = {name: known[name] for name in (*OWN, *adapter, "init_lora_weights") if name in known}
    return [brought.get(name, gr.skip()) for name in names]


def mixed(others: list[str] | None, percents: str | None) -> list:
    """The config's mix: a share for each corpus, or one for all; what is no share stays empty and is refused.

    A comma is that of a decimal, unless there would be fewer numbers than corpora: "20,30".
    """
    others, found = others or [], re.findall(r"\d+(?:[.,]\d+)?", percents or "")
    if len(found) < len(others):
        found = re.findall(r"\d+(?:\.\d+)?", percents or "")
    numbers = [float(number.replace(",", ".")) / 100 for number in found]
    numbers = numbers * len(others) if len(numbers) == 1 else numbers
    numbers += [None] * (len(others) - len(numbers))
    return [[corpus, number and round(number, 6)] for corpus, number in zip(others, numbers, strict=False)]


def parts_of(mix) -> dict:
    """The two fields of the form that make a mix: mixed() the other way round."""
    percents = "  ".join(f"{100 * share:g}" for _, share in mix)
    return {"mix": [corpus for corpus, _ in mix], "shares": percents or SHARE}


def still_there(say: Say, config: dict) -> dict:
    """A config of before for the form: corpora and a model that are gone leave their field empty, which is said."""
    kept, listed = dict(config), [card["id"] for card in corpus.listed()]
    used = [config.get("corpus"), *(other for other, _ in config.get("mix", ()))]
    if gone := [one for one in used if one and one not in listed]:
        names = ", ".join(say("text.quoted", text=runs.corpus_name(one)) for one in gone)
        warn(say("training.gone.corpus", names=names))
        kept["corpus"] = None if config["corpus"] in gone else config["corpus"]
        kept["mix"] = [part for part in config["mix"] if part[0] not in gone]
    if (model := config.get("base_model")) and not is_model(model):
        warn(say("training.gone.model", name=model))
        kept["base_model"] = None
    return kept


def is_model(name: str) -> bool:
    """Whether there is a model to make ready; whether it can be trained, Train says."""
    if not name:
        return False
    if name in (models.STARTER, *(model["id"] for model in models.ready())) or models.is_hub_id(name):
        return True
    return paths.expanded(name).exists()


def on_told(
    say: Say, others: list[str], percents: str, first: str | None, base_model: str | None, epochs: float | None
) -> str:
    """What the shares mean: how much of each corpus the run reads, and how often."""
    mix = mixed(others, percents)
    try:
        ids = [first or "", *(other for other, _ in mix)]
        read = mixing.amounts(
            [token_counter.of_corpus(paths.corpus(one), base_model or "")[0] for one in ids],
            [share for _, share in mix],
            epochs or 0,
        )
    except (UserError, TypeError, ZeroDivisionError, OSError):
        return ""
    if not mix:
        return ""
    lines = [
        say(
            "training.mix.line",
            name=runs.corpus_name(one),
            share=say.number(100 * part["share"]),
            tokens=say.number(part["tokens"], 9),
            passes=say.number(part["passes"]),
        )
        for one, part in zip(ids, read, strict=True)
    ]
    return "".join(str(templates.macro("paragraph", line)) for line in lines)
