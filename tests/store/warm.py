"""Processes for the crash tests that begin warm: forked from one that has imported all they need, traced from there on.

Under strace a Python takes half a second to start, which a hundred kills would pay a hundred times.
``python -m tests.store.warm MODULE`` reads jobs and runs ``MODULE.main(words)`` for each; :class:`Warm` talks to it.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    code: int
    """The exit code; -9 if it was killed."""
    said: str
    """What it wrote to stdout and stderr."""


class Warm:
    """Starts processes that call ``module.main``; a context manager."""

    def __init__(self, module: str) -> None:
        environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
        self._said = tempfile.NamedTemporaryFile("r")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.warm", module, self._said.name],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process, self._said:
            self._process.kill()

    def run(
        self, words: Sequence[object], *, environ: Mapping[str, str] | None = None, strace: Sequence[str] = ()
    ) -> Ended:
        """Run one process from its beginning to its end, under strace if it is given any options."""
        pid = int(self._ask(json.dumps([[str(word) for word in words], dict(environ or {})])))
        tracer = attach(pid, strace) if strace else None
        code = int(self._ask("go"))
        if tracer is not None:
            with tracer:
                tracer.communicate(timeout=120)
        return Ended(code, Path(self._said.name).read_text())

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        return self._process.stdout.readline()


def attach(pid: int, options: Sequence[str]) -> "subprocess.Popen[str]":
    """Begin to trace a process that waits, and whatever it starts."""
    command = ["strace", "-f", "-e", "signal=none", *options, "-p", str(pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    line = tracer.stderr.readline()
    assert line.endswith("attached\n"), line
    return tracer


def serve(module: Any, said: str) -> None:
    for line in sys.stdin:
        words, environ = json.loads(line)
        start, go = os.pipe()
        learnt, modules = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go)
            os.close(learnt)
            os.read(start, 1)
            begin(module, words, environ, said, modules)
        os.close(start)
        os.close(modules)
        print(child, flush=True)
        sys.stdin.readline()
        os.close(go)
        with os.fdopen(learnt, encoding="utf-8") as names:
            known = names.read().split()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        for name in known:
            # so that the next one begins with it
            with suppress(Exception):
                importlib.import_module(name)


def begin(module: Any, words: list[str], environ: dict[str, str], said: str, modules: int) -> NoReturn:
    """Be the process that was asked for."""
    code = 70
    try:
        os.environ |= environ
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(said, os.O_WRONLY | os.O_TRUNC), 1)
        os.dup2(1, 2)
        code = module.main(words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(modules, " ".join(sys.modules).encode())
        os._exit(code)


if __name__ == "__main__":
    serve(importlib.import_module(sys.argv[1]), sys.argv[2])
