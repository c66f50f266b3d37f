"""The files in ZIP and tar archives, as sources of their own; of archives that are cut off those before the cut."""

import bz2
import io
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO

from core.corpus import russian_bigrams, sources
from core.corpus.sources import Bad, Source

MOST_MEMBERS = 20_000
READS_AS_RUSSIAN = 4.2  # nats a character of a name
BESIDE_LATIN = re.compile(rb"(?<=[A-Za-z])[\x80-\xff]{1,2}(?![\x80-\xff])|(?<![\x80-\xff])[\x80-\xff]{1,2}(?=[A-Za-z])")
OFFICE = re.compile(r"\[Content_Types\]|mimetype$|_rels/|META-INF/|word/|xl/|ppt/")  # parts of one document


def of_zip(source: Source) -> Iterator[Source | Bad]:
    """The members of a ZIP archive, of one that is cut off those before the cut.

    Nothing is ever unpacked to where a member's name says.
    """
    with ExitStack() as opened:
        try:
            path = opened.enter_context(source.on_disk())
            archive: zipfile.ZipFile | _CutZip = opened.enter_context(zipfile.ZipFile(path))
        except sources.PackedTooMuch:
            yield Bad("", "packed_too_much")
            return
        except Exception:  # zipfile lets struct, zlib and Unicode errors through
            archive = _CutZip(path)
        members = [member for member in archive.infolist() if member.filename and not member.is_dir()]
        for member in members:  # only for people: the archive itself goes by orig_filename
            member.filename = _member_name(member)
        yield from _of_members(source, archive, members)
        if isinstance(archive, _CutZip):
            yield Bad("", "file_cut" if members else "zip_damaged")


def _of_members(source: Source, archive, members: list) -> Iterator[Source | Bad]:
    for member in members[MOST_MEMBERS:]:
        yield Bad(member.filename, "too_many_members")
    describes = sources.describes([Path(member.filename).name for member in members])
    left = sources.most_unpacked(source.size)  # of all members together: they may share their packed bytes
    for member in sorted(members[:MOST_MEMBERS], key=lambda member: member.filename):
        if describes(Path(member.filename).name):
            yield Bad(member.filename, "describes_others")
            continue
        if member.file_size > left:
            yield Bad(member.filename, "packed_too_much")
            continue
        left -= member.file_size
        if (opened := _of_member(source, archive, member)) is not None:
            yield opened


class _CutZip:
    """A ZIP archive whose table of contents, which stands at its end, is lost: its members by their own heads."""

    def __init__(self, path: Path):
        self.path, self.members = path, {}

    def infolist(self) -> list[zipfile.ZipInfo]:
        """The members in their order. One of a document of an office is none: a part of it makes no sense alone."""
        with self.path.open("rb") as file:
            at = 0
            while (member := self._member(file, at)) is not None:
                info, start, at = member
                self.members[info.orig_filename] = (info, start)
        infos = [info for info, _ in self.members.values()]
        return [] if any(OFFICE.match(info.filename) for info in infos) else infos

    def _member(self, file: BinaryIO, at: int) -> tuple[zipfile.ZipInfo, int, int] | None:
        """What stands at this place: the member, where its bytes begin, and where they end; None for no member."""
        file.seek(at)
        head = file.read(30)
        if len(head) < 30 or head[:4] != b"PK\x03\x04":
            return None
        _, _, flags, method, _, _, crc, packed, size, names, extra = struct.unpack("<4sHHHHHIIIHH", head)
        name = file.read(names).decode("utf-8" if flags & 0x800 else "cp437", errors="replace")
        info = zipfile.ZipInfo(name)
        info.flag_bits, info.compress_type, info.CRC, info.compress_size, info.file_size = (
            flags,
            method,
            crc,
            packed,
            size,
        )
        start = at + 30 + names + extra
        if not flags & 8:
            return info, start, start + packed
        end = self._end(file, start)  # its sizes stand behind it
        info.compress_size, info.file_size = end - start, (end - start) * sources.BOMB_RATIO
        file.seek(end)
        behind = file.read(32)
        return info, start, end + max(0, behind.find(b"PK\x03\x04"))

    def _end(self, file: BinaryIO, start: int) -> int:
        file.seek(start)
        part, read = zlib.decompressobj(wbits=-15), 0
        try:
            while not part.eof and (packed := part.unconsumed_tail or file.read(1 << 16)):
                read += 0 if part.unconsumed_tail else len(packed)
                part.decompress(packed, 1 << 20)
        except zlib.error:
            return start
        return start + read - len(part.unused_data)

    def open(self, member: zipfile.ZipInfo) -> BinaryIO:
        info, start = self.members[member.orig_filename]
        file = self.path.open("rb")
        file.seek(start)
        if info.compress_type == zipfile.ZIP_STORED:
            return io.BytesIO(file.read(info.compress_size))
        unpacker = {
            zipfile.ZIP_DEFLATED: partial(zlib.decompressobj, wbits=-15),
            zipfile.ZIP_BZIP2: bz2.BZ2Decompressor,
        }
        return sources.Unpacked(file, [], unpacker[info.compress_type])


