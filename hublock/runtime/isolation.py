"""The doors to isolated repositories: import them, look into them, give their names to user code.

Two repositories, or two versions of one, that share every module name live side by side: each is imported below
``hublock.repos``, from bytes compared with its listing, and its absolute imports of itself stay in its own tree.
``sys.path``, and the stock names in ``sys.modules``, are never touched.
"""

import importlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from hublock.errors import InputError, MissingDependency
from hublock.runtime.environment import undeclared
from hublock.runtime.modules import finder
from hublock.runtime.modules.aliases import aliased
from hublock.runtime.modules.companions import missing_half
from hublock.runtime.modules.finder import FINDER, Lookup
from hublock.runtime.repository import MARKER, PACKAGE, Repository, namespace, namespace_of

__all__ = [
    "MARKER", "PACKAGE", "Lookup", "Repository", "explained", "find_class", "import_hubconf", "install", "namespace",
    "namespace_of", "retire", "stock_names", "take_in",
]  # fmt: skip


def install(lookup: Lookup | None = None) -> None:
    """Register the one meta-path finder; ``lookup``, if given, answers namespaces this process has not seen."""
    if lookup is not None:
        FINDER.lookup = lookup
    finder.install()


def import_hubconf(repository: Repository, *, alone: bool = True) -> ModuleType:
    """Import the hubconf.py of ``repository``, once per process.

    If it is ``alone`` in running its code, names that an entry point has given to modules by its ``sys.path`` are free.

    Raises:
        InputError: the tree holds no hubconf.py.
        TreeMismatch: a file differs from the listing; none of it ran.
        MissingDependency: the code imports what is neither declared nor installed.
        Exception: whatever the repository's own code raises.
    """
    if "hubconf.py" not in repository.listing.by_path:
        raise InputError(f"{repository.id} has no hubconf.py", hint="hublock list <another repository>")
    finder.install()
    space = FINDER.register(repository)
    if alone:
        space.forget_roots()
    try:
        importlib.import_module(space.name)
    except Exception as error:
        said = explained(repository, error)
        if said is None:
            raise
        raise said from error
    return importlib.import_module(f"{space.name}.hubconf")


def take_in(repository: Repository, names: Iterable[str]) -> None:
    """Take modules of files of ``repository`` out of ``sys.modules``: plain loaders put them there for everybody."""
    space = FINDER.register(repository)
    for name in names:
        file = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(file, str) and space.sources.inside(file) and not name.startswith(f"{PACKAGE}."):
            space.extra[name] = sys.modules.pop(name)


def retire(repository: Repository) -> None:
    """Leave the imported modules of ``repository`` to whoever has them: the next load imports new ones."""
    FINDER.retire(repository)


def explained(repository: Repository, error: Exception) -> MissingDependency | None:
    """Return what to say instead of ``error``, raised by the repository's code, if an installation would help."""
    if isinstance(error, ModuleNotFoundError):
        return undeclared(error, repository.id)
    return missing_half(repository, error)


@contextmanager
def stock_names(repository: Repository) -> Iterator[None]:
    """Let user code import the modules of ``repository``, and unpickle its classes, by their stock names.

    The names are the whole process's while the block runs; modules they hide are back after it.

    Raises:
        TreeMismatch: its listing is not that of its digest.
    """
    finder.install()
    with aliased(FINDER.register(repository)):
        yield


def find_class(repository: Repository, module: str, name: str) -> Any:
    """Return what a pickle made under torch.hub means by ``name`` of ``module``: the tree's, if the tree holds it.

    Raises:
        ModuleNotFoundError: neither the tree nor the process has ``module``.
        AttributeError: ``module`` has no such name.
    """
    finder.install()
    return FINDER.register(repository).find_class(module, name)
