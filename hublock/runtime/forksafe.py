"""Locks that a forked child can take: the thread that held one in its parent is not there to let go of it."""

import os
import threading


class ForkSafeLock:
    """A lock that its holder may take again; in a forked child it is new, unless the thread that forked holds it."""

    def __init__(self) -> None:
        """Be free."""
        self._lock = threading.RLock()
        _all.append(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Be free again if another thread holds it."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = threading.RLock()


_all: list[ForkSafeLock] = []
"""Every one of them: they are made by modules, and live as long."""


def _renew() -> None:
    for lock in _all:
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
