"""Git repositories on disk and behind ssh, served by a child process: the user's own git or ssh."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from hublock.errors import EnvironmentMismatch, HublockError, InvalidReference, RepositoryNotFound, TransferError
from hublock.net.git.wire import Wire

if TYPE_CHECKING:
    from dulwich.client import SubprocessWrapper, TraditionalGitClient
    from dulwich.protocol import Protocol

_SERVE = ("git", "-c", "uploadpack.allowFilter=true", "-c", "uploadpack.allowAnySHA1InWant=true", "upload-pack")
_OF_ANOTHER_REPOSITORY = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
}
"""What git sets for its hooks: run from one, git would look into the hook's repository."""


def disk_wire(name: str, path: Path) -> Wire:
    """Return the repository in the folder ``path``: a work tree, bare or shallow."""
    return _ChildWire(name, path.as_uri(), [*_SERVE, str(path)])


def ssh_wire(name: str, url: str) -> Wire:
    """Return the repository at an ``ssh://`` URL, reached by the user's own ssh (GIT_SSH_COMMAND, else ``ssh``).

    Raises:
        InvalidReference: ``url`` names no host.
    """
    parts = urlsplit(url)
    host = f"{parts.username}@{parts.hostname}" if parts.username else parts.hostname or ""
    if not parts.hostname or host.startswith("-"):
        raise InvalidReference(f"{url} names no host", hint="write git+ssh://git@host/path")
    program = shlex.split(child_environment().get("GIT_SSH_COMMAND", "")) or ["ssh"]
    port = ["-p", str(parts.port)] if parts.port else []
    path = unquote(parts.path)
    path = path[1:] if path.startswith("/~") else path
    command = f"git-upload-pack {shlex.quote(path)}"
    return _ChildWire(name, url, [*program, "-o", "SendEnv=GIT_PROTOCOL", *port, host, command])


def child_environment() -> dict[str, str]:
    """Return the user's environment for git and ssh, which find there their keys, agents and settings."""
    inherited = os.environ  # noqa: TID251 - handed on whole to the user's own programs
    kept = {name: value for name, value in inherited.items() if name not in _OF_ANOTHER_REPOSITORY}
    return {**kept, "GIT_PROTOCOL": "version=2", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}


class _ChildWire(Wire):
    def __init__(self, name: str, address: str, command: Sequence[str]) -> None:
        super().__init__(name, _child_client(self._start))
        self._where, self._command = address, command
        self._greeting = bytearray()
        self._child: SubprocessWrapper | None = None
        self._talk: Protocol | None = None
        self._errors: IO[bytes] | None = None

    def _greeted(self) -> bytes:
        return bytes(self._greeting)

    def _address(self) -> str:
        return self._where

    def _start(self) -> "tuple[Protocol, Callable[[], bool]]":
        from dulwich.client import SubprocessWrapper
        from dulwich.protocol import Protocol

        # a file, not a pipe: nobody reads it while the child talks
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _finish
        pipe = subprocess.PIPE
        try:
            child = subprocess.Popen(
                self._command, bufsize=0, stdin=pipe, stdout=pipe, stderr=self._errors, env=child_environment()
            )
        except FileNotFoundError:
            program = self._command[0]
            raise EnvironmentMismatch(
                f"{self._name} cannot be read without {program}, which is not installed", hint=f"install {program}"
            ) from None
        self._child = SubprocessWrapper(child)
        self._talk = Protocol(self._read, self._child.write, self._child.close)
        return self._talk, self._child.can_read

    def _read(self, size: int) -> bytes:
        assert self._child is not None
        data = self._child.read(size)
        self._hear(len(data))
        if len(self._greeting) < 1 << 12:
            self._greeting += data
        return data

    def _finish(self) -> str:
        talk, self._talk = self._talk, None
        if talk is not None:
            talk.close()
        errors, self._errors = self._errors, None
        if errors is None:
            return ""
        with errors:
            errors.seek(0)
            return errors.read(1 << 12).decode("utf-8", "replace")

    def _failure(self, said: str) -> HublockError:
        if "not appear to be a git repository" in said or "not a git repository" in said:
            return RepositoryNotFound(f"{self._name} is no git repository: {said}", hint="check the path")
        hint = None if self._where.startswith("file:") else f"check that `git ls-remote {self._where}` works"
        return TransferError(f"{self._name}: git was refused or broke off: {said}", hint=hint)


def _child_client(start: "Callable[[], tuple[Protocol, Callable[[], bool]]]") -> "TraditionalGitClient":
    from dulwich.client import TraditionalGitClient

    class Client(TraditionalGitClient):
        def _connect(
            self, cmd: bytes, path: str | bytes, protocol_version: int | None = None
        ) -> "tuple[Protocol, Callable[[], bool], None]":
            del cmd, path, protocol_version
            return (*start(), None)

    return Client(thin_packs=False, quiet=True)
