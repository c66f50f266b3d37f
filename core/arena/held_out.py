"""The held-out loss of both contestants of a match."""

import json
from pathlib import Path

from core.chat import chat, chat_models
from core.errors import UserError
from core.runs import runs
from core.training import corpus_rows


def measure(directory: Path, request: dict) -> None:
    """Write the held-out loss of both contestants, over the rows that their run held out, into measured.json."""
    rows = held_out_rows([request["a"], request["b"]])
    found = {}
    for side in ("a", "b"):
        measured = chat.measure(request[side], rows) if rows else {"loss": None, "rows": 0}
        found[side] = {"held_out_loss": measured["loss"], "held_out_rows": measured["rows"]}
    (directory / "measured.json").write_text(json.dumps(found), encoding="utf-8")


def held_out_rows(ids: list[str]) -> list[dict]:
    """The rows that the first run among the contestants held out; none if its corpus is gone."""
    for id in ids:
        try:
            config = chat_models.find(id).config
            if config:
                rows = list(corpus_rows.read_rows(runs.corpus_path(config)))
                return corpus_rows.split(rows, config.validation_share)[1]
        except (UserError, OSError, ValueError):
            continue
    return []
