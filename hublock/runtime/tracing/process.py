"""The child process as its parent holds it: started with nothing of ours, read as it prints, ended with its tree."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO

from hublock.runtime.tracing.keeper import END
from hublock.runtime.tracing.scratch import Scratch
from hublock.runtime.tracing.wire import Channel, Message

GRACE = 15.0
"""Seconds for which a child's whole tree may take to end, once told to."""
_TAIL = 200
"""Lines of output that are kept."""
_LINE = 4096
"""Bytes after which a line of output is cut."""


class Child:
    """The child process and the line to it."""

    def __init__(self, process: "subprocess.Popen[bytes]", channel: Channel) -> None:
        """Hold ``process``, which listens and speaks at the other ends of ``channel``."""
        self.process = process
        self.channel = channel

    def send(self, message: Message) -> None:
        """Say ``message``, whether or not anybody is there to hear it."""
        # where it is gone, listening will tell how
        with suppress(OSError):
            self.channel.send(message)

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
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def started(scratch: Scratch, output: "Output", *, seed: int) -> Iterator[Child]:
    """Start a child that lives in ``scratch``; it and all that it started are gone when the block ends."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    channel = Channel(os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb"))
    try:
        process = _popen((theirs_in, theirs_out), scratch.environment(_ours(), seed), scratch)
    except BaseException:
        channel.close()
        raise
    finally:
        os.close(theirs_in)
        os.close(theirs_out)
    child = Child(process, channel)
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
    command = [sys.executable, "-P", "-B", "-u", "-m", "hublock.runtime.tracing.child"]
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


class Output:
    """Reads what a child prints, as long as anything holds its output open."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        """Tell ``on_line`` every line, in another thread."""
        self._on_line = on_line
        self._lines: deque[str] = deque(maxlen=_TAIL)
        self._thread: threading.Thread | None = None

    def follow(self, stream: IO[bytes] | None) -> None:
        """Begin to read ``stream``, and close it at its end."""
        assert stream is not None
        self._thread = threading.Thread(target=self._read, args=(stream,), name="hublock-output", daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(_LINE):
                text = clean(line.decode("utf-8", "replace")).rstrip()
                self._lines.append(text)
                with suppress(OSError, ValueError):
                    # whoever listened is gone; the child must not wait for it
                    self._on_line(text)

    def join(self) -> None:
        """Wait until all was read."""
        if self._thread is not None:
            self._thread.join(GRACE)

    def text(self) -> str:
        """Return the last lines."""
        return "\n".join(self._lines)


def clean(text: object) -> str:
    """Leave out what would move a terminal's cursor or colour it."""
    bare = re.sub(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[^\[])", "", str(text))
    return "".join(letter for letter in bare if letter.isprintable() or letter == "\t")


def ending(status: int) -> str:
    """Tell how the code of a process that has ended with ``status`` has ended it."""
    if status >= 0:
        return f"ended the process with status {status}"
    try:
        return f"crashed with {signal.Signals(-status).name}"
    except ValueError:
        return f"crashed with signal {-status}"
