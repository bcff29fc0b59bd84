"""Zip archives by hand (APPNOTE.TXT), most of them malicious: what no ``git archive`` would write.

``python -m tests.net.archives FOLDER`` writes them all, to try them on other readers.
"""

import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

TOP = b"model-1234567/"
UTF8, DESCRIPTOR = 0x0800, 0x0008
UNIX = 3
LINK_MODE, FILE_MODE, FOLDER_MODE = 0o120777, 0o100644, 0o040755


@dataclass(frozen=True, kw_only=True)
class Member:
    """One entry; what is not given is what ``git archive`` would write. ``local_`` fields differ before the bytes."""

    name: bytes
    data: bytes = b"data"
    mode: int = 0
    system: int | None = None
    method: int = 8
    flags: int | None = None
    crc: int | None = None
    size: int | None = None
    packed: bytes | None = None
    packed_size: int | None = None
    attributes: int | None = None
    extra: bytes = b""
    offset: int | None = None
    local_name: bytes | None = None
    local_flags: int | None = None
    local_method: int | None = None
    local_crc: int | None = None
    local_size: int | None = None
    local_packed_size: int | None = None
    local_extra: bytes | None = None
    descriptor: bytes = b""
    before: bytes = b""

    def body(self) -> bytes:
        if self.packed is not None:
            return self.packed
        if self.method != 8:
            return self.data
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(self.data) + packer.flush()

    def facts(self) -> tuple[int, int, int]:
        return (
            zlib.crc32(self.data) if self.crc is None else self.crc,
            len(self.body()) if self.packed_size is None else self.packed_size,
            len(self.data) if self.size is None else self.size,
        )

    def flag_bits(self) -> int:
        if self.flags is not None:
            return self.flags
        try:
            self.name.decode()
        except UnicodeDecodeError:
            return 0
        return 0 if self.name.isascii() else UTF8

    def local(self) -> bytes:
        def pick(own: int | None, general: int) -> int:
            return general if own is None else own

        crc, packed, size = self.facts()
        name = self.name if self.local_name is None else self.local_name
        extra = self.extra if self.local_extra is None else self.local_extra
        head = struct.pack(
            "<4s5H3L2H",
            b"PK\x03\x04",
            20,
            pick(self.local_flags, self.flag_bits()),
            pick(self.local_method, self.method),
            0,
            0x21,
            pick(self.local_crc, crc),
            pick(self.local_packed_size, packed),
            pick(self.local_size, size),
            len(name),
            len(extra),
        )
        return head + name + extra + self.body() + self.descriptor

    def central(self, offset: int) -> bytes:
        system = (UNIX if self.mode else 0) if self.system is None else self.system
        attributes = self.mode << 16 if self.attributes is None else self.attributes
        head = struct.pack(
            "<4s6H3L5H2L",
            b"PK\x01\x02",
            system << 8 | 20,
            20,
            self.flag_bits(),
            self.method,
            0,
            0x21,
            *self.facts(),
            len(self.name),
            len(self.extra),
            0,
            0,
            0,
            attributes,
            offset if self.offset is None else self.offset,
        )
        return head + self.name + self.extra


def archive(
    members: Sequence[Member],
    *,
    comment: bytes = b"1234567",
    count: int | None = None,
    before_directory: bytes = b"",
    in_directory: bytes = b"",
    after: bytes = b"",
    start: int | None = None,
    size: int | None = None,
    disk: int = 0,
    comment_size: int | None = None,
) -> bytes:
    body, directory = b"", b""
    for member in members:
        body += member.before
        directory += member.central(len(body))
        body += member.local()
    body += before_directory
    directory += in_directory
    entries = len(members) if count is None else count
    return (
        body
        + directory
        + struct.pack(
            "<4s4H2LH",
            b"PK\x05\x06",
            disk,
            0,
            entries,
            entries,
            len(directory) if size is None else size,
            len(body) if start is None else start,
            len(comment) if comment_size is None else comment_size,
        )
        + comment
        + after
    )


FOLDER = Member(name=TOP, data=b"", method=0, attributes=0x10)
HUBCONF = Member(name=TOP + b"hubconf.py", data=b"dependencies = []\n")


def below(name: bytes, **fields: object) -> Member:
    return replace(Member(name=TOP + name), **fields)  # type: ignore[arg-type]


def link(name: bytes, target: bytes) -> Member:
    return below(name, data=target, mode=LINK_MODE, method=0)


