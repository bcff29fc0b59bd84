"""What of a tree can be imported: looked up in its listing, read from disk, compared with the listing."""

import importlib.machinery
import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hublock.core.cached import cached
from hublock.core.names import follow
from hublock.core.tree import LINK, blob_id
from hublock.errors import TreeMismatch, UnsafeArchive
from hublock.runtime.repository import ROOT, Repository

FILE = "__file_"


def package_of(folders: Sequence[str]) -> str:
    """Return the name of the package that stands for the folders which code put on its ``sys.path`` while it ran.

    A fresh process, which unpickles an object or runs a worker, imports hubconf.py and knows no such folders. So what
    comes from there has them in its name, in their order: ``v2/model.py`` is ``__root_v2__.model``. An empty one stands
    for the folders that hubconf.py has put there.
    """
    return f"{ROOT}{_escaped(':'.join(folders))}__"


def module_of(file: str) -> str:
    """Return the name of the module that code makes of a file it names by its path, under whatever name."""
    return f"{FILE}{_escaped(file)}__"


def _escaped(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):x}_", path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One importable thing of a tree."""

    kind: Literal["package", "extension", "module", "folder"]
    """``package`` and ``folder`` may hold submodules; a ``folder`` has no ``__init__.py``."""
    path: str
    """Relative to the tree, parted by ``/``: the file, or the folder."""

    @property
    def folder(self) -> str:
        """The folder in which it was found."""
        return posixpath.dirname(posixpath.dirname(self.path) if self.kind == "package" else self.path)


class Sources:
    """The importable files of one repository."""

    def __init__(self, repository: Repository) -> None:
        """Look only at the listing; nothing is read yet."""
        self.repository = repository
        self._files = repository.listing.by_path
        spellings = (repository.root.absolute(), repository.root.resolve())
        self.roots = tuple(dict.fromkeys(os.path.normcase(spelling) for spelling in spellings))
        """Where the tree is, as it may be spelled."""

    def inside(self, path: str) -> str | None:
        """Return ``path`` relative to the tree, parted by ``/``; None where it lies outside."""
        spelled = os.path.normpath(path)
        for root in self.roots:
            if os.path.normcase(spelled) == root:
                return ""
            if os.path.normcase(spelled).startswith(root + os.sep):
                return spelled[len(root) + 1 :].replace(os.sep, "/")
        return None

    def reached(self, path: object) -> str | None:
        """Do what ``inside`` does, also for a path that leads into the tree through a link elsewhere.

        What is no string is no path, as on ``sys.path``.
        """
        if not isinstance(path, str):
            return None
        found = self.inside(path)
        return self.inside(os.path.realpath(path)) if found is None and Path(path).is_absolute() else found

    def folders_of(self, package: str) -> tuple[str, ...] | None:
        """Return the folders for which the package ``package`` stands (see ``package_of``), if it does for any."""
        if not package.startswith(ROOT):
            return None
        escaped = package.removeprefix(ROOT).removesuffix("__")
        folders = re.sub(r"_([0-9a-f]{1,5})_", lambda found: chr(int(found[1], 16)), escaped).split(":")
        return tuple(folders) if self._folders.issuperset(filter(None, folders)) else None

    def file_of(self, module: str) -> str | None:
        """Return the file of which the module ``module`` was made (see ``module_of``), if it was made of one."""
        return self._files_by_module.get(module) if module.startswith(FILE) else None

    def on_disk(self, path: str) -> str:
        """Return where the file or folder ``path`` of the tree lies."""
        return str(self.repository.root.joinpath(*path.split("/"))) if path else str(self.repository.root)

    def look(self, folder: str, name: str) -> Found | None:
        """Find the module ``name`` in ``folder``: package, source, compiled module, bare folder; never bytecode.

        importlib's FileFinder prefers a compiled module to its source; ours are not run, so the source is.
        """
        place = posixpath.join(folder, name)
        package = f"{place}/__init__.py"
        if self.resolve(package) in self._files:
            return Found(kind="package", path=package)
        if self.resolve(f"{place}.py") in self._files:
            return Found(kind="module", path=f"{place}.py")
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            if self.resolve(place + suffix) in self._files:
                return Found(kind="extension", path=place + suffix)
        return Found(kind="folder", path=place) if self.resolve(place) in self._folders else None

    def folders_that_hold(self, name: str) -> set[str]:
        """Return the folders in which ``name`` is a package or module with source."""
        folders = set()
        for path in self._files:
            folder, _, file = path.rpartition("/")
            if file == f"{name}.py":
                folders.add(folder)
            elif file == "__init__.py" and posixpath.basename(folder) == name:
                folders.add(posixpath.dirname(folder))
        return folders

    def read(self, path: str) -> bytes:
        """Read a file of the tree once and return those bytes, proven to be the listed ones.

        A folder of the user's own, which no lock names, is taken as it is by now.

        Raises:
            TreeMismatch: the file is not listed, cannot be read, or holds other bytes.
        """
        entry = self._files.get(self.resolve(path))
        if entry is None or entry.mode == LINK:
            raise self._mismatch(f"{path} is not part of {self.repository.id} as locked")
        try:
            data = Path(self.on_disk(entry.path)).read_bytes()
        except OSError as error:
            raise self._mismatch(f"{path} of {self.repository.id} cannot be read: {error.strerror}") from error
        found = blob_id(data)
        if found != entry.blob and not self.repository.is_users_own:
            raise self._mismatch(
                f"{path} of {self.repository.id} is not the locked file: its blob id is {found}, not {entry.blob}"
            )
        return data

    def resolve(self, path: str) -> str:
        """Follow the tree's own symbolic links; a link that leads nowhere gives a path that is not listed."""
        try:
            return follow(path, self._targets) if self._targets else path
        except UnsafeArchive:
            return "\0"

    def _mismatch(self, message: str) -> TreeMismatch:
        return TreeMismatch(message, hint="hublock sync")

    @cached
    def _targets(self) -> dict[str, str]:
        return {entry.path: self._target(entry.path) for entry in self._files.values() if entry.mode == LINK}

    def _target(self, link: str) -> str:
        where = self.on_disk(link)
        try:
            target = os.readlink(where)
        except OSError:
            return "\0"
        if blob_id(os.fsencode(target)) != self._files[link].blob:
            raise self._mismatch(f"the link {link} of {self.repository.id} does not lead where the locked one does")
        return target

    @cached
    def _files_by_module(self) -> dict[str, str]:
        return {module_of(path): path for path in self._files if path.endswith(".py")}

    @cached
    def _folders(self) -> frozenset[str]:
        """The folders that hold source at any depth: what a namespace package may be."""
        folders: set[str] = set()
        for path in self._files:
            if path.endswith(".py"):
                parent = posixpath.dirname(path)
                while parent and parent not in folders:
                    folders.add(parent)
                    parent = posixpath.dirname(parent)
        return frozenset(folders)
