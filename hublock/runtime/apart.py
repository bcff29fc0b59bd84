"""Models that are loaded one after the other, each in a process of its own."""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from hublock.errors import LoadError
from hublock.runtime.strict.pytorch import torch_hub
from hublock.runtime.tracing.process import ending

T = TypeVar("T")


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
        process = context.Process(target=_answer, args=(theirs, scratch, folder, job, args))
        process.start()
        theirs.close()
        try:
            answer: T = ours.recv()
        except (EOFError, OSError):
            process.join()
            raise LoadError(
                f"{name} could not be loaded: its own code {ending(process.exitcode)}",
                hint=f"hublock lock --retrace {name} shows where",
            ) from None
        finally:
            # it may have started threads that never end
            process.kill()
            process.join()
    return answer


def _answer(
    theirs: Connection, scratch: str, folder: Path, job: Callable[..., object], args: tuple[object, ...]
) -> None:
    # what foreign code prints nobody has asked for
    sys.stdout = sys.stderr
    tempfile.tempdir = scratch
    os.chdir(folder)
    # the parent is interrupted as well, and tells
    with suppress(KeyboardInterrupt):
        answer = job(*args)
        sys.stdout.flush()
        theirs.send(answer)