def good() -> dict[str, bytes]:
    """Return archives that must be read."""
    descriptor = struct.pack("<3L", zlib.crc32(b"data"), len(Member(name=b"").body()), 4)
    described = below(b"a", flags=DESCRIPTOR, local_crc=0, local_size=0, local_packed_size=0)
    return {
        "plain": archive([FOLDER, HUBCONF]),
        "without folder entries": archive([HUBCONF, below(b"x/y")]),
        "stored": archive([HUBCONF, below(b"a", method=0)]),
        "empty file": archive([HUBCONF, below(b"a", data=b"", method=0)]),
        "time stamps": archive([below(b"a", extra=struct.pack("<2HBL", 0x5455, 5, 1, 1))]),
        "no comment": archive([HUBCONF], comment=b""),
        "descriptor": archive([replace(described, descriptor=b"PK\x07\x08" + descriptor), HUBCONF]),
        "descriptor without signature": archive([replace(described, descriptor=descriptor), HUBCONF]),
        "UTF-8": archive([below("ä".encode())]),
        "latin-1": archive([below(b"\xe4")]),
        "link": archive([HUBCONF, link(b"a/b", b"../hubconf.py")]),
        "executable": archive([below(b"run.sh", mode=0o100755)]),
        "empty folder for a submodule": archive([HUBCONF, below(b"sub/", data=b"", method=0, mode=FOLDER_MODE)]),
    }


def malicious() -> dict[str, bytes]:
    """Return archives that must be refused, by what is wrong with them."""
    return dict(
        [*_names(), *_links(), *_twins(), *_disagreements(), *_layouts(), *_contents(), *_bombs(), *_truncations()]
    )


BAD_NAMES = [
    b"../evil", b"x/../../evil", b"..", b"../../../../../../etc/passwd", b"./evil", b"x/./evil", b"x//evil", b"/evil",
    b"//evil", b"..\\evil", b"x\\..\\..\\evil", b"\\evil", b"C:\\evil", b"\\\\server\\share\\evil", b"evil\0.txt",
    b"\0", b"evil\nname", b"evil\rname", b"evil\x1b[2J", b"evil\x7f", b".git/config", b".GIT/config", b".Git/hooks/x",
    b"git~1/config", b"x/.git/config", b".git", b".git /config", b".git./config", b".git::$INDEX_ALLOCATION/config",
    ".g\u200cit/config".encode(), ".git\ufeff/config".encode(), "\u200e.git/config".encode(), b"x" * 300,
    b"x/" * 2500 + b"y", b"x/" * 101 + b"y", "evil\u0085".encode(),
]  # fmt: skip


def _names() -> Iterator[tuple[str, bytes]]:
    for name in BAD_NAMES:
        yield f"name {name[:40]!r}", archive([HUBCONF, below(name)])
    yield "folder ../", archive([HUBCONF, below(b"../", data=b"", method=0)])
    yield "folder .git/", archive([HUBCONF, below(b".git/", data=b"", method=0)])
    for name in (b"evil", b"/etc/evil", b"../evil", b"other-1/evil", b"model-1234567", b"model-1234567x/evil"):
        yield f"outside the top folder {name!r}", archive([HUBCONF, Member(name=name)])
    for top in (b"../", b"/", b"./"):
        yield f"top folder {top!r}", archive([Member(name=top + b"../evil")])
    yield "no name", archive([HUBCONF, Member(name=b"")])


def _links() -> Iterator[tuple[str, bytes]]:
    targets = [
        b"/etc/passwd", b"../evil", b"x/../../evil", b"..", b"C:\\evil", b"c:evil", b"\\\\server\\share", b"a\\b", b"",
        b"evil\0", b"self", b"x" * 5000,
    ]  # fmt: skip
    for target in targets:
        yield f"link to {target[:30]!r}", archive([HUBCONF, link(b"self", target)])
    yield "write through a link", archive([link(b"out", b"."), below(b"out/evil")])
    yield "write through a link that comes later", archive([below(b"out/evil"), link(b"out", b".")])
    yield "write through a link of another case", archive([link(b"out", b"."), below(b"OUT/evil")])
    yield "out through two links", archive([link(b"a/b/up", b"../.."), link(b"out", b"a/b/up/..")])
    yield "links in a circle", archive([link(b"a", b"b"), link(b"b", b"a")])
    yield "deep link out", archive([link(b"a/b/c", b"../../../evil")])
    yield "link and file", archive([link(b"a", b"hubconf.py"), below(b"a")])


