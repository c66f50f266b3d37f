"""A corpus written out in the formats of others: whole or not at all, with a dataset card beside it."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import orjson
import zstandard

from core import errors, files
from core.corpus import documents, importer, storage, turns

FORMATS = {
    "jsonl": ".jsonl", "jsonl.zst": ".jsonl.zst", "parquet": ".parquet", "messages": ".jsonl",
    "sharegpt": ".jsonl", "alpaca": ".jsonl", "preference": ".jsonl", "text": ".txt",
}  # fmt: skip
BATCH = 2000  # rows of a Parquet row group
SHAREGPT = {"user": "human", "assistant": "gpt", "system": "system", "tool": "tool"}


def export(directory: Path, form: str, out: Path) -> dict:
    """Write a corpus to a file and return {"path", "rows", "bytes"}; a dataset card stands beside it as NAME.md.

    Raises:
        RowsDoNotFit: when a row has a shape that the format cannot hold; nothing is written then.
    """
    if form not in FORMATS:
        raise errors.named("FormatUnknown", format=form, known=", ".join(FORMATS))
    if out.exists():
        raise errors.named("FileExists", path=out)
    importer.make_place(out.parent)
    _check(directory, form)
    with files.replaced(out) as file:
        _write(directory, file, form)
    card = storage.read_card(directory)
    out.with_name(out.name + ".md").write_text(dataset_card(card, form, out.name), encoding="utf-8")
    return {"path": str(out), "rows": card["rows"], "bytes": out.stat().st_size, "format": form}


def dataset_card(card: dict, form: str, file: str) -> str:
    """A README of the exported file: where its rows came from and what was done to them."""
    lines = [f"# {card['name']}", "", f"`{file}`: {card['rows']} rows, written by Soulsmith as {form}.", ""]
    facts = {
        "Kind": card.get("kind"), "Characters": card.get("characters"), "Exact copies": card.get("duplicates"),
        "Records read": card.get("rows_in"), "Set aside": card.get("rows_set_aside"),
        "Content hash": card.get("content_hash"), "Made": card.get("created"), "Cleaned from": card.get("parent"),
    }  # fmt: skip
    lines += [f"- {name}: {value}" for name, value in facts.items() if value not in (None, "")]
    for name in ("reasons", "repairs", "left_out", "rules"):
        if card.get(name):
            lines += ["", f"{name.replace('_', ' ').capitalize()}: {json.dumps(card[name], ensure_ascii=False)}"]
    lines += ["", "## Sources", ""]
    for file in card.get("sources", [])[:200]:
        licence = f", licence: {file['licence']}" if file.get("licence") else ""
        lines.append(f"- {file['file']} ({file['format']}, {file['rows']} rows{licence})")
    return "\n".join([*lines, "", "Licence: that of the sources; fill it in before you pass the file on.", ""])


def _check(directory: Path, form: str) -> None:
    if form in ("jsonl", "jsonl.zst", "parquet"):
        return
    misfits = [(at, why) for at, row in enumerate(storage.all_rows(directory), 1) if (why := _misfit(row, form))]
    if not misfits and form == "text" and _separator(directory) is None:
        misfits = [(1, "every separator stands in some text")]
    if misfits:
        raise errors.named("RowsDoNotFit", count=len(misfits), format=form, row=misfits[0][0], why=misfits[0][1])


def _misfit(row: dict, form: str) -> str:
    """Why a row does not fit a format, "" for one that does."""
    if form == "text" and "text" not in row:
        return "it is a chat"
    if form == "text":
        return "it has carriage returns" if "\r" in row["text"] else ""
    if "text" in row:
        return "it is a text"
    if (form == "preference") != ("chosen" in row):
        return "it is a preference pair" if "chosen" in row else "it is a chat"
    if form in ("sharegpt", "alpaca") and any(turn.get("weight") == 0 for turn in row["messages"]):
        return "it has a reply that is not to be learned"
    roles = [turn["role"] for turn in row["messages"]]
    roles = roles[1:] if roles[0] == "system" else roles
    if form == "alpaca" and (len(roles) % 2 or roles != ["user", "assistant"] * (len(roles) // 2)):
        return "its turns are not questions with answers"
    return ""


def _separator(directory: Path) -> str | None:
    taken = set()
    for row in storage.all_rows(directory):
        lines = {line.strip(" \r") for line in row.get("text", "").split("\n")}
        taken.update(mark for mark in documents.SEPARATORS if mark in lines)
    return next((mark for mark in reversed(documents.SEPARATORS) if mark not in taken), None)


def _shaped(row: dict, form: str) -> dict:
    if form in ("jsonl", "jsonl.zst"):
        return row
    messages = row["messages"]
    if form == "messages":
        return {name: row[name] for name in ("messages", "label") if name in row}
    if form == "preference":  # https://huggingface.co/docs/trl/dataset_formats#preference
        return {"prompt": messages, "chosen": row["chosen"], "rejected": row["rejected"]}
    if form == "sharegpt":
        return {"conversations": [{"from": SHAREGPT[t["role"]], "value": t["content"]} for t in messages]}
    system = [turn["content"] for turn in messages[:1] if turn["role"] == "system"]
    contents = [turn["content"] for turn in messages[len(system) :]]
    history = [list(pair) for pair in zip(contents[:-2:2], contents[1:-2:2], strict=True)]
    return (
        {"instruction": contents[-2], "input": "", "output": contents[-1]}
        | ({"system": system[0]} if system else {})
        | ({"history": history} if history else {})
    )


def _lines(directory: Path, form: str) -> Iterator[bytes]:
    """The corpus line by line, in every format but Parquet."""
    if form == "text":
        end = _separator(directory).encode() + b"\n"
        yield end  # at the very beginning it tells the reader what the file is
        for row in storage.all_rows(directory):
            yield row["text"].encode() + b"\n" + end
    else:
        for row in storage.all_rows(directory):
            yield orjson.dumps(_shaped(row, form)) + b"\n"


def _write(directory: Path, file: BinaryIO, form: str) -> None:
    if form == "parquet":
        _write_parquet(directory, file)
    elif form == "jsonl.zst":
        with zstandard.ZstdCompressor(level=9).stream_writer(file, closefd=False) as out:
            for line in _lines(directory, form):
                out.write(line)
    else:
        file.writelines(_lines(directory, form))


def _write_parquet(directory: Path, file: BinaryIO) -> None:
    import pyarrow as pa  # noqa: PLC0415 - pyarrow takes half a second
    import pyarrow.parquet as pq  # noqa: PLC0415 - pyarrow takes half a second

    weighted = any(turn.get("weight") == 0 for row in storage.all_rows(directory) for turn in row.get("messages", ()))
    weight = [("weight", pa.int8())] if weighted else []
    turn = pa.struct([("role", pa.string()), ("content", pa.string()), *weight])
    pairs = turns.LISTS[1:] if storage.read_card(directory).get("kind") in ("preference", "mixed") else ()
    label = ("label",) * any("label" in row for row in storage.all_rows(directory))
    names = ("id", "text", "messages", *pairs, *label, "lang", "cluster", "source", "fields")
    types = dict.fromkeys(turns.LISTS, pa.list_(turn)) | {"label": pa.bool_()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in names])

    def flat(row: dict) -> dict:
        packed = {key: orjson.dumps(row[key]).decode() for key in ("source", "fields") if key in row}
        return {name: row.get(name) for name in names} | packed

    rows = map(flat, storage.all_rows(directory))
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while batch := list(islice(rows, BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema))
