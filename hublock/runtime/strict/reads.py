"""What a load read beside its tree and what it was given: bytes that nobody has held against the lock."""

import importlib.metadata
import os
import re
import sys
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from hublock.core.digest import Digest
from hublock.runtime.strict.arrivals import when_imported
from hublock.runtime.strict.dispatching import dispatching
from hublock.runtime.strict.frames import THAT_KEEP_NOTHING, is_others
from hublock.runtime.strict.placing import is_below, let_write
from hublock.runtime.strict.refusals import by_library, left_behind, origin
from hublock.runtime.strict.scope import Scope
from hublock.runtime.strict.swap import Function, swap

_TEXTS = (".py", ".json", ".toml", ".yaml", ".yml", ".cfg", ".ini", ".gin")
"""Files that may say what code imports."""
_WORD = re.compile(r"\w+")
_NAMES = re.compile(r"(?:^|[:;])[ \t]*(?:import|from)\b(.+)|[\"'](\w+)[\"'.]", re.MULTILINE)
"""What may name a module: an import, or a string that names it or something in it."""
_SYSTEM = ("/dev/", "/etc/", "/proc/", "/sys/", "/usr/lib/", "/usr/share/")


def note(scope: Scope, arguments: tuple[Any, ...]) -> None:
    """Take note of the audit event ``open``; C and Rust code that opens files by itself raises none."""
    path, _, flags = arguments
    if isinstance(path, str | bytes):
        file = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - links stay
        if flags & (os.O_WRONLY | os.O_RDWR):
            let_write(scope.by_path, Path(file), private=scope.private, keep=not flags & os.O_TRUNC)
        is_new = flags & os.O_CREAT and not os.path.exists(file)  # noqa: PTH110 - any string
        if is_new:
            # it looked before it made it
            scope.read.discard(file)
        if is_new or flags & os.O_TRUNC:
            scope.wrote(file)
        elif not flags & os.O_WRONLY and file not in scope.written:
            scope.read.add(file)


def install() -> None:
    """Take note of what safetensors opens, in Rust, when it arrives."""
    when_imported("safetensors.torch", _swap_safetensors)


def _swap_safetensors(module: ModuleType) -> None:
    swap(module.load_file, dispatching(_load_file))
    swap(module.save_file, dispatching(_save_file))


def _load_file(scope: Scope, original: Function, filename: Any, *args: Any, **options: Any) -> Any:
    note(scope, (os.fspath(filename), "r", os.O_RDONLY))
    return original(filename, *args, **options)


