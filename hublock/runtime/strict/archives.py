"""What archives and compressed files hold, of which foreign code unpacks a checkpoint."""

import importlib
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\0": "lzma"}
"""How files begin that are compressed as a whole, and the module that opens them, which a Python may lack."""


def members(path: Path, size: int) -> Iterator[bytes]:
    """Yield the files of ``size`` bytes in a zip or tar archive, or what a compressed file holds.

    Of that no more is unpacked than tells it from a file of ``size`` bytes: it may be without end.
    """
    # what is broken, of which each format has errors of its own, holds nothing more
    with suppress(Exception):
        yield from _unpacked(path, size)


def _unpacked(path: Path, size: int) -> Iterator[bytes]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.file_size == size:
                    yield archive.read(member)
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as packed:
            for entry in packed:
                content = packed.extractfile(entry) if entry.isreg() and entry.size == size else None
                if content is not None:
                    yield content.read()
    # what holds an archive, stored as it is or a tar, is taken for that archive as well
    with path.open("rb") as file:
        start = file.read(max(map(len, _COMPRESSED)))
    for magic, module in _COMPRESSED.items():
        if start.startswith(magic):
            with importlib.import_module(module).open(path) as content:
                yield content.read(size + 1)
