"""Runs an entry point once, in a child that is thrown away, and answers what it asks for.

The child has no network, an empty home and no credentials; every fetch is a question that the parent answers. See
``child`` for its side, ``keeper`` for how its descendants end, ``confinement`` for what holds it.
"""

import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hublock.core.arguments import Value
from hublock.core.digest import Digest
from hublock.core.hubconf import EntryPoint
from hublock.core.lockfile import ISOLATIONS
from hublock.errors import HublockError, IncompleteTrace, UnlockedDownload
from hublock.runtime.answers import Answers
from hublock.runtime.repository import Repository
from hublock.runtime.tracing.process import GRACE, Child, Output, clean, ending, started
from hublock.runtime.tracing.questions import answer
from hublock.runtime.tracing.scratch import Scratch
from hublock.runtime.tracing.wire import (
    SEEN,
    BadMessage,
    Message,
    read_entrypoint,
    read_error,
    texts,
    write_error,
    write_repository,
)

DEFAULT_TIMEOUT = 600.0
"""Seconds for which an entry point may run; while one of its questions is answered the clock stands still."""
_START = 300.0
"""Seconds within which a child must have imported torch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One run of one entry point."""

    repository: Repository
    """A stored tree; the child gets a copy, so that whatever runs leaves it as it is."""
    entrypoint: str | None
    """None only asks which entry points there are."""
    args: tuple[Value, ...] = ()
    kwargs: Mapping[str, Value] = field(default_factory=dict)
    seed: int = 0
    """For Python's, numpy's and torch's random numbers."""
    inputs: Mapping[str, Path] = field(default_factory=dict)
    """Files the user hands in, by the path, relative to its current directory, at which the code looks for them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a run that came to its end has shown."""

    state: Digest | None
    """The fingerprint of what the entry point returned; None if that holds no tensors."""
    traced_with: tuple[str, ...]
    """The distributions that were imported: ``torch==2.13.0``."""
    isolation: str
    """What held: one of :data:`hublock.core.lockfile.ISOLATIONS`."""
    entrypoints: tuple[EntryPoint, ...]
    dependencies: tuple[str, ...]
    """What hubconf.py lists, once it runs."""
    refusals: tuple[str, ...]
    """What was refused, though the entry point came to its end: ``https://host``, ``subprocess:name``; sorted."""
    writes_tree: bool
    """Whether it wrote into its own tree."""
    output: str
    """The last lines it printed."""


