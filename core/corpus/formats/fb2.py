"""FictionBook 2, the usual format of Russian e-books: the words of its bodies, code line by line."""

import html
import re
from collections.abc import Iterator

from core.corpus import encodings
from core.corpus.formats.markup import of_page
from core.corpus.sources import Bad, Format, Record, Source

NUMBER = re.compile(r"<title>\s*<p>([\w*]{1,4})</p>\s*</title>\s*<p>")  # of a note
TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)
# Paragraphs that are code as a whole, bold or slanted perhaps, with empty lines between them.
_SLANT = r"(?:</?(?:strong|emphasis|span)\b[^>]*>\s*)*"
_WORDS = rf"(?:<code\b[^>]*/>|<code\b[^>]*>(?:(?!</code>|</p>).)*</code>)\s*{_SLANT}"
_LINE = rf"<p\b[^>]*>\s*{_SLANT}(?:{_WORDS})+</p>"
CODE = re.compile(rf"(?:{_LINE})(?:\s*(?:<empty-line\s*/>\s*|<p\s*/>\s*|<p>\s*</p>\s*)*(?:{_LINE}))*", re.DOTALL)
LINE = re.compile(r"<p\b[^>]*/>|<empty-line\s*/>|<p\b[^>]*>((?:(?!</p>).)*)</p>", re.DOTALL)
STYLE = re.compile(r"<(/?)style\b[^>]*>")  # of characters here, of a page in HTML


def read(source: Source) -> Iterator[Record | Bad]:
    """The documents of the bodies."""
    book = encodings.read_text(source, source.encoding)
    title = re.search(r"<book-title>(.*?)</book-title>", book, re.DOTALL)
    body = book[max(0, book.find("<body")) :]
    body = TITLE.sub(_heading, NUMBER.sub(r"<p>[\1] ", STYLE.sub(r"<\1span>", body)))
    for record in of_page(CODE.sub(_code, body), "1"):
        if isinstance(record, Record) and title:
            record.value["title"] = html.unescape(title[1]).strip()[:200]
        yield record


def _heading(title: re.Match) -> str:
    """A heading in the place of a title, whose lines are paragraphs."""
    lines = re.findall(r"<p\b[^>]*>(.*?)</p>", title[1], re.DOTALL) or [title[1]]
    return f"<h2>{'. '.join(line.strip() for line in lines)}</h2>"


def _code(paragraphs: re.Match) -> str:
    """Paragraphs of code as the lines of one block; one line stays a paragraph."""
    lines = "\n".join(re.sub(rf"<code\s*/>|^\s*{_SLANT}(?=<)|\s+$", "", line) for line in LINE.findall(paragraphs[0]))
    lines = re.sub("&#160;|&nbsp;|\u00a0", " ", lines)  # a step of code
    return f'<pre class="code">{lines}</pre>' if "\n" in lines else paragraphs[0]


FB2 = Format("fb2", lambda source, head: "<FictionBook" in head, read)
