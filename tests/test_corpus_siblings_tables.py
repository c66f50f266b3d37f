"""Tables as people's programs write them: other inputs of the kinds that were once read wrongly."""

import pytest

from tests.test_corpus_formats import made, said

PAIRS = [[("user", "q"), ("assistant", "a")], [("user", "q2"), ("assistant", "b")]]


@pytest.mark.parametrize(
    "table",
    [
        "sep=;\nвопрос;ответ\nq;a\nq2;b\n",
        "question,answer\nq,a,\nq2,b,,\n",
        "q,a\nq,a\nq2,b\n",
    ],
    ids=["told to Excel", "a delimiter at the end", "short names"],
)
def test_a_table_is_read_whatever_stands_around_it(tmp_path, table):
    card = made(tmp_path, "a.csv", table)
    assert (said(card), card["rows_set_aside"]) == (PAIRS, 0)


def test_quotes_behind_a_backslash_are_quotes(tmp_path):
    table = 'question,answer\n"q","он сказал \\"да\\" и ушёл"\n'
    assert said(made(tmp_path, "a.csv", table)) == [[("user", "q"), ("assistant", 'он сказал "да" и ушёл')]]


def test_the_only_column_of_words_is_the_text_of_a_table(tmp_path):
    comments = ["Отличный товар всем советую", "Плохо всё сломалось за день", "Нормально но могло быть лучше"]
    rows = "".join(f"{at},{words},2024-01-0{at}\n" for at, words in enumerate(comments, 1))
    assert said(made(tmp_path, "a.csv", f"id,comment,day\n{rows}")) == comments
    users = "".join(f"{at},ivan{at}@mail.ru,Иван Петров,2024-01-0{at}\n" for at in range(1, 5))
    with pytest.raises(Exception, match="columns"):
        made(tmp_path, "b.csv", f"id,email,who,day\n{users}")
