"""A store's content in one file, for machines without a network: a plain tar that any tar can list and unpack.

::

    hublock-bundle                   the version of this layout, and a line feed
    blobs/sha256/<hex>               a file
    trees/git-sha256/<hex>           the listing of a source tree, which hashes to its digest
    objects/git-sha256/<hex>         a file of a source tree, by its git blob id

Every name is derived from a digest and every header is the one this module writes, so that the same content gives the
same bytes. Reading accepts nothing else: a header that differs in one bit is refused, and nothing is ever unpacked
under a name that the file brings along.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from hublock.core.digest import Digest
from hublock.errors import StoreError, UnsafeArchive

BLOCK = 512
END = bytes(2 * BLOCK)
VERSION_NAME, VERSION = "hublock-bundle", b"1\n"
MOST = 1 << 20
"""Entries in one bundle."""

_NAME = re.compile(r"(blobs/sha256|trees/git-sha256|objects/git-sha256)/[0-9a-f]{64}")
_OCTAL_LIMIT = 8**11


def blob_name(digest: Digest) -> str:
    """Return the name of a file in a bundle."""
    return f"blobs/sha256/{digest.hex}"


def tree_name(digest: Digest) -> str:
    """Return the name of the listing of a source tree in a bundle."""
    return f"trees/git-sha256/{digest.hex}"


def object_name(blob: str) -> str:
    """Return the name of a file of a source tree in a bundle; ``blob`` is its git id."""
    return f"objects/git-sha256/{blob}"


def header(name: str, size: int) -> bytes:
    """Return the header of an entry (POSIX ustar; from 8 GiB on with GNU's binary sizes), always the same."""
    length = b"%011o\0" % size if size < _OCTAL_LIMIT else b"\x80" + size.to_bytes(11, "big")
    front = name.encode("ascii").ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + length + b"00000000000\0"
    back = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167)
    return front + b"%06o\0 " % (sum(front) + sum(back) + 8 * 0x20) + back


def padding(size: int) -> bytes:
    """Return the zeros that fill the last block of an entry."""
    return bytes(-size % BLOCK)


def may_replace(path: Path) -> bool:
    """Say whether a bundle may be written to ``path``: there is nothing, an empty file, or another bundle."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(BLOCK) in (b"", header(VERSION_NAME, len(VERSION)))
    return True


class Bundle:
    """A bundle open for reading: which entries it has, and where their bytes are."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        """Read every header of ``file``, which lies at ``path``.

        Raises:
            UnsafeArchive: it is not a bundle, or not as hublock writes one.
            StoreError: it cannot be read.
        """
        self._path, self._file = path, file
        try:
            self._entries = self._index()
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def size(self, name: str) -> int:
        """Return how many bytes the entry ``name`` has."""
        return self._entries[name][1]

    def pieces(self, name: str, length: int = 1 << 20) -> Iterable[bytes]:
        """Give the bytes of the entry ``name``, which nobody has checked yet.

        Raises:
            UnsafeArchive: the file was cut short since it was opened.
        """
        at, left = self._entries[name]
        self._file.seek(at)
        while left:
            piece = self._file.read(min(left, length))
            if not piece:
                raise self._refused("it was cut short")
            left -= len(piece)
            yield piece

    def read(self, name: str, limit: int) -> bytes:
        """Return the bytes of the entry ``name``.

        Raises:
            UnsafeArchive: they are more than ``limit``.
        """
        if self.size(name) > limit:
            raise self._refused(f"{name} has {self.size(name)} bytes, more than {limit}")
        return b"".join(self.pieces(name))

    def _index(self) -> Mapping[str, tuple[int, int]]:
        """Return where each entry begins and how long it is."""
        entries: dict[str, tuple[int, int]] = {}
        end, at = self._file.seek(0, 2), 0
        while True:
            self._file.seek(at)
            block = self._file.read(BLOCK)
            if block == END[:BLOCK]:
                break
            name, size = self._parse(block, at)
            if name in entries or (name == VERSION_NAME) != (at == 0):
                raise self._refused(f"the entry {name} stands where it must not")
            entries[name] = at + BLOCK, size
            last = at + BLOCK + size
            at = last + len(padding(size))
            if at > end or len(entries) > MOST:
                raise self._refused("it was cut short" if at > end else f"it has more than {MOST} entries")
            self._file.seek(last)
            if self._file.read(at - last) != padding(size):
                raise self._refused(f"something hides behind {name}")
        self._file.seek(at)
        if self._file.read(len(END) + 1) != END:
            raise self._refused("something hides behind its end")
        self._check_version(entries)
        return entries

    def _parse(self, block: bytes, at: int) -> tuple[str, int]:
        name = block[:100].rstrip(b"\0").decode("ascii", "replace")
        if name != VERSION_NAME and not _NAME.fullmatch(name):
            raise self._refused("it is not a bundle" if at == 0 else f"it holds {name!r}")
        field = block[124:136]
        try:
            size = int.from_bytes(field[1:], "big") if field[:1] == b"\x80" else int(field[:11], 8)
        except ValueError:
            size = -1
        if size < 0 or block != header(name, size):
            raise self._refused(f"the header of {name} is not as hublock writes it")
        return name, size

    def _check_version(self, entries: Mapping[str, tuple[int, int]]) -> None:
        at, size = entries.get(VERSION_NAME, (0, 0))
        self._file.seek(at)
        if self._file.read(min(size, BLOCK)) != VERSION:
            raise self._refused("it is of a layout that this hublock does not know")

    def _refused(self, reason: str) -> UnsafeArchive:
        return UnsafeArchive(
            f"{self._path} cannot be taken in: {reason}", hint="make it again with `hublock bundle` where the store is"
        )
