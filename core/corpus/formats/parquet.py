"""Parquet tables, a batch of rows at a time."""

from collections.abc import Iterator

from core.corpus.sources import Bad, Record, Source

NAME = "parquet"
BATCH = 1000  # rows


def claims(source: Source, head: bytes) -> bool:
    return head.startswith(b"PAR1")


def read(source: Source) -> Iterator[Record | Bad]:
    import pyarrow.parquet

    with source.on_disk() as path, pyarrow.parquet.ParquetFile(path) as table:
        yield from of_batches(table.iter_batches(batch_size=BATCH))


def of_batches(batches) -> Iterator[Record | Bad]:
    """The rows of Arrow batches as dictionaries; dates and the like as their text."""
    number = 0
    for batch in batches:
        batch.validate(full=True)  # damaged offsets would end the process, not raise
        for row in batch.to_pylist():
            number += 1
            yield Record(f"#{number}", {key: plain(value) for key, value in row.items()})


def plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
