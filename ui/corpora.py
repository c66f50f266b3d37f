"""The Corpus tab in three steps: take files or a sample, check what was understood, read the rows as the model will."""

import time
from functools import partial
from pathlib import Path

import gradio as gr

from core import foreign
from core.corpus import corpus, hub, import_process, importer, storage, turns
from core.errors import ErrorElsewhere, UserError, named
from core.models import models as known
from ui import buttons, corpora_files, corpora_new, corpora_quality, pages
from ui import corpora_html as markup
from ui.corpora_html import choices
from ui.errors import Refused, inform, warn
from ui.templates import macro
from ui.text import Say, in_markdown

PAGE = 50  # rows that are sent at once
EXCERPT = 160  # characters of a row in the table
TAKE, CHECK, READ = 1, corpora_new.CHECK, 3  # the steps
# A step that is shorter than the one before may begin above what is in sight.
TO_TOP = "() => { const top = document.querySelector('.steps'); if (top && top.getBoundingClientRect().top < 0) top.scrollIntoView(); }"


def build(say: Say) -> dict:
    """The tab; returns the list of corpora, a state that changes whenever that list does, and how to fill the list."""
    changed, step = gr.State(0.0), gr.Textbox(visible="hidden")
    with gr.Walkthrough(selected=READ if corpus.listed() else TAKE, elem_classes=["steps"]) as steps:
        with gr.Step(say("corpora.step.take"), id=TAKE):
            taking = corpora_new.build_take(say)
        with gr.Step(say("corpora.step.check"), id=CHECK):
            checking = corpora_new.build_check(say)
        with gr.Step(say("corpora.step.read"), id=READ):
            reading = _build_reading(say, changed)
    listing, shown = reading["listing"], reading["shown"]
    listing.change(partial(on_choose, say), listing, shown, show_progress="hidden")
    steps.change(None, None, None, js=TO_TOP)
    corpora_new.connect(say, taking, checking, steps)
    makes = [steps, listing, changed, checking["progress"], checking["cancel"]]
    made = [
        button.click(partial(on_take, say, id), None, makes, show_progress="hidden")
        for id, button in taking["samples"].items()
    ]
    made += [
        gr.on([taking["fetch"].click, taking["hub"].submit], partial(on_hub, say), taking["hub"], makes, show_progress="hidden"),
        gr.on(
            [checking["create"].click, checking["name"].submit], partial(on_create, say),
            [*taking["files"], checking["name"], *checking["settings"]], makes, show_progress="hidden",
        ),
    ]  # fmt: skip
    shown = [checking["progress"], checking["cancel"]]
    pages.end_first(checking["cancel"].click, made, partial(on_cancel, say), None, shown)
    # Corpora are also made in other tabs and other windows.
    listing.focus(lambda: gr.update(choices=choices(say)), None, listing, show_progress="hidden")
    return {
        "corpora": listing, "changed": changed, "load": partial(on_load, say), "inputs": listing, "outputs": [listing, step],
        "turns": (step, steps), "model": reading["model"], "train": reading["train"],
    }  # fmt: skip


def _build_reading(say: Say, changed) -> dict:
    """The step that shows a corpus: which one, its rows, what was set aside, its quality, its export."""
    with gr.Row(elem_classes=["actions"]):
        listing = gr.Dropdown(label=say("corpora.yours"), choices=choices(say), value=None, scale=4)
        train = gr.Button(say("corpora.train"), variant="primary", min_width=180)
        delete = gr.Button(say("corpora.delete"), min_width=140)
        for button in (train, delete):
            buttons.needs(button, listing)
    with gr.Row(visible=False) as asking:
        question, asked = gr.Markdown(), gr.State()
        yes = gr.Button(say("corpora.delete.yes"), variant="stop", min_width=120)
        no = gr.Button(say("corpora.delete.no"), min_width=120)
    about = gr.HTML(_empty(say))
    with gr.Column(visible=False) as inside:
        rows = build_rows(say, listing)
        with gr.Accordion(say("corpora.tab.aside"), open=False) as folded:
            aside = _build_aside(say, listing)
        with gr.Accordion(say("corpora.tab.quality"), open=False):
            quality = corpora_quality.build(say, listing, rows["model"], rows["max_length"], changed)
        with gr.Accordion(say("corpora.tab.export"), open=False):
            corpora_quality.build_export(say, listing)
    listing.change(on_models, rows["model"], rows["model"], show_progress="hidden")
    delete.click(partial(on_delete, say), listing, [asking, question, asked], show_progress="hidden")
    yes.click(partial(on_delete_yes, say), asked, [listing, changed, asking], show_progress="hidden")
    no.click(lambda: gr.update(visible=False), None, asking, show_progress="hidden")
    listing.change(None, None, asking, js="() => ({__type__: 'update', visible: false})")
    shown = [
        about,
        inside,
        folded,
        *aside,
        *(rows[name] for name in ("page", "table", "pages", "row", "full", "tokens")),
    ]
    return {"listing": listing, "train": train, "shown": [*shown, *quality], "model": rows["model"]}


