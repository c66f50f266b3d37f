"""Tokens of rows and of corpora: counted with a model's tokenizer where there is one, else estimated by characters.

Counted rows have as many tokens as encoding.encode gives them.
"""

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

from core import foreign, process
from core.corpus import diversity_metrics, storage, turns
from core.errors import UserError
from core.models import model_check, models, tokenizer
from core.training import encoding, errors

# Characters per token of Qwen's tokenizer, measured on aphorisms: Russian 2.55, English 3.87.
CHARACTERS = {"ru": 2.55, "en": 3.87}
SAMPLE, WINDOWS = 400, 8  # rows of a large corpus that are counted, and the places where they stand together


class Scale:
    """Counts tokens with the tokenizer of a model directory; `exact` is false where there is none."""

    def __init__(self, model: str | None, lang: str):
        self.exact, self.lang, self.tokenizer = model is not None, lang, None
        if model is not None:
            if process.WATCHED not in os.environ:
                model_check.ask(directory(model))
            self.tokenizer = tokenizer.load(directory(model))

    def ids(self, rows: list[dict]) -> list[list[int]]:
        """The token ids of rows; without a tokenizer lists of the estimated length."""
        if self.tokenizer is None:
            per = CHARACTERS.get(self.lang, 3.0)
            return [[0] * max(1, round(sum(map(len, turns.texts(row))) / per)) for row in rows]
        rows = list(map(turns.as_chat, rows))
        ids_of: list = [None] * len(rows)
        for kind in ("text", "messages"):
            places = [at for at, row in enumerate(rows) if kind in row]
            for at, ids in zip(places, self._of_kind([rows[at] for at in places], kind), strict=True):
                ids_of[at] = ids
        return ids_of

    def _of_kind(self, rows: list[dict], kind: str) -> list[list[int]]:
        texts = [row["text"] if kind == "text" else self._rendered(row["messages"]) for row in rows]
        backend, end = self.tokenizer.backend, self.tokenizer.eos_token_id
        encoded = [row.ids for row in backend.encode_batch_fast(texts, add_special_tokens=kind == "text")]
        for ids in encoded if kind == "text" and end is not None else []:
            if ids[-1:] != [end]:
                ids.append(end)
        return encoded

    def _rendered(self, messages: list[dict]) -> str:
        """The text of a chat; a template without a system turn gets it in the question, as in a cleaned corpus."""
        for chat in (messages, turns.folded(messages)):
            with suppress(errors.TemplateRefused):
                return encoding.apply_template(self.tokenizer, chat)
        return "\n".join(turn["content"] for turn in messages)  # a base without a template has its tokens all the same


def directory(model: str) -> Path:
    """The directory of a model given by its directory or its id."""
    if Path(model).is_dir():
        return Path(model)
    return Path(models.local(model) or model)


def of_corpus(path: Path, model: str | None = None) -> tuple[int, bool]:
    """Tokens of all rows of a corpus, and whether they were counted with the model's own tokenizer.

    Of a corpus of more than SAMPLE rows so many are counted, spread over it; the rest is estimated by its characters.
    Without a tokenizer on this machine a token has as many characters as Qwen's in that language.
    """
    card = storage.read_card(path)
    known = path, card.get("content_hash", ""), card.get("rows", 0), card.get("characters", 0)
    with suppress(UserError):  # what is no model here, or has no tokenizer that can be read
        if model and (here := models.local(model)):
            return _of_corpus(*known, here), True
    return _of_corpus(*known, None), False


@cache
def _of_corpus(path: Path, _hash: str, rows: int, characters: int, model: str | None) -> int:
    """The tokens of rows that never change: a corpus of another content has another hash."""
    return foreign.ask("count", path, rows, characters, model, file=model) if model else count(path, rows, characters)


def count(path: str | Path, count: int, characters: int, model: str | None = None) -> int:
    """The tokens of a corpus that has so many rows and characters; see of_corpus()."""
    rows = _spread(Path(path), count)
    texts = ["\n".join(turns.texts(row)) for row in rows]
    scale = Scale(model, diversity_metrics.language(texts) if texts else "")
    if not texts:
        return round(characters / CHARACTERS.get(scale.lang, 3.0))
    chats = [chat for row in rows for chat in turns.as_chats(row)]  # a pair is read as two sequences
    tokens, seen = sum(map(len, scale.ids(chats))), sum(len(text) for row in rows for text in turns.texts(row))
    return tokens if len(rows) == count or not seen else round(tokens * characters / seen)


def _spread(path: Path, count: int) -> list[dict]:
    """At most SAMPLE rows: all, or windows at equal distances."""
    if count <= SAMPLE:
        return storage.rows(path, 0, SAMPLE)
    window = SAMPLE // WINDOWS
    return [row for at in range(WINDOWS) for row in storage.rows(path, at * (count - window) // (WINDOWS - 1), window)]
