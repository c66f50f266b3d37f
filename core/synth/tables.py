"""Compact ways to write alternatives: a line for each, or a table of records.

    thing: |
      = word | adj | does | at=on the {floor}
      kettle | dented, blue | whistle, cool | on the stove, by the door
      rope | wet, short | swing

The first line of a table names its fields; a cell holds alternatives parted by commas; a field that a line leaves out
takes what follows `=` in the first line.
"""


def alternatives(written) -> list:
    """The alternatives of a rule, however they were written."""
    if isinstance(written, str) and "\n" in written.strip():
        lines = [line.strip() for line in written.split("\n") if line.strip()]
        return _records(lines) if lines[0].startswith("= ") else lines
    if isinstance(written, str | dict | int | float):
        return [written]
    return written


def _records(lines: list[str]) -> list[dict]:
    head = [part.strip() for part in lines[0][1:].split("|")]
    fields = [part.partition("=") for part in head]
    found = []
    for line in lines[1:]:
        cells = [cell.strip() for cell in _cells(line)]
        cells += [""] * (len(fields) - len(cells))
        record = {name.strip(): _said(cell or default) for (name, _, default), cell in zip(fields, cells, strict=False)}
        found.append({name: said for name, said in record.items() if said})
    return found


def _cells(line: str) -> list[str]:
    """The cells of a line: a bar within braces belongs to a slot."""
    cells, depth = [""], 0
    for char in line:
        depth += (char == "{") - (char == "}")
        if char == "|" and not depth:
            cells.append("")
        else:
            cells[-1] += char
    return cells


def _said(cell: str) -> list[str]:
    return [one.strip() for one in cell.split(",") if one.strip()]
