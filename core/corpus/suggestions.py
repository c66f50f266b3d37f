"""Which choices of columns would make rows of records whose columns are not known."""

from collections import Counter
from collections.abc import Iterator

from core.corpus import schema

MOST = 3  # suggestions
MOST_COLUMNS = 8  # that are tried


def of(values: list, roles: dict) -> list[dict]:
    """[{"mapping", "rows"}]: the mappings that would make most rows of these records, the likeliest first."""
    records = [value for value in values if isinstance(value, dict)]
    counted = [{"mapping": mapping, "rows": _rows(records, mapping, roles)} for mapping in _mappings(records)]
    likely = [one for one in counted if one["rows"]]
    return sorted(likely, key=lambda one: -one["rows"])[:MOST]


def _rows(records: list[dict], mapping: dict, roles: dict) -> int:
    count = 0
    for record in records:
        try:
            schema.convert(record, mapping, roles)
            count += 1
        except schema.Unfit as unfit:  # an unknown role is asked about next
            count += unfit.reason == "unknown_role"
        except RecursionError:
            continue
    return count


def _is_talk(value: list) -> bool:
    """Whether a list of texts may be questions and answers in turn."""
    return len(value) > 1 and all(isinstance(said, str) and said.strip() for said in value)


def _mappings(records: list[dict]) -> Iterator[dict]:
    """Lists as chats, then the two longest columns of text as a pair, then the longest one as a text."""
    lists, letters, words = Counter(), Counter(), Counter()
    for record in records:
        for key, value in record.items():
            if isinstance(value, list) and value and (isinstance(value[0], dict) or _is_talk(value)):
                lists[key] += 1
            elif isinstance(value, str) and key not in schema.OURS:
                letters[key] += len(value)
                words[key] += " " in value.strip()
    for key, _ in lists.most_common(MOST_COLUMNS):
        yield {"schema": "messages", "messages": key}
    texts = [key for key, _ in letters.most_common(MOST_COLUMNS) if words[key] * 2 >= len(records)]
    if len(texts) > 1:
        ask, answer = sorted(texts[:2], key=list(records[0]).index) if set(texts[:2]) <= set(records[0]) else texts[:2]
        yield {"schema": "pair", "ask": [ask], "answer": answer}
    for key in texts[:1] or [key for key, _ in letters.most_common(1)]:
        yield {"schema": "text", "text": key}
