"""Run a program so that the torch.hub calls of every Python in it are answered from the lock."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hublock.actions.project import Project
from hublock.runtime import startup
from hublock.settings import Settings

if TYPE_CHECKING:
    from hublock.actions.trace import TraceOptions

OFFSET = 120
"""Added to hublock's own exit code, so that a program's status is told from it."""


def run_program(
    words: Sequence[str],
    project: Project,
    environ: Mapping[str, str],
    *,
    allow_local: bool = False,
    record: "TraceOptions | None" = None,
) -> int:
    """Run a program and return its status, or 120 + hublock's exit code where hublock stopped it.

    Args:
        words: the program and its arguments.
        project: whose lock answers; the program may change the current folder.
        environ: what the program inherits.
        allow_local: whether ``source="local"`` may run folders that no lock vouches for.
        record: how to trace and lock what the lock does not have; None to refuse it.
    """
    with tempfile.TemporaryDirectory(prefix="hublock-run-") as folder:
        status = Path(folder) / "status"
        code = _see_through(
            words,
            {
                **environ,
                **answering(environ, project.lock.absolute(), allow_local=allow_local),
                "HUBLOCK_RUN_STATUS": str(status),
                "HUBLOCK_RUN_PARENT": str(os.getpid()),
                "HUBLOCK_RUN_RECORD": json.dumps(asdict(record)) if record else "",
            },
        )
        if code == 1 and status.exists():
            return OFFSET + int(status.read_text(encoding="ascii"))
    # what the shell reports of a program that a signal ended
    return code if code >= 0 else 128 - code


def answering(environ: Mapping[str, str], lock: Path | None, *, allow_local: bool) -> dict[str, str]:
    """Return the variables under which every Python answers torch.hub from ``lock``; None to look for one."""
    inherited = environ.get("PYTHONPATH", "")
    return {
        "PYTHONPATH": startup.put_first(startup.FOLDER, inherited),
        # a program may change the current folder
        "HUBLOCK_CACHE_DIR": str(Settings.from_mapping(environ).cache),
        **({"HUBLOCK_PROJECT": str(lock)} if lock is not None else {}),
        "HUBLOCK_RUN_ALLOW_LOCAL": "1" if allow_local else "0",
        "HUBLOCK_RUN_WITHOUT": inherited,
    }


def _see_through(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a program to its end and return its status; whatever shall end hublock meanwhile, the program decides."""
    programs: list[subprocess.Popen[bytes]] = []

    def hand_on(number: int, frame: object) -> None:
        del frame
        # Ctrl-C reaches the program from the terminal itself
        if number != signal.SIGINT:
            for program in programs:
                program.send_signal(number)

    known = {number: signal.signal(number, hand_on) for number in _ENDING}
    try:
        programs.append(subprocess.Popen(words, env=environ))
        return programs[0].wait()
    finally:
        for number, handler in known.items():
            signal.signal(number, handler)


_ENDING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if sys.platform != "win32" else [])]
