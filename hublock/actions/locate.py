"""Which lock and which store answer this process."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from hublock.actions.project import LOCK, find_lock, read_named_lock
from hublock.core.lockfile import Lock
from hublock.settings import Settings, home
from hublock.store.store import Store

_told: dict[str, Path] = {}
"""What the program itself said: its ``lock``, its ``store``."""


def use_lock(path: str | os.PathLike[str]) -> None:
    """Answer from the lock at ``path``, a folder or a file, from now on.

    Raises:
        NotLocked: there is no lock.
        InvalidLock: it is not valid.
    """
    named = Path(path).expanduser().absolute()
    file = named / LOCK if named.is_dir() else named
    read_named_lock(file)
    _told["lock"] = file


def use_store(path: str | os.PathLike[str]) -> None:
    """Keep the store in the folder ``path`` from now on."""
    _told["store"] = Path(path).expanduser().absolute()


def lock_file(environ: Mapping[str, str]) -> Path:
    """Return the lock that answers this process.

    It is what ``use_lock`` was told, else ``HUBLOCK_PROJECT``, else the first ``hub.lock`` upward from the folder of
    the main script, else (a notebook has none) upward from the current folder.

    Raises:
        NotLocked: there is none; every folder tried is named.
    """
    if "lock" in _told:
        return _told["lock"]
    named = Settings.from_mapping(environ).project
    if named is not None:
        return named if named.name == LOCK else named / LOCK
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
    return Store(_told.get("store") or Settings.from_mapping(environ).cache)
