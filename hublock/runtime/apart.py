"""Models that are loaded one after the other, each in a process of its own."""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from hublock.errors import LoadError
from hublock.runtime.strict.pytorch import torch_hub
from hublock.runtime.tracing.confinement import die_with_parent
from hublock.runtime.tracing.process import ending

T = TypeVar("T")

_LOOK = 0.1
"""Seconds between two looks whether the process still lives."""


def apart(name: str, job: Callable[..., T], *args: object, folder: Path) -> T:
    """Return what ``job(*args)`` does in ``folder``, in a process that ends with it, whatever it has set or started.

    ``job`` is a function of a module; it and all that it is given and returns can be pickled.

    Raises:
        LoadError: the process ended before ``job`` returned, by the code of the model ``name``.
        MissingDependency: torch cannot be imported.
    """
    is_forked = sys.platform == "linux"
    if is_forked:
        # once for all of them; libraries of other systems do not outlive a fork
        torch_hub()
    context: Any = multiprocessing.get_context("fork" if is_forked else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    # what its end does not remove
    with ours, tempfile.TemporaryDirectory(prefix="hublock-", ignore_cleanup_errors=True) as scratch:
        process = context.Process(target=_answer, args=(os.getpid(), theirs, scratch, folder, job, args))
        process.start()
        theirs.close()
        try:
            answer: T = _heard(ours, process)
        except (EOFError, OSError):
            process.join()
            raise broken(name, ending(process.exitcode)) from None
        finally:
            _end(process)
    return answer


def broken(name: str, what: str) -> LoadError:
    """Return the error for the model ``name`` whose own code did ``what`` instead of loading."""
    return LoadError(
        f"{name} could not be loaded: its own code {what}", hint=f"hublock lock --retrace {name} shows where"
    )


def _heard(line: Connection, process: Any) -> Any:
    """Return what a process says, or raise an EOFError when it has ended without a word."""
    # the line, and its sentinel as well, end only when all have ended that it has started
    while not line.poll(_LOOK) and process.exitcode is None:
        pass
    if not line.poll():
        raise EOFError
    return line.recv()


def _end(process: Any) -> None:
    """End a process, which may have started threads that never end, and the processes of its group."""
    if os.name == "posix":
        # before it is its own group there is none
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _answer(
    parent: int,
    theirs: Connection,
    scratch: str,
    folder: Path,
    job: Callable[..., object],
    args: tuple[object, ...],
) -> None:
    if os.name == "posix":
        # away from Ctrl-C, of which the parent tells
        os.setsid()
    die_with_parent(parent)
    # what foreign code prints nobody has asked for, nor what the programs print that it starts
    with suppress(OSError):
        os.dup2(2, 1)
    sys.stdout = sys.stderr
    tempfile.tempdir = scratch
    os.chdir(folder)
    answer = job(*args)
    # they may be closed, by the code or before
    with suppress(AttributeError, OSError, ValueError):
        sys.stdout.flush()
    with suppress(OSError):
        theirs.send(answer)
