"""What a JSON object is: one row, one turn of a chat, or a container of rows."""

from core.corpus.formats import chatgpt, claude, telegram

BOXES = ("data", "rows", "examples", "train", "items", "records", "conversations", "dialogs", "chats")
EXPORTS = (chatgpt, claude, telegram)


def is_box(value: dict) -> bool:
    """Whether an object holds rows rather than being one."""
    return any(export.is_export(value) for export in EXPORTS) or boxed_rows(value) is not None or is_table(value)


def boxed_rows(value: dict) -> list | None:
    for box in BOXES:
        rows = value.get(box)
        if isinstance(rows, list) and rows and isinstance(rows[0], dict) and not is_turn(rows[0]):
            return rows
    return None


def is_table(value: dict) -> bool:
    """Columns instead of rows: lists of one length under two names or more."""
    lists = [cells for cells in value.values() if isinstance(cells, list)]
    return len(value) == len(lists) > 1 and len({len(cells) for cells in lists}) == 1 and "role" not in value


def is_turn(value: dict) -> bool:
    return ("role" in value and "content" in value) or ("from" in value and "value" in value)
