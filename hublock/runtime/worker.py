"""Runs an entry point once, in a child that is thrown away, and answers what it asks for.

The child has no network, an empty home and no credentials; every fetch is a question that the parent answers. See
``child`` for its side, ``keeper`` for how its descendants end, ``confinement`` for what holds it.
"""

import base64
import os
import queue
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from hublock.core.arguments import Value
from hublock.core.digest import Digest
from hublock.core.hubconf import EntryPoint
from hublock.errors import HublockError, IncompleteTrace, UnlockedDownload
from hublock.runtime.answers import Answers
from hublock.runtime.keeper import END
from hublock.runtime.repository import Repository
from hublock.runtime.scratch import Scratch
from hublock.runtime.wire import (
    BadMessage,
    Channel,
    Message,
    read_entrypoint,
    read_error,
    texts,
    write_error,
    write_file,
    write_repository,
)

DEFAULT_TIMEOUT = 600.0
"""Seconds for which an entry point may run; while one of its questions is answered the clock stands still."""
_ISOLATIONS = {name: name for name in ("netns+landlock", "netns", "landlock", "guard")}
_TAIL = 200
"""Lines of output that are kept."""
_LINE = 4096
"""Bytes after which a line of output is cut."""
_START = 300.0
"""Seconds within which a child must have imported torch."""
_GRACE = 15.0
"""Seconds for which a child's whole tree may take to end, once told to."""


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
    """What held: ``netns+landlock``, ``netns``, ``landlock`` or ``guard``."""
    entrypoints: tuple[EntryPoint, ...]
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
        output = _Output(on_output)
        with _started(job, scratch, output) as child:
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
            isolation=_ISOLATIONS[done["isolation"]],
            entrypoints=tuple(map(read_entrypoint, done["entrypoints"])),
            refusals=tuple(sorted(set(texts(done["refusals"])))),
            writes_tree=scratch.was_written(),
            output=output,
        )
    except (BadMessage, LookupError, TypeError, ValueError, AttributeError):
        raise _nonsense(job) from None


class _Child:
    """The child process and the line to it."""

    def __init__(self, process: "subprocess.Popen[bytes]", channel: Channel) -> None:
        self.process = process
        self.channel = channel

    def send(self, message: Message) -> None:
        try:
            self.channel.send(message)
        except OSError:
            # it is gone, and listening will tell how
            return

    def end(self) -> None:
        """Kill the child and everything it started."""
        process = self.process
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                # the keeper kills the whole tree
                process.stdin.write(END)
                process.stdin.close()
        elif process.poll() is None:
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _started(job: Job, scratch: Scratch, output: "_Output") -> Iterator[_Child]:
    """Start a child; it and all that it started are gone when the block ends."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    channel = Channel(os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb"))
    try:
        process = _popen((theirs_in, theirs_out), scratch.environment(_ours(), job.seed % 2**32), scratch)
    finally:
        os.close(theirs_in)
        os.close(theirs_out)
    child = _Child(process, channel)
    try:
        output.follow(process.stdout)
        yield child
    finally:
        child.end()
        output.join()
        channel.close()


def _ours() -> Mapping[str, str]:
    # not a setting: what any program needs to start, of which the scratch folder picks a fixed few
    return os.environ  # noqa: TID251


def _popen(ends: tuple[int, int], environment: Mapping[str, str], scratch: Scratch) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-B", "-u", "-m", "hublock.runtime.child"]
    if sys.platform == "win32":
        import msvcrt

        handles = [msvcrt.get_osfhandle(end) for end in ends]
        for handle in handles:
            os.set_handle_inheritable(handle, True)
        return subprocess.Popen(
            [*command, *map(str, handles), str(scratch.root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=scratch.cwd,
            startupinfo=subprocess.STARTUPINFO(lpAttributeList={"handle_list": handles}),
            creationflags=subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW,
        )
    return subprocess.Popen(
        [*command, *map(str, ends), str(scratch.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=scratch.cwd,
        pass_fds=ends,
        start_new_session=True,
    )


class _Conversation:
    """Answers the child's questions until it has said its last word."""

    def __init__(self, job: Job, answers: Answers, scratch: Scratch, child: _Child, timeout: float) -> None:
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
                hint="hublock lock --timeout SECONDS",
            ) from None
        finally:
            self._left -= time.monotonic() - began

    def _answer(self, question: Message) -> None:
        if _is_malformed(question):
            raise _nonsense(self._job)
        try:
            answer = _QUESTIONS[question["ask"]](self._answers, self._scratch, question)
        except UnlockedDownload as error:
            # foreign code may go on without, and tells so at its end
            self._child.send({"error": write_error(error)})
        else:
            self._child.send({"answer": answer})

    def _ended(self) -> HublockError:
        """Tell how the child ended without a last word."""
        try:
            status = self._child.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return _nonsense(self._job)
        what = f"crashed with {_signal(-status)}" if status < 0 else f"ended the process with status {status}"
        return IncompleteTrace(f"{_called(self._job)} {what}", hint=_SEEN)

    def _failed(self, told: Any) -> HublockError:
        """Tell of the exception that ended the entry point."""
        try:
            if "error" in told:
                return read_error(told["error"])
            kind, message, where = _clean(told["class"]), _clean(told["message"]), told["where"]
            verb = "ended the process with" if told["exit"] else "raised"
        except (LookupError, TypeError):
            return _nonsense(self._job)
        place = f" ({_clean(where)})" if where else ""
        said = f"{kind}: {message}" if message else kind
        return IncompleteTrace(f"{_called(self._job)} {verb} {said}{place}", hint=_SEEN)


