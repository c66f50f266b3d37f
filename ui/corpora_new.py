"""The first two steps of the Corpus tab: what is taken, and what was understood of it, with the mapping."""

from functools import partial

import gradio as gr

from core import process
from core.corpus import corpus, import_presets, importer, turns
from core.errors import UserError
from ui import buttons, corpora_files, pages
from ui import corpora_html as markup
from ui.errors import Refused
from ui.text import Say

ENCODINGS = ("utf-8", "cp1251", "koi8-r", "cp866", "mac-cyrillic", "utf-16", "cp1252")
CHECK = 2  # the step that says what was understood
MOST_ROLES = 4  # unknown role names that are asked about at once


def build_take(say: Say) -> dict:
    """The step of what to take: a sample, files or a folder, a data set of the hub."""
    gr.Markdown(say("corpora.intro"))
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            samples = _build_samples(say)
        with gr.Column(scale=2, min_width=300):
            files = gr.File(file_count="multiple", label=say("corpora.files"), height=140)
            with gr.Row(elem_classes=["actions"]):
                folder = gr.UploadButton(say("corpora.folder"), file_count="directory", min_width=150)
                read = gr.Button(say("corpora.read"), variant="primary", min_width=180)
            gr.Markdown(f"{say('corpora.files.kinds')}\n\n{say('corpora.big')}", elem_classes=["subdued"])
            with gr.Row(elem_classes=["actions"]):
                most = say.number(corpus.Options().most_rows, 9)
                about = say("corpora.hub.info", rows=most)
                hub = gr.Textbox(
                    label=say("corpora.hub"), info=about, placeholder=say("hub.owner_name"), scale=3, min_width=240
                )
                fetch = gr.Button(say("corpora.hub.fetch"), min_width=150)
    buttons.needs_one(read, files, folder)
    buttons.needs(fetch, hub)
    names, from_browser = gr.State([]), gr.Textbox(visible=False)
    return {
        "samples": samples, "files": [files, folder, names], "from_browser": from_browser, "read": read,
        "hub": hub, "fetch": fetch,
    }  # fmt: skip


def _build_samples(say: Say) -> dict:
    """A card with a button for each sample, those in the page's own language first."""
    known = sorted(corpus.samples(), key=lambda sample: not sample["id"].endswith(f"-{say.lang}"))
    takes = {}
    for sample in known:
        with gr.Column(elem_classes=["card"]):
            gr.Markdown(say.pick({"en": ""} | sample["description"]))
            words = say("corpora.take_sample", title=say.pick(sample["title"]))
            takes[sample["id"]] = gr.Button(words, elem_id=f"take-{sample['id']}-{say.lang}")
    return takes


def build_check(say: Say) -> dict:
    """The step of what was understood of the files, how to mend it, and the making of the corpus."""
    looked = gr.HTML(say("corpora.look.nothing"))
    stop = gr.Button(say("corpora.cancel"), visible=False, size="sm")
    with gr.Column(visible=False) as seen:
        mapping = _build_mapping(say)
        with gr.Row(elem_classes=["actions"]):
            about = say("corpora.name.info")
            name = gr.Textbox(label=say("corpora.name"), placeholder=about, scale=3, min_width=240)
            create = gr.Button(say("corpora.create"), variant="primary", min_width=180)
    progress = gr.HTML()
    cancel = gr.Button(say("corpora.cancel"), visible=False)
    return mapping | {
        "seen": seen, "looked": looked, "stop": stop, "name": name, "create": create, "progress": progress, "cancel": cancel,
    }  # fmt: skip


