"""The settings of the Training tab in groups: a search over them, what differs from the defaults, and the draft.

Groups, search, marks and the draft work in the browser alone: assets/form.js.
"""

import json
from contextlib import suppress
from dataclasses import Field, asdict, fields

import gradio as gr

from core.corpus import corpus
from core.errors import UserError
from core.models import models
from core.runs import defaults, starts
from core.training.config import CHOICES, EARLIER_NAMES, TrainConfig
from ui import templates, training_approach, training_start
from ui.text import Say

OPTIMIZERS = ("adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "adafactor")
DEFAULTS = asdict(TrainConfig(base_model=models.STARTER, corpus="")) | models.suggested(models.STARTER)
ALWAYS_SEEN = ("base_model", "corpus", "method", "epochs")
GROUPS = {
    "batch": ("max_length", "batch_size", "gradient_accumulation_steps", "packing", "max_steps"),
    "adapter": (
        *("lora_rank", "lora_alpha", "lora_dropout", "target_modules", "init_lora_weights", "loraplus_lr_ratio"),
        *("use_rslora", "use_dora", "train_embeddings", "embedding_learning_rate"),
    ),
    "memory": ("precision", "optim", "gradient_checkpointing", "use_liger_kernel"),
    "schedule": (
        *("learning_rate", "lr_scheduler_type", "warmup_ratio", "weight_decay", "max_grad_norm"),
        *("neftune_noise_alpha", "seed"),
    ),
    "evaluation": (
        *("eval_samples", "forgetting_meter", "validation_share", "eval_steps", "logging_steps", "save_total_limit"),
        *("early_stopping", "keep_best"),
    ),
    "data": ("name", "start", "task", "learn", "mix"),
}
CHOSEN = ("base_model", "corpus", "method", "task", "name")  # no settings that have a default
KINDS = {"int": int, "float": (int, float), "str": str, "bool": bool}
LONGEST_DRAFT = 100_000  # characters


def build(say: Say) -> tuple[dict, dict]:
    """Components by field name of TrainConfig, and the name of the run, whose keys are checked by a test; and the parts
    beside them: what is read as well ("shares"), and what form.js works with."""
    known = {field.name: field for field in fields(TrainConfig)}
    form = _build_seen(say)
    with gr.Row():
        for name in training_approach.OF_PREFERENCES:
            form[name] = component(say, known[name], visible=False, min_width=150)
    with gr.Accordion(say("training.more"), open=False, elem_id="training-more"):
        parts = {"find": _find(say), "group": _choice_of_group(say)}
        gr.HTML(templates.macro("paragraph", say("training.find.none"), "settings-none"))
        for group, names in GROUPS.items():
            with gr.Column(elem_id=f"settings-{group}", elem_classes="settings"):
                gr.Markdown(f"### {say(f'training.group.{group}')}")
                for name in names:
                    form[name] = _of_data(say, name, parts) or component(say, known[name])
    return form, parts


def _build_seen(say: Say) -> dict:
    """The fields of ALWAYS_SEEN."""
    with gr.Row():
        base_model = gr.Dropdown(
            [(say("training.starter"), models.STARTER)],
            value=models.STARTER,
            allow_custom_value=True,
            min_width=200,
            **say.field("training.base_model"),
        )
        corpora = gr.Dropdown(min_width=200, **say.field("training.corpus"))
    method = gr.Radio(
        [("QLoRA", "qlora"), ("LoRA", "lora"), (say("training.full"), "full")],
        value=DEFAULTS["method"],
        visible=False,  # the approach sets it; continued pretraining asks
        **say.field("training.method"),
    )
    epochs = gr.Number(DEFAULTS["epochs"], minimum=0, elem_id="setting-epochs", **say.field("training.epochs"))
    return dict(zip(ALWAYS_SEEN, (base_model, corpora, method, epochs), strict=True))


def component(say: Say, field: Field, **more) -> gr.components.Component:
    """What a field of TrainConfig is filled in with, by its type."""
    value, choices = DEFAULTS[field.name], CHOICES | {"optim": OPTIMIZERS}
    more |= {"elem_id": f"setting-{field.name}", **say.field(f"training.{field.name}")}
    if field.name in choices:
        return gr.Dropdown(list(choices[field.name]), value=value, **more)
    if field.type == "bool":
        return gr.Checkbox(value, **more)
    if field.type == "str":
        return gr.Textbox(value, **more)
    return gr.Number(value, precision=0 if field.type == "int" else None, **more)


def _of_data(say: Say, name: str, parts: dict) -> gr.components.Component | None:
    """The settings that are no plain field; the parts of a mix go to `parts`."""
    if name == "name":
        return gr.Textbox(elem_id="setting-name", **say.field("training.name"))
    if name == "start":
        return training_start.build_start(say)
    if name == "mix":
        parts |= training_start.build_mix(say)
        return parts["mix"]
    return None


def _find(say: Say) -> gr.Textbox:
    return gr.Textbox(label=say("training.find"), placeholder=say("training.find.hint"), elem_id="settings-find")


def _choice_of_group(say: Say) -> gr.Radio:
    """The groups as pills; all of them at first."""
    choices = [(say(f"training.group.{name}"), name) for name in ("all", *GROUPS)]
    return gr.Radio(
        choices, value="all", label=say("training.groups"), show_label=False, container=False, elem_id="settings-groups"
    )


def build_changes(say: Say) -> gr.Button:
    """How many settings differ from the defaults, and the button that takes that back; hidden while none does."""
    with gr.Row(elem_id="settings-changes", elem_classes="none"):
        gr.HTML(templates.render(say, "training_changes"))
        return gr.Button(say("training.discard"), size="sm", min_width=120)


def build_hidden(read: dict, parts: dict, discard: gr.Button) -> None:
    """What form.js works with. Not inside a part that is shown and hidden: gradio shows what is in it then, all of it."""
    first = usual(models.STARTER, DEFAULTS["method"], None, None, "chat")
    parts["usual"] = gr.Textbox(json.dumps(first), visible="hidden")  # the defaults as they are for what is chosen
    parts["draft"] = gr.Textbox(elem_id="draft-kept", visible="hidden")
    parts["restore"] = gr.Button(elem_id="draft-restore", visible="hidden")
    reset = gr.Button(elem_id="setting-reset", visible="hidden")
    names, components = json.dumps(list(read)), list(read.values())
    changes = [part.change for part in (*components, parts["usual"])]
    seen = {"inputs": [parts["usual"], *components], "js": f"(...given) => {{ draft.seen({names}, ...given) }}"}
    gr.on(changes, None, outputs=None, **seen)
    parts["seen"] = {"fn": None, "outputs": None, **seen}  # for what fills fields that are folded away: they are silent
    discard.click(None, None, components, js="() => draft.back()")
    reset.click(None, None, components, js="() => draft.back(draft.asked)")
    parts["find"].change(None, parts["find"], None, js="(text) => draft.find(text)")
    parts["group"].change(None, parts["group"], None, js="(group) => draft.group(group)")


def connect(form: dict, parts: dict, card: gr.Dropdown, chosen) -> None:
    """Let the defaults follow the model, the method, the corpus, the card and the approach (an event that `chosen` is)."""
    inputs = [form["base_model"], form["method"], form["corpus"], card, form["task"], parts["usual"]]
    suited = [form[name] for name in defaults.FIELDS]
    follow = {"fn": on_model, "inputs": [*inputs, *suited], "outputs": [*suited, parts["usual"]]}
    typed = [part.input for part in (form["base_model"], form["method"], card)]
    # A corpus and a task may also be chosen by the page, when it opens and by the approach.
    gr.on([*typed, form["corpus"].change, form["task"].change], **follow, show_progress="hidden")
    chosen.then(**follow, show_progress="hidden")


def usual(base_model: str | None, method: str, corpus_id: str | None, card: str | None, task: str) -> dict:
    """The defaults of the settings for what is chosen: by field name, the parts of the mix included."""
    known = asdict(TrainConfig("", "")) | defaults.suited(base_model or "", method, corpus_id, card, task)
    known |= {"packing": task == "text", **training_start.parts_of(())}
    left = (*CHOSEN, *(training_approach.OF_PREFERENCES if task != "preference" else ()))
    return {name: value for name, value in known.items() if name not in left}


def on_model(
    base_model: str, method: str, corpus_id: str | None, card: str | None, task: str, before: str, *values
) -> list:
    """Defaults that suit what is chosen, in fields that a person has not changed; and all defaults."""
    old, new = json.loads(before), usual(base_model, method, corpus_id, card, task)
    if old == new:
        return [gr.skip()] * (len(values) + 1)
    pairs = zip(defaults.FIELDS, values, strict=True)
    return [*(new[name] if value == old[name] else gr.skip() for name, value in pairs), json.dumps(new)]


def read_draft(text: str, corpus_id: str | None) -> dict:
    """The values of a draft that still mean something, with those of CHOSEN; nothing where it is damaged.

    What is older than today's form is read by its present name; `corpus_id` is what the form shows without a draft.
    """
    try:
        found = json.loads(text) if len(text or "") <= LONGEST_DRAFT else None
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    found = {EARLIER_NAMES.get(name, name): value for name, value in found.items()}
    kinds = {field.name: field.type for field in fields(TrainConfig)} | {"name": "str", "shares": "str"}
    kept = {name: found[name] for name, kind in kinds.items() if name in found and _fits(name, kind, found[name])}
    listed = [card["id"] for card in corpus.listed()]
    if kept.get("corpus") not in listed:
        kept["corpus"] = corpus_id
    if isinstance(found.get("mix"), list):
        kept["mix"] = [one for one in found["mix"] if one in listed]
    if not training_start.is_model(kept.get("base_model", "")):
        kept["base_model"] = models.STARTER
    kept = {"method": DEFAULTS["method"], "task": "chat"} | kept
    if training_approach.better(kept["corpus"], training_approach.approach_of(kept)):
        kept |= {"method": kept["method"] if kept.get("start") else DEFAULTS["method"], "task": "chat"}
    return kept


def _fits(name: str, kind: str, value) -> bool:
    """Whether a field can have this value."""
    if kind not in KINDS or not isinstance(value, KINDS[kind]) or (kind != "bool" and isinstance(value, bool)):
        return False
    if name == "optim":
        return value in OPTIMIZERS
    if name == "start" and value:
        with suppress(UserError, OSError, RuntimeError):  # the last: a home that nobody has
            starts.source(value)
            return True
        return False
    if name in ("name", "shares"):
        return True
    with suppress(UserError):
        TrainConfig(**{"base_model": "", "corpus": "", "method": "lora", name: value})
        return True
    return False
