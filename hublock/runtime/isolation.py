"""The doors to isolated repositories: import them, look into them, give their names to user code.

Two repositories, or two versions of one, that share every module name live side by side: each is imported below
``hublock.repos``, from bytes compared with its listing, and its absolute imports of itself stay in its own tree.
``sys.path``, and the stock names in ``sys.modules``, are never touched.
"""

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any

from hublock.core.reference import Reference
from hublock.errors import HublockError, InputError, LoadError, MissingDependency
from hublock.runtime.environment import pip_line, undeclared
from hublock.runtime.modules import finder
from hublock.runtime.modules.aliases import aliased
from hublock.runtime.modules.companions import missing_half
from hublock.runtime.modules.finder import FINDER, Lookup
from hublock.runtime.modules.loading import RepositoryLoader
from hublock.runtime.repository import PACKAGE, Repository, namespace


def install(lookup: Lookup | None = None) -> None:
    """Register the one meta-path finder; ``lookup``, if given, answers namespaces this process has not seen."""
    if lookup is not None:
        FINDER.lookup = lookup
    finder.install()


def import_within(within: Callable[[str], AbstractContextManager[object]]) -> None:
    """Let every hubconf.py be imported in what ``within`` makes for the name of its package."""
    RepositoryLoader.within = staticmethod(within)


def begin(repository: Repository, call: str | None = None, *, alone: bool = False) -> str:
    """Return the package below which a new load finds the modules of ``repository``, until :func:`end`.

    ``call`` tells equal calls, which may share modules, from others; None for one that equals none. A load that is
    ``alone`` shares them with none.

    Raises:
        TreeMismatch: its listing is not that of its digest.
    """
    finder.install()
    return FINDER.begin(repository, call, alone=alone).name


def serve(repository: Repository) -> None:
    """Let code that this process is given by another one find the modules of ``repository``, which no lock names.

    Raises:
        TreeMismatch: its listing is not that of its digest.
    """
    finder.install()
    FINDER.register(repository)


def end(packages: Iterable[str], *, kept: bool) -> None:
    """Take note that a load ends, whose modules were below ``packages``, and whether a model of it is kept."""
    for package in packages:
        FINDER.end(package, kept=kept)


def mixed(calls: Iterable[tuple[str, str]]) -> list[str]:
    """Return the packages in which a load, which must begin again, put folders on others' ``sys.path``.

    ``calls`` are all packages that it uses, each with its call.
    """
    return [package for package, call in calls if FINDER.is_mixed(package, call)]


def served(package: str) -> Repository:
    """Return the repository whose modules are below ``package``."""
    return FINDER.named(package).sources.repository


def import_hubconf(repository: Repository, package: str | None = None) -> ModuleType:
    """Import the hubconf.py of ``repository``, its first run of this process, below ``package`` if one has begun.

    Raises:
        InputError: the tree holds no hubconf.py.
        TreeMismatch: a file differs from the listing; none of it ran.
        MissingDependency: the code imports what is neither declared nor installed.
        LoadError: the code was imported before, for a load that was refused, and cannot be imported twice.
        Exception: whatever the repository's own code raises.
    """
    if "hubconf.py" not in repository.listing.by_path:
        raise InputError(f"{repository.id} has no hubconf.py", hint="hublock list <another repository>")
    package = package or begin(repository)
    try:
        importlib.import_module(package)
    except HublockError:
        raise
    except Exception as error:
        said = explained(repository, error) or _twice(repository, package, error)
        if said is None:
            raise
        raise said from error
    return importlib.import_module(f"{package}.hubconf")


def take_hubconf(package: str) -> bool:
    """Take the first run of hubconf.py for a load; say whether it could, or hubconf.py must run anew for it."""
    return FINDER.named(package).anew.take_first()


def give_hubconf_back(package: str) -> None:
    """Take note that the import of hubconf.py has failed for the load that had taken it."""
    FINDER.named(package).anew.give_back()


def run_anew(package: str) -> ModuleType:
    """Run the imported hubconf.py of ``package`` once more for a load, as torch.hub does; its modules stay.

    Raises:
        TreeMismatch: the file differs from the listing; it did not run.
        Exception: whatever the repository's own code raises.
    """
    return FINDER.named(package).anew.run()


def _twice(repository: Repository, package: str, error: Exception) -> LoadError | None:
    if package == namespace(repository):
        return None
    return LoadError(
        f"{repository.id} must be imported anew for this load, and its code cannot be imported twice in one process: "
        f"{type(error).__name__}: {error}",
        hint="start a new process",
    )


def take_in(package: str, names: Iterable[str]) -> None:
    """Give modules that plain loaders made of files of a tree, for everybody, names that only the tree's code uses."""
    space = FINDER.named(package)
    for name in sorted(name for name in names if not name.startswith(f"{PACKAGE}.")):
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if module is not None and isinstance(file, str) and module.__name__ == name and space.lists(file):
            space.take_in(module, file)


def keep_path(packages: Iterable[str]) -> None:
    """Let the modules below ``packages`` find for good what is in the folders that they put on the path of all."""
    for package in packages:
        FINDER.named(package).keep_path()


def retire(packages: Iterable[str]) -> None:
    """Let later loads import the code anew: what a load was refused, these modules may keep in some form."""
    for package in packages:
        FINDER.retire(package)


def explained(repository: Repository, error: Exception) -> MissingDependency | None:
    """Return what to say instead of ``error``, raised by the repository's code, if an installation would help."""
    if isinstance(error, ModuleNotFoundError):
        top = (error.name or "").partition(".")[0]
        if FINDER.register(repository).owns(top):
            return None
        said = undeclared(error, repository.id)
        return _self_built(repository, top) or said if said else None
    return missing_half(repository, error)


def _self_built(repository: Repository, name: str) -> MissingDependency | None:
    """Return what to say of a module that the repository builds itself: what pip has by its name is not that module."""
    setup = repository.root / "setup.py"
    # not where it is a link that leads nowhere
    if "setup.py" not in repository.listing.by_path or not setup.is_file():
        return None
    builds = rf"""Extension\(\s*(?:name\s*=\s*)?(["'])(?:\w+\.)*{re.escape(name)}\1"""
    if not re.search(builds, setup.read_text("utf-8", "replace")):
        return None
    reference = Reference.parse(repository.id)
    place = f"git+https://github.com/{reference.location}" if reference.kind == "github" else reference.location
    return MissingDependency(
        f"{repository.id} imports {name}, which its own setup.py builds and which is not installed",
        hint=pip_line([f"{place}@{reference.ref}" if reference.ref else place]),
    )


@contextmanager
def stock_names(repository: Repository) -> Iterator[None]:
    """Let user code import the modules of ``repository``, and unpickle its classes, by their stock names.

    The names are the whole process's while the block runs; modules they hide are back after it.

    Raises:
        TreeMismatch: its listing is not that of its digest.
    """
    finder.install()
    FINDER.register(repository)
    with aliased(FINDER.newest_imported(repository)):
        yield


def find_class(repository: Repository, module: str, name: str, package: str | None = None) -> Any:
    """Return what a pickle made under torch.hub means by ``name`` of ``module``: the tree's, if the tree holds it.

    ``package`` is that below which the load that asks finds the tree's modules.

    Raises:
        ModuleNotFoundError: neither the tree nor the process has ``module``.
        AttributeError: ``module`` has no such name.
    """
    finder.install()
    space = FINDER.register(repository) if package is None else FINDER.named(package)
    return space.find_class(module, name)
