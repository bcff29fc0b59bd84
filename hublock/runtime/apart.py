"""Models that are loaded one after the other, each in a process of its own."""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from hublock.errors import LoadError
from hublock.runtime.strict.pytorch import torch_hub
from hublock.runtime.tracing import keeper
from hublock.runtime.tracing.process import GRACE, ending

T = TypeVar("T")

_LOOK = 0.1
"""Seconds between two looks whether the process still lives."""
_INTERRUPTING = {signal.SIGINT, signal.SIGTERM}


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
    watched, watching = context.Pipe(duplex=False)
    with ours, watching, tempfile.TemporaryDirectory(prefix="hublock-", ignore_cleanup_errors=True) as scratch:
        inherited = (ours, watching) if is_forked else ()
        process = context.Process(
            target=_serve,
            args=(theirs, watched, inherited, Path(scratch), partial(_work, theirs, scratch, folder, job, args)),
        )
        with _unbothered():
            process.start()
        theirs.close()
        watched.close()
        try:
            answer: T = _heard(ours, process)
        except (EOFError, OSError):
            process.join()
            raise broken(name, ending(process.exitcode)) from None
        finally:
            _end(process, watching)
    return answer


@contextmanager
def _unbothered() -> Iterator[None]:
    """Let what interrupts us wait until the block has ended: a process that begins in it is not on its own yet."""
    if os.name != "posix":
        yield
        return
    known = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, known)


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


def _end(process: Any, watching: Connection) -> None:
    """End a process and all that it has started, threads that never end among it."""
    if os.name == "posix":
        # the keeper does it, unless it has
        with suppress(BrokenPipeError):
            os.write(watching.fileno(), keeper.END)
        process.join(GRACE)
    process.kill()
    process.join()


def _serve(
    theirs: Connection,
    watched: Connection,
    inherited: tuple[Connection, ...],
    scratch: Path,
    work: Callable[[], None],
) -> None:
    if os.name == "posix":
        # away from Ctrl-C, of which the parent tells
        os.setsid()
        # a command is interrupted by it; the code that runs here is ended, as that of any other program
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTING)
        for end in inherited:
            end.close()
        os.dup2(watched.fileno(), 0)
        keeper.keep(work, close=(theirs.fileno(), watched.fileno()), scratch=scratch)
    work()


def _work(theirs: Connection, scratch: str, folder: Path, job: Callable[..., object], args: tuple[object, ...]) -> None:
    own = os.getpid()
    # what foreign code prints nobody has asked for, nor what the programs print that it starts
    with suppress(OSError):
        os.dup2(2, 1)
    sys.stdout = sys.stderr
    tempfile.tempdir = scratch
    os.chdir(folder)
    answer = job(*args)
    if os.getpid() != own:
        # a child that the code has forked, and that came back out of it
        os._exit(0)
    # it may be closed, by the code or before
    with suppress(OSError):
        theirs.send(answer)
