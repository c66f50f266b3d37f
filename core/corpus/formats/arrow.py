"""Arrow and Parquet tables, a batch of rows at a time; `datasets` keeps Arrow in its save_to_disk folders."""

from collections.abc import Iterator

from core.corpus.sources import Bad, Format, Record, Source, most_unpacked

BATCH = 1000  # rows of Parquet
ROW_BYTES = 16  # that a row takes beside its texts


def read(source: Source) -> Iterator[Record | Bad]:
    import pyarrow.parquet  # noqa: PLC0415 - pyarrow takes half a second

    with source.on_disk() as path, pyarrow.OSFile(str(path)) as file:
        head = source.head(6)
        if head.startswith(b"PAR1"):
            if not _has_footer(file):
                yield Bad("", "parquet_cut")
                return
            batches = pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=BATCH)
        else:
            file.seek(8 if head == b"ARROW1" else 0)  # a file is a stream with a table of contents behind it
            batches = pyarrow.ipc.open_stream(file)
        number, left = 0, most_unpacked(source.size)
        while True:
            try:
                batch = next(batches, None)
            except (pyarrow.ArrowInvalid, OSError):
                if file.tell() < file.size():
                    raise
                yield Bad("", "file_cut")
                return
            if batch is None:
                return
            batch.validate(full=True)  # damaged offsets would end the process, not raise
            rows = batch.to_pylist()
            left -= _bytes(batch, rows)
            if left < 0:  # a column of equal values takes no bytes, however many rows there are
                yield Bad(f"#{number + 1}", "packed_too_much")
                return
            for row in rows:
                number += 1
                yield Record(f"#{number}", plain(row))


def _bytes(batch, rows: list[dict]) -> int:
    """What the rows of a batch amount to, unpacked; columns of numbers are not counted."""
    from pyarrow import types  # noqa: PLC0415 - pyarrow takes half a second

    if "dictionary<" in str(batch.schema):  # whose texts are there once
        return sum(len(str(row)) for row in rows)
    return ROW_BYTES * len(rows) + sum(column.nbytes for column in batch.columns if not types.is_primitive(column.type))


def _has_footer(file) -> bool:
    file.seek(max(0, file.size() - 4))
    return file.read(4) == b"PAR1"


def plain(value: object) -> object:
    """Dates and the like as their text."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def _is_arrow(source: Source, head: bytes) -> bool:
    return head.startswith(b"ARROW1") or (head[:4] == b"\xff\xff\xff\xff" and len(head) > 8)


PARQUET = Format("parquet", lambda source, head: head.startswith(b"PAR1"), read)
ARROW = Format("arrow", _is_arrow, read)
