"""The parts of the Corpus tab that judge a corpus, clean it, and write it out."""

import time
from dataclasses import fields
from functools import partial

import gradio as gr

from core import damage
from core.corpus import cleaning, corpus, duplicates, export, import_process
from core.errors import UserError
from ui import corpora_html as markup
from ui import corpora_plots as plots
from ui import temp_files
from ui.errors import Refused, inform
from ui.text import Say


def build(say: Say, listing, model, max_length, changed) -> list:
    """The components that follow the choice of a corpus, in the order of shown()."""
    check = gr.Button(say("corpora.check"), variant="secondary")
    progress = gr.HTML()
    with gr.Column(visible=False) as inside:
        xray = gr.HTML()
        with gr.Row():
            tokens = gr.Plot(show_label=False)
            sources = gr.Plot(show_label=False)
        copies = gr.HTML()
        gr.Markdown(say("corpora.clean.title"))
        rules = _build_rules(say)
        counts = gr.Markdown()
        with gr.Row():
            name = gr.Textbox(label=say("corpora.clean.name"), scale=3)
            make = gr.Button(say("corpora.clean.make"), scale=1, min_width=200)
    outputs = [progress, inside, xray, tokens, sources, copies, rules[0], counts, name]
    check.click(partial(on_check, say), [listing, model, max_length], outputs, show_progress="hidden")
    for rule in rules:
        rule.change(partial(on_rules, say), [listing, *rules], counts, show_progress="hidden")
    make.click(partial(on_clean, say), [listing, name, *rules], [listing, changed])
    return outputs


def _build_rules(say: Say) -> list:
    """The fields of core.corpus.cleaning.Rules, in their order."""
    leave_out = gr.CheckboxGroup([], label=say("corpora.clean.leave_out"), info=say("corpora.clean.leave_out.info"))

    def field(kind, value, name: str, **more):
        return kind(value, label=say(f"corpora.clean.{name}"), info=say(f"corpora.clean.{name}.info"), **more)

    with gr.Row():
        switches = [field(gr.Checkbox, False, name) for name in ("personal", "lookalikes", "special", "fold")]
    with gr.Row():
        numbers = [field(gr.Number, 0, name, minimum=0, precision=0) for name in ("split", "shortest")]
    return [leave_out, *switches, *numbers]


def rules(settings: tuple) -> dict:
    """The form as core.corpus.cleaning.Rules takes it."""
    kinds = {field.name: type(field.default) for field in fields(cleaning.Rules)}
    return {name: kind(value) if value else kind() for (name, kind), value in zip(kinds.items(), settings, strict=True)}


def shown(say: Say, corpus_id: str | None) -> list:
    """What is known of a corpus: its report when one was made, else nothing."""
    hidden = ["", gr.update(visible=False), "", None, None, "", gr.update(choices=[], value=[]), "", ""]
    if not corpus_id:
        return hidden
    try:
        report = damage.read(corpus.directory(corpus_id) / "report.json", "corpora/*/report.json")
        name = corpus.card(corpus_id)["name"]
    except UserError:
        return hidden
    return _of_report(say, corpus_id, report, name) if report else hidden


def _of_report(say: Say, corpus_id: str, report: dict, name: str) -> list:
    tokens = report.get("tokens")
    histogram, unit = (tokens["histogram"], "tokens") if tokens else (report["lengths"], "characters")
    sources = report["sources"] if len(report["sources"]) > 1 else report["languages"]
    labels = [
        (f"{say(f'corpora.flag.{code}')} — {say.number(count, 9)}", code)
        for code, count in [
            *((code, report["copies"][code]) for code in duplicates.KINDS[1:]),
            *report["flags"].items(),
        ]
        if count
    ]
    chosen = [code for _, code in labels if code in ("exact", "normalised")]
    return [
        "",
        gr.update(visible=True),
        markup.report(say, report),
        plots.lengths(say, histogram, unit, tokens and tokens.get("max_length")),
        plots.parts(say, sources),
        markup.pairs(say, report["pairs"], report["copies"]["normalised"] + report["copies"]["near"]),
        gr.update(choices=labels, value=chosen),
        _counts(say, corpus_id, {"leave_out": tuple(chosen)}),
        say("corpora.clean.of", name=name),
    ]


def on_check(say: Say, corpus_id: str | None, model: str | None, max_length: float | None):
    """Make the report in a process of its own and show how it goes."""
    if not corpus_id:
        raise Refused(say("corpora.none"))
    same = [gr.skip()] * 8
    yield [markup.stage(say, "copies", 0, 1), *same]
    try:
        for event in import_process.report(corpus_id, model, int(max_length or 1024), "assistant"):
            if "report" in event:
                yield _of_report(say, corpus_id, event["report"], corpus.card(corpus_id)["name"])
            else:
                yield [markup.stage(say, event["stage"], event["done"], event["total"]), *same]
    except UserError as error:
        yield [markup.trouble(say.trouble(error)), *same]


def _counts(say: Say, corpus_id: str, values: dict) -> str:
    try:
        counts = cleaning.kept(corpus.directory(corpus_id), cleaning.Rules(**values))
    except (UserError, OSError):
        return ""
    left = "; ".join(
        f"{say(f'corpora.flag.{reason}')} — {say.number(count, 9)}"
        for reason, count in counts.items()
        if reason != "kept"
    )
    sentence = say("corpora.clean.kept", rows=say.number(counts["kept"], 9))
    return f"{sentence} {say('corpora.clean.left_out')} {left}." if left else sentence


def on_rules(say: Say, corpus_id: str | None, *settings):
    return _counts(say, corpus_id, rules(settings)) if corpus_id else ""


def on_clean(say: Say, corpus_id: str | None, name: str, *settings):
    """A new corpus; the old one stays as it is."""
    if not corpus_id:
        raise Refused(say("corpora.none"))
    try:
        card = import_process.clean(corpus_id, name.strip() or corpus.card(corpus_id)["name"], rules(settings))
    except UserError as error:
        raise Refused(say.trouble(error)) from error
    inform(say("corpora.made", name=card["name"], rows=say.number(card["rows"], 9)))
    return gr.update(choices=markup.choices(say), value=card["id"]), time.time()


def build_export(say: Say, listing) -> None:
    """A format, a button, and the file."""
    with gr.Row():
        formats = [(say(f"corpora.export.{form}"), form) for form in export.FORMATS]
        form = gr.Dropdown(
            formats, value="jsonl", label=say("corpora.export.format"), info=say("corpora.export.format.info"), scale=3
        )
        write = gr.Button(say("corpora.export.write"), scale=1, min_width=160)
    written = gr.File(label=say("corpora.export.files"), file_count="multiple", interactive=False, visible=False)
    write.click(partial(on_export, say), [listing, form], written)


def on_export(say: Say, corpus_id: str | None, form: str):
    """The file and its dataset card, in the temporary directory that the page may give out."""
    if not corpus_id:
        raise Refused(say("corpora.none"))
    folder = temp_files.folder()
    try:
        done = import_process.export(corpus_id, form, folder / (corpus_id + export.FORMATS[form]))
    except UserError as error:
        raise Refused(say.trouble(error)) from error
    return gr.update(value=[done["path"], done["path"] + ".md"], visible=True)
