"""The words of HTML-like markup, paragraph by paragraph; damaged markup is read as far as it makes sense."""

import re
from html.parser import HTMLParser


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


BLOCKS = _names(
    "p div section article body li ul ol dl dt dd table tr blockquote pre h1 h2 h3 h4 h5 h6 title header footer "
    "figure figcaption main aside form fieldset hr br v stanza poem subtitle epigraph text-author cite"
)
SKIPPED = _names("script style head nav noscript template svg binary iframe button select description")
VOID = _names("br hr img input meta link area base col embed source track wbr image")
HEADINGS = {f"h{level}": level for level in range(1, 7)}


class _Words(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.skipped: list[str] = []
        self.pre = 0
        self.title = ""
        self.in_title = False

    def handle_starttag(self, tag, attrs):
        tag = tag.rpartition(":")[2]
        if tag == "title" and not self.title and (not self.skipped or self.skipped == ["head"]):
            self.in_title = True
        if tag in SKIPPED and tag not in VOID:
            self.skipped.append(tag)
        if self.skipped:
            return
        if tag in HEADINGS:
            self.parts.append("\n\n" + "#" * HEADINGS[tag] + " ")
        elif tag == "li":
            self.parts.append("\n- ")
        elif tag == "br":
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")
        elif tag in BLOCKS:
            self.parts.append("\n\n")
        if tag == "pre":
            self.pre += 1

    def handle_endtag(self, tag):
        tag = tag.rpartition(":")[2]
        if tag == "title":
            self.in_title = False
        if tag == "body":
            self.skipped.clear()
        if tag in self.skipped:
            while self.skipped.pop() != tag:
                pass
            return
        if not self.skipped and tag in BLOCKS:
            self.parts.append("\n" if tag in ("li", "tr", "br") else "\n\n")
        if tag == "pre" and self.pre:
            self.pre -= 1

    def handle_data(self, data):
        if self.in_title:
            self.title += data
        if not self.skipped:
            self.parts.append(data if self.pre else re.sub(r"[ \t\r\n\f]+", " ", data))


def text_of(markup: str) -> tuple[str, str]:
    """(text, title): paragraphs apart by a blank line, headings marked as in Markdown, list items by a hyphen."""
    words = _Words()
    words.feed(markup)
    words.close()
    text = "".join(words.parts).replace("\u00ad", "")
    text = re.sub(r"[ \t]+\n", "\n", text)
    text = re.sub(r"\n[ \t]+(?=\S)", "\n", text) if "<pre" not in markup else text
    text = re.sub(r"\n- \s*", "\n- ", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip(), " ".join(words.title.split())


def text_of_xml(markup: str, paragraph: str, run: str) -> str:
    """The runs of text inside the paragraphs of an office document."""
    paragraphs = re.split(rf"</{paragraph}\s*>", markup)
    lines = []
    for part in paragraphs:
        part = re.sub(r"<w:tab\s*/>", "\t", part)
        part = re.sub(r"<w:(?:br|cr)\b[^>]*/>", f"<{run}>\n</{run}>", part)
        lines.append("".join(re.findall(rf"<{run}(?:\s[^>]*)?>(.*?)</{run}>", part, re.DOTALL)))
    import html

    return html.unescape("\n\n".join(line for line in lines if line.strip()))
