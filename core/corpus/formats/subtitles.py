"""Subtitles, SRT and WebVTT: the words without numbers, timecodes and marks, a paragraph for each scene."""

import html
import re
from collections.abc import Iterator

from core.corpus import documents, encodings, mojibake
from core.corpus.sources import Bad, Format, Record, Source

TIMES = re.compile(r"\s*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})\s*-->\s*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})(?:\s.*)?")
MARKS = re.compile(r"</?[a-zA-Z][^<>]*>|<[\d:.]+>|\{\\[^{}]*\}")
PAUSE = 4.0  # seconds of silence that end a paragraph


def claims(source: Source, head: str) -> bool:
    lines = [line.strip() for line in head.lstrip("\ufeff").split("\n") if line.strip()]
    if lines and re.match(r"WEBVTT\b", lines[0]):
        return True
    return len(lines) > 2 and lines[0].isdecimal() and TIMES.fullmatch(lines[1]) is not None


def read(source: Source) -> Iterator[Record | Bad]:
    text, repaired = mojibake.Repairer().text(encodings.read_text(source, source.encoding))
    words = _words(text.replace("\r\n", "\n"))
    if not words:
        yield Bad("1", "empty_text")
        return
    for number, record in enumerate(documents.records(words)):
        yield record._replace(repairs=("mojibake",) * repaired) if number == 0 else record


def _words(text: str) -> str:
    """The cues one after another; the lines that captions of a broadcast repeat while they roll stand once."""
    paragraphs: list[str] = []
    last_end, said_before = None, []
    for block in re.split(r"\n[ \t]*\n", text):
        lines = [line.strip() for line in block.split("\n")]
        at = next((at for at, line in enumerate(lines[:3]) if TIMES.fullmatch(line)), None)
        if at is None:
            continue
        start, end = map(_seconds, TIMES.fullmatch(lines[at]).groups())
        lines = [html.unescape(MARKS.sub("", line)).strip() for line in lines[at + 1 :]]
        lines = [line for line in lines if line]
        new = [line for line in lines if line not in said_before]
        said_before = lines or said_before
        if not new:
            continue
        if last_end is None or start - last_end > PAUSE:
            paragraphs.append("")
        last_end = end
        for line in new:
            talk = "\n" if line.startswith(("-", "–", "—")) else " "
            paragraphs[-1] += (talk if paragraphs[-1] else "") + line
    return "\n\n".join(paragraphs)


def _seconds(time: str) -> float:
    seconds = 0.0
    for part in time.replace(",", ".").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


SUBTITLES = Format("subtitles", claims, read)
