"""The answers of a trace child, and of programs that it starts: every question goes to the parent."""

import base64
import threading
from pathlib import Path
from typing import Any

from hublock.core.lockfile import Pickle
from hublock.errors import IncompleteTrace
from hublock.runtime.answers import File
from hublock.runtime.repository import Repository
from hublock.runtime.strict.scope import outside
from hublock.runtime.tracing.relay import Afar, Relay
from hublock.runtime.tracing.wire import SEEN, Channel, Message, read_error, read_file, read_pickle, read_repository


class AskedAnswers:
    """Answers that another process gives."""

    def __init__(self, line: Channel | Afar) -> None:
        """Ask over ``line``."""
        self._line = line
        self._relay: Relay | None = None
        self._mutex = threading.Lock()

    def __reduce__(self) -> Any:
        """Ask from another process, which a line of our own does not reach."""
        return AskedAnswers, (Afar(self.address()),)

    def address(self) -> str | None:
        """Return where programs reach us; None if they cannot."""
        if isinstance(self._line, Afar):
            return self._line.address
        with self._mutex:
            try:
                with outside():
                    self._relay = self._relay or Relay(self._line)
            except OSError:
                return None
            return self._relay.address

    def _ask(self, message: Message) -> Any:
        reply = self._line.exchange(message)
        if reply is None:
            raise IncompleteTrace("the process that is traced does not answer its programs any more", hint=SEEN)
        if "error" in reply:
            raise read_error(reply["error"])
        return reply["answer"]

    def fetch(self, url: str, *, hash_prefix: str | None = None) -> File:
        """Let the parent download ``url``."""
        return read_file(self._ask({"ask": "fetch", "url": url, "hash_prefix": hash_prefix}))

    def repo(self, reference: str) -> Repository:
        """Let the parent bring a nested repository."""
        return read_repository(self._ask({"ask": "repo", "reference": reference}))

    def reply(self, method: str, url: str) -> tuple[int, bytes] | None:
        """Let the parent ask for a metadata answer."""
        answer = self._ask({"ask": "reply", "method": method, "url": url})
        return None if answer is None else (int(answer[0]), base64.b64decode(answer[1]))

    def hf(self, repo: str, repo_type: str, revision: str, file: str) -> tuple[str, File]:
        """Let the parent download a Hugging Face file."""
        question = {"ask": "hf", "repo": repo, "type": repo_type, "revision": revision, "file": file}
        commit, found = self._ask(question)
        return str(commit), read_file(found)

    def hf_files(self, repo: str, repo_type: str, revision: str) -> tuple[str, tuple[str, ...]]:
        """Let the parent list a Hugging Face repository."""
        commit, files = self._ask({"ask": "hf_files", "repo": repo, "type": repo_type, "revision": revision})
        return str(commit), tuple(files)

    def input(self, path: Path) -> File | None:
        """Let the parent judge a file of ours."""
        answer = self._ask({"ask": "input", "path": str(path.resolve())})
        return None if answer is None else read_file(answer)

    def pickle_of(self, repo: str, path: str) -> Pickle | None:
        """Let the parent judge a checkpoint of a tree."""
        return read_pickle(self._ask({"ask": "pickle_of", "repo": repo, "path": path}))