def connect(say: Say, taking: dict, checking: dict, steps) -> None:
    """Look into files as soon as they are there, and show the step that says what they are."""
    given, stop, looked = taking["files"], checking["stop"], checking["looked"]
    shown = [steps, checking["seen"], looked, *checking["shown"], stop]
    look = {"fn": partial(on_files, say), "inputs": given, "outputs": shown, "show_progress": "hidden"}
    files, folder, names = given
    of_folder = folder.upload(
        corpora_files.names, [taking["from_browser"], folder], names, js=corpora_files.NAMES_OF_FOLDER, show_progress="hidden"
    )  # fmt: skip
    settled = [*given, *checking["settings"]]
    looks = [
        of_folder.then(**look),
        files.change(**look),
        checking["apply"].click(partial(on_apply, say), settled, [looked, stop], show_progress="hidden"),
    ]
    pages.end_first(stop.click, looks, partial(on_stop, say), None, [looked, stop])
    taking["read"].click(partial(on_read, say), given, steps, show_progress="hidden")


def on_stop(say: Say) -> tuple:
    return say("corpora.look.cancelled"), gr.update(visible=False)


def _build_mapping(say: Say) -> dict:
    schemas = [(say(f"corpora.schema.{name}"), name) for name in ("auto", "messages", "pair", "text")]
    encodings = [(say("corpora.encoding.auto"), "auto"), *[(name, name) for name in ENCODINGS]]
    me = gr.Dropdown([(say("corpora.me.auto"), "")], value="", label=say("corpora.me"), visible=False)
    note = gr.Markdown(visible=False)
    roles = []
    with gr.Accordion(say("corpora.mend"), open=False) as mend:
        with gr.Row():
            for _ in range(MOST_ROLES):
                options = [
                    (say("corpora.role.skip"), ""),
                    *[(say(f"corpora.role.{role}"), role) for role in turns.ROLES],
                ]
                roles.append(gr.Dropdown(options, value="", visible=False))
        with gr.Row():
            schema = gr.Dropdown(schemas, value="auto", label=say("corpora.schema"), info=say("corpora.schema.info"))
            ask = gr.Dropdown([], label=say("corpora.column.ask"), value=None)
            answer = gr.Dropdown([], label=say("corpora.column.answer"), value=None)
            encoding = gr.Dropdown(
                encodings, value="auto", label=say("corpora.encoding"), info=say("corpora.encoding.info")
            )
        with gr.Row():
            repair_text = gr.Checkbox(True, label=say("corpora.repair_text"), info=say("corpora.repair_text.info"))
            repair_turns = gr.Checkbox(True, label=say("corpora.repair_turns"))
            replace_personal = gr.Checkbox(False, label=say("corpora.replace_personal"))
        apply = gr.Button(say("corpora.apply"), min_width=180)
    unknown, columns = gr.State([]), gr.State([])
    return {
        "apply": apply,
        "shown": [mend, note, columns, schema, ask, answer, encoding, me, replace_personal, unknown, *roles],
        "settings": [
            columns, schema, ask, answer, encoding, me, repair_text, repair_turns, replace_personal, unknown, *roles,
        ],
    }  # fmt: skip


def options(settings: tuple) -> corpus.Options:
    """What the form says of how to read the files."""
    _, schema, ask, answer, encoding, me, repair_text, repair_turns, replace_personal, unknown, *roles = settings
    fields = {"messages": {"messages": answer}, "pair": {"ask": [ask], "answer": answer}, "text": {"text": answer}}
    chosen = schema in fields and answer and (ask or schema != "pair")
    named = {name: role for name, role in zip(unknown or [], roles, strict=False) if role}
    return corpus.Options(
        mapping={"schema": schema} | fields[schema] if chosen else None,
        roles=named,
        encoding="" if encoding == "auto" else encoding,
        repair_turns=bool(repair_turns),
        repair_text=bool(repair_text),
        replace_personal=bool(replace_personal),
        me=me or "",
    )


def remember(settings: tuple) -> None:
    """Keep the choices of a corpus that was made, for files of the same columns."""
    chosen = options(settings)
    import_presets.keep(
        settings[0] or [], mapping=chosen.mapping, encoding=chosen.encoding, me=chosen.me, roles=chosen.roles
    )


def on_read(say: Say, files, folder, names=()):
    """The step that says what the files are."""
    if not files and not folder:
        raise Refused(say.trouble(importer.NothingGiven()))
    return gr.update(selected=CHECK)


