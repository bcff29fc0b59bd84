"""One worker at a time, across threads and processes; a killed holder blocks nobody."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hublock.store.disk import inherited_mode, make_folder, own_name

PATIENCE = 1.0
"""Seconds between two calls of ``on_wait``, which may raise to give up."""
POLL = 0.05
"""Seconds between two tries; no system lets a lock be waited for and given up."""

_held: set[int] = set()
"""Open lock files of this process."""


@contextmanager
def mutex(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file ``path``; while somebody else does, call ``on_wait`` about once a second.

    The system frees the lock of a process that dies. Where the file system cannot lock, nothing is held: the lock only
    saves work, what is right never depends on it.

    Raises:
        StoreError: the folder of the lock file cannot be made.
    """
    make_folder(path.parent)
    with _opened(path) as handle:
        told = -PATIENCE
        while handle is not None and not _locked(handle):
            if on_wait is not None and time.monotonic() - told >= PATIENCE:
                on_wait()
                told = time.monotonic()
            time.sleep(POLL)
        yield


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """Open a lock file, made if need be; None where it cannot be. Closing it frees the lock."""
    mode = inherited_mode(path.parent)
    if mode & 0o020 and not path.exists():
        _make(path, mode)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), mode)
    except OSError:
        yield None
        return
    _held.add(handle)
    try:
        yield handle
    finally:
        # a forked child has let go of it already
        if handle in _held:
            # in this order, as a fork may come between: a child would hold what it does not know of
            _free(handle)
            _held.discard(handle)
            os.close(handle)


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


if sys.platform != "win32":
    import fcntl

    def _locked(handle: int) -> bool:
        """Lock an open file (flock(2)); False if somebody else has it. A file system without locks says yes."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def _free(handle: int) -> None:
        """Unlock an open file, also for whoever inherited it."""
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)

    def _let_go() -> None:
        """Close what a forked child inherits, or it would hold on to the locks of a parent that is killed."""
        for handle in _held:
            with suppress(OSError):
                os.close(handle)
        _held.clear()

    os.register_at_fork(after_in_child=_let_go)
else:
    import msvcrt

    def _locked(handle: int) -> bool:
        """Lock the first byte of an open file; False if somebody else has it."""
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        except OSError:
            return True
        return True

    def _free(handle: int) -> None:
        """Leave it to the closing: nobody inherits open files."""
