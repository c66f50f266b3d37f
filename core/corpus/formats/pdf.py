"""PDF with a text layer: lines joined into paragraphs again; a scan is set aside with its reason."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby

from core.corpus import contents, documents, wrapped_lines
from core.corpus.formats import pdf_lines, pdf_notes, pdf_titles
from core.corpus.formats.pdf_lines import CODE
from core.corpus.sources import Bad, Format, Record, Source

HEAD_PAGES = 0.05  # least share of the pages that have a running head; chapters and left pages have their own
# pdfium puts U+0002, and older versions U+FFFE, for a hyphen at the end of a line, most often without the line end.
_DIVIDED = re.compile(r"(\w+)(?:[\x02\u00ad]\n?|(?<=[а-яё])-\n(?=[а-яё]))(\w+)([^\s\x02\u00ad]*) ?")
REPEATS = 1.5  # pages, on average, on which a head of a chapter stands: the title of a chapter stands on one
NUMBERED_PAGES = 0.5  # least share of the pages whose outermost line has their number
CHAPTER_END = 0.8  # of the lines of a full page: one of fewer may be the last of its chapter
MOST_LOST = 0.05  # of the characters of a page
LONGEST_HEAD, LEAST_START = 120, 10  # characters of a head that names its section, and of its first words
NOTES = "\ue0fc"  # before the number of a page, in the place of its notes
TYPED = 0.6  # least share of lines in such a font of a text that is typed as a whole
FEWEST_LETTERS = 50  # a page of a scan has fewer


def claims(source: Source, head: bytes) -> bool:
    return b"%PDF-" in head[:1024]


def read(source: Source) -> Iterator[Record | Bad]:
    import pypdfium2  # noqa: PLC0415 - a library of 8 MB for one format

    with source.on_disk() as path:
        book = pypdfium2.PdfDocument(path)
        try:
            pages = [_page(book, number) for number in range(len(book))]
        finally:
            book.close()
    letters = sum(char.isalpha() for page in pages for line in page for char in line.text)
    if not pages or letters < FEWEST_LETTERS * min(len(pages), 20) / 2:
        yield Bad("", "no_text_layer")
        return
    pages, notes = _apart(pages)
    pages, heads = _without_heads(_with_ends(pages))
    lines, listed = contents.without_leaders(list(pdf_notes.placed(pages, notes, NOTES)))
    lines = fenced(whole_words("\n".join(lines)).split("\n"))
    if width := wrapped_lines.width(lines, wrapped_lines.PRINTED):
        paragraphs = wrapped_lines.joined(enumerate(lines, 1), width, tolerance=width // 4)
        lines = [text for _, text in paragraphs]
    elif width := wrapped_lines.width_of_manual(lines):
        lines = [
            text for _, text in wrapped_lines.joined(enumerate(lines, 1), width, 2 * wrapped_lines.TOLERANCE, 0.75)
        ]
    signs = {f"{NOTES}{number}": of for number, of in enumerate(notes)}
    lines = [words for line in lines for words in signs.get(line, [line])]
    dropped = ("running_head_dropped",) * heads + ("contents_dropped",) * listed
    yield from documents.records("\n".join(lines), dropped)


def _apart(pages: list[list[pdf_lines.Line]]) -> tuple[list[list[str]], list[list[str]]]:
    """The lines of each page without the notes at its foot, and the notes of each, one a line."""
    size, texts, notes = pdf_lines.text_size(pages), [], []
    for page in pdf_titles.marked(pages, size):
        last = notes[-1][-1:] if notes else []
        lines, below = pdf_notes.with_notes(page, size, any(not note.endswith(documents.ENDS) for note in last))
        texts.append(lines)
        notes.append([_whole(note) for note in below])
    return texts, notes


def _whole(note: str) -> str:
    """The lines of a note as one."""
    lines = whole_words(note).split("\n")
    text = lines[0]
    for line in lines[1:]:
        text = wrapped_lines.join(text, line.strip()) if line.strip() else text
    return text


def without_running_heads(pages: list[list[str]]) -> tuple[list[str], int]:
    """The lines of all pages without those that stand at the top or bottom of many, digits apart; and their number.

    Where a head names the section as well, its beginning or its end is that of many.
    """
    kept, dropped = _without_heads(pages)
    return [line for page in kept for line in page], dropped


def _without_heads(pages: list[list[str]]) -> tuple[list[list[str]], int]:
    counts = Counter(line for page in pages for line in {_head(page[at]) for at in _edges(page)})
    starts = Counter(start for page in pages for start in {_start(page[at]) for at in _edges(page)} if start)
    ends = Counter(end for page in pages for end in {_end(page[at]) for at in _edges(page)} if end)
    least = max(3, HEAD_PAGES * len(pages))
    kinds: dict[str, list[int]] = {}  # on how many pages each head stands that begins with the same word and a number
    for start, count in starts.items():
        kinds.setdefault(_kind(start), []).append(count)
    running = {kind for kind, of in kinds.items() if kind and sum(of) >= max(least, REPEATS * len(of))}
    numbered = _numbered(pages)
    kept: list[list[str]] = []
    dropped = 0
    for number, page in enumerate(pages):
        heads = {
            at
            for at in _edges(page)
            if not page[at].startswith(CODE)
            if max(counts[_head(page[at])], starts[_start(page[at])], ends[_end(page[at])]) >= least
            or _kind(_start(page[at])) in running
        }
        heads |= {at for at in _outermost(page, 2) if counts[_head(page[at])] >= least}  # of a short page as well
        heads |= {at for at in _outermost(page, 1) if (number, at) in numbered}
        kept.append([line for at, line in enumerate(page) if at not in heads])
        dropped += len(heads)
    return kept, dropped


def _numbered(pages: list[list[str]]) -> set[tuple[int, int]]:
    """(page, line) of the outermost lines that begin or end with the number of their page, whatever else they say.

    None where the words beside the number are others on each page: these are the headings of numbered slides.
    """
    found = [
        (int(digits) - number, number, at, re.sub(rf"^{digits}\b|\b{digits}$", "", page[at].strip()).strip())
        for number, page in enumerate(pages)
        for at in _outermost(page, 1)
        if not page[at].startswith("#")
        for digits in {*re.findall(r"^\d{1,4}(?=\s|$)|(?<=\s)\d{1,4}$", page[at].strip())}
    ]
    steps = Counter(step for step, *_ in found)
    first = max(steps, key=steps.get, default=0)  # the number of the first page
    heads = [(number, at, words) for step, number, at, words in found if step == first]
    others = {words for *_, words in heads if words}
    enough = len(heads) >= max(3, NUMBERED_PAGES * len(pages), REPEATS * len(others))
    return {(number, at) for number, at, _ in heads} if enough else set()


def _start(line: str) -> str:
    """The first words of a line that is in capitals or has a number in it, as heads of sections are."""
    return _some(line, _head(line).split()[:3])


def _end(line: str) -> str:
    """The last words of such a line."""
    words = _head(line).split()
    return _some(line, words[-3:]) if len(words) > 3 else ""


def _some(line: str, words: list[str]) -> str:
    is_head = len(line) < LONGEST_HEAD and (line.isupper() or re.search(r"\d", line) is not None)
    return " ".join(words) if is_head and len(words) == 3 and sum(map(len, words)) >= LEAST_START else ""


def _kind(start: str) -> str:
    """What a head in capitals has in common with those of other chapters, as "chapter #."; "" for none."""
    word = re.match(r"[^\W\d_]+ #\.?(?= )", start)
    return word[0] if word else ""


def _with_ends(pages: list[list[str]]) -> list[list[str]]:
    """The pages, with an empty line where a page ends before it is full and behind a whole sentence, as chapters do."""
    most = sorted(map(len, pages))[len(pages) * 3 // 4]
    return [
        [*page, ""] if len(page) < CHAPTER_END * most and page[-1].rstrip(" )]").endswith(documents.ENDS) else page
        for page in pages
    ]


def _edges(page: list[str]) -> set[int]:
    """Where running heads and page numbers stand: the outermost two lines; of a short page numbers alone."""
    if sum(bool(line.strip()) for line in page) > 4:
        return _outermost(page, 2)
    return {at for at in _outermost(page, 1) if page[at].strip().isdecimal()}


def _outermost(page: list[str], count: int) -> set[int]:
    """The places of so many lines at the top of a page, and at its foot."""
    filled = [at for at, line in enumerate(page) if line.strip()]
    return {*filled[:count], *filled[-count:]}


def _head(line: str) -> str:
    """A line as it is on every page; a heading is one only where its numbers are the same."""
    return line if line.startswith("#") else re.sub(r"\b[ivxlc]+\b|\d+", "#", line.strip().lower())


def whole_words(text: str) -> str:
    """The text with words whole that were divided at the ends of lines; one that is written with a hyphen keeps it."""
    counts = Counter(re.findall(r"\w+(?:-\w+)*", text.lower()))

    def joined(match: re.Match) -> str:
        one, other = match[1], match[2]
        whole, hyphened = counts[(one + other).lower()], counts[f"{one}-{other}".lower()]
        keeps = hyphened > whole if hyphened or whole else wrapped_lines.keeps_hyphen(one, other)
        return f"{one}{'-' * keeps}{other}{match[3]}\n"

    return _DIVIDED.sub(joined, text).replace("\x02", "").replace("\u00ad", "")


def fenced(lines: list[str]) -> list[str]:
    """The lines with those of code in fences; a single one is a line as all others are, and so is what is only typed."""
    filled, marked = sum(map(bool, lines)), sum(line.startswith(CODE) for line in lines)
    kept: list[str] = []
    for is_code, group in groupby(lines, lambda line: line.startswith(CODE)):
        block = [line.removeprefix(CODE) for line in group]
        if is_code and len(block) > 1 and marked < TYPED * filled:
            kept += ["```", *block, "```"]
        else:
            kept += map(str.lstrip, block) if is_code else block
    return kept


def _page(book, number: int) -> list[pdf_lines.Line]:
    page = book[number]
    try:
        text_page = page.get_textpage()
        text, places = _text(text_page), pdf_lines.places(text_page)
    finally:
        page.close()
    # pdfium gives no indent, but spaces of broken lines
    text = re.sub(r"^[ \u00a0]+", "", pdf_lines.cleaned(text), flags=re.MULTILINE)
    return pdf_lines.printed(text.split("\n"), places)


def _text(text_page) -> str:
    """The words within a page. Of some narrow columns pdfium loses the ends that way, but not when it gives all it has."""
    within, everything = text_page.get_text_bounded(), text_page.get_text_range()
    sizes = [len("".join(text.split())) for text in (within, everything)]
    few = sizes[0] < sizes[1] <= (1 + MOST_LOST) * sizes[0]  # more stands outside the page
    return everything if few and max(within, default="") <= "\uffff" else within


PDF = Format("pdf", claims, read)
