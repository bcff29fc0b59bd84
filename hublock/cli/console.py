"""The one mouth of hublock: data goes to stdout, everything else to stderr.

Words: a line is one sentence without a full stop, lower case after ``error:``, ``warning:`` and ``hint:``. Colours and
bars appear on a terminal only, and never under ``NO_COLOR``; ``-q`` leaves errors and data, ``-v`` adds what goes on.
"""

import json
import os
import re
import shlex
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from hublock.core.progress import Progress, Task
from hublock.errors import HublockError, StoreError

RED, GREEN, YELLOW, CYAN, BOLD = "31", "32", "33", "36", "1"
_COMMAND = re.compile(r"hublock (?:add|bundle|diff|help|init|list|lock|outdated|remove|run|sync|update|verify)\b")
"""What works on a project, in a hint."""
_QUOTED = re.compile(r"'[^']*'")
"""A word that shlex has quoted."""
BAR_DELAY = 1.0
"""Seconds something must take before a bar appears."""


class Console(Progress):
    """Where a command speaks."""

    def __init__(
        self,
        out: IO[str],
        err: IO[str],
        environ: Mapping[str, str],
        *,
        verbosity: int = 0,
        project: Path | None = None,
    ) -> None:
        """Speak to ``out`` and ``err``; ``verbosity`` is -1 for quiet, 1 for more.

        ``project`` is what the user named with ``--project``: commands in hints name it as well.
        """
        self._project = shlex.quote(str(project)) if project else None
        self._out = out
        self._err = err
        self._verbosity = verbosity
        terminal = err.isatty() and environ.get("TERM") != "dumb"
        self._colours = terminal and not environ.get("NO_COLOR")
        self._bars = terminal and verbosity >= 0

    def data(self, line: str) -> None:
        """Print an answer of one line to stdout.

        Raises:
            StoreError: stdout cannot be written.
        """
        self.text(printable(line))

    def text(self, text: str) -> None:
        """Print an answer of several lines to stdout.

        Raises:
            StoreError: stdout cannot be written.
        """
        put(text, self._out)

    def json(self, value: object) -> None:
        """Print an answer to stdout as JSON."""
        self.text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))

    def table(self, rows: Iterable[Sequence[str]]) -> None:
        """Print an answer to stdout as aligned columns."""
        cells = [list(row) for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            self.data("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def say(self, message: str) -> None:
        """Say what every user wants to read, unless quiet."""
        if self._verbosity >= 0:
            self._line(message)

    def done(self, verb: str, message: str) -> None:
        """Say what was done: a verb that stands out, and its object."""
        if self._verbosity >= 0:
            self._line(message, lead=self._paint(f"{verb:>9}", GREEN, BOLD))

    def note(self, message: str) -> None:
        """Say what a user who asked for more wants to read."""
        if self._verbosity > 0:
            self._line(message)

    def warn(self, message: str) -> None:
        """Say what a user should act on, unless quiet."""
        if self._verbosity >= 0:
            self._line(message, lead=self._paint("warning:", YELLOW, BOLD))

    def hint(self, message: str) -> None:
        """Say which command comes next, unless quiet."""
        if self._verbosity >= 0:
            self._hint(message)

    def error(self, error: HublockError) -> None:
        """Say what went wrong and how to fix it, also when quiet."""
        self._line(error.message, lead=self._paint("error:", RED, BOLD))
        if error.hint:
            self._hint(error.hint)

    def task(self, label: str, total: int | None = None) -> Task:
        """Show a bar on a terminal, once the task has taken a second."""
        return _Bar(self._err, printable(label), total) if self._bars else Task()

    def step(self, label: str) -> Task:
        """Show on a terminal how long a step takes, once it has taken a second."""
        return _Clock(self._err, printable(label)) if self._bars else Task()

    def _paint(self, text: str, *codes: str) -> str:
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self._colours else text

    def _hint(self, message: str) -> None:
        if self._project:
            message = _COMMAND.sub(lambda command: f"{command[0]} --project {self._project}", message)
        encoding = getattr(self._err, "encoding", None) or "utf-8"
        message = _QUOTED.sub(lambda word: _typed(word[0], encoding), message)
        self._line(message, lead=f"   {self._paint('hint:', CYAN)}")

    def _line(self, message: str, *, lead: str = "") -> None:
        text = f"{lead} {printable(message)}" if lead else printable(message)
        if self._bars:
            from tqdm import tqdm

            tqdm.write(text, file=self._err)
        else:
            # what cannot be said changes nothing
            with suppress(OSError):
                _print(text, self._err)


def put(text: str, out: IO[str]) -> None:
    """Print an answer of several lines.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        _print("\n".join(map(printable, text.split("\n"))), out)
    except OSError as error:
        message = f"standard output cannot be written: {error.strerror}"
        raise StoreError(message, hint="send it elsewhere") from error


def _print(text: str, stream: IO[str]) -> None:
    try:
        # in one piece, as other threads speak too
        print(f"{text}\n", end="", file=stream, flush=True)
    except OSError as error:
        # what is left of it must not fail once more when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        # who read it has gone, but the command goes on and its exit code stands
        if not isinstance(error, BrokenPipeError):
            raise


class _Bar(Task):
    def __init__(self, err: IO[str], label: str, total: int | None) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(
            desc=label,
            total=total,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            file=err,
            leave=False,
            delay=BAR_DELAY,
            dynamic_ncols=True,
        )

    def advance(self, amount: int) -> None:
        self._bar.update(amount)

    def grow(self, total: int) -> None:
        self._bar.total = total

    def close(self) -> None:
        self._bar.close()


class _Clock(Task):
    def __init__(self, err: IO[str], label: str) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(desc=label, bar_format="{desc} {elapsed}", file=err, leave=False, delay=BAR_DELAY)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="hublock-clock", daemon=True)
        self._thread.start()

    def _tick(self) -> None:
        while not self._ended.wait(BAR_DELAY / 2):
            self._bar.update(0)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._bar.close()


def printable(text: str) -> str:
    """Return ``text`` without what would begin a line, move a terminal's cursor, colour it, or turn the writing.

    Docstrings, names and errors come from strangers, and a line of theirs would look like one of ours. Such letters are
    shown as JSON escapes them, so that JSON stays the same JSON.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter == "\t" else json.dumps(letter)[1:-1] for letter in text)


def _typed(word: str, encoding: str) -> str:
    """Return a quoted word so that a shell may be given it: letters that cannot be shown stand as their bytes."""
    parts = []
    for letter in word:
        if letter.isprintable() and letter.encode(encoding, "ignore"):
            parts.append(letter)
        else:
            # one that stands for a byte which is no text
            errors = "surrogateescape" if "\udc80" <= letter <= "\udcff" else "surrogatepass"
            octal = "".join(f"\\{byte:03o}" for byte in letter.encode("utf-8", errors))
            parts.append(f"'$'{octal}''")
    # what is ended and begun again at once
    return "".join(parts).replace("'''$'", "")


def size(count: int) -> str:
    """Return a number of bytes as a person reads it: ``44.7 MiB``."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError(count)


def counted(count: int, noun: str) -> str:
    """Return ``1 file`` or ``3 files``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
