"""Where bytes come from: a file, a packed file, a folder (archives.py: a member of one); and what is read out of them."""

import bz2
import codecs
import io
import lzma
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard

MOST_UNPACKED = 64 * 2**30  # bytes of one packed file
BOMB_RATIO = 400  # unpacked by packed; JSON of a template corpus reaches 60
BOMB_FREE = 64 * 2**20  # bytes that may come out whatever the ratio
CHECKED = 256 * 2**20  # packed bytes that are unpacked once more to know whether they are sound
DESCRIPTIONS = (  # of a data set, as other programs put them beside its rows
    *("manifest.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "metadata.json"),
    *("card.json", "about.json", "datapackage.json", "croissant.json"),
)
CONVERSATIONS = re.compile(r"conversations(?:-\d+)?\.json")
VK_MESSAGES = re.compile(r"messages\d*\.html")
COMPANIONS = (  # what stands beside the conversations in the exports of ChatGPT and Claude; chat.html repeats them
    *("user.json", "users.json", "user_settings.json", "message_feedback.json", "shared_conversations.json"),
    *("group_chats.json", "sora.json", "export_manifest.json", "model_comparisons.json", "shopping.json"),
    *("projects.json", "memories.json", "chat.html"),
)
ROWS = (".jsonl", ".ndjson", ".parquet", ".arrow", ".csv", ".tsv")  # beside which they can only be descriptions
PACKED = {  # by the first bytes of a file
    b"\x1f\x8b": partial(zlib.decompressobj, wbits=31), b"BZh": bz2.BZ2Decompressor, b"\xfd7zXZ\x00": lzma.LZMADecompressor,
}  # fmt: skip
ZSTANDARD = b"\x28\xb5\x2f\xfd"
HIDDEN = ("__MACOSX", ".git", ".obsidian", ".trash", ".DS_Store", "Thumbs.db", "desktop.ini")


class PackedTooMuch(Exception):
    """A packed file that unpacks to far more than any text does."""


@dataclass(frozen=True)
class Bad:
    """What could not become a row: where it stands, why, and its beginning."""

    place: str
    reason: str
    excerpt: str = ""


class Record(NamedTuple):
    """One record as the file has it: fields by name, or a text; and where it stands."""

    place: str
    value: object
    repairs: tuple[str, ...] = ()
    before: str = ""  # a text as it was, when lines of it were repaired while reading
    after: str = ""
    raw: bytes = b""  # its JSON, where the file has it so


@dataclass(frozen=True)
class Source:
    """A named stream of bytes that can be opened again."""

    name: str
    open: Callable[[], BinaryIO]
    size: int = 0
    path: Path | None = None  # when the bytes are a file as they are
    at: Callable[[], int] = lambda: 0  # how many of `size` bytes have been read
    encoding: str = ""
    me: str = ""  # see reading.Options
    damage: Callable[[], str] = lambda: ""  # the reason why packed bytes are not, or not all, what was packed

    def head(self, size: int = 8192) -> bytes:
        with self.open() as stream:
            return stream.read(size)

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """A file with these bytes, for libraries that must seek; a temporary copy when there is none."""
        if self.path is not None:
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="soulsmith-") as directory:
            copy = Path(directory) / "copy"
            with self.open() as stream, copy.open("wb") as file:
                shutil.copyfileobj(stream, file)
            yield copy


class Format(NamedTuple):
    """A file format: `claims` tells it by the first bytes of a source, or the first text; `read` yields its records.

    `read` gives a Record for each record and a Bad for whatever could not become one.
    """

    name: str
    claims: Callable[[Source, bytes], bool] | Callable[[Source, str], bool]
    read: Callable[[Source], Iterator[Record | Bad]]


class OverStream(io.RawIOBase):
    """A stream to read that takes its bytes from another one and closes it with itself."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class _Limited(OverStream):
    """A stream that refuses to give out more than a packed file can honestly hold."""

    def __init__(self, stream: BinaryIO, packed: int):
        super().__init__(stream)
        self._given, self._most = 0, min(MOST_UNPACKED, most_unpacked(packed))

    def readinto(self, buffer) -> int:
        data = self._stream.read(len(buffer))
        self._given += len(data)
        if self._given > self._most:
            raise PackedTooMuch(self._given)
        buffer[: len(data)] = data
        return len(data)


def most_unpacked(packed: int) -> int:
    """Bytes that may honestly come out of so many packed ones."""
    return max(BOMB_FREE, packed * BOMB_RATIO)


def limited(stream: BinaryIO, packed: int) -> BinaryIO:
    return io.BufferedReader(_Limited(stream, packed), 1 << 18)


def readable(name: str) -> str:
    """A file's name as it can be written down: some systems give the bytes of names that they cannot decode."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", errors="replace")


def of_file(path: Path, name: str | None = None) -> Source:
    """The bytes of a file, unpacked when it is gzip or Zstandard."""
    streams: list[BinaryIO] = []  # the one that was opened last tells how far the file was read

    def opened() -> BinaryIO:
        streams[:] = [path.open("rb", buffering=1 << 18)]
        return streams[0]

    def at() -> int:
        try:
            return streams[0].tell() if streams else 0
        except ValueError:  # closed
            return path.stat().st_size

    return unpacked(Source(readable(name or path.name), opened, path.stat().st_size, path, at))


def of_path(path: Path) -> Source | Bad:
    """A file, or why it cannot be read."""
    if not path.is_file():  # a pipe or a device may never end
        return Bad("", "file_unreadable", "this is no file")
    try:
        source = of_file(path)
        source.head(1)
        return source
    except Exception as error:  # no permission, or the first bytes of a damaged packed file
        damaged = isinstance(error, (zstandard.ZstdError, zlib.error, lzma.LZMAError))
        return Bad("", "file_damaged" if damaged else "file_unreadable", f"{type(error).__name__}: {error}"[:200])