def trace(
    job: Job, answers: Answers, *, timeout: float = DEFAULT_TIMEOUT, on_output: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Run ``job`` in a child; what it fetches is asked of ``answers``, in this thread.

    ``on_output`` hears every line the child prints, in another thread, without control characters. The child and all
    it started are gone when this returns or raises, Ctrl-C included.

    Raises:
        IncompleteTrace: the entry point raised, hung, crashed or ended the process.
        EntrypointNotFound: there is no such entry point.
        MissingDependency: it imports what is not installed.
        HublockError: what ``answers`` raised first; an UnlockedDownload ends the trace only where no lock may
            tolerate it.
    """
    with Scratch(job.repository) as scratch:
        scratch.give(job.inputs)
        output = Output(on_output)
        with started(scratch, output, seed=job.seed % 2**32) as child:
            child.send(_job(job, scratch))
            last = _Conversation(job, answers, scratch, child, timeout).last()
        return _outcome(last, scratch, output.text(), job)


def _job(job: Job, scratch: Scratch) -> Message:
    return {
        "repository": write_repository(scratch.repository),
        "entrypoint": job.entrypoint,
        "args": list(job.args),
        "kwargs": dict(job.kwargs),
        "seed": job.seed % 2**32,
        "import_path": scratch.import_path,
        "readable": [str(path) for path in scratch.policy.readable],
        "writable": [str(path) for path in scratch.policy.writable],
    }


def _outcome(done: Mapping[str, Any], scratch: Scratch, output: str, job: Job) -> Outcome:
    try:
        return Outcome(
            state=None if done["state"] is None else Digest.parse(done["state"]),
            traced_with=texts(done["traced_with"]),
            isolation=ISOLATIONS[ISOLATIONS.index(done["isolation"])],
            entrypoints=tuple(map(read_entrypoint, done["entrypoints"])),
            dependencies=tuple(dict.fromkeys(texts(done["dependencies"]))),
            refusals=tuple(sorted(set(texts(done["refusals"])))),
            writes_tree=scratch.was_written(),
            output=output,
        )
    except (BadMessage, LookupError, TypeError, ValueError, AttributeError):
        raise _nonsense(job) from None


class _Conversation:
    """Answers the child's questions until it has said its last word."""

    def __init__(self, job: Job, answers: Answers, scratch: Scratch, child: Child, timeout: float) -> None:
        self._job = job
        self._answers = answers
        self._scratch = scratch
        self._child = child
        self._left = _START
        self._timeout = timeout
        self._started = False
        self._heard: queue.SimpleQueue[Message | BadMessage | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="hublock-trace", daemon=True).start()

    def last(self) -> Mapping[str, Any]:
        """Return what the child has to say at its end."""
        while True:
            message = self._next()
            if message is None:
                raise self._ended()
            if isinstance(message, BadMessage):
                raise _nonsense(self._job)
            if "done" in message or "failed" in message:
                break
            if "started" in message and not self._started:
                # importing torch is not the entry point's time
                self._started, self._left = True, self._timeout
            else:
                self._answer(message)
        if isinstance(message.get("done"), dict):
            return message["done"]  # type: ignore[no-any-return]
        raise self._failed(message.get("failed"))

    def _listen(self) -> None:
        try:
            while (message := self._child.channel.receive()) is not None:
                self._heard.put(message)
        except BadMessage as error:
            self._heard.put(error)
        except (OSError, ValueError):
            # our end was closed
            pass
        self._heard.put(None)

    def _next(self) -> "Message | BadMessage | None":
        began = time.monotonic()
        try:
            return self._heard.get(timeout=max(self._left, 0))
        except queue.Empty:
            raise IncompleteTrace(
                f"{_called(self._job)} was still running after {self._timeout:g} s",
                hint="type the command again with a longer --timeout SECONDS",
            ) from None
        finally:
            self._left -= time.monotonic() - began

    def _answer(self, question: Message) -> None:
        try:
            self._child.send({"answer": answer(question, self._answers, self._scratch)})
        except BadMessage:
            raise _nonsense(self._job) from None
        except UnlockedDownload as error:
            # foreign code may go on without, and tells so at its end
            self._child.send({"error": write_error(error)})

    def _ended(self) -> HublockError:
        """Tell how the child ended without a last word."""
        try:
            status = self._child.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return _nonsense(self._job)
        return IncompleteTrace(f"{_called(self._job)} {ending(status)}", hint=SEEN)

    def _failed(self, told: Any) -> HublockError:
        """Tell of the exception that ended the entry point."""
        try:
            if "error" in told:
                return read_error(told["error"])
            kind, message, where = clean(told["class"]), clean(told["message"]), told["where"]
            verb = "ended the process with" if told["exit"] else "raised"
        except (LookupError, TypeError):
            return _nonsense(self._job)
        place = f" ({clean(where)})" if where else ""
        said = f"{kind}: {message}" if message else kind
        hint = f"it may need older packages, or an older Python; {SEEN}" if kind in _AGED else SEEN
        return IncompleteTrace(f"{_called(self._job)} {verb} {said}{place}", hint=hint)


_AGED = ("AttributeError", "ImportError")
"""What most of the code raises that newer packages have left behind."""


def _called(job: Job) -> str:
    return f"{job.repository.id} {job.entrypoint or 'hubconf.py'}"


def _nonsense(job: Job) -> IncompleteTrace:
    return IncompleteTrace(f"{_called(job)} broke the line to the process that traced it", hint=SEEN)