def _twins() -> Iterator[tuple[str, bytes]]:
    pairs: list[tuple[bytes, bytes]] = [
        (b"a", b"a"), (b"a", b"A"), (b"Folder/x", b"folder/y"), (b"a", b"a/b"), (b"a/b", b"a"),
        ("é".encode(), "e\u0301".encode()), ("straße".encode(), b"STRASSE"), ("\u212a".encode(), b"k"),
        ("x\u200d".encode(), b"x"), ("Å".encode(), "\u212b".encode()), ("ǆ".encode(), "ǅ".encode()),
    ]  # fmt: skip
    for first, second in pairs:
        yield f"twins {first!r} {second!r}", archive([below(first, data=b"1"), below(second, data=b"2")])
    yield "two hubconf.py", archive([HUBCONF, replace(HUBCONF, data=b"evil\n")])
    yield "folder twice", archive([FOLDER, FOLDER, HUBCONF])


def _disagreements() -> Iterator[tuple[str, bytes]]:
    fields: dict[str, object] = {
        "local_name": TOP + b"hubconf.pz", "local_flags": UTF8, "local_method": 0, "local_crc": 1, "local_size": 1,
        "local_packed_size": 1,
    }  # fmt: skip
    for name, value in fields.items():
        yield f"another {name}", archive([replace(HUBCONF, **{name: value}), below(b"b")])  # type: ignore[arg-type]
    yield "longer local name", archive([replace(HUBCONF, local_name=TOP + b"hubconf.pyx")])
    yield (
        "sizes of nothing without a descriptor",
        archive([replace(HUBCONF, local_crc=0, local_size=0, local_packed_size=0)]),
    )
    lie = struct.pack("<4s3L", b"PK\x07\x08", 1, 2, 3)
    yield "another descriptor", archive([replace(HUBCONF, flags=DESCRIPTOR, descriptor=lie)])
    yield "no descriptor", archive([replace(HUBCONF, flags=DESCRIPTOR)])
    yield "local Unicode path", archive([replace(HUBCONF, local_extra=_unicode_path(b"evil"))])
    yield "Unicode path", archive([replace(HUBCONF, extra=_unicode_path(b"evil"))])
    yield "zip64 sizes", archive([replace(HUBCONF, extra=struct.pack("<2H2Q", 1, 16, 4, 4))])
    yield "extra field cut short", archive([replace(HUBCONF, extra=b"\x55\x54\xff\xff")])
    yield "extra field of one byte", archive([replace(HUBCONF, extra=b"x")])
    yield "Unix extra field", archive([replace(HUBCONF, extra=struct.pack("<2H4s", 0x7875, 4, b"1234"))])
    yield "UTF-8 that is none", archive([below(b"\xe4", flags=UTF8)])
    yield "UTF-8 that is not marked", archive([below("ä".encode(), flags=0)])


def _unicode_path(name: bytes) -> bytes:
    return struct.pack("<2HBL", 0x7075, 5 + len(name), 1, zlib.crc32(HUBCONF.name)) + name


def _layouts() -> Iterator[tuple[str, bytes]]:
    plain = archive([FOLDER, HUBCONF])
    yield "something before it", b"#!/bin/sh\n" + plain
    yield "something after it", plain + b"x"
    yield "another archive after it", plain + archive([below(b"evil")])
    yield "another archive before it", archive([below(b"evil")]) + plain
    yield "archive in the comment", archive([HUBCONF], comment=archive([below(b"evil")], comment=b""))
    yield "end record in the comment", archive([HUBCONF], comment=b"PK\x05\x06" + bytes(18))
    yield "comment longer than it is", archive([HUBCONF], comment_size=99)
    yield "comment shorter than it is", archive([HUBCONF], comment_size=1)
    yield "gap between entries", archive([HUBCONF, below(b"b", before=b"hidden")])
    yield "hidden entry", archive([HUBCONF, below(b"b", before=below(b"evil").local())])
    yield "gap before the directory", archive([HUBCONF], before_directory=b"hidden")
    yield "hidden entry before the directory", archive([HUBCONF], before_directory=below(b"evil").local())
    yield "gap in the directory", archive([HUBCONF], in_directory=b"hidden")
    yield "hidden entry in the directory", archive([HUBCONF], in_directory=below(b"evil").central(0), count=1)
    yield "fewer entries than counted", archive([HUBCONF], count=2)
    yield "no entries counted", archive([HUBCONF], count=0)
    yield "two entries, one content", archive([HUBCONF, replace(below(b"evil"), offset=0)])
    yield "entries in another order", archive([replace(below(b"a"), offset=60), replace(below(b"b"), offset=0)])
    yield "offset beyond the end", archive([replace(HUBCONF, offset=0xFFFFFF)])
    yield "offset into the directory", archive([HUBCONF, replace(below(b"evil"), offset=75)])
    yield "directory elsewhere", archive([HUBCONF], start=0)
    yield "directory of another size", archive([HUBCONF], size=10)
    yield "second disk", archive([HUBCONF], disk=1)
    yield "zip64", archive([HUBCONF], start=0xFFFFFFFF)
    yield "zip64 count", archive([HUBCONF], count=0xFFFF)
    yield "no archive", b"<html>Not Found</html>"
    yield "nothing", b""
    yield "a gzip", b"\x1f\x8b\x08" + bytes(50)


