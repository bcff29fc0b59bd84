"""Stand-ins for the few modules that would show a repository the process instead of its own tree."""

import importlib
import importlib.machinery
import importlib.util
import io
import os
import pickle
import sys
from collections.abc import Callable, Iterator, MutableMapping
from functools import wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hublock.runtime.modules.anew import is_anew
from hublock.runtime.modules.ownership import installed
from hublock.runtime.modules.sources import FILE
from hublock.runtime.repository import PACKAGE, ROOT
from hublock.runtime.strict.arguments import Arguments

if TYPE_CHECKING:
    from hublock.runtime.modules.space import Space

_TARGET, _SHIMS = "__hublock_target__", "__hublock_shims__"
_BY_NAME = {
    "importlib.resources": (
        "files", "open_binary", "open_text", "read_binary", "read_text", "path", "is_resource", "contents",
    ),
    "pkgutil": ("get_data", "get_loader", "find_loader", "resolve_name"),
    "pkg_resources": (
        "resource_filename", "resource_stream", "resource_string", "resource_exists", "resource_isdir",
        "resource_listdir",
    ),
}  # fmt: skip
"""Functions whose first argument may be the name of a module."""


class Shim(ModuleType):
    """A module that shows another one with some names replaced; everything else is read and set on the original.

    Made by :meth:`Shims.get` only, so that ``type(sys)("name")`` still makes a plain module.
    """

    def __getattr__(self, name: str) -> Any:
        own = vars(self)
        if _TARGET not in own:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(own[_TARGET], name)
        if isinstance(value, ModuleType):
            return own[_SHIMS].get(f"{self.__name__}.{name}") or value
        return value

    def __setattr__(self, name: str, value: object) -> None:
        own = vars(self)
        if _TARGET not in own or name in own:
            super().__setattr__(name, value)
        else:
            setattr(own[_TARGET], name, value)

    def __delattr__(self, name: str) -> None:
        if _TARGET in vars(self):
            delattr(vars(self)[_TARGET], name)
        else:
            super().__delattr__(name)

    def __dir__(self) -> list[str]:
        return dir(vars(self).get(_TARGET)) if _TARGET in vars(self) else sorted(vars(self))


class _System(Shim):
    """``sys`` with the ``sys.path`` of whoever asks, and during loads its ``sys.argv``."""

    _view: "Space"

    @property
    def path(self) -> list[str]:
        return self._view.path

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "path":
            self._view.path = value
        elif name == "argv" and isinstance(sys.argv, Arguments):
            sys.argv[:] = value
        else:
            super().__setattr__(name, value)


class _Builtins(Shim):
    """``builtins``, whose new names the repository's modules know at once: theirs is another dict."""

    _view: "Space"

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self._view.builtins[name] = value


class Shims:
    """The stand-ins of one repository, made when first asked for."""

    def __init__(self, view: "Space") -> None:
        """Show ``view`` to its repository."""
        self._view = view
        self._made: dict[str, Shim] = {}
        self._makers: dict[str, Callable[[], dict[str, Any]]] = {
            "sys": lambda: {"_view": view, "modules": Modules(view)},
            "builtins": lambda: {"_view": view, "__import__": view.import_},
            "importlib": lambda: {"import_module": view.import_module, "__import__": view.import_},
            "importlib.util": self._util,
            "importlib.machinery": lambda: {
                "SourceFileLoader": _source_file_loader(view),
                "FileFinder": _file_finder(view),
            },
            "pickle": lambda: _pickle(view),
        }
        for name, functions in _BY_NAME.items():
            self._makers[name] = lambda name=name, functions=functions: {  # type: ignore[misc]
                function: _first_renamed(getattr(sys.modules[name], function), view)
                for function in functions
                if hasattr(sys.modules[name], function)
            }
        renamed = self._makers["pkgutil"]
        self._makers["pkgutil"] = lambda: {**renamed(), "walk_packages": _walker(view)}

    def get(self, name: str) -> ModuleType | None:
        """Return the stand-in for the imported module ``name``, if it has one."""
        return self[name] if name in self._makers else None

    def __getitem__(self, name: str) -> Shim:
        if name not in self._made:
            shim = {"sys": _System, "builtins": _Builtins}.get(name, Shim)(name)
            replaced = self._makers[name]()
            vars(shim).update(replaced, **{_SHIMS: self, _TARGET: sys.modules[name]})
            self._made.setdefault(name, shim)
        return self._made[name]

    def _util(self) -> dict[str, Any]:
        view = self._view

        @wraps(importlib.util.spec_from_file_location)
        def spec_from_file_location(
            name: str, location: Any = None, **rest: Any
        ) -> importlib.machinery.ModuleSpec | None:
            if location is not None and rest.get("loader") is None:
                loader = rest["loader"] = view.loader_of(os.fspath(location))
                name = loader.name if loader is not None else name
            return importlib.util.spec_from_file_location(name, location, **rest)

        return {"find_spec": view.find_spec, "spec_from_file_location": spec_from_file_location}


