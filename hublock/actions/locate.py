"""Which lock and which store answer this process."""

import sys
from collections.abc import Mapping
from pathlib import Path

from hublock.actions.project import LOCK, MANIFEST, PYPROJECT, find_lock, read_named_lock
from hublock.core.lockfile import Lock
from hublock.settings import Settings, home
from hublock.store.store import Store


def named_lock(path: Path) -> Path:
    """Return the lock that a user named by its project, by the project's manifest or by itself."""
    if path.name in (MANIFEST, PYPROJECT):
        return path.with_name(LOCK)
    return path if path.is_file() or path.name == LOCK else path / LOCK


def lock_file(environ: Mapping[str, str]) -> Path:
    """Return the lock that answers this process.

    It is what ``HUBLOCK_PROJECT`` names, else the first ``hub.lock`` upward from the folder of
    the main script, else (a notebook has none) upward from the current folder.

    Raises:
        NotLocked: there is none; every folder tried is named.
    """
    named = Settings.from_mapping(environ).project
    if named is not None:
        return named_lock(named)
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return find_lock(Path(script).absolute().parent if script else Path.cwd(), home(environ))


def read_lock(environ: Mapping[str, str]) -> Lock:
    """Read the lock that answers this process.

    Raises:
        NotLocked: there is none.
        InvalidLock: it is not valid.
    """
    return read_named_lock(lock_file(environ))


def store(environ: Mapping[str, str]) -> Store:
    """Return the store of this process."""
    return Store(Settings.from_mapping(environ).cache)
