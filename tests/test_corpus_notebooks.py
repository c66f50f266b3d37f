"""Notebooks of Jupyter become documents of words and code."""

import json

import pytest

from core.corpus import corpus
from tests.test_corpus_formats import made, said

WORDS = {"cell_type": "markdown", "source": ["# Маяк\n", "\n", "Смотрим ![a](attachment:a.png) **на** огонь."]}
CODE = {
    **{"cell_type": "code", "source": ["import math\n", "print('''\n", "```\n", "''')"]},
    "outputs": [
        {"output_type": "stream", "text": ["```\n"]},
        {"output_type": "display_data", "data": {"image/png": "iVBOR"}},
    ],
}
NEW = {"cells": [WORDS, CODE, {"cell_type": "raw", "source": "как есть"}, {"cell_type": "code", "source": []}]}
NEW |= {"metadata": {"kernelspec": {"language": "python", "name": "python3"}}, "nbformat": 4, "nbformat_minor": 5}
OLD_CODE = {**CODE, "input": CODE["source"], "language": "python"}
del OLD_CODE["source"]
OLD = {
    "worksheets": [
        {
            "cells": [
                {"cell_type": "heading", "level": 1, "source": "Маяк"},
                WORDS | {"source": WORDS["source"][2:]},
                OLD_CODE,
            ]
        }
    ],
    "nbformat": 3,
}
TEXT = "# Маяк\n\nСмотрим  **на** огонь.\n\n````python\nimport math\nprint('''\n```\n''')\n````"


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(("book", "text"), [(NEW, f"{TEXT}\n\nкак есть"), (OLD, TEXT)], ids=["new", "old"])
def test_a_notebook_is_its_words_and_its_code_without_what_it_printed(tmp_path, book, text, indent):
    card = made(tmp_path, "a.ipynb", json.dumps(book, indent=indent))
    assert (said(card), card["formats"]) == ([text], {"notebook": 1})
    assert card["repairs"] == {"outputs_dropped": 2, "media_dropped": 1}


@pytest.mark.parametrize(
    ("data", "reason"),
    [(json.dumps(NEW)[:300], "bad_json"), ('{"cells": [], "nbformat": 4}', "empty_text"), ('{"cells": 5}', "bad_json")],
)
def test_a_notebook_without_words_says_why(tmp_path, data, reason):
    (tmp_path / "b.txt").write_text("да", "utf-8")
    (tmp_path / "a.ipynb").write_text(data, "utf-8")
    card = corpus.create([tmp_path / "a.ipynb", tmp_path / "b.txt"], "a")
    assert card["reasons"] == {reason: 1}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("book", [NEW, OLD], ids=["new", "old"])
def test_of_a_notebook_that_is_cut_off_the_cells_before_the_cut_are_kept(tmp_path, book, indent):
    whole = json.dumps(book, indent=indent, ensure_ascii=False)
    card = made(tmp_path, "a.ipynb", whole[: whole.index("import math")])
    kept = "Смотрим  **на** огонь."
    assert (said(card), card["reasons"]) == ([f"# Маяк\n\n{kept}"], {"bad_json": 1})
    assert "import" not in corpus.set_aside(card["id"])[0]["excerpt"]
    assert '"code"' in corpus.set_aside(card["id"])[0]["excerpt"]
    half = whole.replace("огонь", "огонь\\ud83d", 1)
    card = made(tmp_path, "c.ipynb", half[: half.index("import math")])
    assert (said(card), card["repairs"]["lone_surrogate"]) == ([f"# Маяк\n\n{kept[:-1]}\ufffd."], 1)
    garbled = whole.replace('"cell_type": "code"', '"cell_type": "code', 1)
    assert said(made(tmp_path, "b.ipynb", garbled)) == [f"# Маяк\n\n{kept}"]
