"""Plain text: documents between separator lines, or paragraphs gathered at blank lines."""

from collections.abc import Iterator

from core.corpus import documents, encodings, mojibake
from core.corpus.sources import Bad, Format, Record, Source


def claims(source: Source, head: str) -> bool:
    return True


def read(source: Source) -> Iterator[Record | Bad]:
    bad: list[Bad] = []
    repairer, repaired = mojibake.Repairer(), []
    example: list[str] = []  # a spoilt line and its repair

    def sound() -> Iterator[tuple[int, str]]:
        for line in encodings.lines(source, source.encoding):
            if line.problem:
                bad.append(Bad(str(line.number), line.problem, line.text[:200]))
                continue
            text = repairer.line(line.text)
            if text is not line.text:
                repaired.append("mojibake")
                example[:] = example or [line.text, text]
            if line.repair:
                repaired.append(line.repair)
            yield line.number, text

    for number, text in documents.split(sound(), _separator(source)):
        yield from bad
        yield Record(str(number), {"text": text}, tuple(repaired), *(example if repaired else ()))
        bad.clear()
        example.clear()
        repaired.clear()
    yield from bad


def _separator(source: Source) -> str | None:
    first = []
    for line in encodings.lines(source, source.encoding):
        first.append(line.text)
        if len(first) >= 2000:
            break
    return documents.separator_of(first)


TEXT = Format("text", claims, read)
