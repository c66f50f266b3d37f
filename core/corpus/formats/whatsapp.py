"""A chat exported from WhatsApp as a text, on Android or iOS; what it writes itself is known in eight languages."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from core import paths
from core.corpus import encodings
from core.corpus.formats import people
from core.corpus.formats.people import Said
from core.corpus.sources import Bad, Format, Record, Source

# A comma between date and time; in some languages a word, or nothing.
_DATE, _TIME = (
    r"(\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\.?)(?:,|\s[^\W\d]{1,3}|\sa las)?\s",
    r"(\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:\s?[AaPp]\.?\s?[Mm]\.?)?)",
)
MARKS = "\u200e\u200f\u202a\u202b\u202c\u202d\u2068\u2069\ufeff"
HEADER = re.compile(rf"[{MARKS}]*(?:\[{_DATE}{_TIME}\]\s|{_DATE}{_TIME}\s[-–—]\s)(.*)", re.DOTALL)
SPEAKER = re.compile(r"([^:\n\"“«„]{1,100}): ?(.*)", re.DOTALL)  # quotes stand in notes of the group's new name
LINES = json.loads((paths.assets() / "whatsapp-lines.json").read_text(encoding="utf-8"))  # expressions by their kind


def _any(kind: str) -> str:
    return "|".join(LINES[kind])


MEDIA = re.compile(
    r"<[^<>\n]{4,120}>|"  # <Media omitted>, <прикреплено: x.jpg>, in any language
    rf"(?:[^\n]* • [^\n]*)?(?:{_any('omitted')})|"
    rf"\S[^\n]* \((?:{_any('attached')})\)|null|"
    r"(?:location|live location shared|местоположение|геопозиция)(?:: https?://\S+)?|"
    rf"\w+\s?: https://maps\.google\.com/\?q=-?[\d.]+,-?[\d.]+|(?:{_any('polls')})\s?:\n.*",
    re.IGNORECASE | re.DOTALL,
)
SERVICE = re.compile(rf"(?:{_any('deleted')}|{_any('waiting')}|{_any('calls')})\.?", re.IGNORECASE)
EDITED = re.compile(rf"\s*[{MARKS}]*<(?:{_any('edited')})\.?>\s*$", re.IGNORECASE)


def claims(source: Source, head: str) -> bool:
    lines = [line for line in head.split("\n")[:60] if line.strip()]
    headers = [match for line in lines if (match := HEADER.match(line))]
    spoken = sum(SPEAKER.match(match[5]) is not None for match in headers)
    return bool(lines) and HEADER.match(lines[0]) is not None and spoken >= 1 and len(headers) >= min(2, len(lines))


def read(source: Source) -> Iterator[Record | Bad]:
    lines: list[list] = []  # [date, time, what stands behind them]
    for line in encodings.lines(source, source.encoding):
        if line.problem:
            yield Bad(str(line.number), line.problem, line.text[:200])
        elif match := HEADER.match(line.text.rstrip("\r")):
            lines.append([match[1] or match[3], match[2] or match[4], match[5]])
        elif lines:
            lines[-1][2] += "\n" + line.text.rstrip("\r")
    order = _order([date for date, _, _ in lines], any(re.search("[AaPp]", time) for _, time, _ in lines))
    yield from people.chats(
        [_said(*line, order) for line in lines], source.me, other_than=_namesake(source.name, lines[0] if lines else [])
    )


def _namesake(file: str, first: list) -> str:
    """Whose name the chat has: who seems to say the first notice on iOS; on Android the name of the file ends with it."""
    spoken = SPEAKER.match(first[2]) if first else None
    if spoken and spoken[2].startswith("\u200e"):
        return _name(spoken[1])
    named = re.search(
        r"WhatsApp[^/]*?(?: with | - | с контактом | с | mit | con | avec | com )([^/]+?)(?:\.txt|\.zip|/|$)", file
    )
    return named[1].strip() if named else ""


def _name(words: str) -> str:
    return words.strip(MARKS + "~\u202f\u00a0 ")


def _said(date: str, time: str, rest: str, order: str) -> Said:
    match = SPEAKER.match(rest)
    if not match:
        return Said("", "", "", dropped="service_dropped")
    name, text = _name(match[1]), EDITED.sub("", match[2]).strip("\n")
    plain = text.strip(MARKS + " \n")
    if MEDIA.fullmatch(plain):
        return Said(name, name, "", dropped="media_dropped")
    if not plain or SERVICE.fullmatch(plain) or text.startswith("\u200e"):
        return Said(name, name, "", dropped="service_dropped")
    first, _, caption = plain.partition("\n")
    if MEDIA.fullmatch(first) and caption.strip():  # a picture with words below it
        plain = caption.strip()
    return Said(name, name, plain, _seconds(date, time, order))


def _order(dates: list[str], twelve_hours: bool) -> str:
    """The order of day, month and year in the dates of a chat."""
    parts = [list(map(int, re.findall(r"\d+", date))) for date in dates]
    if any(part[0] > 31 for part in parts):
        return "ymd"
    if any(part[1] > 12 for part in parts):
        return "mdy"
    slashes = all("/" in date for date in dates)
    return "mdy" if slashes and twelve_hours and not any(part[0] > 12 for part in parts) else "dmy"


def _seconds(date: str, time: str, order: str) -> float | None:
    values = dict(zip(order, map(int, re.findall(r"\d+", date)), strict=True))
    clock = [int(part) for part in re.findall(r"\d+", time)]
    hour, late = clock[0], re.search("[Pp]", time) is not None
    if re.search("[AaPp]", time):
        hour = hour % 12 + 12 * late
    year = values["y"] + (2000 if values["y"] < 100 else 0)
    try:
        start = datetime(year, values["m"], values["d"])
    except ValueError:
        return None
    # Seconds between messages matter, not when they were: the zone is nobody's business.
    return (start + timedelta(hours=hour, minutes=clock[1]) - datetime(1970, 1, 1)).total_seconds()


WHATSAPP = Format("whatsapp", claims, read)
