"""Folders of this process: they go as it exits, and those of processes that were killed go with a later one."""

import atexit
import itertools
import multiprocessing
import os
import shutil
import tempfile
import time
from contextlib import suppress
from multiprocessing import util
from pathlib import Path

from hublock.runtime.forksafe import ForkSafeLock

PREFIX = "hublock-load-"
LEFT_BEHIND_AFTER = 86_400.0
"""Seconds without a change after which a folder that nobody holds was left behind."""

removed: set[Path] = set()
"""Folders of this process that are gone for good, as it exits."""

_counter = itertools.count()
_private: dict[int, Path] = {}
_private_lock = ForkSafeLock()


def private_folder() -> Path:
    """Make a new empty folder that only this process uses; all of them are removed when it exits."""
    with _private_lock:
        process = os.getpid()
        root = _private.get(process)
        # somebody may have cleaned up the folder for temporary files
        if root is None or not root.is_dir():
            root = _private[process] = folder_of_process()
    folder = root / str(next(_counter))
    folder.mkdir()
    return folder


def folder_of_process() -> Path:
    """Make a new folder that is removed when this process exits."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    _hold(folder)
    atexit.register(_remove, folder, os.getpid())
    if multiprocessing.parent_process() is not None:
        # a worker that was forked ends without its exit handlers, but for these
        util.Finalize(None, _remove, (folder, os.getpid()), exitpriority=0)
    return folder


def _remove(folder: Path, process: int) -> None:
    # a forked child inherits the exit handlers, but not the folder
    if os.getpid() == process:
        is_first = not removed
        removed.add(folder)
        shutil.rmtree(folder, ignore_errors=True)
        if is_first:
            _remove_left_behind(folder.parent)


def _remove_left_behind(parent: Path) -> None:
    """Remove the folders in ``parent`` whose processes were ended by a signal: nothing of theirs ran at their exit."""
    for folder in parent.glob(f"{PREFIX}*"):
        # another process may be faster
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > LEFT_BEHIND_AFTER and _hold(folder, alone=True):
                shutil.rmtree(folder, ignore_errors=True)


def _hold(folder: Path, *, alone: bool = False) -> bool:
    """Hold ``folder`` until this process has ended, and all that it forked; return whether nobody forbids that.

    A lock of flock(2) belongs to the open file, which forked children share. Windows has none: there folders stay.
    """
    try:
        import fcntl
    except ImportError:
        return False
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_NB | (fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        except OSError:
            os.close(descriptor)
            raise
        return True
    return False
