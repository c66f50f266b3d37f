"""What a run found at its beginning, in one line: its rows, how full its blocks are, and which attention it uses and why."""

from core import events, paths
from core.runs import assigned_gpu
from ui.text import Say

BEGINNING_BYTES = 262_144  # of the events: the model and the rows come before the first step


def line(say: Say, run_id: str) -> str:
    """Rows, tokens, blocks, the kernel of attention, and whether the card was missed, as far as they are known."""
    found = {event["event"]: event for event in events.read(paths.run(run_id), 0, BEGINNING_BYTES)[0]}
    model = found.get("model")
    return " · ".join([*_rows(say, found.get("data")), *_attention(say, model), *_processor(say, run_id, model)])


def _rows(say: Say, data: dict | None):
    if not data:
        return
    yield say("data.rows", rows=say.number(data["rows_train"], 9), held=say.number(data["rows_eval"], 9))
    tokens, learned = data["tokens_train"], data["tokens_learned"]
    yield say("data.tokens", tokens=say.number(tokens, 9), learned=say.number(learned, 9))
    for name in ("cut", "text"):
        if count := data.get(f"rows_{name}"):
            yield say(f"data.{name}", rows=say.number(count, 9))
    if data.get("blocks"):
        fill = say.number(100 * data["fill"])
        yield say("data.blocks", blocks=say.number(data["blocks"], 9), fill=fill)


def _processor(say: Say, run_id: str, model: dict | None):
    """That torch did not see the card that the run was to train on."""
    card = assigned_gpu.read(paths.run(run_id)).get("name")
    if card and model and model.get("device") == "cpu":
        yield say("cards.missed", card=card)


def _attention(say: Say, model: dict | None):
    if not model:
        return
    kernel = say(f"data.attention{_way(model)}", kernel=model["attention"])
    reason = model.get("flash_attention_lacks")
    yield say("data.attention.because", kernel=kernel, why=say(f"data.lacks.{reason}")) if reason else kernel
    if model.get("experts"):
        yield say("data.experts")


def _way(model: dict) -> str:
    """How packed rows were attended to, as the end of a key; runs of an older version knew only by_document."""
    at_once, by_document = model.get("varlen"), model.get("by_document")
    return ".both" if at_once and by_document else ".varlen" if at_once else ".by_document" if by_document else ""
