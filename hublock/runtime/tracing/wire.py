"""What a trace child and its parent say to each other: one JSON object a line, each way.

The child asks, one question at a time, and the parent answers; the last thing it says is how it ended. The parent takes
nothing it hears for granted: foreign code holds the other end.
"""

import base64
import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from hublock import errors
from hublock.core.digest import Digest
from hublock.core.hubconf import EntryPoint
from hublock.core.lockfile import Pickle
from hublock.core.tree import Listing
from hublock.errors import HublockError
from hublock.runtime.answers import File
from hublock.runtime.repository import Repository

MAX_LINE = 64 << 20
"""Bytes of one message."""

SEEN = "run the command again with -v to see all that it printed"
"""What to do where a trace has ended and does not say why."""
Message = dict[str, Any]


class BadMessage(Exception):
    """The other side said something that is no message."""


class Channel:
    """Both directions of a line."""

    def __init__(self, reading: IO[bytes], writing: IO[bytes]) -> None:
        """Speak over ``writing`` and listen to ``reading``, both unbuffered or flushed by us."""
        self._reading = reading
        self._writing = writing
        self._mutex = threading.Lock()

    def send(self, message: Message) -> None:
        """Say ``message``.

        Raises:
            OSError: nobody listens any more.
        """
        self._writing.write(json.dumps(message).encode("ascii") + b"\n")
        self._writing.flush()

    def receive(self) -> Message | None:
        """Wait for a message; None when the other side is gone.

        Raises:
            BadMessage: it is no message.
        """
        line = self._reading.readline(MAX_LINE)
        if not line:
            return None
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise BadMessage("no JSON") from None
        if not line.endswith(b"\n") or not isinstance(message, dict):
            raise BadMessage("no message")
        return message

    def exchange(self, message: Message) -> Message | None:
        """Say ``message`` and return the answer, or None when the other side is gone; threads wait for each other.

        Raises:
            OSError: nobody listens any more.
            BadMessage: the answer is no message.
        """
        with self._mutex:
            self.send(message)
            return self.receive()

    def close(self) -> None:
        """Stop speaking and listening."""
        for stream in (self._reading, self._writing):
            # what was buffered may reach nobody
            with suppress(OSError):
                stream.close()


def write_error(error: HublockError) -> Message:
    """Write one of our errors."""
    return {"class": type(error).__name__, "message": error.message, "hint": error.hint}


def read_error(data: Mapping[str, Any]) -> HublockError:
    """Read what :func:`write_error` wrote; an unknown class becomes LoadError."""
    kind = getattr(errors, str(data["class"]), None)
    if not (isinstance(kind, type) and issubclass(kind, HublockError)):
        kind = errors.LoadError
    hint = data.get("hint")
    return kind(str(data["message"]), hint=None if hint is None else str(hint))


def write_file(file: File) -> Message:
    """Write a file."""
    return {"path": str(file.path), "digest": str(file.digest), "size": file.size, "pickle": file.pickle}


def read_file(data: Mapping[str, Any]) -> File:
    """Read what :func:`write_file` wrote."""
    pickle = read_pickle(data["pickle"])
    assert pickle is not None
    return File(path=Path(data["path"]), digest=Digest.parse(data["digest"]), size=data["size"], pickle=pickle)


def read_pickle(data: Any) -> Pickle | None:
    """Read a verdict, which JSON holds as a string or a list."""
    return tuple(data) if isinstance(data, list) else data


def write_repository(repository: Repository) -> Message:
    """Write a repository with its listing."""
    listing = base64.b64encode(repository.listing.to_bytes()).decode("ascii")
    return {"id": repository.id, "digest": str(repository.digest), "root": str(repository.root), "listing": listing}


def read_repository(data: Mapping[str, Any]) -> Repository:
    """Read what :func:`write_repository` wrote."""
    return Repository(
        id=data["id"],
        digest=Digest.parse(data["digest"]),
        root=Path(data["root"]),
        listing=Listing.parse(base64.b64decode(data["listing"])),
    )


def write_entrypoint(entry: EntryPoint) -> Message:
    """Write an entry point."""
    return {"name": entry.name, "signature": entry.signature, "doc": entry.doc, "parameters": list(entry.parameters)}


def read_entrypoint(data: Mapping[str, Any]) -> EntryPoint:
    """Read what :func:`write_entrypoint` wrote.

    Raises:
        BadMessage: it did not.
    """
    doc = data["doc"]
    if doc is not None and not isinstance(doc, str):
        raise BadMessage("no docstring")
    return EntryPoint(
        name=texts([data["name"]])[0],
        signature=texts([data["signature"]])[0],
        doc=doc,
        parameters=texts(data["parameters"]),
    )


def texts(data: Any) -> tuple[str, ...]:
    """Read a list of strings.

    Raises:
        BadMessage: it is none.
    """
    if not isinstance(data, list) or not all(isinstance(item, str) for item in data):
        raise BadMessage("no list of strings")
    return tuple(data)
