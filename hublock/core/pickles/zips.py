"""The directory of a zip archive, read only if torch's reader and Python's must read the same.

torch reads archives with miniz, torch.hub and we with :mod:`zipfile`. The records are those of PKWARE's APPNOTE 6.3.10,
sections 4.3.14 to 4.3.16.
"""

import struct
import zipfile
from typing import IO

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_STORED_OR_DEFLATED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class AmbiguousZip(Exception):
    """Two readers could see two different archives in the same bytes."""


def read_directory(stream: IO[bytes], archive: zipfile.ZipFile, *, limit: int) -> list[zipfile.ZipInfo]:
    """Return the members of ``archive``, which ``zipfile`` read from ``stream``; at least one.

    Raises:
        AmbiguousZip: something lies before, behind or between what it should hold, names meet when case is ignored (as
            miniz does), or a member is oddly packed or oddly named.
    """
    members = archive.infolist()
    if not 0 < len(members) <= limit or _end_of_directory(stream, len(members)) != archive.start_dir:
        raise AmbiguousZip
    names = {member.filename.casefold() for member in members}
    if len(names) != len(members) or not all(map(_is_plain, members)):
        raise AmbiguousZip
    return members


def _is_plain(member: zipfile.ZipInfo) -> bool:
    return (
        member.compress_type in _STORED_OR_DEFLATED
        and member.filename == member.orig_filename
        and "\\" not in member.filename
        and (member.compress_type != zipfile.ZIP_STORED or member.compress_size == member.file_size)
    )


def _end_of_directory(stream: IO[bytes], count: int) -> int:
    """Return where the directory begins, if its end records agree with each other and with where they lie."""
    size = stream.seek(0, 2)
    start = max(0, size - (1 << 16) - _END.size)
    stream.seek(start)
    tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise AmbiguousZip
    end = _END.unpack_from(tail, at)
    at += start
    wide = _wide_end(stream, at)
    if wide is not None:
        narrow = (end[3], end[4], end[5], end[6])
        if any(short not in (long, full) for short, long, full in zip(narrow, wide[1:], _FULL, strict=True)):
            raise AmbiguousZip
    directory_end, here, total, length, offset = wide or (at, end[3], end[4], end[5], end[6])
    if (here, total) != (count, count) or end[7] != size - at - _END.size or any(end[1:3]):
        raise AmbiguousZip
    if offset + length != directory_end:
        raise AmbiguousZip
    return int(offset)


_FULL = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)


def _wide_end(stream: IO[bytes], end: int) -> tuple[int, int, int, int, int] | None:
    """Return where the zip64 end record lies, and its counts, length and offset; None if there is none."""
    if end < _LOCATOR.size + _END64.size:
        return None
    stream.seek(end - _LOCATOR.size)
    locator = _LOCATOR.unpack(stream.read(_LOCATOR.size))
    if locator[0] != b"PK\x06\x07":
        return None
    at = end - _LOCATOR.size - _END64.size
    stream.seek(at)
    record = _END64.unpack(stream.read(_END64.size))
    # both readers must find this very record: Python looks before the locator, miniz where the locator points
    if locator[1] or locator[2] != at or locator[3] != 1 or record[0] != b"PK\x06\x06" or record[1] != _END64.size - 12:
        raise AmbiguousZip
    if record[4] or record[5]:
        raise AmbiguousZip
    return at, record[6], record[7], record[8], record[9]
