"""The model card of what is exported: base, data, measures, licence, how it was trained."""

import json
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from core import events, files, paths
from core.chat.chat_models import ChatModel
from core.models import base_identity
from core.runs import runs, starts, store
from core.training import mixing


def card(model: ChatModel, kind: str, *, made: dict | None = None, lines: str = "") -> str:
    """The card of an export of a run (adapter, merged or gguf), in Markdown; no path of this disk is in it.

    `made` is what was measured; `lines` load it.
    """
    base, seen = base_identity.of(model.base_model), events.read(runs.directory(model.id.removeprefix("run:")))[0]
    row = store.sync(model.id.removeprefix("run:").partition("/")[0])  # its loss is that of the weights that are there
    return _template().render(
        name=model.title,
        kind=kind,
        base=base,
        licence=licence(base.name),
        config=model.config,
        data=_data(model, seen),
        steps=_steps(seen, row["adapter_step"]),
        before=_loss(row["base_eval_loss"]),
        after=_loss(row["eval_loss"] if row["step"] else None),
        ancestry=[
            f"{one['name']} (step {one['step']})" if one["step"] else one["name"] for one in starts.ancestry(row["id"])
        ],
        versions=", ".join(f"{name} {number}" for name, number in _versions(seen).items()) or "unknown",
        made=made or {},
        lines=lines,
    )


def _loss(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def licence(hub_id: str) -> str:
    """The licence of a base that the catalogue knows, as the hub spells it; else nothing."""
    listed = json.loads((paths.assets() / "models.json").read_text(encoding="utf-8"))["models"]
    known = (entry for entry in listed if hub_id in (entry["hub_id"], *entry.get("aliases", ())))
    return next((entry.get("license") or "" for entry in known), "")


def _data(model: ChatModel, seen: list[dict]) -> list[dict]:
    """The corpora by the names that a person gave them, with their hashes; of a mix the share and the rows of each too."""
    told = next((event.get("corpora", []) for event in reversed(seen) if event["event"] == "data"), [])
    hashes, data = [event["corpus_hash"] for event in seen if event.get("corpus_hash")], []
    for number, (corpus, share) in enumerate(
        zip(mixing.corpora(model.config), mixing.shares(model.config), strict=True)
    ):
        path = paths.corpora() / corpus  # an absolute path stays what it is
        card, of_one = files.read_json(path / "card.json"), told[number] if number < len(told) else {}
        known = hashes[-1] if hashes and not number else card.get("content_hash", "")
        rows = {"rows": of_one.get("rows_train", "?"), "rows_held_out": of_one.get("rows_eval", "?")}
        data.append({"name": card.get("name") or path.stem, "hash": known, "share": of_one.get("share", share)} | rows)
    return data


def _steps(seen: list[dict], kept: int | None) -> dict:
    """How it was trained; `kept` is the step of the checkpoint that the weights are of, where it is not the last."""
    latest = {event["event"]: event for event in seen}
    data, ended = latest.get("data", {}), latest.get("finished") or latest.get("stopped") or {}
    return {
        "steps": ended.get("steps", "?") if kept is None else kept,
        "rows": data.get("rows_train", "?"),
        "rows_held_out": data.get("rows_eval", "?"),
        "tokens": data.get("tokens_train"),
        "learned": data.get("tokens_learned"),
        "precision": latest.get("model", {}).get("precision", "?"),
        "device": latest.get("forecast", {}).get("card") or latest.get("model", {}).get("device", "?"),
    }


def _versions(seen: list[dict]) -> dict:
    return next((event["versions"] for event in reversed(seen) if event.get("versions")), {})


@cache
def _template():
    folder = FileSystemLoader(paths.assets() / "export")
    environment = Environment(loader=folder, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return environment.get_template("card.md.jinja")
