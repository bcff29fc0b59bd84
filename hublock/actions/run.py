"""Run a script whose torch.hub calls, and those of every Python it starts, are answered from the lock."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from hublock.actions.project import Project, read_named_lock

OFFSET = 120
"""Added to hublock's own exit code, so that a script's status is told from it."""


def run_script(
    words: Sequence[str], project: Project, environ: Mapping[str, str], *, startup: Path, allow_local: bool = False
) -> int:
    """Run ``python WORDS…`` and return its status, or 120 + hublock's exit code where hublock stopped it.

    Args:
        words: a script and its arguments, or ``-m``, a module and its arguments.
        project: whose lock answers; the script may change the current folder.
        environ: what the script inherits.
        startup: the folder of the ``sitecustomize`` that answers in every Python below.
        allow_local: whether ``source="local"`` may run folders that no lock vouches for.

    Raises:
        NotLocked: the project has no lock.
        InvalidLock: the lock is not valid.
    """
    read_named_lock(project.lock)
    with tempfile.TemporaryDirectory(prefix="hublock-run-") as folder:
        status = Path(folder) / "status"
        inherited = environ.get("PYTHONPATH")
        done = subprocess.run(
            [sys.executable, *words],
            check=False,
            env={
                **environ,
                "PYTHONPATH": os.pathsep.join([str(startup), *([inherited] if inherited else [])]),
                "HUBLOCK_PROJECT": str(project.folder.absolute()),
                "HUBLOCK_RUN_STATUS": str(status),
                "HUBLOCK_RUN_PARENT": str(os.getpid()),
                "HUBLOCK_RUN_ALLOW_LOCAL": "1" if allow_local else "0",
            },
        )
        if done.returncode == 1 and status.exists():
            return OFFSET + int(status.read_text(encoding="ascii"))
    # what the shell reports of a program that a signal ended
    return done.returncode if done.returncode >= 0 else 128 - done.returncode
