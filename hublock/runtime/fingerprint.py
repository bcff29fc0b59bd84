"""The fingerprint of a model: one digest of all its parameters and buffers.

Anyone can recompute it. Tensors have the names of ``named_parameters(remove_duplicate=False)`` and
``named_buffers(remove_duplicate=False)``; one under two names counts under both. In a tuple, list, mapping (a state
dict, too) or other object that holds modules or tensors, however deep, a name begins with its place there: ``0.``,
``encoder.``. SHA-256 runs over one record for each, in the order of the UTF-8 bytes of their names:

    name, a zero byte, data type, a zero byte, shape, a zero byte, number of bytes, a line feed, the bytes

where the data type is torch's without ``torch.`` (``float32``), the shape is decimal numbers joined by commas (empty
for a scalar), and the bytes are those of the contiguous tensor in main memory, little-endian as torch stores them.

A tensor that is not a plain block of numbers counts as several: ``name::indices`` and ``name::values`` (sparse COO,
coalesced), ``name::crow_indices``, ``name::col_indices`` and ``name::values`` (CSR, BSR) or their ``ccol`` and ``row``
(CSC, BSC), each with ``name::size``; ``name::int_repr`` with ``name::scale`` and ``name::zero_point`` (quantized).
"""

import ctypes
import hashlib
from collections.abc import Iterator, Mapping
from logging import Logger
from types import FunctionType, MemberDescriptorType, ModuleType
from typing import TYPE_CHECKING, Any

from hublock.core.digest import Digest

if TYPE_CHECKING:
    from torch import Tensor


def fingerprint(model: object) -> Digest | None:
    """Return the digest of everything that ``model`` would compute with.

    None if it holds no module and no tensor, or cannot be told wholly: a tensor is on the meta device, not yet
    initialised, or of a layout without defined bytes, two have one name, or what holds them cannot be looked into.
    """
    found: dict[str, Tensor] = {}
    try:
        holds = _collect(model, "", found, {})
    except Exception:  # noqa: BLE001 - to look into foreign objects runs their code
        return None
    if not holds:
        return None
    total = hashlib.sha256()
    try:
        plain = {name: tensor for key, item in found.items() for name, tensor in _parts(key, item)}
        for name in sorted(plain, key=lambda name: name.encode("utf-8", "surrogatepass")):
            _add(total, name, plain[name])
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None
    return Digest("sha256", total.hexdigest())


def _collect(thing: object, prefix: str, found: dict[str, "Tensor"], seen: dict[int, object]) -> bool:
    """Put every tensor of ``thing`` into ``found``; return whether it holds a module or a tensor at all."""
    import torch

    if isinstance(thing, torch.Tensor):
        _add_named({prefix.removesuffix("."): thing}, found)
        return True
    if isinstance(thing, torch.nn.Module):
        parameters, buffers = (
            thing.named_parameters(remove_duplicate=False),
            thing.named_buffers(remove_duplicate=False),
        )
        _add_named({prefix + name: tensor for name, tensor in (*parameters, *buffers)}, found)
        return True
    if id(thing) in seen:
        return False
    # kept, or the next object may have its id
    seen[id(thing)] = thing
    held = [_collect(item, f"{prefix}{key}.", found, seen) for key, item in _items(thing)]
    return any(held)


def _add_named(tensors: Mapping[str, "Tensor"], found: dict[str, "Tensor"]) -> None:
    if any(found.get(name, tensor) is not tensor for name, tensor in tensors.items()):
        raise ValueError("two tensors have one name")
    found.update(tensors)


def _items(thing: object) -> Iterator[tuple[str, object]]:
    if isinstance(thing, Mapping):
        yield from ((str(key), item) for key, item in thing.items())
    elif isinstance(thing, tuple | list):
        yield from ((str(index), item) for index, item in enumerate(thing))
    elif not isinstance(thing, _PROCESS_WIDE):
        # a predictor that holds its network as an attribute
        yield from list(getattr(thing, "__dict__", {}).items())
        slots = [vars(kind) for kind in type(thing).__mro__ if "__slots__" in vars(kind)]
        for name, slot in [item for members in slots for item in members.items()]:
            if isinstance(slot, MemberDescriptorType) and hasattr(thing, name):
                yield name, getattr(thing, name)


_PROCESS_WIDE = (type, ModuleType, FunctionType, Logger)
"""What leads to everything that the process holds."""


def _parts(name: str, tensor: "Tensor") -> Iterator[tuple[str, "Tensor"]]:
    """Yield the plain tensors that make up one tensor."""
    import torch

    tensor = tensor.detach()
    if tensor.is_meta or tensor.is_nested:
        raise ValueError("no numbers")
    if tensor.is_quantized:
        yield f"{name}::int_repr", tensor.int_repr()
        yield from _scale(name, tensor)
    elif tensor.layout == torch.strided:
        yield name, tensor
    else:
        tensor = tensor.coalesce() if tensor.layout == torch.sparse_coo else tensor
        yield f"{name}::size", torch.tensor(tensor.shape, dtype=torch.int64)
        for part in _SPARSE[str(tensor.layout)]:
            yield f"{name}::{part}", getattr(tensor, part)()


_SPARSE = {
    "torch.sparse_coo": ("indices", "values"),
    "torch.sparse_csr": ("crow_indices", "col_indices", "values"),
    "torch.sparse_bsr": ("crow_indices", "col_indices", "values"),
    "torch.sparse_csc": ("ccol_indices", "row_indices", "values"),
    "torch.sparse_bsc": ("ccol_indices", "row_indices", "values"),
}


def _scale(name: str, tensor: "Tensor") -> Iterator[tuple[str, "Tensor"]]:
    import torch

    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        yield f"{name}::scale", torch.tensor(tensor.q_scale(), dtype=torch.float64)
        yield f"{name}::zero_point", torch.tensor(tensor.q_zero_point(), dtype=torch.int64)
    else:
        yield f"{name}::scale", tensor.q_per_channel_scales()
        yield f"{name}::zero_point", tensor.q_per_channel_zero_points()


def _add(total: Any, name: str, tensor: "Tensor") -> None:
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    size = plain.numel() * plain.element_size()
    shape = ",".join(map(str, plain.shape))
    head = f"{str(plain.dtype).removeprefix('torch.')}\0{shape}\0{size}\n"
    total.update(name.encode("utf-8", "surrogatepass") + b"\0" + head.encode("ascii"))
    if size:
        # works for every data type, with or without numpy, and hashes without a copy
        total.update((ctypes.c_char * size).from_address(plain.data_ptr()))
