"""The loaders of a repository's modules: verified bytes in, running module out; no bytecode is read or written."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import linecache
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from hublock.errors import TreeMismatch
from hublock.runtime.modules.rewriting import compile_source
from hublock.runtime.modules.sources import Found

if TYPE_CHECKING:
    from importlib.resources.abc import TraversableResources

    from hublock.runtime.modules.space import Space


class TreeLoader(importlib.machinery.SourceFileLoader):
    """Runs one source file of a tree.

    It is a SourceFileLoader so that ``inspect``, ``importlib.resources`` and ``pkg_resources`` know what to do with it.
    """

    def __init__(self, fullname: str, file: str, owner: "Space") -> None:
        """Load ``file`` (relative to the tree) of ``owner`` as ``fullname``; nothing is read yet."""
        super().__init__(fullname, owner.sources.on_disk(file))
        self.called = fullname
        """How the code that has made it calls the module."""
        self.file = file
        self.owner = owner

    def get_code(self, fullname: str) -> CodeType:
        """Compile the very bytes that were compared with the listing.

        Raises:
            TreeMismatch: they are not the listed ones; nothing ran.
        """
        del fullname
        source = self.owner.sources.read(self.file)
        code = self.source_to_code(source, self.path)
        _remember(self.path, source)
        return code

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:  # type: ignore[override]
        """Compile ``data`` with the tree's own absolute imports redirected."""
        return compile_own(self.owner, bytes(data), str(path), self.name)

    def get_source(self, fullname: str) -> str:
        """Return the verified text, as ``inspect`` and tracebacks ask for it.

        Raises:
            ImportError: the file is not the listed one by now.
        """
        try:
            return importlib.util.decode_source(self.owner.sources.read(self.file))
        except TreeMismatch as error:
            raise ImportError(error.message, name=fullname) from error

    def exec_module(self, module: ModuleType) -> None:
        """Run the module."""
        code = self.get_code(module.__name__)
        module.__file__ = self.path
        self.owner.prepare(module)
        exec(code, vars(module))  # noqa: S102 - to run a verified file is what a loader is for

    def load_module(self, fullname: str | None = None) -> ModuleType:
        """Make and run the module as old code does that names a file; only the repository finds it again."""
        package = self.file.endswith("__init__.py")
        module = importlib.util.module_from_spec(file_spec(self.name, self.file, self.owner, package=package))
        sys.modules[self.name] = self.owner.extra[fullname or self.called] = module
        self.exec_module(module)
        return module


