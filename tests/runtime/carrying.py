"""Carry an object of a repository into another process, together with the lookup that a lock would be there."""

import importlib
import pickle
from typing import Any

from hublock.runtime import isolation, torchhub
from hublock.runtime.isolation import Repository, namespace
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
        torchhub.admit(self.repository, answers=Shelf(self.repository.root))
        return getattr(importlib.import_module(f"{namespace(self.repository)}.hubconf"), self.name)()
