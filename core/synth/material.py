"""A person's own texts as what a recipe starts from: passages cut at their own borders, their topics, their names."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import PurePosixPath

from core.corpus import corpus, storage, turns
from core.synth import lemmas

MOST = 1800  # characters of a passage
LEAST = 200  # shorter neighbours are joined
LOOKED_AT = 20_000  # rows whose topics and names are looked for
MOST_NAMES, MOST_TOPICS = 40, 60
_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)
_BORDERS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"(?<=[.!?…])\s+"), re.compile(r"\s+"))


def passages(text: str, most: int = MOST) -> list[str]:
    """A text in pieces of at most `most` characters, cut between paragraphs, else lines, sentences, words; none is lost.

    A heading goes with what follows it, even where that is a piece of the full length.
    """
    joined: list[str] = []
    for piece in _pieces(text.strip(), most, 0):
        before = joined[-1] if joined else ""
        heading = before and _HEADING.fullmatch(before.rsplit("\n", 1)[-1])
        fits = before and len(before) + 2 + len(piece) <= most and not _HEADING.match(piece)
        if heading or (fits and (min(len(before), len(piece)) < LEAST or len(before) < most // 2)):
            joined[-1] = f"{before}\n\n{piece}"
        else:
            joined.append(piece)
    return joined


def _pieces(text: str, most: int, border: int) -> list[str]:
    if border == 0:
        parts = [part.strip() for part in _BORDERS[0].split(text) if part.strip()]
        return [piece for part in parts for piece in _pieces(part, most, 1)]
    if len(text) <= most:
        return [text] if text else []
    if border == len(_BORDERS):
        return [text[at : at + most] for at in range(0, len(text), most)]
    pieces, last = [], ""
    for part in _BORDERS[border].split(text):
        for piece in _pieces(part.strip(), most, border + 1):
            between = "\n" if border == 1 else " "
            if last and len(last) + len(between) + len(piece) <= most:
                last += between + piece
            else:
                pieces += [last] if last else []
                last = piece
    return [*pieces, last] if last else pieces


def of_corpus(name: str, topics: list[str] | None = None) -> Iterator[dict]:
    """Every passage of a corpus, {"text", "id", "topic"}, of these topics where some were chosen.

    `id` is that of the row, with #2 for its second passage.
    """
    wanted = None if topics is None else set(topics)
    for row in storage.all_rows(corpus.locate(name)):
        heading = ""
        for number, text in enumerate(passages("\n\n".join(turns.texts(row))), 1):
            if found := _HEADING.search(text):
                heading = found[1]
            topic = _topic(row, heading)
            if wanted is None or topic in wanted:
                yield {"text": text, "id": row["id"] if number == 1 else f"{row['id']}#{number}", "topic": topic}


def _topic(row: dict, heading: str) -> str:
    """The file that a row is of, without its folder, and the heading that it stands under: "garden › Pruning"."""
    file = PurePosixPath(str((row.get("source") or {}).get("file", "")).replace("\\", "/"))
    places = [*file.parts[-2:-1], file.stem] if file.suffix in (".md", ".txt") else [file.stem]
    return " › ".join(dict.fromkeys(part for part in (*places, heading[:60]) if part and part != "/"))


def topics(name: str) -> dict[str, int]:
    """The topics of a corpus and how many passages each has, in the order of the texts; the rarest of too many go."""
    rows = islice(of_corpus(name), LOOKED_AT)
    counts = Counter(passage["topic"] for passage in rows)
    common = {topic for topic, _ in counts.most_common(MOST_TOPICS)}
    return {topic: count for topic, count in counts.items() if topic in common}


def names(seeds: list[dict], lang: str) -> list[str]:
    """The names of people and places that texts mention most, as they are written."""
    written: dict[str, Counter] = {}
    for seed in seeds[:LOOKED_AT]:
        found = lemmas.names(seed["text"], lang)
        for token in lemmas.TOKEN.findall(seed["text"]):
            lemma = lemmas.of(token.lower().replace("ё", "е"), lang)[0]
            if token[0].isupper() and lemma in found:
                written.setdefault(lemma, Counter())[token] += 1
    often = sorted(written.values(), key=lambda forms: -forms.total())[:MOST_NAMES]
    return [forms.most_common(1)[0][0] for forms in often]