def _save_file(scope: Scope, original: Function, tensors: Any, filename: Any, *args: Any, **options: Any) -> None:
    note(scope, (os.fspath(filename), "w", os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
    original(tensors, filename, *args, **options)


def before_change(scope: Scope, arguments: tuple[Any, ...]) -> None:
    """Give the code a file of its own, whose mode, owner, times or length it is about to change (audit event)."""
    if not isinstance(arguments[0], int):
        link = Path(os.path.abspath(os.fsdecode(arguments[0])))  # noqa: PTH100 - links stay
        let_write(scope.by_path, link, private=scope.private, keep=True)


def note_move(scope: Scope, arguments: tuple[Any, ...]) -> None:
    """Remember where went what the load has written, as code writes that wants no torn file or folder (audit event)."""
    source, target = (os.path.abspath(os.fsdecode(path)) for path in arguments[:2])  # noqa: PTH100 - links stay
    if is_below(Path(source), scope.private) and not is_below(Path(target), scope.private):
        # or a folder of the user's gets a link into the store
        for link in [Path(source), *Path(source).rglob("*")]:
            let_write(scope.by_path, link, private=scope.private, keep=True)
    for path in [path for path in scope.written if path == source or path.startswith(f"{source}{os.sep}")]:
        moved = target + path.removeprefix(source)
        scope.read.discard(moved)
        scope.wrote(moved)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Something that a library was refused, and may have kept a fallback for."""

    library: str
    file: str
    """Its address; an empty string if it was no file."""
    by_same: bool
    """Whether it was a load of the same entry point that was refused it."""


class Beside:
    """What a load may have taken beside its tree and what it was given; looked for when asked."""

    def __init__(self, scope: Scope) -> None:
        """Ask about the load of ``scope``, which has returned."""
        self._scope = scope

    def users_files(self) -> dict[str, Digest | None]:
        """Return the files of the user's own that it has read, and what the lock knows their bytes as, or None."""
        files, scope = {}, self._scope
        private = scope.folder.parent
        for path in sorted(scope.read):
            # a link in the private folder may lead to a file of the user's
            real = os.path.realpath(path)
            if path.startswith(_SYSTEM) or any(map(is_others, (path, real))) or not os.path.isfile(path):  # noqa: PTH113
                continue
            known = scope.answers.input(Path(path))
            if known is not None or not is_below(Path(real), private):
                shown = real if is_below(Path(path), private) else path
                files[shown] = known.digest if known is not None else None
        return files

    def fallback_files(self) -> dict[str, list[str]]:
        """Return what it has read of what refused loads have written, wherever, and the files those were refused."""
        read = {os.path.realpath(path) for path in self._scope.read} if left_behind else set()
        files = [path for path in sorted(read & left_behind.keys()) if os.path.isfile(path)]  # noqa: PTH113 - any string
        return {path: left_behind[path] for path in files if self._scope.answers.input(Path(path)) is None}

    def keepers(self, *, named: Iterable[str] | None) -> list[Kept]:
        """Return what libraries were refused that it was not given and may not do without.

        Unless ``named`` is None, only libraries that its code or ``named`` name, and their plugins, or a library that
        these name.
        """
        scope, names = self._scope, set(by_library)
        if names and named is not None:
            names = _closed({*_named(_texts_of(scope)), *named}, names)
        return [
            Kept(library=library, file=file, by_same=scope.owner in owners)
            for library, refused in list(by_library.items())
            if library in names
            for file, owners in sorted(refused.items(), reverse=True)
            if file not in scope.answered and not (file and scope.as_locked and origin(file) in scope.tolerated)
        ]


def _closed(names: set[str], wanted: AbstractSet[str]) -> set[str]:
    """Return also the names in the code of the libraries named, and so on, until all are found that are wanted."""
    seen, plugins = {*sys.stdlib_module_names, *THAT_KEEP_NOTHING}, _plugins()
    while not wanted <= names and (new := names - seen):
        seen |= new
        names |= _named(_files_of(new)).union(*(plugins.get(name, ()) for name in new))
    return names


def _plugins() -> dict[str, set[str]]:
    """Return the packages that are found by their entry points, by the word that the name of the group begins with."""
    found: dict[str, set[str]] = {}
    for distribution in importlib.metadata.distributions():
        for point in distribution.entry_points:
            group, package = (_WORD.match(text) for text in (point.group, point.value))
            if group and package:
                found.setdefault(group[0], set()).add(package[0])
    return found


def _texts_of(scope: Scope) -> Iterator[Path]:
    for repository in scope.repositories:
        for entry in repository.listing.entries:
            if entry.path.endswith(_TEXTS):
                yield repository.root / entry.path


def _named(files: Iterable[Path]) -> set[str]:
    """Return what may be the names of modules in code and configuration files."""
    found: set[str] = set()
    for file in files:
        # code may have removed files of a tree of its own
        with suppress(OSError):
            text = file.read_text("latin-1")
            if file.suffix != ".py":
                found.update(_WORD.findall(text))
                continue
            for imported, word in _NAMES.findall(text.replace("\\\n", " ")):
                found.update(_WORD.findall(imported) or [word])
    return found


def _files_of(packages: set[str]) -> list[Path]:
    # anything may stand there
    modules: list[tuple[str, object]] = list(sys.modules.items())
    files = [
        vars(module).get("__file__")
        for name, module in modules
        if name.partition(".")[0] in packages and isinstance(module, ModuleType)
    ]
    return [Path(file) for file in files if isinstance(file, str) and file.endswith(".py")]
