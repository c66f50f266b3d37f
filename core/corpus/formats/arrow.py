"""Arrow files and streams, as `datasets` keeps them in its save_to_disk folders."""

from collections.abc import Iterator

from core.corpus.formats import parquet
from core.corpus.sources import Bad, Record, Source

NAME = "arrow"


def claims(source: Source, head: bytes) -> bool:
    return head.startswith(b"ARROW1") or (head[:4] == b"\xff\xff\xff\xff" and len(head) > 8)


def read(source: Source) -> Iterator[Record | Bad]:
    import pyarrow

    with source.on_disk() as path, pyarrow.OSFile(str(path)) as file:
        if source.head(6) == b"ARROW1":
            table = pyarrow.ipc.open_file(file)
            batches = (table.get_batch(index) for index in range(table.num_record_batches))
        else:
            batches = pyarrow.ipc.open_stream(file)
        yield from parquet.of_batches(batches)