def of_tar(source: Source) -> Iterator[Source | Bad]:
    """The members of a tar archive, of one that is cut off those before the cut."""
    try:
        with source.on_disk() as path, tarfile.open(path, "r:") as archive:
            members, cut = _tar_members(archive)
            yield from _of_members(source, _Tar(path), members)
            if cut:
                yield Bad("", "file_cut")
    except sources.PackedTooMuch:
        yield Bad("", "packed_too_much")
    except (tarfile.TarError, OSError):
        yield Bad("", "file_damaged")


def _tar_members(archive: tarfile.TarFile) -> tuple[list[zipfile.ZipInfo], bool]:
    """The members as those of a ZIP, and whether the archive is cut off."""
    members: list[zipfile.ZipInfo] = []
    try:
        while len(members) <= 2 * MOST_MEMBERS and (found := archive.next()) is not None:
            if found.isdir():
                continue
            info = zipfile.ZipInfo(found.name)
            info.filename, info.file_size, info.compress_size = sources.readable(found.name), found.size, found.size
            info.flag_bits, info.header_offset = 0x800, found.offset_data
            info.external_attr = 0 if found.isreg() else 0xA << 28  # a link, a pipe or a device
            members.append(info)
    except tarfile.TarError:
        return members, True
    size = os.stat(archive.name).st_size
    return members, bool(members) and members[-1].header_offset + members[-1].file_size > size


class _Tar:
    def __init__(self, path: Path):
        self.path = path

    def open(self, member: zipfile.ZipInfo) -> BinaryIO:
        file = self.path.open("rb")
        file.seek(member.header_offset)
        return _Part(file, member.file_size)


class _Part(sources.OverStream):
    """So many bytes of a file from where it stands."""

    def __init__(self, file: BinaryIO, size: int):
        super().__init__(file)
        self._left = size

    def readinto(self, buffer) -> int:
        data = self._stream.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


def _member_name(member: zipfile.ZipInfo) -> str:
    """The name of a member; zipfile takes those that are not marked as UTF-8 for CP437, and Windows wrote CP866."""
    if member.flag_bits & 0x800 or member.filename.isascii():
        return member.filename
    raw = member.orig_filename.encode("cp437", errors="replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        if len(raw) - len(BESIDE_LATIN.sub(b"", raw)) == sum(byte > 127 for byte in raw):  # café, Größe
            return member.filename
        name = min((raw.decode(name, errors="replace") for name in ("cp866", "cp1251")), key=russian_bigrams.cost)
    return name if russian_bigrams.cost(name) <= READS_AS_RUSSIAN else member.filename


def _of_member(source: Source, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Source | Bad | None:
    parts = Path(member.filename.replace("\\", "/")).parts
    if any(part in sources.HIDDEN or (part.startswith(".") and part != "..") for part in parts):
        return None
    if ".." in parts or member.filename.startswith(("/", "\\")):
        return Bad(member.filename, "zip_path_outside")
    if member.external_attr >> 28 == 0xA:
        return Bad(member.filename, "link")
    if member.flag_bits & 1:
        return Bad(member.filename, "zip_password")
    if member.file_size > sources.most_unpacked(member.compress_size):
        return Bad(member.filename, "packed_too_much")

    def opened() -> BinaryIO:
        return sources.limited(archive.open(member), member.compress_size)

    name = f"{source.name}/{member.filename}"
    try:
        damage = cache(partial(sources.damage_of, opened, member.compress_size))
        return sources.unpacked(Source(name, opened, member.file_size, damage=damage))
    except Exception:  # zipfile, zlib, bz2, lzma and zstandard each have errors of their own
        return Bad(member.filename, "zip_damaged")
