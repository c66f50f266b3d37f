"""My Activity of Google Takeout as a page, which is what people get who do not ask for JSON: questions to Gemini."""

import re
from collections.abc import Iterator

from core.corpus import encodings
from core.corpus.formats import markup
from core.corpus.formats.assistant_exports import PROMPTED
from core.corpus.sources import Bad, Format, Record, Source

CELL = re.compile(r"<div class=\"outer-cell\b")
TITLE = re.compile(r"mdl-typography--title\">(.*?)<", re.DOTALL)
BODY = re.compile(r"<div class=\"content-cell[^\"]*body-1\">(.*?)(?=</div>\s*<div class=\"content-cell|\Z)", re.DOTALL)
# The line that stands between a question and its answer: Jun 1, 2024, 10:00:00 AM MSK; 1 июн. 2024 г., 10:00:00 MSK.
DATE = re.compile(
    r"<br\s*/?>\s*(?:[^\W\d]{3,9}\.?\s\d{1,2},\s\d{4}|\d{1,2}\s[^\W\d]{3,9}\.?\s\d{4}(?:\sг\.)?),?\s\d{1,2}:\d{2}:\d{2}[^<]*(?:<br\s*/?>|$)"
)


def claims(source: Source, head: str) -> bool:
    head = source.head(1 << 19).decode(source.encoding or "utf-8", errors="replace")  # the styles come first
    return CELL.search(head) is not None and "content-cell" in head


def read(source: Source) -> Iterator[Record | Bad]:
    """Each question with its answer; what else was done there has none."""
    cells = CELL.split(encodings.read_text(source, source.encoding))[1:]
    if not cells:
        yield Bad("1", "empty_text")
    for number, cell in enumerate(cells, 1):
        title, body = TITLE.search(cell), BODY.search(cell)
        date = DATE.search(body[1]) if body else None
        of_gemini = title is not None and re.search(r"\b(?:Gemini|Bard)\b", title[1]) is not None
        asked = markup.text_of(body[1][: date.start()])[0].replace("\xa0", " ") if date and of_gemini else ""
        reply = markup.text_of(body[1][date.end() :])[0] if date else ""
        if not PROMPTED.match(asked) or not reply:
            yield Bad(f"#{number}", "empty_chat", markup.text_of(cell)[0][:200])
            continue
        turns = [{"role": "user", "content": PROMPTED.sub("", asked, count=1)}, {"role": "assistant", "content": reply}]
        yield Record(f"#{number}", {"messages": turns})


TAKEOUT_PAGE = Format("takeout_page", claims, read)