def on_files(say: Say, files, folder, names=()):
    """A first look into dropped files, before anything is made; what was chosen before is chosen again."""
    if not files and not folder:
        yield (
            gr.skip(),
            gr.update(visible=False),
            say("corpora.look.nothing"),
            *_untouched(say),
            gr.update(visible=False),
        )
        return
    same, step = [gr.skip()] * len(_untouched(say)), gr.update(selected=CHECK)
    try:
        with corpora_files.gathered(files, folder, list(names)) as paths:
            for looking in process.polled(partial(_look, paths)):
                if not looking.done():
                    yield step, gr.skip(), say("corpora.look.reading"), *same, gr.update(visible=True)
            seen, again, unknown = looking.result()
    except (UserError, OSError, LookupError) as error:
        looked = markup.trouble(say.trouble(error)), *_untouched(say)
    else:
        looked = markup.look(say, seen), *_mapped(say, seen, again, unknown)
    yield step, gr.update(visible=True), *looked, gr.update(visible=False)


def _look(paths: list, wait) -> tuple[dict, dict, list[str]]:
    """What is seen in files, what was chosen for such files before, and the roles to ask about."""
    seen = corpus.look(paths, wait=wait)
    preset = import_presets.recall(seen["columns"])
    unknown = list(seen["unknown_roles"])[:MOST_ROLES]
    roles = {name: preset["roles"][name] for name in unknown if name in preset["roles"]}
    me = preset.get("me", "") if preset.get("me") in seen["speakers"] else ""
    again = {"mapping": preset.get("mapping"), "encoding": preset.get("encoding", ""), "me": me, "roles": roles}
    if any(again.values()) or seen["speakers"]:
        settled = corpus.Options(**again, replace_personal=bool(seen["speakers"]))
        seen = corpus.look(paths, settled, wait) | {"speakers": seen["speakers"]}
    return seen, again, unknown


def _untouched(say: Say) -> list:
    empty = {"columns": [], "mapping": {}, "speakers": [], "rows": [{}]}
    return _mapped(say, empty, {"mapping": None, "encoding": "", "me": "", "roles": {}}, [])


def _mapped(say: Say, seen: dict, again: dict, unknown: list[str]) -> list:
    """The form's mapping: what was found, or what was chosen for such files before."""
    mapping, columns, speakers = seen["mapping"], seen["columns"], seen["speakers"]
    ask = (mapping.get("ask") or [None])[0]
    answer = mapping.get("answer") or mapping.get("messages") or mapping.get("text")
    note = say("corpora.remembered") if any(again.values()) else ""
    role_choices = [
        gr.update(visible=True, value=again["roles"].get(role, ""), label=say("corpora.role.of", role=role))
        for role in unknown
    ]
    return [
        gr.update(open=not seen["rows"] or bool(unknown)),
        gr.update(value=note, visible=bool(note)),
        columns,
        again["mapping"]["schema"] if again["mapping"] else "auto",
        gr.update(choices=columns, value=ask if ask in columns else None),
        gr.update(choices=columns, value=answer if answer in columns else None),
        again["encoding"] or "auto",
        gr.update(choices=[(say("corpora.me.auto"), ""), *speakers], value=again["me"], visible=len(speakers) > 1),
        bool(speakers),  # a messenger's chats are full of other people's data
        unknown,
        *role_choices,
        *[gr.update(visible=False, value="")] * (MOST_ROLES - len(role_choices)),
    ]


def on_apply(say: Say, files, folder, names, *settings):
    try:
        with corpora_files.gathered(files, folder, names) as paths:
            for looking in process.polled(lambda wait: corpus.look(paths, options(settings), wait)):
                if not looking.done():
                    yield say("corpora.look.reading"), gr.update(visible=True)
            shown = markup.look(say, looking.result())
    except (UserError, OSError, LookupError) as error:
        shown = markup.trouble(say.trouble(error))
    yield shown, gr.update(visible=False)
