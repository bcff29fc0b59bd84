"""Where one repository's modules are looked for: in the tree's root and the folders that its code puts on ``sys.path``.

Folders of hubconf.py are known to every process that imports it. One that an entry point adds is not, so its modules
are named after it: see ``sources.package_of``.
"""

import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hublock.runtime.modules.ownership import installed
from hublock.runtime.modules.sources import Found, Sources
from hublock.runtime.repository import ROOT
from hublock.runtime.strict.frames import here


class Search:
    """The ``sys.path`` of one import of a repository, and where the names that its code imported have led."""

    def __init__(self, sources: Sources, path: list[str]) -> None:
        """Look in ``sources`` along ``path``, and what the code puts on it."""
        self._sources = sources
        self.path = path
        self.led_to: dict[str, tuple[str, ...] | None] = {}
        """The added folders after which the top-level modules are named that were imported; None for the others."""
        self._found: dict[tuple[str, ...], tuple[Found, ...]] = {}
        self._folders: dict[str, str | None] = {}
        self._lasting: list[str] | None = None
        self._real: list[str] = list(path)
        self.followed: set[str] = set()
        """Entries that are there because they are on the path of all."""
        self._settled: tuple[list[str], dict[str, tuple[str, ...] | None]] = [], {}

    def follow(self, real: Sequence[str]) -> None:
        """Look also in folders of the tree that code has put on the ``real`` path of all, as by ``os.sys`` or ``site``.

        Those before everything else there come first here as well.
        """
        if real == self._real:
            return
        self._real = list(real)
        # in the order in which they are there now, and no more if they are gone
        self.path[:] = [entry for entry in self.path if entry not in self.followed]
        is_first, known = True, set(self._entries())
        first: list[str] = []
        last: list[str] = []
        for entry in self._real:
            is_own = self._sources.reached(entry) is not None
            is_first = is_first and is_own
            if is_own and entry not in known:
                (first if is_first else last).append(entry)
        self.path[:] = [*first, *self.path, *last]
        self.followed = {*first, *last}

    def settle(self) -> None:
        """Take note of the roots that hubconf.py has made, which every process imports first."""
        self._lasting = self.roots()
        self._settled = list(self.path), dict(self.led_to)

    @contextmanager
    def run_again(self) -> Iterator[None]:
        """Run hubconf.py anew, which mostly puts on ``sys.path`` what it has put there before: it grows no longer."""
        before = list(self.path)
        try:
            yield
        finally:
            if _each_once(self.path) == _each_once(before):
                self.path[:] = before

    @property
    def has_added(self) -> bool:
        """Whether an entry point has put folders of the tree on ``sys.path``, or before others there."""
        return bool(self._added()) or any(self.led_to.values())

    def forget_added(self) -> None:
        """Look along ``sys.path`` as hubconf.py has left it."""
        self.path[:], self.led_to = self._settled[0], dict(self._settled[1])

    def roots(self) -> list[str]:
        """Return the folders of the tree that are on ``sys.path``, in that order, and its root."""
        return list(dict.fromkeys([*self.on_path(), ""]))

    def _added(self) -> list[str]:
        """Return the folders on ``sys.path`` that hubconf.py has not put there, or not before all that they precede."""
        path, lasting = self.roots(), self._lasting
        if lasting is None or path == lasting:
            return []
        before = {folder: set(lasting[:number]) for number, folder in enumerate(lasting)}
        return [
            folder
            for number, folder in enumerate(path)
            if folder not in before or not before[folder].isdisjoint(path[number + 1 :])
        ]

    def on_path(self) -> list[str]:
        """Return the folders of the tree that are on ``sys.path``."""
        return [folder for entry in self._entries() if (folder := self._folder(entry)) is not None]

    def _entries(self) -> list[str]:
        # code may go into its own folder and name others, or with an empty entry that one, from there
        entries = [entry for entry in self.path if isinstance(entry, str)]  # type: ignore[redundant-expr]
        return [entry if os.path.isabs(entry) else str(here() / entry) for entry in entries]  # noqa: PTH117

    def _folder(self, entry: str) -> str | None:
        if entry not in self._folders:
            folder = self._sources.reached(entry)
            self._folders[entry] = None if folder is None else self._sources.resolve(folder)
        return self._folders[entry]

    def neighbour(self, top: str, folders: Sequence[str]) -> bool:
        """Say whether a module that is named after ``folders`` finds ``top`` there, before hubconf.py's folders.

        Where they are on ``sys.path``, that says itself what comes before what.
        """
        if set(filter(None, folders)) <= set(self.on_path()):
            return False
        for folder in folders:
            found = self.among([folder] if folder else self._lasting or [""], top)
            if found and found[0].kind != "folder":
                return bool(folder)
        return False

    def top(self, name: str) -> tuple[Found, ...]:
        """Find a top-level name: one module or package, else all bare folders of that name."""
        key = name, *self._entries()
        if key not in self._found:
            found = self.among(self.roots(), name)
            hidden = bool(found) and found[0].kind == "folder" and installed(name)
            self._found[key] = () if hidden else found
        return self._found[key]

    def among(self, folders: Sequence[str], name: str) -> tuple[Found, ...]:
        """Find ``name`` in ``folders``: the first module or package, else all bare folders of that name."""
        found = [hit for folder in dict.fromkeys(folders) if (hit := self._sources.look(folder, name)) is not None]
        whole = [hit for hit in found if hit.kind != "folder"]
        return tuple(whole[:1] or found)

    def adopted(self, top: str) -> tuple[Found, ...]:
        """Find a top-level name in a worker or an unpickling, where the entry point that made a root of it never ran.

        The only folder that holds the name becomes a root; of several, none does.
        """
        folders = self._sources.folders_that_hold(top)
        if len(folders) == 1:
            self.path.append(self._sources.on_disk(*folders))
        return self.top(top)

    def add(self, folders: Sequence[str]) -> None:
        """Put ``folders`` on ``sys.path``, around those of hubconf.py, unless they are there."""
        known = self._added()
        before = folders[: folders.index("")] if "" in folders else folders
        self.path[:0] = [self._sources.on_disk(folder) for folder in before if folder not in known]
        self.path += [self._sources.on_disk(folder) for folder in folders[len(before) :] if folder not in known]

    def added_for(self, stock: str, found: tuple[Found, ...]) -> tuple[str, ...] | None:
        """Return the folders after which the module ``stock`` is named, as a fresh process does not know them.

        The submodules of a package have the name of their package.
        """
        if self._lasting is None or not found or found[0].kind == "folder" or stock.startswith(ROOT):
            return None
        parents = stock.split(".")[:-1]
        root = next((root for root in self._added() if posixpath.join(root, *parents) == found[0].folder), None)
        return self._order() if root is not None and (not parents or self._is_bare(root, parents)) else None

    def _order(self) -> tuple[str, ...]:
        """Return the added folders in their order on ``sys.path``, an empty one for all those of hubconf.py."""
        added = self._added()
        order = list(dict.fromkeys(folder if folder in added else "" for folder in self.on_path()))
        return tuple(order[:-1] if order[-1] == "" else order)

    def _is_bare(self, root: str, parents: Sequence[str]) -> bool:
        parent = self._sources.look(root, "/".join(parents))
        return parent is not None and parent.kind == "folder"


def _each_once(path: Sequence[object]) -> list[object]:
    # anything may be on it
    return [entry for number, entry in enumerate(path) if entry not in path[:number]]
