"""What a load read beside its tree and what it was given: bytes that nobody has held against the lock."""

import os
from pathlib import Path
from typing import Any

from hublock.core.digest import Digest
from hublock.runtime.strict.frames import is_others
from hublock.runtime.strict.placing import is_below
from hublock.runtime.strict.scope import Scope

_MAKES = os.O_CREAT | os.O_TRUNC
_SYSTEM = ("/dev/", "/etc/", "/proc/", "/sys/", "/usr/lib/", "/usr/share/")


def note(scope: Scope, arguments: tuple[Any, ...]) -> None:
    """Take note of the audit event ``open``; C and Rust code that opens files by itself raises none."""
    path, _, flags = arguments
    if isinstance(path, str | bytes):
        file = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - links stay
        (scope.written if flags & _MAKES else scope.read).add(file)


def users_files(scope: Scope) -> dict[str, Digest | None]:
    """Return the files of the user's own that a load has read, and what the lock knows their bytes as, or None."""
    files = {}
    for path in sorted(scope.read - scope.written):
        if not path.startswith(_SYSTEM) and not is_others(path) and os.path.isfile(path):  # noqa: PTH113 - any string
            known = scope.answers.input(Path(path))
            if known is not None or not is_below(Path(path), scope.folder.parent):
                files[path] = known.digest if known is not None else None
    return files
