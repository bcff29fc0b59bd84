"""The process between a parent and the child that traces: nothing that the child starts outlives it.

Daemons that leave their group and session too: on Linux the keeper adopts orphans (PR_SET_CHILD_SUBREAPER, prctl(2)),
elsewhere it reaches the child's process group. All end when the parent says so on the keeper's standard input, or
closes it because it died; then the keeper also removes what the parent can no longer remove. POSIX only.
"""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from hublock.runtime.tracing.confinement import adopt_orphans, die_with_parent

_PATIENCE = 10.0
"""Seconds for which processes that keep coming are killed."""


END = b"."
"""What a parent says that wants all to end and will clean up by itself."""


def keep(child: Callable[[], None], *, close: tuple[int, ...], scratch: Path) -> NoReturn:
    """Run ``child`` in a process of its own and end as it ends, with the same status; never returns.

    ``close`` are descriptors that belong to the child alone; ``scratch`` is removed if the parent dies.
    """
    adopts = adopt_orphans()
    keeper = os.getpid()
    process = os.fork()
    if process == 0:
        _be_child(child, keeper)
    for descriptor in close:
        os.close(descriptor)
    orphaned = threading.Event()
    threading.Thread(target=_follow_parent, args=(process, orphaned), daemon=True).start()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    _kill_group(process)
    if adopts:
        _kill_adopted()
    if orphaned.is_set():
        shutil.rmtree(scratch, ignore_errors=True)
    _end_as(status)


def _be_child(child: Callable[[], None], keeper: int) -> NoReturn:
    status = 1
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        die_with_parent(keeper)
        child()
        status = 0
    except SystemExit as stop:
        # of a process that foreign code has forked
        status = stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _follow_parent(process: int, orphaned: threading.Event) -> None:
    """Kill the child once the parent says so, or holds the other end of our standard input no more."""
    if os.read(0, 1) != END:
        orphaned.set()
    _kill(process)


def _kill_group(process: int) -> None:
    # the group may be empty
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def _kill_adopted() -> None:
    """Kill every descendant that is left, until there is none."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        for process in _descendants(os.getpid()):
            _kill(process)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _descendants(root: int) -> list[int]:
    """Return the processes below ``root``, by the parents that /proc tells (proc_pid_stat(5))."""
    below: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # the name, in brackets, may hold anything
            parent = int((folder / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        below.setdefault(parent, []).append(int(folder.name))
    found, queue = [], [root]
    while queue:
        inner = below.get(queue.pop(), [])
        found += inner
        queue += inner
    return found


def _end_as(status: int) -> NoReturn:
    if status < 0:
        # so that our parent sees which signal it was
        with suppress(OSError, ValueError):
            # SIGKILL has no handler to reset
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status if status >= 0 else 1)