def _contents() -> Iterator[tuple[str, bytes]]:
    packed = HUBCONF.body()
    yield "encrypted", archive([replace(HUBCONF, flags=1)])
    yield "strongly encrypted", archive([replace(HUBCONF, flags=0x41)])
    yield "patch data", archive([replace(HUBCONF, flags=0x20)])
    yield "hidden local header", archive([replace(HUBCONF, flags=0x2000)])
    for method in (1, 6, 9, 12, 14, 93, 95, 99):
        yield f"method {method}", archive([replace(HUBCONF, method=method, packed=packed)])
    yield "another checksum", archive([replace(HUBCONF, crc=1)])
    yield "shorter than it says", archive([replace(HUBCONF, size=99)])
    yield "longer than it says", archive([replace(HUBCONF, size=3)])
    yield "stored longer than it says", archive([replace(HUBCONF, method=0, size=3)])
    yield "stored past its end", archive([replace(HUBCONF, method=0, packed_size=9999)])
    yield "no deflate", archive([replace(HUBCONF, packed=b"\xff\xff\xff\xff")])
    yield "deflate cut short", archive([replace(HUBCONF, packed=packed[:-3])])
    yield "bytes after the deflate", archive([replace(HUBCONF, packed=packed + b"hidden")])
    yield "empty deflate", archive([replace(HUBCONF, packed=b"")])
    for name, mode in {"fifo": 0o010644, "character device": 0o020644, "block device": 0o060644, "socket": 0o140644,
                       "hard link": 0o110644}.items():  # fmt: skip
        yield f"a {name}", archive([replace(HUBCONF, mode=mode)])
    yield "folder with bytes", archive([below(b"x/", data=b"evil")])
    yield "folder that is a link", archive([below(b"x/", data=b"", method=0, mode=LINK_MODE)])
    yield "file that is a folder", archive([below(b"x", data=b"", method=0, mode=FOLDER_MODE)])
    yield "file with the folder bit", archive([below(b"x", attributes=0x10)])
    yield (
        "link only some readers see",
        archive([below(b"x", data=b"y", attributes=LINK_MODE << 16, system=0)]),
    )
    yield "link of another system", archive([below(b"x", data=b"y", attributes=LINK_MODE << 16, system=19)])


def _bombs() -> Iterator[tuple[str, bytes]]:
    half, whole = zeros(500), zeros(1024)
    yield "a bomb that says so", archive([below(b"x", packed=whole, size=1 << 30)])
    yield "a bomb that says it is small", archive([below(b"x", packed=whole, size=10)])
    yield (
        "a bomb of one content many times",
        archive(
            [below(b"x", packed=half, data=b"", size=500 << 20)]
            + [below(b"%d" % n, packed=b"", packed_size=len(half), size=500 << 20, offset=0) for n in range(50)]
        ),
    )
    yield "bombs that say so together", archive([below(b"%d" % n, packed=half, size=500 << 20) for n in range(5)])
    yield "more entries than can be", archive([], count=0xFFFE, in_directory=bytes(46 * 10))


def zeros(mebibytes: int) -> bytes:
    """Return a raw deflate stream of that many MiB of zeros, made without inflating or packing them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first * mebibytes + b"\x03\x00"


def _truncations() -> Iterator[tuple[str, bytes]]:
    whole = archive([FOLDER, HUBCONF, below(b"x/y")])
    for keep in range(1, len(whole), len(whole) // 12):
        yield f"cut after {keep} bytes", whole[:keep]
    for drop in (1, 2, 7):
        yield f"cut {drop} bytes before the end", whole[:-drop]


def main() -> None:
    folder = Path(sys.argv[1])
    for kind, archives in {"good": good(), "malicious": malicious()}.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number, (name, data) in enumerate(archives.items()):
            safe = "".join(letter if letter.isalnum() else "-" for letter in name)[:60]
            (folder / kind / f"{number:03}-{safe}.zip").write_bytes(data)


if __name__ == "__main__":
    main()
