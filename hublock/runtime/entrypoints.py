"""The entry points of an imported hubconf, by torch.hub's rule: all that can be called; ``list`` hides ``_names``."""

import inspect
import re
from collections.abc import Callable
from shlex import quote
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hublock.core.nearest import nearest
from hublock.errors import EntrypointNotFound
from hublock.runtime.repository import as_written

if TYPE_CHECKING:
    from hublock.core.hubconf import EntryPoint


def find(hubconf: ModuleType, name: str, repo_id: str) -> Callable[..., Any]:
    """Return the entry point ``name`` of ``hubconf``, be it hidden from ``list`` or not.

    Raises:
        EntrypointNotFound: there is none; the message offers the nearest names.
    """
    found = getattr(hubconf, name) if name in dir(hubconf) else None
    if callable(found):
        return found  # type: ignore[no-any-return]
    raise EntrypointNotFound(
        f"{repo_id} has no entry point {name!r}{nearest(name, names(hubconf))}", hint=f"hublock list {quote(repo_id)}"
    )


def describe(hubconf: ModuleType) -> "tuple[EntryPoint, ...]":
    """Return every entry point of ``hubconf``, sorted by name, with what its author says of it."""
    return tuple(_describe(name, getattr(hubconf, name)) for name in names(hubconf))


def names(hubconf: ModuleType) -> list[str]:
    """Return what ``torch.hub.list`` does."""
    return [name for name in dir(hubconf) if not name.startswith("_") and callable(getattr(hubconf, name, None))]


def _describe(name: str, function: Callable[..., Any]) -> "EntryPoint":
    # only here: a load describes nothing
    from hublock.core.hubconf import EntryPoint

    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # builtins and some C callables have none
        return EntryPoint(name=name, signature="", doc=_doc(function), parameters=())
    # an address in the repr of a default differs from run to run
    text = as_written(re.sub(r" at 0x[0-9a-fA-F]+", "", str(signature)))
    return EntryPoint(name=name, signature=text, doc=_doc(function), parameters=tuple(signature.parameters))


def _doc(function: Callable[..., Any]) -> str | None:
    doc = getattr(function, "__doc__", None)
    return doc if isinstance(doc, str) else None
