"""Notes at the foot of printed pages, and digits above the line."""

import re

import pytest

from core.corpus.formats import pdf_lines, pdf_notes
from tests.test_corpus_formats import made, said
from tests.test_corpus_siblings_tables import printed

PAGE_LINES = [
    "The keeper climbed the stairs at dusk and lit the lamp with care,",
    "while the wind brought the noise of the waves and a cry of gulls",
]
NOTE = ["So they called whoever kept the lamp of a lighthouse in those days,", "and the word is no longer in use."]


def drawn(lines, mark="1", mark_at=None, note=NOTE, number="7"):
    """Lines of a page in ten points, with a raised mark behind one of them, and a note in seven points at its foot."""
    page = []
    for at, words in enumerate(lines):
        page.append((1, 40, 560 - 13 * at, words))
        if at == mark_at:
            page.append((1, 330, 563.5 - 13 * at, mark, 5))
    for at, words in enumerate(note if mark_at is not None else ()):
        page += [(1, 40, 63, mark, 4)] if not at else []
        page.append((1, 44 + 2 * len(mark), 60 - 9 * at, words, 7))
    return [*page, (1, 200, 30, number)]


@pytest.mark.parametrize(("mark", "shown"), [("1", "[1]"), ("12", "[12]"), ("*", "*")])
def test_a_note_at_the_foot_of_a_page_stands_behind_the_sentence_that_runs_over_it(tmp_path, mark, shown):
    first = PAGE_LINES * 8
    second = [
        "and went to bed.",
        *[f"Then came the day number {word} and nothing else." for word in ("one", "two", "three")],
    ]
    pages = [drawn(first, mark, 3), drawn(second * 3, number="8"), drawn(second * 3, number="9")]
    text = "\n".join(said(made(tmp_path, "a.pdf", printed(pages))))
    plain = re.sub(r"\s+", " ", text)
    whole = f"{' '.join(NOTE)}"
    assert f"{PAGE_LINES[1]} and went to bed." in plain
    assert f"\n{shown} {whole}\n" in text
    assert len(re.findall(rf"gulls ?{re.escape(shown)}", plain)) == 1


def test_the_next_page_may_go_on_with_a_note(tmp_path):
    rest = ["which was long and went over to the next page, where it had one", "more line and came to its end."]
    first, second = drawn(PAGE_LINES * 8, "1", 3, [NOTE[0]]), drawn(["The end was near. So it was."] * 9, number="8")
    second += [(1, 44, 60 - 9 * at, words, 7) for at, words in enumerate(rest)]
    text = "\n".join(said(made(tmp_path, "a.pdf", printed([first, second, drawn(PAGE_LINES * 5, number="9")]))))
    assert f"[1] {NOTE[0]}\n\n" in text
    assert f"\n{' '.join(rest)}\n" in text


def test_small_print_to_which_nothing_refers_stays_where_it_is(tmp_path):
    table = [(1, 40, 60 - 9 * at, f"{at + 1} CARD{at} of the header of the file", 7) for at in range(3)]
    pages = [[*drawn([*PAGE_LINES * 8, "So it was."], number=str(at)), *table] for at in (7, 8, 9)]
    text = "\n".join(said(made(tmp_path, "a.pdf", printed(pages))))
    assert text.count("1 CARD0 of the header of the file") == 3
    assert "[1]" not in text


def test_digits_above_and_below_the_line_are_no_numbers_of_it(tmp_path):
    at = 560 - 13 * 12
    words = [
        (1, 40, at, "It was 10"),
        (1, 80, at + 3.5, "6", 5),
        (1, 85.5, at, "metres of H"),
        (1, 139, at - 2, "2", 5),
    ]
    page = drawn(PAGE_LINES * 6)
    page[-1:] = [*words, (1, 140.2, at, "O wide."), page[-1]]
    text = said(made(tmp_path, "a.pdf", printed([page])))[0]
    assert "It was 10⁶ metres of H₂O wide." in text


def test_lines_that_only_begin_in_a_typewriter_font_are_no_code(tmp_path):
    page = drawn(PAGE_LINES * 4)
    for at, rest in (
        (8, "and what the keeper wrote of it that night with"),
        (9, "and the oil that was left of it by the end of May."),
    ):
        page[-1:] = [(2, 40, 560 - 13 * at, "lamp_oil"), (1, 92, 560 - 13 * at, rest), page[-1]]
    text = said(made(tmp_path, "a.pdf", printed([page, drawn(PAGE_LINES * 4, number="8")])))[0]
    assert "```" not in text
    assert "that night with lamp_oil and the oil" in text


def test_notes_whose_font_has_small_digits_are_notes():
    """What is told of such a number may be a sign, a digit of full size, or one of each: 3, ⁴, 1⁸."""
    lines = [
        pdf_lines.Line(text, size=10)
        for text in ("It was in the tower 3. Above", "the sea⁴ and below the rocks1⁸, long.")
    ]
    notes = ["3Built by hand, and", "2 times as high.", "⁴Cold.", "1⁸The eighteenth."]
    page = [*lines, *[pdf_lines.Line(text, size=8) for text in notes[:3]]]
    texts, found = pdf_notes.with_notes(page, 10, goes_on=False)
    assert texts == ["It was in the tower [3]. Above", "the sea [4] and below the rocks1⁸, long."]
    assert found == ["[3] Built by hand, and\n2 times as high.", "[4] Cold."]
    texts, found = pdf_notes.with_notes([*lines, pdf_lines.Line(notes[3], size=8)], 10, goes_on=False)
    assert (texts[1], found) == ("the sea⁴ and below the rocks [18], long.", ["[18] The eighteenth."])


@pytest.mark.parametrize("line", ["Then 6.2 of them went down.", "It was 1,2 metres.", "### 6. 2 The oil"])
def test_a_part_of_a_number_or_of_a_heading_refers_to_no_note(line):
    page = [pdf_lines.Line(line, size=10), pdf_lines.Line("It was kept below.", size=10)]
    notes = [pdf_lines.Line("2Смотрите ниже.", size=8)]
    assert pdf_notes.with_notes([*page, *notes], 10, goes_on=True)[0][0] == line


def test_the_notes_of_a_page_stand_before_a_heading_that_begins_the_next_one():
    pages = [
        ["The keeper climbed the stairs [1] at dusk and lit the lamp."],
        ["## The oil", "It was kept below.", "So it was."],
    ]
    assert list(pdf_notes.placed(pages, [["[1] Of stone."], []], "N"))[1:4] == ["", "N0", ""]
