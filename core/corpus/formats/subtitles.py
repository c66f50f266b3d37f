"""Subtitles, SRT, WebVTT, ASS, SBV, TTML, MicroDVD, songs and transcripts with times: the words without numbers, timecodes and marks, a paragraph for each scene."""

import html
import re
from collections.abc import Iterator
from itertools import pairwise

from core.corpus import documents, encodings, mojibake
from core.corpus.sources import Bad, Format, Record, Source

TIMES = re.compile(r"\s*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})\s*-->\s*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})(?:\s.*)?")
CLOCK = re.compile(r"[\[(]?((?:\d{1,2}:)?\d{1,2}:\d{2})[\])]?")  # alone on its line, as in transcripts of YouTube
SPOKEN = re.compile(r"Dialogue:\s*\d+,([\d:.]+),([\d:.]+),(?:[^,]*,){6}(.*)")
MARKS = re.compile(r"</?[a-zA-Z][^<>]*>|<[\d:.]+>|\{\\[^{}]*\}")
DRAWING = re.compile(r"\{[^{}]*\\p[1-9][^{}]*\}.*?(?:\{[^{}]*\\p0[^{}]*\}|$)")  # outlines of signs in ASS
FEWEST_SUNG = 3  # lines
PAUSE = 4.0  # seconds of silence that end a paragraph


SOUND = re.compile(r"\[[^\[\]]*\]|\([^()]*\)|[♪♫\s]+")  # a line for those who do not hear
SPEAKER = re.compile(r"[A-ZА-ЯЁ][A-ZА-ЯЁ. -]{1,25}:\s")
CREDITS = re.compile(  # who made the subtitles, as a line of them
    r"(?:https?://|www\.)\S+|(?:субтитры|перевод(?:чик)?|редактор(?: субтитров)?|корректор|тайминг)"
    r"(?:\s*:|\s+(?:и\s+\w+\s*:|сделал|создал|создавал|делал|выполнил|выполнен|подготов|подогнал|добавил|[А-ЯЁ]\.\s?[А-ЯЁ])).*|"
    r"(?:subtitles?|captions?|(?:re)?sync(?:ed|hroni[sz]ed)?|translat(?:ed|ion)|corrections?|corrected|encoded)"
    r"(?:\s*(?:,|&|and)\s*\w+)*(?:\s*:|\s+by\b).*",
    re.IGNORECASE,
)

# Other ways to write the times of a cue, brought to those of SRT: of Whisper and of YouTube's SBV.
_TIME = r"((?:\d+:)?\d{1,2}:\d{2}\.\d{1,3})"
WRITTEN = re.compile(rf"^[ \t]*(?:\[{_TIME} --> {_TIME}\][ \t]*|{_TIME},{_TIME}[ \t]*$)", re.MULTILINE)
FRAMES = re.compile(r"^\{(\d+)\}\{(\d+)\}(.*)$", re.MULTILINE)  # MicroDVD: a cue a line, its times in frames
FRAMES_A_SECOND = 25
SUNG = re.compile(r"^(?:\[\d{1,3}:\d{2}[.:]\d{2,3}\])+[ \t]*", re.MULTILINE)  # LRC: lines of a song
OF_SONG = re.compile(
    r"^\[(?:ar|ti|al|by|offset|length|au|re|ve|tool|id|la):[^\]\n]*\][ \t]*\n?", re.MULTILINE | re.IGNORECASE
)
TTML = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<tt\b[^>]*\bxmlns", re.DOTALL)
OF_TTML = re.compile(r'<p\b[^>]*\bbegin="([^"]*)"(?:[^>]*\bend="([^"]*)")?[^>]*>(.*?)</p>', re.DOTALL)


def claims(source: Source, head: str) -> bool:
    if TTML.match(head):
        return True
    if len(SUNG.findall(head)) >= max(FEWEST_SUNG, head.strip().count("\n") / 2):
        return True
    if len(FRAMES.findall(head)) >= max(2, head.strip().count("\n") / 2):
        return True
    head = _as_srt(head)
    lines = [line.strip() for line in head.lstrip("\ufeff").split("\n") if line.strip()]
    if not lines or re.match(r"WEBVTT\b", lines[0]):
        return bool(lines)
    if lines[0] == "[Script Info]" or TIMES.fullmatch(lines[0]):
        return True
    if len(lines) > 2 and lines[0].isdecimal() and TIMES.fullmatch(lines[1]) is not None:
        return True
    return CLOCK.fullmatch(lines[0]) is not None and sum(map(bool, map(CLOCK.fullmatch, lines))) >= max(
        3, len(lines) / 4
    )


