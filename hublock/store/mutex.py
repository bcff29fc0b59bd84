"""One worker at a time, across threads and processes; a killed holder blocks nobody."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hublock.store.disk import inherited_mode, make_folder


@contextmanager
def mutex(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file ``path``; call ``on_wait`` once if somebody else holds it.

    The system frees the lock of a process that dies. Where the file system cannot lock, nothing is held: the lock only
    saves work, what is right never depends on it.

    Raises:
        StoreError: the folder of the lock file cannot be made.
    """
    from filelock import FileLock, Timeout

    make_folder(path.parent)
    lock = FileLock(path, mode=inherited_mode(path.parent))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is not None:
                on_wait()
            lock.acquire()
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()