def unpacked(source: Source) -> Source:
    """The same source without its gzip, bzip2, xz or Zstandard wrapping; one that is cut off is read up to the cut."""
    head = source.head(6)
    unpacker = next((made for mark, made in PACKED.items() if head.startswith(mark)), None)
    if unpacker is None and not head.startswith(ZSTANDARD):
        return source
    cut: list[bool] = []

    def opened() -> BinaryIO:
        if unpacker is not None:
            stream = Unpacked(source.open(), cut, unpacker, head[:2])
        else:
            stream = zstandard.ZstdDecompressor().stream_reader(source.open(), read_across_frames=True, closefd=True)
        return limited(stream, source.size)

    def damage() -> str:
        if unpacker is None and source.size <= CHECKED and _is_cut_frame(source):
            cut.append(True)
        return damage_of(opened, source.size) or (("file_damaged" if _is_torn(opened) else "file_cut") if cut else "")

    return Source(source.name, opened, source.size, at=source.at, damage=cache(damage))


def damage_of(opened: Callable[[], BinaryIO], size: int) -> str:
    """Whether packed bytes fail their checks: what came out before that may be wrong as well."""
    if size > CHECKED:
        return ""
    try:
        with opened() as stream:
            while stream.read(1 << 20):
                pass
    except PackedTooMuch:
        return "packed_too_much"
    except Exception:  # zipfile, zlib, bz2, lzma and zstandard each have errors of their own
        return "file_damaged"
    return ""


def _is_torn(opened: Callable[[], BinaryIO]) -> bool:
    """Whether text that begins as UTF-8 is none before its end: packed bytes that have lost one look like cut ones."""
    decoder, sound = codecs.getincrementaldecoder("utf-8")(), 0
    with opened() as stream:
        while block := stream.read(1 << 16):
            try:
                sound += len(decoder.decode(block))
            except UnicodeDecodeError as error:
                return sound + error.start > 0
    return False


class Unpacked(OverStream):
    """What an unpacker makes of packed bytes, up to their end or to where they are cut off.

    Packed parts in a row, which begin with `mark`, are read as one; without a mark there is only one.
    """

    def __init__(self, stream: BinaryIO, cut: list[bool], unpacker: Callable, mark: bytes = b""):
        super().__init__(stream)
        self._cut, self._unpacker, self._mark = cut, unpacker, mark
        self._packed, self._part = b"", unpacker()

    def readinto(self, buffer) -> int:
        while True:
            if self._part.eof:
                rest = (self._packed or self._stream.read(1 << 16)).lstrip(b"\x00")  # some programs pad with zeros
                if not self._mark or not rest.startswith(self._mark[:1]):
                    return 0
                self._part, self._packed = self._unpacker(), rest
            # bz2 and lzma keep what they were given and have not unpacked yet, zlib gives it back.
            full = getattr(self._part, "needs_input", True)
            packed = b"" if not full else self._packed or self._stream.read(1 << 16)
            if full and not packed:
                self._cut.append(True)
                return 0
            data = self._part.decompress(packed, len(buffer))
            if full:
                self._packed = getattr(self._part, "unconsumed_tail", b"")
            self._packed = self._packed or self._part.unused_data
            if data:
                buffer[: len(data)] = data
                return len(data)


def _is_cut_frame(source: Source) -> bool:
    """Whether a Zstandard file ends inside a frame, of which its reader says nothing."""
    frame, begun = zstandard.ZstdDecompressor().decompressobj(), False
    try:
        with source.open() as stream:
            while packed := stream.read(1 << 9):  # half a kilobyte unpacks to 16 MB at most
                while packed:
                    frame.decompress(packed)
                    begun, packed = not frame.eof, frame.unused_data
                    frame = zstandard.ZstdDecompressor().decompressobj() if frame.eof else frame
        return begun
    except Exception:  # damaged otherwise: its reader says so
        return False


def held(source: Source) -> Source:
    """The same source, read into memory: it can still be opened when its archive is closed."""
    with source.open() as stream:
        data = stream.read()
    return replace(source, open=lambda: io.BytesIO(data))


def of_folder(folder: Path) -> Iterator[Source | Bad]:
    """The files under a folder in the order of their names; links and hidden files are not followed."""
    paths = sorted(folder.rglob("*"))
    is_description = describes([path.name for path in paths])
    for path in paths:
        name = readable(str(path.relative_to(folder)))
        if any(part in HIDDEN or part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.is_symlink():
            yield Bad(name, "link")
        elif is_description(path.name):
            yield Bad(name, "describes_others")
        elif path.is_file():
            try:
                yield of_file(path, name)
            except Exception as error:  # no permission, or the first bytes of a damaged packed file
                yield Bad(name, "file_unreadable", type(error).__name__)


def describes(names: list[str]) -> Callable[[str], bool]:
    """Whether a file with this name only describes the others, which have these names."""
    known = DESCRIPTIONS if any(map(_holds_rows, names)) else ()
    if any(CONVERSATIONS.fullmatch(name.lower()) for name in names):
        known += COMPANIONS
    lower = list(map(str.lower, names))
    if "index-messages.html" in lower:  # the archive of VK: of its pages only those with messages are read
        return lambda name: name.lower().endswith(".html") and not VK_MESSAGES.fullmatch(name.lower())
    if "messages.html" in lower and "style.css" in lower:  # Telegram's export as pages
        known += ("style.css", "script.js", "export_results.html")
    return lambda name: name.lower() in known


def _holds_rows(name: str) -> bool:
    return name.lower().removesuffix(".gz").removesuffix(".zst").endswith(ROWS)
