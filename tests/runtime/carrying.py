"""Carry an object of a repository into another process, together with the lookup that a lock would be there."""

import importlib
import pickle
import subprocess
import sys
from typing import Any

from hublock.runtime import isolation, torchhub
from hublock.runtime.repository import Repository, namespace
from tests.runtime.answering import Shelf


def know(*repositories: Repository) -> None:
    """Answer the namespaces of ``repositories``, as the package does from a lock."""
    import hublock.repos  # noqa: F401 - its own lookup first

    known = {namespace(repository): repository for repository in repositories}
    isolation.install(known.get)


def unpack(repository: Repository, data: bytes) -> Any:
    """Unpickle in a process that has seen nothing of the repository yet."""
    know(repository)
    return pickle.loads(data)


class Carried:
    """A data set that arrives in a worker as the repository's own."""

    def __init__(self, repository: Repository, content: Any) -> None:
        self.repository = repository
        self.content = content

    def __reduce__(self) -> Any:
        return unpack, (self.repository, pickle.dumps(self.content))

    def __len__(self) -> int:
        return len(self.content)

    def __getitem__(self, index: int) -> Any:
        return self.content[index]


class Job:
    """A function of a repository's hubconf.py, to be called in a process that has seen nothing of it yet."""

    def __init__(self, repository: Repository, name: str) -> None:
        self.repository = repository
        self.name = name

    def __call__(self) -> Any:
        know(self.repository)
        torchhub.admit(self.repository, answers=Shelf(self.repository.root), tolerated=())
        return getattr(importlib.import_module(f"{namespace(self.repository)}.hubconf"), self.name)()


def in_a_fresh_process(repository: Repository, nets: list[object], *names: str) -> list[str]:
    """Return what a new process says of pickled ``nets``: their attributes ``names`` and what ``late()`` gives."""
    code = (
        "import sys, pickle\nfrom tests.runtime.carrying import know\n"
        "repository, data, names = pickle.load(sys.stdin.buffer)\nknow(repository)\n"
        "for net in pickle.loads(data):\n    print(*(getattr(net, name) for name in names), net.late())\n"
    )
    sent = pickle.dumps((repository, pickle.dumps(nets), names))
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=False)
    assert done.stderr == b""
    return done.stdout.decode().splitlines()
