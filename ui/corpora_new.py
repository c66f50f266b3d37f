"""The part of the Corpus tab that makes a corpus: a sample or files, what was understood of them, the mapping."""

from functools import partial
from pathlib import Path

import gradio as gr

from core import corpus
from core.trouble import Trouble
from ui import corpora_html as markup
from ui.text import Say

ENCODINGS = ("utf-8", "cp1251", "koi8-r", "cp866", "mac-cyrillic", "utf-16", "cp1252")
ROLES = ("system", "user", "assistant", "tool")
MOST_ROLES = 4  # unknown role names that are asked about at once


def build(say: Say) -> dict:
    """The components; `inputs` are what on_create takes."""
    # The sample in the page's own language first.
    found = sorted(corpus.samples(), key=lambda sample: not sample["id"].endswith(f"-{say.lang}"))
    samples = [(sample["title"][say.lang], sample["id"]) for sample in found]
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            first = samples[0][1] if samples else None
            about = (found[0]["description"] or {}).get(say.lang) if found else None
            sample = gr.Dropdown(samples, value=first, label=say("corpora.sample"), info=about)
            take = gr.Button(say("corpora.take_sample"))
        with gr.Column(scale=2, min_width=420):
            files = gr.File(file_count="multiple", label=say("corpora.files"), height=140)
            with gr.Row():
                folder = gr.UploadButton(say("corpora.folder"), file_count="directory", scale=1, min_width=150)
                name = gr.Textbox(label=say("corpora.name"), placeholder=say("corpora.name.info"), scale=3)
    with gr.Accordion(say("corpora.look"), open=True, visible=False) as seen:
        looked = gr.HTML()
        mapping = _build_mapping(say)
    with gr.Row():
        create = gr.Button(say("corpora.create"), variant="primary", scale=3)
        cancel = gr.Button(say("corpora.cancel"), visible=False, scale=1)
    progress = gr.HTML()
    sample.change(partial(on_sample, say), sample, sample, show_progress="hidden")
    settings = mapping["settings"]
    shown = [seen, looked, *mapping["columns"], mapping["unknown"], *mapping["roles"]]
    for event in (files.change, folder.upload):
        event(partial(on_files, say), [files, folder], shown)
    mapping["apply"].click(partial(on_apply, say), [files, folder, *settings], looked)
    return {
        "sample": sample, "take": take, "create": create, "cancel": cancel, "progress": progress,
        "inputs": [files, folder, name, *settings],
    }  # fmt: skip


def _build_mapping(say: Say) -> dict:
    schemas = [(say(f"corpora.schema.{name}"), name) for name in ("auto", "messages", "pair", "text")]
    encodings = [(say("corpora.encoding.auto"), "auto"), *[(name, name) for name in ENCODINGS]]
    with gr.Row():
        schema = gr.Dropdown(schemas, value="auto", label=say("corpora.schema"))
        ask = gr.Dropdown([], label=say("corpora.column.ask"), value=None)
        answer = gr.Dropdown([], label=say("corpora.column.answer"), value=None)
        encoding = gr.Dropdown(encodings, value="auto", label=say("corpora.encoding"))
    roles = []
    with gr.Row():
        for _ in range(MOST_ROLES):
            options = [(say("corpora.role.skip"), ""), *[(say(f"corpora.role.{role}"), role) for role in ROLES]]
            roles.append(gr.Dropdown(options, value="", visible=False))
    with gr.Row():
        repair_text = gr.Checkbox(True, label=say("corpora.repair_text"))
        repair_turns = gr.Checkbox(True, label=say("corpora.repair_turns"))
        apply = gr.Button(say("corpora.apply"), min_width=180)
    unknown = gr.State([])
    return {
        "columns": [ask, answer], "roles": roles, "unknown": unknown, "apply": apply,
        "settings": [schema, ask, answer, encoding, repair_text, repair_turns, unknown, *roles],
    }  # fmt: skip


def options(settings: tuple) -> corpus.Options:
    """What the form says of how to read the files."""
    schema, ask, answer, encoding, repair_text, repair_turns, unknown, *roles = settings
    mapping = None
    if schema == "messages" and answer:
        mapping = {"schema": "messages", "messages": answer}
    elif schema == "pair" and ask and answer:
        mapping = {"schema": "pair", "ask": [ask], "answer": answer}
    elif schema == "text" and answer:
        mapping = {"schema": "text", "text": answer}
    named = {name: role for name, role in zip(unknown or [], roles, strict=False) if role}
    return corpus.Options(
        mapping=mapping,
        roles=named,
        encoding="" if encoding == "auto" else encoding,
        repair_turns=bool(repair_turns),
        repair_text=bool(repair_text),
    )


def on_sample(say: Say, sample_id: str | None):
    sample = next((one for one in corpus.samples() if one["id"] == sample_id), None)
    return gr.update(info=(sample["description"] or {}).get(say.lang) if sample else None)


def on_files(say: Say, files, folder):
    """A first look into dropped files: shown at once, before anything is made."""
    paths = [Path(path) for path in [*(files or []), *(folder or [])]]
    if not paths:
        return gr.update(visible=False), "", *[gr.update(choices=[], value=None)] * 2, [], *_roles(say, [])
    try:
        seen = corpus.look(paths)
    except (Trouble, OSError) as error:
        return gr.update(visible=True), markup.trouble(say, say.trouble(error)), *[gr.skip()] * 2, [], *_roles(say, [])
    mapping, columns = seen["mapping"], seen["columns"]
    ask = (mapping.get("ask") or [None])[0]
    answer = mapping.get("answer") or mapping.get("messages") or mapping.get("text")
    unknown = list(seen["unknown_roles"])[:MOST_ROLES]
    return (
        gr.update(visible=True),
        markup.look(say, seen),
        gr.update(choices=columns, value=ask if ask in columns else None),
        gr.update(choices=columns, value=answer if answer in columns else None),
        unknown,
        *_roles(say, unknown),
    )


def _roles(say: Say, unknown: list[str]) -> list:
    asked = [gr.update(visible=True, value="", label=say("corpora.role.of", role=role)) for role in unknown]
    return asked + [gr.update(visible=False, value="")] * (MOST_ROLES - len(asked))


def on_apply(say: Say, files, folder, *settings):
    paths = [Path(path) for path in [*(files or []), *(folder or [])]]
    try:
        return markup.look(say, corpus.look(paths, options(settings)))
    except (Trouble, OSError, LookupError) as error:
        return markup.trouble(say, say.trouble(error))