_SEEN = "run the command again with -v to see all that it printed"


def _called(job: Job) -> str:
    return f"{job.repository.id} {job.entrypoint or 'hubconf.py'}"


def _nonsense(job: Job) -> IncompleteTrace:
    return IncompleteTrace(f"{_called(job)} broke the line to the process that traced it", hint=_SEEN)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_Question = Callable[[Answers, Scratch, Message], Any]


def _fetch(answers: Answers, scratch: Scratch, question: Message) -> Any:
    return write_file(scratch.visible(answers.fetch(question["url"], hash_prefix=question["hash_prefix"])))


def _repo(answers: Answers, scratch: Scratch, question: Message) -> Any:
    return write_repository(scratch.copied(answers.repo(question["reference"])))


def _reply(answers: Answers, _: Scratch, question: Message) -> Any:
    reply = answers.reply(question["method"], question["url"])
    return None if reply is None else [reply[0], base64.b64encode(reply[1]).decode("ascii")]


def _hf(answers: Answers, scratch: Scratch, question: Message) -> Any:
    commit, file = answers.hf(question["repo"], question["type"], question["revision"], question["file"])
    return [commit, write_file(scratch.visible(file))]


def _hf_files(answers: Answers, _: Scratch, question: Message) -> Any:
    commit, files = answers.hf_files(question["repo"], question["type"], question["revision"])
    return [commit, list(files)]


def _input(answers: Answers, _: Scratch, question: Message) -> Any:
    path = Path(question["path"])
    try:
        # a pipe or device of the child's making would hold us up
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return None
    file = answers.input(path) if regular else None
    return None if file is None else write_file(file)


def _pickle_of(answers: Answers, _: Scratch, question: Message) -> Any:
    return answers.pickle_of(question["repo"], question["path"])


_QUESTIONS: dict[str, _Question] = {
    "fetch": _fetch, "repo": _repo, "reply": _reply, "hf": _hf, "hf_files": _hf_files, "input": _input,
    "pickle_of": _pickle_of,
}  # fmt: skip
_WORDS = {
    "fetch": ("url",), "repo": ("reference",), "reply": ("method", "url"), "hf": ("repo", "type", "revision", "file"),
    "hf_files": ("repo", "type", "revision"), "input": ("path",), "pickle_of": ("repo", "path"),
}  # fmt: skip


def _is_malformed(question: Message) -> bool:
    words = _WORDS.get(question["ask"]) if isinstance(question.get("ask"), str) else None
    return words is None or not all(isinstance(question.get(word), str) for word in words)


class _Output:
    """Reads what a child prints, as long as anything holds its output open."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._lines: deque[str] = deque(maxlen=_TAIL)
        self._thread: threading.Thread | None = None

    def follow(self, stream: IO[bytes] | None) -> None:
        assert stream is not None
        self._thread = threading.Thread(target=self._read, args=(stream,), name="hublock-output", daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(_LINE):
                text = _clean(line.decode("utf-8", "replace")).rstrip()
                self._lines.append(text)
                with suppress(OSError, ValueError):
                    # whoever listened is gone; the child must not wait for it
                    self._on_line(text)

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join(_GRACE)

    def text(self) -> str:
        return "\n".join(self._lines)


def _clean(text: Any) -> str:
    """Leave out what would move a terminal's cursor or colour it."""
    bare = re.sub(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[^\[])", "", str(text))
    return "".join(letter for letter in bare if letter.isprintable() or letter == "\t")
