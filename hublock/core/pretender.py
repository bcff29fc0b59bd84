"""What is often found where a checkpoint was expected."""

import re
from typing import BinaryIO

_LOOKED_AT = 256
"""Bytes that tell."""
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html)\b", re.IGNORECASE)
# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
_POINTER = b"version https://git-lfs.github.com/spec/"


def pretender(file: BinaryIO) -> str | None:
    """Return what a file is, by its beginning, if it only stands for another one."""
    beginning = file.read(_LOOKED_AT)
    if _PAGE.match(beginning):
        return "a web page"
    return "a Git LFS pointer" if beginning.startswith(_POINTER) else None
