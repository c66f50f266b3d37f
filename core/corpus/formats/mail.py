"""E-mail: a message (.eml), or a mailbox of them (.mbox, as Google Takeout gives it); the words of each are a text."""

import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage

from core.corpus import encodings
from core.corpus.formats import markup
from core.corpus.sources import Bad, Format, Record, Source

HEADERS = re.compile(r"(?:From \S[^\n]*\n)?((?:[A-Za-z][\w-]*:[^\n]*\n(?:[ \t][^\n]*\n)*){3,})")
WRITTEN_BY_PROGRAMS = {"date", "message-id", "mime-version", "received", "delivered-to", "return-path"}
LARGEST = 64 * 2**20  # bytes of a message


def claims(source: Source, head: str) -> bool:
    found = HEADERS.match(head.replace("\r\n", "\n").lstrip("\n"))
    names = {name.lower() for name in re.findall(r"^([\w-]+):", found[1], re.MULTILINE)} if found else set()
    return bool({"from", "subject"} & names) and bool(WRITTEN_BY_PROGRAMS & names)


def read(source: Source) -> Iterator[Record | Bad]:
    """A text for each message: its plain words, or those of its page; files beside them are counted."""
    for number, raw in enumerate(_messages(source), 1):
        yield Bad(f"#{number}", "too_large") if raw is None else _record(raw, f"#{number}")


def _messages(source: Source) -> Iterator[bytes | None]:
    """The bytes of each message; None stands for one that is longer than can be held."""
    held, size, blank = [], 0, True
    with source.open() as stream:
        for line in stream:
            if blank and line.startswith(b"From ") and held:
                yield b"".join(held) if size <= LARGEST else None
                held, size = [], 0
            blank = not line.strip()
            size += len(line)
            if size <= LARGEST and not (not held and (blank or line.startswith(b"From "))):
                held.append(line[1:] if re.match(rb">+From ", line) else line)
    if held:
        yield b"".join(held) if size <= LARGEST else None


def _record(raw: bytes, place: str) -> Record | Bad:
    try:
        message = message_from_bytes(raw, policy=policy.default)
        body = message.get_body(preferencelist=("plain", "html"))
        text = _words(body).replace("\r\n", "\n").strip() if body is not None else ""
        if body is not None and body.get_content_subtype() == "html":
            text = markup.text_of(text)[0]
        files = ("media_dropped",) * sum(1 for _ in message.iter_attachments())
        title = " ".join(str(message.get("subject") or "").split())[:200]
    except Exception:  # headers and parts that are damaged raise what they like
        return Bad(place, "file_damaged", raw[:200].decode("utf-8", errors="replace"))
    if not text:
        return Bad(place, "empty_text", title)
    return Record(place, {"text": text} | ({"title": title} if title else {}), files)


def _words(part: EmailMessage) -> str:
    """The words of a part in the encoding that it names, where that fits; else in the one in which they read best."""
    data = part.get_payload(decode=True) or b""
    for name in (part.get_content_charset() or "utf-8", "utf-8"):
        try:
            return data.decode(name)
        except (LookupError, UnicodeDecodeError):
            continue
    return data.decode(encodings.guess(data), errors="replace")


MAIL = Format("mail", claims, read)