class FolderLoader(importlib.abc.InspectLoader):
    """Makes a package without code: a folder without ``__init__.py``, or the repository itself."""

    def __init__(self, folder: str, owner: "Space") -> None:
        """Stand for ``folder`` on disk."""
        self.folder = folder
        self.owner = owner

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing."""
        self.owner.prepare(module)

    def is_package(self, fullname: str) -> bool:
        """Say yes."""
        del fullname
        return True

    def get_source(self, fullname: str) -> str:
        """Return no source."""
        del fullname
        return ""

    def get_resource_reader(self, fullname: str) -> "TraversableResources":
        """Let ``importlib.resources`` read the data files of the folder."""
        from importlib.resources.abc import TraversableResources

        del fullname
        folder = Path(self.folder)

        class Reader(TraversableResources):
            def files(self) -> Path:
                return folder

        return Reader()


class RepositoryLoader(FolderLoader):
    """Makes the package of a whole repository, whose initialisation is its hubconf.py.

    A spawned worker or an unpickling thus begins as torch.hub does: hubconf.py puts folders on ``sys.path`` that the
    modules below need.
    """

    within: ClassVar[Callable[[str], AbstractContextManager[object]]] = nullcontext
    """Makes, for the name of the package, what hubconf.py runs in."""

    def exec_module(self, module: ModuleType) -> None:
        """Run hubconf.py, if there is one."""
        super().exec_module(module)
        # libraries go from attribute to attribute, also while hubconf.py runs
        parent, _, leaf = module.__name__.rpartition(".")
        setattr(sys.modules[parent], leaf, module)
        self.owner.begin()
        if "hubconf.py" in self.owner.sources.repository.listing.by_path:
            with type(self).within(module.__name__):
                importlib.import_module(f"{module.__name__}.hubconf")
        self.owner.settle()


class RefusedLoader(importlib.abc.Loader):
    """Refuses a compiled module: what the dynamic linker reads after our check could not be held to the listing."""

    def __init__(self, file: str, owner: "Space") -> None:
        """Refuse ``file`` of ``owner``."""
        self.message = f"{file} of {owner.sources.repository.id} is a compiled module; only source files are imported"

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Raise ImportError, for which repositories have fallbacks."""
        raise ImportError(self.message, name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Never reached."""


class _AliasLoader(importlib.abc.Loader):
    """Answers a name with a module that has another, unchanged."""

    def __init__(self, find: Callable[[], ModuleType]) -> None:
        """Answer with what ``find`` returns."""
        self._find = find
        self._spec: importlib.machinery.ModuleSpec | None = None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Find the module."""
        del spec
        module = self._find()
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing, but take back the alias's spec, which the import system has just written into the module."""
        module.__spec__ = self._spec


def compile_own(owner: "Space", source: bytes, path: str, importer: str | None = None) -> CodeType:
    """Compile ``source`` with the own absolute imports of the tree of ``owner`` redirected.

    But for what code has put into ``sys.modules``, where it may put another one: that is found when it is imported.
    """

    def redirect(name: str) -> str | None:
        return None if name.partition(".")[0] in owner.extra else owner.redirect(name, importer)

    return compile_source(source, path, redirect)


def alias_spec(fullname: str, find: Callable[[], ModuleType]) -> importlib.machinery.ModuleSpec:
    """Return the spec of a name that is answered with the module that ``find`` returns, unchanged."""
    return importlib.machinery.ModuleSpec(fullname, _AliasLoader(find))


def spec_for(fullname: str, found: tuple[Found, ...], owner: "Space") -> importlib.machinery.ModuleSpec:
    """Return the spec of what was found; several are folders that form one namespace package."""
    first = found[0]
    if first.kind == "folder":
        return _folder_spec(fullname, [owner.sources.on_disk(hit.path) for hit in found], FolderLoader, owner)
    if first.kind == "extension":
        return importlib.machinery.ModuleSpec(fullname, RefusedLoader(first.path, owner))
    return file_spec(fullname, first.path, owner, package=first.kind == "package")


def folders_spec(fullname: str, folders: Iterable[str], owner: "Space") -> importlib.machinery.ModuleSpec:
    """Return the spec of a package without code that stands for folders of the tree."""
    return _folder_spec(fullname, [owner.sources.on_disk(folder) for folder in folders if folder], FolderLoader, owner)


def repository_spec(fullname: str, owner: "Space") -> importlib.machinery.ModuleSpec:
    """Return the spec of the package that holds all modules of ``owner``."""
    return _folder_spec(fullname, [owner.sources.on_disk("")], RepositoryLoader, owner)


def file_spec(
    fullname: str, file: str, owner: "Space", *, package: bool, kind: type[TreeLoader] = TreeLoader
) -> importlib.machinery.ModuleSpec:
    """Return the spec of a source file; it names no bytecode file, as one with a location would."""
    loader = kind(fullname, file, owner)
    spec = importlib.machinery.ModuleSpec(fullname, loader, origin=loader.path, is_package=package)
    if package:
        spec.submodule_search_locations = [str(Path(loader.path).parent)]
    return spec


def own_finders_spec(
    fullname: str, stock: str, path: Sequence[str] | None, owner: "Space"
) -> importlib.machinery.ModuleSpec | None:
    """Return the spec of the file of the tree that finders of ``owner``, put on ``sys.meta_path``, give for ``stock``.

    ``path`` is that of its package, which is where none of the import system's own finders has found it.
    """
    for finder in list(sys.meta_path):
        kind = finder if isinstance(finder, type) else type(finder)
        found = finder.find_spec(stock, path) if kind.__module__.startswith(f"{owner.name}.") else None
        file = owner.sources.inside(found.origin or "") if found is not None else None
        if found is not None and file in owner.sources.repository.listing.by_path:
            package = found.submodule_search_locations is not None
            return file_spec(fullname, file, owner, package=package)
    return None


def _folder_spec(
    fullname: str, folders: list[str], loader: type[FolderLoader], owner: "Space"
) -> importlib.machinery.ModuleSpec:
    spec = importlib.machinery.ModuleSpec(fullname, loader(folders[0], owner), is_package=True)
    spec.submodule_search_locations = folders
    return spec


def _remember(path: str, source: bytes) -> None:
    """Show ``inspect``, and TorchScript which compiles what it shows, the verified text instead of the disk's."""
    text = importlib.util.decode_source(source)
    # parted as linecache does it: a form feed ends no line, and the last line has an end
    lines = list(io.StringIO(text if text.endswith("\n") else f"{text}\n"))
    # no modification time: linecache then never looks at the disk again
    linecache.cache[path] = (len(text), None, lines, path)


def rename(module: ModuleType, name: str) -> None:
    """Give a module another name, and the functions and classes that it holds."""
    for value in vars(module).values():
        if getattr(value, "__module__", None) == module.__name__:
            # a function or class of it, which pickles and inspect look for by this name
            with suppress(AttributeError, TypeError):
                value.__module__ = name
    module.__name__ = name
    if module.__package__:
        module.__package__ = name if hasattr(module, "__path__") else name.rpartition(".")[0]
    if module.__spec__ is not None:
        module.__spec__.name = name
