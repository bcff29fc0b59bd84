"""Installed packages whose compiled half a repository's own copy of them needs.

The tree of pytorch/vision holds ``torchvision``, but its operators come from an installed torchvision. So that one is
imported first, under its stock name; the tree's Python still answers the repository.
"""

import importlib
import importlib.machinery
import logging
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hublock.errors import MissingDependency
from hublock.runtime.modules.ownership import find_top
from hublock.runtime.repository import MARKER, Repository
from hublock.runtime.strict.swap import swap

if TYPE_CHECKING:
    from types import FrameType

_log = logging.getLogger(__name__)
_COMPILED = (".so", ".pyd", ".dylib")
_NO_OPERATOR = re.compile(r"operator (\w+)::\w+ does not exist|'_OpNamespace' '(\w+)' object has no attribute")


def import_installed(repository: Repository) -> dict[str, Path]:
    """Import the installed namesakes, with compiled modules, of the packages at the root of the tree.

    One that cannot be imported is left: the tree may not need it; if it does, :func:`missing_half` says so.

    Returns:
        Their folders by their names.
    """
    folders = {}
    for entry in repository.listing.entries:
        name, _, file = entry.path.partition("/")
        folder = _compiled_folder(name) if file == "__init__.py" else None
        if folder is not None:
            folders[name] = folder
            _import(name)
    if folders:
        _keep_registrations()
    return folders


def missing_half(repository: Repository, error: BaseException) -> MissingDependency | None:
    """Return what to say if ``error`` is that of a package of the tree whose operators are not there."""
    found = _NO_OPERATOR.search(str(error))
    name = found and (found[1] or found[2])
    if not name or f"{name}/__init__.py" not in repository.listing.by_path:
        return None
    state = "is not installed" if find_top(name) is None else "cannot be imported, or is another version"
    return MissingDependency(
        f"{repository.id} holds only the Python half of {name}; its operators come from an installed {name}, "
        f"which {state}",
        hint=f"pip install {name}",
    )


def _compiled_folder(name: str) -> Path | None:
    spec = find_top(name)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if _any_compiled(Path(folder).rglob("*")):
            return Path(folder)
    return None


def _any_compiled(paths: Iterable[Path]) -> bool:
    return any(path.suffix in _COMPILED for path in paths)


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception:  # noqa: BLE001 - whatever a broken installation raises
        _log.debug("the installed %s cannot be imported", name, exc_info=True)


def _keep_registrations() -> None:
    """Let a repository's registration of what an operator already has do nothing: the installed half made it.

    Otherwise one copy's meta kernels would replace the other's, or be refused as a second registration.
    """
    from torch.library import Library

    swap(Library.impl, _kept_impl)
    swap(Library._register_fake, _kept_fake)


def _kept_impl(original: Callable[..., Any]) -> Callable[..., Any]:
    def impl(library: Any, op_name: Any, fn: Any, dispatch_key: str = "", *args: Any, **kwargs: Any) -> Any:
        key = dispatch_key or library.dispatch_key or "CompositeImplicitAutograd"
        if _has_kernel(library, op_name, key) and _called_by_repository():
            return None
        return original(library, op_name, fn, dispatch_key, *args, **kwargs)

    return impl


def _kept_fake(original: Callable[..., Any]) -> Callable[..., Any]:
    def register_fake(library: Any, op_name: Any, fn: Any, _stacklevel: int = 1, **kwargs: Any) -> Any:
        if _has_kernel(library, op_name, "Meta") and _called_by_repository():
            return None
        # two frames more lie between torch and its caller
        return original(library, op_name, fn, _stacklevel + 2, **kwargs)

    return register_fake


def _has_kernel(library: Any, op_name: Any, key: str) -> bool:
    import torch

    name = op_name if isinstance(op_name, str) else op_name.name()
    qualified = name if "::" in name else f"{library.ns}::{name}"
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(qualified, key))


def _called_by_repository() -> bool:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(("torch.", __name__)):
        frame = frame.f_back
    return frame is not None and MARKER in frame.f_globals