def _build_aside(say: Say, listing) -> list:
    """What was set aside, a page at a time: the components in the order of aside()."""
    found, start = gr.HTML(), gr.State(0)
    with gr.Row(visible=False, elem_classes=["actions"]) as pages:
        back = gr.Button(say("corpora.aside.back"), min_width=100)
        on = gr.Button(say("corpora.aside.on"), min_width=100)
        place = gr.Markdown()
    outputs = [found, start, pages, place]
    for button, by in ((back, -PAGE), (on, PAGE)):
        button.click(partial(on_aside, say, by), [listing, start], outputs, show_progress="hidden")
    return outputs


def build_rows(say: Say, listing) -> dict:
    """The paged table, one row in full, and the same row as tokens."""
    with gr.Row():
        with gr.Column(scale=3, min_width=420):
            with gr.Row(elem_classes=["actions"]):
                search = gr.Textbox(placeholder=say("corpora.search"), show_label=False, scale=3, min_width=160)
                page = gr.Number(1, label=say("corpora.page"), minimum=1, precision=0, scale=1, min_width=90)
                pages = gr.Markdown()
            headers = [say(f"corpora.column.{name}") for name in ("number", "kind", "length", "said")]
            table = gr.Dataframe(
                headers=headers, datatype="str", interactive=False, show_label=False, max_chars=EXCERPT, max_height=520, wrap=True,
                column_widths=["11%", "25%", "19%", "45%"], elem_id=f"corpus-rows-{say.lang}",
            )  # fmt: skip
        with gr.Column(scale=3, min_width=420):
            with gr.Row():
                choice = {"label": say("corpora.model"), "info": say("corpora.model.info"), "scale": 2}
                model = gr.Dropdown(choices=models(), value=_first_model(), **choice)
                choice = {"label": say("corpora.max_length"), "info": say("corpora.max_length.info"), "min_width": 110}
                max_length = gr.Number(1024, minimum=1, precision=0, **choice)
                learned = [(say(f"corpora.learn.{name}"), name) for name in ("assistant", "all")]
                choice = {"label": say("corpora.learn"), "info": say("corpora.learn.info"), "min_width": 110}
                learn = gr.Dropdown(learned, value="assistant", **choice)
            with gr.Tab(say("corpora.as_tokens")):
                tokens = gr.HTML(say("corpora.choose_row"))
            with gr.Tab(say("corpora.in_full")):
                full = gr.HTML(say("corpora.choose_row"))
    row = gr.State(None)
    page.change(partial(on_page, say), [listing, page, search], [table, pages], show_progress="hidden")
    search.submit(partial(on_search, say), [listing, search], [page, table, pages])
    table.select(on_select, listing, row, show_progress="hidden")
    seen = [row, model, max_length, learn]
    for component in (row, max_length, learn, model):
        component.change(partial(on_row, say), seen, [full, tokens], show_progress="hidden")
    model.focus(lambda: gr.update(choices=models()), None, model, show_progress="hidden")
    return {
        "page": page, "table": table, "pages": pages, "row": row, "full": full, "tokens": tokens,
        "model": model, "max_length": max_length,
    }  # fmt: skip


def models() -> list[tuple[str, str]]:
    """Base models that are ready on this disk: title and directory."""
    return [(model["title"], model["path"]) for model in known.ready()]


def on_models(chosen: str | None):
    """The models that are ready by now; the first one where none is chosen."""
    return gr.update(choices=models()) if chosen else gr.update(choices=models(), value=_first_model())


def _first_model() -> str | None:
    ready = models()
    return ready[0][1] if ready else None


def _empty(say: Say) -> str:
    return f"<div>{say('corpora.none')}</div>" if not corpus.listed() else ""