class Modules(MutableMapping[str, ModuleType]):
    """``sys.modules`` as a repository sees it: its own modules under their stock names."""

    def __init__(self, view: "Space") -> None:
        """Show the modules of ``view``."""
        self._view = view

    def __getitem__(self, name: str) -> ModuleType:
        if name in self._view.extra:
            return self._view.extra[name]
        return sys.modules[self._view.imported(name)]

    def __setitem__(self, name: str, module: ModuleType) -> None:
        # what the code has put there itself it puts another one in place of
        is_own = name not in self._view.extra
        target = name if name.startswith(f"{self._view.name}.") else self._view.redirect(name) if is_own else None
        if target is None and "." in name and name not in sys.modules and installed(name.partition(".")[0]):
            # in place of what an installed package lacks by now, for others that look for it there
            target = name
        if target is not None:
            sys.modules[target] = module
        elif name not in sys.modules or sys.modules[name] is not module:
            self._view.extra[name] = module
        own = str(getattr(module, "__name__", ""))
        if own.startswith(f"{self._view.name}.{FILE}"):
            sys.modules[own] = module

    def __delitem__(self, name: str) -> None:
        """Forget one of the repository's own modules; the process keeps its own."""
        target = self._view.imported(name)
        if name in self._view.extra:
            del self._view.extra[name]
        elif target.startswith(f"{self._view.name}."):
            self._view.forget(name)
            del sys.modules[target]
        elif name not in sys.modules:
            raise KeyError(name)

    def clear(self) -> None:
        """Forget all of the repository's own modules."""
        for name in [*self._own(), *self._view.extra]:
            self.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        others = [name for name in list(sys.modules) if not f"{name}.".startswith(f"{PACKAGE}.")]
        others = [name for name in others if not self._view.redirect(name)]
        return iter(dict.fromkeys([*others, *self._own(), *self._view.extra]))

    def _own(self) -> list[str]:
        """Return the names by which the repository's code knows its modules."""
        prefix = f"{self._view.name}."
        names = [name.removeprefix(prefix) for name in list(sys.modules) if name.startswith(prefix)]
        stock = [name.partition(".")[2] if name.startswith(ROOT) else name for name in names]
        return [name for name in stock if name and not name.startswith(FILE) and not is_anew(name)]

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def copy(self) -> dict[str, ModuleType]:
        """Return a plain dict, as ``sys.modules.copy()`` does."""
        return {name: module for name in self if (module := self.get(name)) is not None}


def _first_renamed(function: Callable[..., Any], view: "Space") -> Callable[..., Any]:
    @wraps(function)
    def renamed(name: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(name, str):
            # pkgutil.resolve_name also takes module:object
            module, colon, rest = name.partition(":")
            folder = view.data_folder(module) if function.__module__.startswith("importlib.resources") else None
            name = folder or f"{view.redirect(module) or module}{colon}{rest}"
        return function(name, *args, **kwargs)

    return renamed


def _walker(view: "Space") -> Callable[..., Iterator[Any]]:
    def walk_packages(path: Any = None, prefix: str = "", onerror: Any = None) -> Iterator[Any]:
        for found in sys.modules["pkgutil"].iter_modules(path, prefix):
            yield found
            try:
                below = getattr(view.import_module(found.name), "__path__", ()) if found.ispkg else ()
            except Exception as error:
                if onerror is not None:
                    onerror(found.name)
                elif not isinstance(error, ImportError):
                    raise
            else:
                yield from walk_packages(list(below), f"{found.name}.", onerror) if found.ispkg else ()

    return walk_packages


def _source_file_loader(view: "Space") -> type[importlib.machinery.SourceFileLoader]:
    class SourceFileLoader(importlib.machinery.SourceFileLoader):
        def __new__(cls, fullname: str, path: str) -> Any:
            verified = view.loader_of(path) if cls is SourceFileLoader else None
            if verified is not None:
                verified.called = fullname
            return verified or super().__new__(cls)

    return SourceFileLoader


def _file_finder(view: "Space") -> type[importlib.machinery.FileFinder]:
    class FileFinder(importlib.machinery.FileFinder):
        """Finds compiled modules of the tree's packages in their installed namesakes, as torchvision looks for them."""

        def find_spec(self, fullname: str, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
            companion = view.companion_of(self.path)
            if companion is None:
                return super().find_spec(fullname, target)
            details = (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
            finder = importlib.machinery.FileFinder(str(companion), details)
            # torchvision built on torch's stable interface renamed its libraries; trees of before ask for the old names
            return finder.find_spec(fullname, target) or finder.find_spec(f"{fullname}_stable", target)

    return FileFinder


def _pickle(view: "Space") -> dict[str, Any]:
    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module in view.extra or view.redirect(module):
                return view.find_class(module, name)
            return super().find_class(module, name)

    def load(file: Any, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    def loads(data: Any, **options: Any) -> Any:
        return Unpickler(io.BytesIO(data), **options).load()

    return {"Unpickler": Unpickler, "load": load, "loads": loads}
