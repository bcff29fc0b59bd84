"""The process that traces: ``python -m hublock.runtime.tracing.child READ WRITE SCRATCH``, started by the worker."""

import os
import random
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from hublock.core.arguments import evaluate
from hublock.core.hubconf import EntryPoint
from hublock.errors import HublockError
from hublock.runtime.repository import Repository, as_written, namespace
from hublock.runtime.strict.refusals import Tolerable
from hublock.runtime.tracing import keeper
from hublock.runtime.tracing.asking import AskedAnswers
from hublock.runtime.tracing.confinement import Policy, confine
from hublock.runtime.tracing.wire import Channel, Message, read_repository, write_entrypoint, write_error

TOLD = 4
"""Lines of an error that are told: the first of torch's own often only say that there are some."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """What came of one entry point."""

    result: object
    entrypoints: tuple[EntryPoint, ...]
    dependencies: list[str]
    refusals: tuple[str, ...]


def main(arguments: list[str]) -> None:
    """Serve one job over two pipes, whose ends ``arguments`` name, in a process that the keeper watches over."""
    *ends, scratch = arguments
    reading, writing = map(_descriptor, ends)
    if sys.platform == "win32":
        _serve(reading, writing)
    else:
        for descriptor in (reading, writing):
            os.set_inheritable(descriptor, False)
        keeper.keep(lambda: _serve(reading, writing), close=(reading, writing), scratch=Path(scratch))


def _descriptor(word: str) -> int:
    if sys.platform == "win32":
        import msvcrt

        return msvcrt.open_osfhandle(int(word), 0)
    return int(word)


def _serve(reading: int, writing: int) -> None:
    own, channel = os.getpid(), Channel(os.fdopen(reading, "rb"), os.fdopen(writing, "wb"))
    job = channel.receive()
    assert job is not None
    isolation = confine(Policy(readable=_paths(job["readable"]), writable=_paths(job["writable"])))
    sys.path[:] = job["import_path"]
    _import_our_own()
    before = set(sys.modules)
    repository = read_repository(job["repository"])
    try:
        last = {"done": {**_run(job, repository, channel, before), "isolation": isolation}}
    except HublockError as error:
        last = {"failed": {"error": write_error(error)}}
    except BaseException as error:
        if os.getpid() != own:
            # a child that the code has forked
            raise
        traceback.print_exception(type(error), error, _from_tree(error, repository))
        last = {"failed": _failure(error, repository)}
    sys.stdout.flush()
    sys.stderr.flush()
    if os.getpid() == own:
        channel.send(last)


def _import_our_own() -> None:
    """Import what only we ourselves may need later, lest it counts as the entry point's."""
    import packaging.requirements
    import packaging.utils  # noqa: F401


def _paths(words: list[str]) -> tuple[Path, ...]:
    return tuple(map(Path, words))


def _run(job: Mapping[str, Any], repository: Repository, channel: Channel, before: set[str]) -> Message:
    from hublock.runtime import torchhub
    from hublock.runtime.distributions import distributions_of
    from hublock.runtime.fingerprint import fingerprint

    torchhub.install()
    _seed(job["seed"])
    channel.send({"started": True})
    answers = AskedAnswers(channel)
    if hasattr(os, "register_at_fork"):
        # what is forked to start a program is gone with that, and could answer nothing
        os.register_at_fork(before=answers.address)
    ran = _call(job, repository, answers)
    imported = {name for name in set(sys.modules) - before if name.partition(".")[0] != "hublock"}
    state = fingerprint(ran.result)
    return {
        "state": None if state is None else str(state),
        "traced_with": distributions_of(imported),
        "entrypoints": list(map(write_entrypoint, ran.entrypoints)),
        "dependencies": ran.dependencies,
        "refusals": sorted(set(ran.refusals)),
    }


def _seed(seed: int) -> None:
    import torch

    random.seed(seed)
    torch.manual_seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)


def _call(job: Mapping[str, Any], repository: Repository, answers: AskedAnswers) -> Ran:
    """Call the entry point; what it was refused ends the trace only where no lock may tolerate it."""
    import torch

    from hublock.runtime import entrypoints, torchhub

    args, kwargs = _arguments(job, repository)
    seen = torchhub.watch(
        repository,
        job["entrypoint"],
        args,
        kwargs,
        answers=answers,
        tolerated=Tolerable(),
        cpu_only=not torch.cuda.is_available(),
    )
    listed = vars(seen.hubconf).get("dependencies")
    return Ran(
        result=seen.result,
        entrypoints=entrypoints.describe(seen.hubconf),
        dependencies=[name for name in listed if isinstance(name, str)] if isinstance(listed, list | tuple) else [],
        refusals=tuple(refusal.what for refusal in seen.refusals),
    )


def _arguments(job: Mapping[str, Any], repository: Repository) -> tuple[list[Any], dict[str, Any]]:
    from hublock.runtime import torchhub

    def resolve(name: str) -> object:
        return torchhub.resolve_object(repository, name)

    return [evaluate(value, resolve) for value in job["args"]], {
        key: evaluate(value, resolve) for key, value in job["kwargs"].items()
    }


def _failure(error: BaseException, repository: Repository) -> Message:
    """Tell of an exception of foreign code: its class, its first line, and where in the tree it came from."""
    from hublock.runtime import isolation

    if isinstance(error, ModuleNotFoundError):
        missing = isolation.explained(repository, error)
        if missing is not None:
            return {"error": write_error(missing)}
    lines = [line.strip() for line in str(error).strip().splitlines()[:TOLD]]
    lines += [f"({note})" for note in getattr(error, "__notes__", ())[:TOLD]]
    return {
        "class": type(error).__name__,
        "message": as_written(" ".join(lines)),
        "where": _where(error, repository),
        "exit": isinstance(error, SystemExit),
    }


def _from_tree(error: BaseException, repository: Repository) -> TracebackType | None:
    """Return the traceback without our own frames above those of the tree."""
    step = error.__traceback__
    while step is not None and not _is_own(step.tb_frame, repository):
        step = step.tb_next
    return step or error.__traceback__


def _is_own(frame: FrameType, repository: Repository) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(f"{namespace(repository)}.")


def _where(error: BaseException, repository: Repository) -> str | None:
    """Return ``file:line`` of the innermost frame in the tree."""
    found = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if _is_own(frame, repository)]
    if not found:
        return None
    frame, line = found[-1]
    path = Path(frame.f_code.co_filename)
    name = path.relative_to(repository.root) if path.is_relative_to(repository.root) else path.name
    return f"{name}:{line}"


if __name__ == "__main__":
    main(sys.argv[1:])