def on_load(say: Say, chosen: str | None):
    """The list of corpora as it is now; where none is chosen, the newest one is shown, and the step that reads it."""
    listed = choices(say)
    if chosen or not listed:
        return gr.update(choices=listed), ""
    return gr.update(choices=listed, value=listed[0][1]), str(READ)


def on_take(say: Say, sample_id: str):
    """Make a corpus of a bundled sample."""
    sample = next(sample for sample in corpus.samples() if sample["id"] == sample_id)
    yield from _made(say, [sample["path"]], say.pick(sample["title"]), corpus.Options())


def on_hub(say: Say, id: str | None):
    """Fetch a data set of the hub."""
    if hub.place(id or "") is None:
        raise Refused(say.trouble(named("HubIdWrong", id=id or "")))
    yield from _made(say, [Path(id.strip())], id.strip(), corpus.Options())


def on_create(say: Say, files, folder, names, name, *settings):
    if not files and not folder:
        raise Refused(say.trouble(importer.NothingGiven()))
    with corpora_files.gathered(files, folder, names) as paths:
        if (yield from _made(say, paths, name or paths[0].stem, corpora_new.options(settings))):
            corpora_new.remember(settings)


def _made(say: Say, paths: list[Path], name: str, options: corpus.Options):
    """Run an import and show how it goes; a cancelled one leaves nothing. Whether a corpus was made is returned."""
    began, check, same = time.monotonic(), gr.update(selected=CHECK), (gr.skip(), gr.skip())
    yield check, *same, markup.progress(say, 0, 1, 0, 0), gr.update(visible=True)
    try:
        for event in import_process.create(paths, name, options):
            if "card" in event:
                card = event["card"]
                again = "corpora.made_already" if card.get("made_already") else "corpora.made"
                inform(say(again, name=card["name"], rows=say.number(card["rows"], 9)))
                listing = gr.update(choices=choices(say), value=card["id"])
                yield gr.update(selected=READ), listing, time.time(), "", gr.update(visible=False)
                return True
            else:
                seconds = time.monotonic() - began
                bar = markup.progress(say, event["done"], event["total"], event["rows"], seconds)
                yield gr.skip(), *same, bar, gr.update(visible=True)
    except UserError as error:
        yield check, *same, markup.trouble(_worded(say, error)), gr.update(visible=False)
    return False


def _worded(say: Say, error: UserError) -> str:
    """The sentence of an error; reasons, which come as codes, in the page's language."""
    if isinstance(error, ErrorElsewhere) and error.values and (codes := error.values.get("codes")):
        reasons = "; ".join(say(f"corpora.reason.{code}") for code in codes.split())
        error = ErrorElsewhere(error.name, error.values | {"reasons": reasons}, str(error))
    return say.trouble(error)


def on_cancel(say: Say):
    return say("corpora.cancelled"), gr.update(visible=False)


def on_choose(say: Say, corpus_id: str | None):
    """Everything that is shown of the chosen corpus."""
    try:
        card = corpus.card(corpus_id) if corpus_id else None
    except UserError as error:
        warn(say.trouble(error))
        card = None
    if card is None:
        hidden = gr.update(visible=False)
        nothing = (_empty(say), hidden, hidden, *aside(say, None), 1, [], "", None, "", "")
        return *nothing, *corpora_quality.shown(say, None)
    left = card.get("rows_set_aside", 0)
    folded = gr.update(label=say("corpora.aside.count", count=say.number(left, 9)), visible=bool(left), open=False)
    table, pages = on_page(say, corpus_id, 1, "")
    first = (1, table, pages, (corpus_id, 0), gr.skip(), gr.skip())
    shown = (markup.card(say, card), gr.update(visible=True), folded, *aside(say, card), *first)
    return *shown, *corpora_quality.shown(say, corpus_id)


