"""A data set of the Hugging Face hub by its id, read as it streams in; its licence goes onto the corpus card."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from core.corpus.formats import turn_rows
from core.corpus.formats.arrow import plain
from core.corpus.formats.detection import Opened
from core.corpus.sources import Bad, Record, Source
from core.errors import UserError, named

ADDRESS = re.compile(
    r"(?:https?:/+huggingface\.co/datasets/|hf:/+(?:datasets/)?)?"
    r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*?)/?(?::(?P<config>[\w.+-]+))?(?:@(?P<split>[\w.-]+))?"
)
A_FILE = re.compile(
    r"\.(?:jsonl?|ndjson|csv|tsv|txt|md|html?|parquet|arrow|zip|gz|zst|pdf|epub|fb2|docx|xlsx|odt|rtf)$"
)
SPLIT = "train"
RETRIES = 2  # of a broken connection, beside those of each request
CONFIGS = re.compile(r"available configs: (\[.*?\])", re.DOTALL)


class Place(NamedTuple):
    """A data set of the hub: owner/name, and where it has several its config and split."""

    id: str
    config: str | None
    split: str | None


def place(text: str) -> Place | None:
    """What "owner/name:config@split" or an address of the hub names; None for the name of a file."""
    found = ADDRESS.fullmatch(text.strip().replace("\\", "/"))
    return None if found is None or A_FILE.search(text.lower()) else Place(*found.group("id", "config", "split"))


def opened(where: Place, most_rows: int) -> Opened:
    """A data set as a source of which the first rows are read, 0: all; `about` says its licence.

    Raises:
        HubOffline, HubDataSetUnknown, HubConfigMissing, DataSetRefused: see their sentences.
    """
    import datasets  # noqa: PLC0415 - seconds

    # Twenty times half a minute are the default: what came before the connection broke would wait for a quarter of an hour.
    datasets.config.STREAMING_READ_MAX_RETRIES = RETRIES
    try:
        found = datasets.load_dataset(where.id, where.config, split=where.split, streaming=True)
    except Exception as error:  # the classes of four libraries
        raise _trouble(where, error) from error
    split = where.split
    if isinstance(found, dict):
        split = SPLIT if SPLIT in found else next(iter(found))
        found = found[split]
    if getattr(found, "features", None):
        found = found.decode(False)  # pictures and sounds stay bytes
    name = where.id + (f":{where.config}" if where.config else "") + f"@{split}"
    about = {"licence": _licence(where.id, found), "most_rows": most_rows}
    records = turn_rows.joined(_records(found, most_rows))
    return Opened(Source(name, lambda: None), "hub", "", records, about)


def _records(rows, most_rows: int) -> Iterator[Record | Bad]:
    number = 0
    try:
        for number, row in enumerate(islice(rows, most_rows or None), 1):
            yield Record(f"#{number}", plain(row))
    except Exception as error:  # what came before the connection broke is kept
        yield Bad(f"#{number + 1}", "stream_broke", f"{type(error).__name__}: {error}"[:200])


def _licence(id: str, found) -> str:
    """The licence as the hub's page of the data set has it, "" where it says none."""
    info = getattr(found, "info", None)
    if licence := getattr(info, "license", None):
        return str(licence)
    import huggingface_hub  # noqa: PLC0415 - seconds

    try:
        card = huggingface_hub.dataset_info(id).card_data
    except Exception:  # a data set in the cache needs no connection
        return ""
    licence = (card or {}).get("license") or ""
    return ", ".join(map(str, licence)) if isinstance(licence, list) else str(licence)


def _trouble(where: Place, error: Exception) -> UserError:
    kind, said = type(error).__name__, str(error).strip()
    # The hub answers 401 to who asks without a token for what is closed or is not there.
    if kind == "DatasetNotFoundError" or getattr(getattr(error, "response", None), "status_code", 0) in (401, 403, 404):
        return named("HubDataSetUnknown", id=where.id)
    if isinstance(error, (ConnectionError, TimeoutError)) or re.search(r"Connect|Timeout|Offline", kind):
        return named("HubOffline", id=where.id)
    if configs := CONFIGS.search(said):
        return named("HubConfigMissing", id=where.id, configs=", ".join(re.findall(r"'([^']+)'", configs[1])))
    return named("DataSetRefused", id=where.id, reason=f"{kind}: {said.partition(chr(10))[0]}"[:300])
