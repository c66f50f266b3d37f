"""Plain text: documents between separator lines, or paragraphs gathered at blank lines."""

from collections.abc import Iterator
from itertools import islice

from core.corpus import contents, documents, encodings, mojibake, wrapped_lines
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

    separator, width, double = _layout(source)
    lines = contents.without_listed(sound(), lambda count: repaired.extend(["contents_dropped"] * count))
    lines = wrapped_lines.single_spaced(lines) if double else lines
    lines = wrapped_lines.joined(lines, width) if width else lines
    for number, text in documents.split(lines, separator):
        yield from bad
        yield Record(str(number), {"text": text}, tuple(repaired), *(example if repaired else ()))
        bad.clear()
        example.clear()
        repaired.clear()
    yield from bad


def _layout(source: Source) -> tuple[str | None, int, bool]:
    """The line that separates texts, if there is one; else the width at which lines are wrapped, if they are, and
    whether an empty one stands behind each.
    """
    first = [line.text for line in islice(encodings.lines(source, source.encoding), wrapped_lines.SAMPLE)]
    separator = documents.separator_of(first)
    double = not separator and wrapped_lines.is_double_spaced(first)
    return (
        separator,
        0 if separator else wrapped_lines.width(list(filter(str.strip, first)) if double else first),
        double,
    )


TEXT = Format("text", claims, read)
