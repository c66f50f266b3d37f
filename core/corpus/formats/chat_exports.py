"""Exports of chats that are one JSON: which program wrote it, and the reader of that."""

from collections.abc import Callable, Iterator

from core.corpus.formats import assistant_exports, discord, local_programs, messengers, sillytavern
from core.corpus.sources import Bad, Record

EXPORTS = (  # a conversation a record: what claims an export, and what reads one conversation
    *assistant_exports.EXPORTS,
    *local_programs.EXPORTS,
)


def of(value: object) -> Callable[[object, str], Iterator[Record | Bad]] | None:
    """The reader of an export, by its parsed JSON and the name of the assistant among the speakers; else None."""
    if messengers.is_telegram(value):
        return messengers.telegram
    if messengers.is_meta(value):
        return messengers.meta
    if messengers.is_slack(value):
        return messengers.slack
    if discord.is_json(value):
        return discord.of_json
    if assistant_exports.is_gemini(value):
        return assistant_exports.gemini
    if sillytavern.is_card(value):
        return sillytavern.of_card
    chats = value if isinstance(value, list) else [value]
    for claims, read in EXPORTS:
        if any(isinstance(chat, dict) and claims(chat) for chat in chats[:20]):
            return lambda value, me: _chats(chats, claims, read)
    return None


def _chats(chats: list, claims: Callable, read: Callable) -> Iterator[Record | Bad]:
    for number, chat in enumerate(chats, 1):
        if not isinstance(chat, dict) or not claims(chat):
            yield Bad(f"#{number}", "unknown_fields", str(chat)[:200])
            continue
        notes: list[str] = []
        made = read(chat, notes)
        reason = "empty_chat"
        if made and "messages" in made:
            kept = _without_seen(made["messages"])
            reason = "part_without_text" if made["messages"] and not kept else reason
            made = made | {"messages": kept} if kept else None
        yield Record(f"#{number}", made, tuple(notes)) if made else Bad(f"#{number}", reason, str(chat)[:200])


def _without_seen(turns: list[dict]) -> list[dict]:
    """The turns without questions about a picture and their replies: a model of texts would learn to invent."""
    kept: list[dict] = []
    seen = False
    for turn in turns:
        seen = bool(turn.get("seen")) if turn["role"] == "user" else seen and turn["role"] != "system"
        if not seen:
            kept.append(turn)
    return kept
