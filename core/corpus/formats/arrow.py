"""Arrow and Parquet tables, a batch of rows at a time; `datasets` keeps Arrow in its save_to_disk folders."""

from collections.abc import Iterator

from core.corpus.sources import Bad, Format, Record, Source

BATCH = 1000  # rows of Parquet


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
        number = 0
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
            for row in batch.to_pylist():
                number += 1
                yield Record(f"#{number}", plain(row))


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