def read(source: Source) -> Iterator[Record | Bad]:
    text, repaired = mojibake.Repairer().text(encodings.read_text(source, source.encoding))
    text = text.replace("\r\n", "\n")
    sung = len(SUNG.findall(text)) >= max(FEWEST_SUNG, text.strip().count("\n") / 2)
    words = SUNG.sub("", OF_SONG.sub("", text)).strip() if sung else _words(_as_srt(text))
    yield from documents.records(words, ("mojibake",) * repaired)


def _as_srt(text: str) -> str:
    """The text with the times of its cues as SRT has them."""
    if TTML.match(text):
        cues = []
        for start, end, said in OF_TTML.findall(text):
            said = re.sub(r"<br\s*/>", "\n", " ".join(said.split()))
            cues.append(f"0\n{_clock(start)} --> {_clock(end or start)}\n{said}\n")
        return "\n".join(cues)
    if FRAMES.match(text.lstrip()):
        return "\n".join(_of_frames(*cue) for cue in FRAMES.findall(text))
    return WRITTEN.sub(lambda found: f"0\n{found[1] or found[3]} --> {found[2] or found[4]}\n", text)


def _of_frames(start: str, end: str, said: str) -> str:
    if (start, end) in (("0", "0"), ("1", "1")) and re.fullmatch(r"\s*\d+\.\d+\s*", said):  # frames of a second
        return ""
    times = (_clock(f"{int(frame) / FRAMES_A_SECOND:.3f}s") for frame in (start, end))
    said = re.sub(r"\{[a-zA-Z]:[^{}]*\}", "", said).replace("|", "\n")
    return f"0\n{' --> '.join(times)}\n{said}\n"


def _clock(time: str) -> str:
    """A time of TTML, a clock or seconds, as that of a cue."""
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)s", time):
        minutes, seconds = divmod(float(found[1]), 60)
        return f"{int(minutes) // 60}:{int(minutes) % 60:02}:{seconds:06.3f}"
    found = re.match(r"\d{1,2}:\d{2}:\d{2}(?:\.\d{1,3})?", time)
    return found[0] if found and "." in found[0] else f"{found[0] if found else '00:00:00'}.000"


def _words(text: str) -> str:
    """The cues one after another; the lines that captions of a broadcast repeat while they roll stand once."""
    paragraphs: list[str] = []
    last_end, said_before = None, []
    for start, end, lines in _cues(text):
        lines = [html.unescape(MARKS.sub("", line)).strip() for line in lines]
        lines = [line for line in lines if line and not SOUND.fullmatch(line) and not CREDITS.fullmatch(line)]
        new = [line for line in lines if line not in said_before]
        said_before = lines or said_before
        if not new:
            continue
        if last_end is None or start - last_end > PAUSE:
            paragraphs.append("")
        last_end = end
        for line in new:
            talk = "\n" if line.startswith(("-", "–", "—")) or SPEAKER.match(line) else " "
            paragraphs[-1] += (talk if paragraphs[-1] else "") + line
    return "\n\n".join(paragraphs)


def _cues(text: str) -> Iterator[tuple[float, float, list[str]]]:
    """(start, end, lines) of each cue; the number or the name of the next one stands before its times."""
    lines = [line.strip() for line in text.split("\n")]
    if lines[0].lstrip("\ufeff") == "[Script Info]":
        for found in map(SPOKEN.match, lines):
            if found:
                words = DRAWING.sub("", found[3]).replace("\\h", " ")
                yield _seconds(found[1]), _seconds(found[2]), re.split(r"\\[nN]", words)
        return
    times = TIMES if any(map(TIMES.fullmatch, lines)) else CLOCK
    places = [at for at, line in enumerate(lines) if times.fullmatch(line)]
    for at, following in pairwise([*places, len(lines) + 1]):
        found = times.fullmatch(lines[at])
        words = lines[at + 1 : following - 1 if times is TIMES else following]
        before = lines[following - 1 : following] if times is TIMES else []
        if before and not before[0].isdecimal() and words and words[-1]:  # no number and no name
            words += before
        yield _seconds(found[1]), _seconds(found[times.groups]), list(_until_note(words))


def _until_note(lines: list[str]) -> Iterator[str]:
    """The lines of a cue without the notes and styles of WebVTT that follow it after a blank line."""
    for before, line in pairwise(["-", *lines]):
        if not before and re.match(r"(?:NOTE|STYLE|REGION)\b", line):
            return
        yield line


def _seconds(time: str) -> float:
    seconds = 0.0
    for part in time.replace(",", ".").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


SUBTITLES = Format("subtitles", claims, read)
