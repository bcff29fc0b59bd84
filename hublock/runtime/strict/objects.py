"""Arguments that TOML cannot say: ``{object = "torch.float16"}`` and objects of the repository's own modules."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from operator import is_not
from types import ModuleType
from typing import Any

from hublock.core.arguments import device_named
from hublock.errors import InputError
from hublock.runtime.repository import MARKER, Repository


def resolve_object(repository: Repository, name: str) -> object:
    """Return what ``{object = "torch.float16"}`` means; an object of the tree is made when the entry point is called.

    Raises:
        InputError: neither torch nor the tree has such an object.
    """
    head, *rest = name.split(".")
    if head != "torch":
        return _TreeObject(*_split_module(repository, name))
    import torch

    device = device_named(name)
    if device is None:
        return _attribute(torch, name, rest)
    try:
        return torch.device(device)
    except RuntimeError:
        raise InputError(f"there is no {name}", hint="name a kind of device that torch knows: cpu, cuda:0") from None


def _attribute(found: object, name: str, words: Sequence[str]) -> object:
    for word in words:
        if not hasattr(found, word):
            raise InputError(f"there is no {name}", hint=_OBJECT_HINT)
        found = getattr(found, word)
    return found


_OBJECT_HINT = "name an object of torch or of the repository's own modules"


@dataclass(frozen=True, slots=True)
class _TreeObject:
    """An argument that only the repository's own code can make."""

    module: str
    attributes: tuple[str, ...]


def _split_module(repository: Repository, name: str) -> tuple[str, tuple[str, ...]]:
    words = name.split(".")
    for cut in range(len(words) - 1, 0, -1):
        if _has_module(repository, words[:cut]):
            return ".".join(words[:cut]), tuple(words[cut:])
    raise InputError(f"{repository.id} has no {name}", hint=_OBJECT_HINT)


def filled(value: Any, repository: Repository, hubconf: ModuleType) -> Any:
    """Put the objects of the tree, as the run ``hubconf`` of its code has them, into arguments; runs foreign code.

    So is a member of an enumeration that the installed namesake of a package of the tree defines, which the tree's code
    would not know for its own: torchvision takes the weights of another one for ``pretrained=True``.

    What holds none is the caller's own list or dict, which the code may fill.

    Raises:
        InputError: the tree has no such object.
    """
    if isinstance(value, Enum) and _is_namesakes(type(value).__module__, repository):
        value = _TreeObject(type(value).__module__, (*type(value).__qualname__.split("."), value.name))
    if isinstance(value, _TreeObject):
        is_there = value.module == "hubconf"
        module = hubconf if is_there else importlib.import_module(f"{vars(hubconf)[MARKER]}.{value.module}")
        return _attribute(module, ".".join([value.module, *value.attributes]), value.attributes)
    if type(value) in (list, tuple):
        items = [filled(item, repository, hubconf) for item in value]
        return type(value)(items) if any(map(is_not, items, value)) else value
    if type(value) is dict:
        items = filled(list(value.values()), repository, hubconf)
        return dict(zip(value, items, strict=True)) if any(map(is_not, items, value.values())) else value
    return value


def _is_namesakes(module: str, repository: Repository) -> bool:
    words = module.split(".")
    return f"{words[0]}/__init__.py" in repository.listing.by_path and _has_module(repository, words)


def _has_module(repository: Repository, words: Sequence[str]) -> bool:
    path = "/".join(words)
    return bool({f"{path}.py", f"{path}/__init__.py"} & repository.listing.by_path.keys())
