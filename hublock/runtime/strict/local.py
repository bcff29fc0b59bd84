"""``source="local"``: a folder of the user's own, or a folder inside a verified tree."""

import os
from collections.abc import Iterator
from pathlib import Path

from hublock.core.tree import EXECUTABLE, FILE, Entry, Listing, blob_id
from hublock.errors import InputError
from hublock.runtime.repository import Repository, namespace
from hublock.runtime.strict.scope import Scope


def repository(folder: Path) -> Repository:
    """Describe the Python files of a folder as they are now; hidden folders are left out.

    Raises:
        InputError: the folder has no hubconf.py.
    """
    root = Path(os.path.realpath(folder.expanduser()))
    if not (root / "hubconf.py").is_file():
        raise InputError(f"{folder} has no hubconf.py", hint="name the folder that holds it")
    listing = Listing.of(_python_files(root))
    # the whole path: the same code in two folders has the data of its own folder beside it
    return Repository(id=str(root), digest=listing.digest, root=root, listing=listing)


def _python_files(root: Path) -> Iterator[Entry]:
    for here, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in sorted(names):
            path = Path(here) / name
            if name.endswith(".py") and path.is_file():
                data = path.read_bytes()
                mode = EXECUTABLE if os.access(path, os.X_OK) else FILE
                inside = path.relative_to(root).as_posix()
                yield Entry(path=inside, mode=mode, blob=blob_id(data), size=len(data))


def inside(scope: Scope, folder: Path) -> Repository:
    """Return the part of a verified tree that a nested ``load(…, source="local")`` means.

    Raises:
        UnlockedDownload: the folder is not in a tree of this load.
    """
    from hublock.runtime import isolation

    wanted = Path(os.path.realpath(folder))
    # of a tree that two stores hold, the modules stay those of the first
    for known in [*scope.repositories, *map(isolation.served, scope.packages.values())]:
        root = Path(os.path.realpath(known.root))
        if wanted == root:
            return known
        if wanted.is_relative_to(root):
            return _part(known, wanted, wanted.relative_to(root).as_posix() + "/")
    raise scope.refuse(f"file:{folder.name}", f"loads {folder}, a folder that is not in its tree")


def part_named(name: str, whole: Repository) -> Repository | None:
    """Return the folder of a verified tree whose namespace is ``name``, as its own code has loaded it."""
    folders = (e.path.removesuffix("hubconf.py") for e in whole.listing.entries if e.path.endswith("/hubconf.py"))
    parts = (_part(whole, whole.root / folder, folder) for folder in folders)
    return next((part for part in parts if namespace(part) == name), None)


def _part(whole: Repository, root: Path, prefix: str) -> Repository:
    listing = Listing.of(
        Entry(path=entry.path.removeprefix(prefix), mode=entry.mode, blob=entry.blob, size=entry.size)
        for entry in whole.listing.entries
        if entry.path.startswith(prefix)
    )
    return Repository(id=f"{whole.id}/{prefix.rstrip('/')}", digest=listing.digest, root=root, listing=listing)