def aside(say: Say, card: dict | None, start: int = 0) -> tuple:
    """A page of what was set aside: the table, where it starts, and the buttons with the place among all."""
    total = min(card.get("rows_set_aside", 0), storage.MOST_ASIDE) if card else 0
    if not total:
        return "", 0, gr.update(visible=False), ""
    start = min(max(0, start), (total - 1) // PAGE * PAGE)
    place = say(
        "corpora.aside.place",
        first=say.number(start + 1, 9),
        last=say.number(min(start + PAGE, total), 9),
        all=say.number(total, 9),
    )
    table = markup.set_aside(say, card, corpus.set_aside(card["id"], start, PAGE))
    return table, start, gr.update(visible=total > PAGE), place


def on_aside(say: Say, by: int, corpus_id: str | None, start: int):
    """The page of what was set aside that lies so many rows further on, or back."""
    if not corpus_id:
        return aside(say, None)
    try:
        return aside(say, corpus.card(corpus_id), start + by)
    except UserError as error:
        raise Refused(say.trouble(error)) from error


def on_page(say: Say, corpus_id: str | None, page: float | None, search: str):
    """Fifty rows of the table, and how many pages or matches there are."""
    if not corpus_id:
        return [], ""
    start, words = PAGE * (int(page or 1) - 1), search.strip()
    try:
        if words:
            rows, count = corpus.find(corpus_id, words, start, PAGE)
        else:
            rows, count = list(enumerate(corpus.rows(corpus_id, start, PAGE), start)), corpus.card(corpus_id)["rows"]
    except UserError as error:
        raise Refused(say.trouble(error)) from error
    pages = say("corpora.of_pages", pages=-(-count // PAGE))
    total = say("corpora.found", count=say.number(count, 9)) if words else pages
    return [_cells(say, number, row) for number, row in rows], total


def on_search(say: Say, corpus_id: str | None, search: str):
    return 1, *on_page(say, corpus_id, 1, search)


def _cells(say: Say, number: int, row: dict) -> list[str]:
    contents = turns.texts(row)
    kind = "text" if "text" in row else "preference" if "chosen" in row else "chat"
    if "label" in row:
        kind = "liked" if row["label"] else "disliked"
    kind = say(f"corpora.cell.{kind}", turns=len(contents))
    excerpt = " ".join(" → ".join(text[: 2 * EXCERPT] for text in contents[:3])[: 2 * EXCERPT].split())
    excerpt = excerpt if len(excerpt) <= EXCERPT else excerpt[: EXCERPT - 1] + "…"
    return [str(number + 1), kind, say.number(sum(map(len, contents)), 9), excerpt]


def on_select(corpus_id: str | None, event: gr.SelectData) -> tuple[str, int] | None:
    # The table may be sorted in the browser: the row is known by its own number.
    return (corpus_id, int(event.row_value[0]) - 1) if event.row_value else None


def on_row(say: Say, row: tuple[str, int] | None, model: str | None, max_length, learn: str):
    """One row in full and as tokens; `row` is a corpus and a number."""
    if row is None:
        return say("corpora.choose_row"), say("corpora.choose_row")
    try:
        rows = corpus.rows(*row, 1)
    except UserError as error:
        return markup.trouble(say.trouble(error)), ""
    if not rows:
        return say("corpora.choose_row"), say("corpora.choose_row")
    return markup.row(say, rows[0]), _tokens(say, rows[0], model, int(max_length or 1024), learn)


def _tokens(say: Say, row: dict, model: str | None, max_length: int, learn: str) -> str:
    model = model or _first_model()
    if model is None:
        return macro("paragraph", say("corpora.no_model")) + markup.row(say, row)
    try:
        shown = foreign.ask("preview", row, model, max_length, learn, file=model)
    except UserError as error:
        refused = isinstance(error, ErrorElsewhere) and error.name == "TemplateRefused"
        words = say("corpora.refused", reason=error.values.get("reason", "")) if refused else say.trouble(error)
        return markup.trouble(words)
    return markup.tokens(say, shown)


def on_delete(say: Say, corpus_id: str | None):
    """Ask whether to delete a corpus: yes is for this one, whichever is chosen by then."""
    if not corpus_id:
        return gr.update(visible=False), "", None
    try:
        card = corpus.card(corpus_id)
    except UserError as error:
        raise Refused(say.trouble(error)) from error
    ask = say("corpora.delete.ask", name=in_markdown(card["name"]), rows=say.number(card["rows"], 9))
    return gr.update(visible=True), ask, corpus_id


def on_delete_yes(say: Say, corpus_id: str | None):
    try:
        name = corpus.card(corpus_id)["name"]
        corpus.delete(corpus_id)
    except UserError as error:
        raise Refused(say.trouble(error)) from error
    inform(say("corpora.deleted", name=name))
    return gr.update(choices=choices(say), value=None), time.time(), gr.update(visible=False)
