"""A strict reader of zip archives of source trees (APPNOTE.TXT 6.3.10, as ``git archive`` writes them).

An archive is read only if every reader would read it alike: local headers and directory agree byte for byte, entries
lie side by side with nothing between, before or after them, and every name, link and size passes core.names. Nothing
is written: the files are returned, for whoever compares them with a digest.
"""

import stat
import struct
import zlib
from dataclasses import dataclass

from hublock.core.names import MAX_FILES, check_amount, check_path, decode
from hublock.core.tree import EXECUTABLE, FILE, LINK, SourceFile, check_files
from hublock.errors import UnsafeArchive

_EOCD = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED = 0, 8
_DESCRIPTOR, _UTF8, _LEVEL = 0x0008, 0x0800, 0x0006
_UNIX, _FOLDER = 3, 0x10
_VERSION = 20
"""The version of the format that knows folders and deflate; zip64, other methods and encryption need a later one."""
_TIMESTAMP = 0x5455
"""The extra field git writes; others could name another file or size (0x7075, 0x0001), and none is needed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    mode: int
    """Of Unix, with its file type; 0 if the archive was made elsewhere."""
    offset: int


def read_archive(data: bytes) -> list[SourceFile]:
    """Return the files of a zip archive, without the one folder that holds them all.

    Raises:
        UnsafeArchive: it is not such an archive, two readers could read it differently, or it holds what must not be
            unpacked.
    """
    entries, start = _directory(data)
    top = _name(entries[0]).partition("/")[0] + "/" if entries else ""
    names: set[str] = set()
    files: list[SourceFile] = []
    position = 0
    for entry in entries:
        if entry.offset != position:
            raise UnsafeArchive("its entries overlap, or hide something between them")
        content, position = _content(data, entry, start)
        name = _name(entry)
        if name in names or not name.startswith(top):
            raise UnsafeArchive(f"{name!r} is there twice, or not in the one folder {top!r}")
        names.add(name)
        files += _file(name.removeprefix(top), entry, content)
    if position != start:
        raise UnsafeArchive("something is hidden between its entries and their directory")
    check_files(files)
    return files


def _directory(data: bytes) -> tuple[list[_Entry], int]:
    """Read the central directory; return its entries and where it begins."""
    end = data.rfind(b"PK\x05\x06")
    if end < 0 or end + _EOCD.size > len(data):
        raise UnsafeArchive("it is no zip archive, or it is cut short")
    _, disk, first, here, count, size, start, comment = _EOCD.unpack_from(data, end)
    if end + _EOCD.size + comment != len(data):
        raise UnsafeArchive("something follows its end")
    if disk or first or here != count or start == 0xFFFFFFFF or count == 0xFFFF or count > MAX_FILES:
        raise UnsafeArchive("it has several parts, or too many entries")
    if start + size != end:
        raise UnsafeArchive("its directory does not end where the archive does")
    entries, position = [], start
    for _ in range(count):
        entry, position = _central(data, position, end)
        entries.append(entry)
    if position != end:
        raise UnsafeArchive("its directory holds more than it counts")
    check_amount(count, max((entry.size for entry in entries), default=0), sum(entry.size for entry in entries))
    return entries, start


def _central(data: bytes, position: int, end: int) -> tuple[_Entry, int]:
    if position + _CENTRAL.size > end:
        raise UnsafeArchive("its directory is cut short")
    fields = _CENTRAL.unpack_from(data, position)
    signature, made_by, needed, flags, method = fields[:5]
    crc, packed, size, name_size, extra, comment, disk, _, attributes, offset = fields[7:]
    position += _CENTRAL.size
    name = data[position : position + name_size]
    after = position + name_size + extra + comment
    if signature != b"PK\x01\x02" or disk or needed > _VERSION or after > end:
        raise UnsafeArchive("its directory is malformed")
    _check_extra(data[position + name_size : position + name_size + extra])
    unix = made_by >> 8 == _UNIX
    if (attributes >> 16 and not unix) or (attributes & _FOLDER and not name.endswith(b"/")):
        raise UnsafeArchive("an entry's attributes are those of another system, which readers treat differently")
    mode = attributes >> 16
    entry = _Entry(name=name, flags=flags, method=method, crc=crc, packed=packed, size=size, mode=mode, offset=offset)
    return entry, after


def _check_extra(extra: bytes) -> None:
    position = 0
    while position < len(extra):
        kind, size = struct.unpack_from("<2H", extra, position) if position + 4 <= len(extra) else (0, 0)
        if kind != _TIMESTAMP:
            raise UnsafeArchive(f"an entry has an extra field {kind:#06x}, which readers treat differently")
        position += 4 + size
    if position != len(extra):
        raise UnsafeArchive("an extra field is cut short")


def _content(data: bytes, entry: _Entry, start: int) -> tuple[bytes, int]:
    """Return the bytes of ``entry`` and where the next one must begin."""
    shown = repr(decode(entry.name))
    if entry.offset + _LOCAL.size > start:
        raise UnsafeArchive(f"{shown} lies outside the archive")
    signature, needed, flags, method, _, _, crc, packed, size, name, extra = _LOCAL.unpack_from(data, entry.offset)
    position = entry.offset + _LOCAL.size
    described = bool(entry.flags & _DESCRIPTOR)
    # where a descriptor follows the bytes, git leaves zero what it did not know yet
    pairs = zip((crc, packed, size), (entry.crc, entry.packed, entry.size), strict=True)
    if (
        signature != b"PK\x03\x04"
        or needed > _VERSION
        or (flags, method) != (entry.flags, entry.method)
        or not all(here == there or (described and here == 0) for here, there in pairs)
        or data[position : position + name] != entry.name
    ):
        raise UnsafeArchive(f"{shown} is described otherwise in the directory than before its bytes")
    _check_extra(data[position + name : position + name + extra])
    position += name + extra
    if position + entry.packed > start:
        raise UnsafeArchive(f"{shown} lies outside the archive")
    content = _inflate(memoryview(data)[position : position + entry.packed], entry, shown)
    position += entry.packed
    return content, _after_descriptor(data, position, entry, shown) if described else position


def _inflate(packed: memoryview, entry: _Entry, shown: str) -> bytes:
    if entry.flags & ~(_DESCRIPTOR | _UTF8 | _LEVEL):
        raise UnsafeArchive(f"{shown} is encrypted, or needs what only some readers can do")
    if entry.method == _STORED:
        content = bytes(packed)
    elif entry.method == _DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = inflater.decompress(packed, entry.size + 1)
        except zlib.error as error:
            raise UnsafeArchive(f"{shown} is damaged ({error})") from None
        if not inflater.eof or inflater.unused_data or inflater.unconsumed_tail:
            raise UnsafeArchive(f"{shown} is longer or shorter than it says")
    else:
        raise UnsafeArchive(f"{shown} is packed by method {entry.method}")
    if len(content) != entry.size or zlib.crc32(content) != entry.crc:
        raise UnsafeArchive(f"{shown} does not have the size or checksum it says")
    return content


def _after_descriptor(data: bytes, position: int, entry: _Entry, shown: str) -> int:
    """Return where the data descriptor that repeats crc and sizes after the bytes ends; its signature is optional."""
    expected = struct.pack("<3L", entry.crc, entry.packed, entry.size)
    for form in (b"PK\x07\x08" + expected, expected):
        if data.startswith(form, position):
            return position + len(form)
    raise UnsafeArchive(f"{shown} is described otherwise in the directory than after its bytes")


def _file(path: str, entry: _Entry, content: bytes) -> list[SourceFile]:
    """Return the file that ``entry`` holds; nothing for a folder."""
    kind = stat.S_IFMT(entry.mode)
    if path == "" or path.endswith("/"):
        if path:
            check_path(path[:-1])
        if content or kind not in (0, stat.S_IFDIR):
            raise UnsafeArchive(f"{path!r} is a folder with bytes")
        return []
    if kind not in (0, stat.S_IFREG, stat.S_IFLNK):
        raise UnsafeArchive(f"{path!r} is neither a file nor a link")
    mode = LINK if kind == stat.S_IFLNK else EXECUTABLE if entry.mode & 0o111 else FILE
    return [SourceFile(path=path, mode=mode, data=content)]


def _name(entry: _Entry) -> str:
    try:
        name, utf8 = entry.name.decode(), True
    except UnicodeDecodeError:
        name, utf8 = decode(entry.name), False
    # git marks names that are UTF-8; without the mark others read them as code page 437
    if utf8 != bool(entry.flags & _UTF8) and not entry.name.isascii():
        raise UnsafeArchive(f"{name!r} is not in the encoding it says")
    return name
