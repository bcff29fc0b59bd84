"""Which lock and which store answer this process."""

import site
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from hublock.actions.project import LOCK, MANIFEST, PYPROJECT, find_lock
from hublock.runtime.strict.frames import library_folders
from hublock.settings import Settings, home
from hublock.store.store import Store


def named_lock(path: Path) -> Path:
    """Return the lock that a user named by its project, by the project's manifest or by itself."""
    if path.name in (MANIFEST, PYPROJECT):
        return path.with_name(LOCK)
    return path if path.is_file() or path.name == LOCK else path / LOCK


def lock_file(environ: Mapping[str, str]) -> Path:
    """Return the lock that answers this process.

    It is what ``HUBLOCK_PROJECT`` names, else the first ``hub.lock`` upward from the folder of the main script. Where
    the user has no script of their own (in a notebook, or under an installed program such as pytest or uvicorn) the
    search begins in the current folder.

    Raises:
        NotLocked: there is none; every folder tried is named.
    """
    named = Settings.from_mapping(environ).project
    if named is not None:
        return named_lock(named)
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    start = Path.cwd() if script is None or _is_installed(script) else Path(script).absolute().parent
    return find_lock(start, home(environ))


@cache
def _is_installed(script: str) -> bool:
    """Tell whether a main script is an installed program, which lies where its installer put it."""
    folders = [Path(folder) for folder in library_folders()]
    folders += [Path(base, name) for base in (sys.prefix, site.getuserbase()) for name in ("bin", "Scripts")]
    installed = {folder.resolve() for folder in folders}
    # an installer may have linked the program into a folder on PATH
    places = {Path(script).absolute().parent.resolve(), Path(script).resolve().parent}
    return Path(sys.executable).parent.resolve() in places or any(
        not installed.isdisjoint((place, *place.parents)) for place in places
    )


def store(environ: Mapping[str, str]) -> Store:
    """Return the store of this process."""
    return Store(Settings.from_mapping(environ).cache)
