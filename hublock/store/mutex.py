"""One worker at a time, across threads and processes; a killed holder blocks nobody."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hublock.store.disk import inherited_mode, make_folder, own_name

PATIENCE = 1.0
"""Seconds between two calls of ``on_wait``, which may raise to give up."""


@contextmanager
def mutex(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file ``path``; while somebody else does, call ``on_wait`` about once a second.

    The system frees the lock of a process that dies. Where the file system cannot lock, nothing is held: the lock only
    saves work, what is right never depends on it.

    Raises:
        StoreError: the folder of the lock file cannot be made.
    """
    from filelock import FileLock, Timeout

    make_folder(path.parent)
    mode = inherited_mode(path.parent)
    if mode & 0o020 and not path.exists():
        _make(path, mode)
    lock = FileLock(path, mode=mode)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        pass
    except (OSError, NotImplementedError):
        yield
        return
    while not lock.is_locked:
        if on_wait is not None:
            on_wait()
        with suppress(Timeout):
            lock.acquire(timeout=PATIENCE)
    try:
        yield
    finally:
        lock.release()


def _make(path: Path, mode: int) -> None:
    """Make the lock file of a shared store so that nobody sees it before its group may open it."""
    own = own_name(path)
    with suppress(OSError):
        handle = os.open(own, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)
        try:
            os.fchmod(handle, mode)
            os.link(own, path)
        finally:
            os.close(handle)
            own.unlink()
