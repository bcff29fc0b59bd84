"""The fingerprint of a model's tensors."""

import collections
import copy
import hashlib
import struct
import warnings
from typing import NoReturn

import pytest
import torch
from torch import nn

from hublock.core.digest import Digest
from hublock.runtime.fingerprint import fingerprint


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_follows_the_written_format() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([[1.0, -2.0]]))
            self.register_buffer("n", torch.tensor(7), persistent=False)

    records = b"n\0int64\0\x008\n" + struct.pack("<q", 7) + b"w\0float32\x001,2\x008\n" + struct.pack("<ff", 1, -2)
    assert fingerprint(Small()) == Digest("sha256", hashlib.sha256(records).hexdigest())


def test_is_the_same_for_equal_tensors_and_no_other() -> None:
    model, same, other = net(), net(), net(1)
    assert fingerprint(model) == fingerprint(same) == fingerprint(copy.deepcopy(model))
    assert fingerprint(model) != fingerprint(other)
    with torch.no_grad():
        same[0].weight[0, 0] += 1e-6  # type: ignore[index, operator]
    assert fingerprint(model) != fingerprint(same)


def test_tells_names_types_shapes_and_buffers_apart() -> None:
    tensor = torch.zeros(4)
    kinds = [
        {"a": tensor}, {"b": tensor}, {"a": tensor.half()}, {"a": tensor.view(2, 2)}, {"a": tensor.int()},
        {"a": tensor, "b": tensor}, {"a": torch.zeros(2), "ab": torch.zeros(2)}, {"a": tensor.bfloat16()},
    ]  # fmt: skip
    assert len({fingerprint(kind) for kind in kinds}) == len(kinds)
    model, moved = net(), net()
    moved[1].running_mean.add_(1)  # type: ignore[operator]
    assert fingerprint(model) != fingerprint(moved)


def test_depends_on_numbers_and_not_on_memory_layout() -> None:
    tensor = torch.arange(12.0).view(3, 4)
    assert fingerprint({"a": tensor}) == fingerprint({"a": tensor.t().contiguous().t()})
    complex_ = torch.tensor([1 + 2j])
    assert fingerprint({"a": complex_.conj()}) == fingerprint({"a": torch.tensor([1 - 2j])})
    assert fingerprint({"a": complex_.conj()}) != fingerprint({"a": complex_})
    assert fingerprint({"a": tensor[:0]}) is not None


def test_counts_tied_parameters_under_both_names() -> None:
    tied = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    apart = copy.deepcopy(tied)
    tied["b"].weight = tied["a"].weight
    with torch.no_grad():
        apart["b"].weight.copy_(apart["a"].weight)  # type: ignore[operator, arg-type]
        tied["a"].weight.copy_(apart["a"].weight)  # type: ignore[operator, arg-type]
    assert fingerprint(tied) == fingerprint(apart)


def test_reads_sparse_and_quantized_tensors() -> None:
    dense = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kinds: list[torch.Tensor] = [dense, dense.to_sparse(), dense.to_sparse_csr(), dense.to_sparse_csc()]
        kinds += [torch.quantize_per_tensor(dense, scale, 0, torch.qint8) for scale in (0.1, 0.2)]
        kinds.append(torch.quantize_per_channel(dense, torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), 0, torch.qint8))
        again = [dense.to_sparse(), torch.quantize_per_tensor(dense, 0.1, 0, torch.qint8)]
    prints = [fingerprint({"a": kind}) for kind in kinds]
    assert None not in prints
    assert len(set(prints)) == len(kinds)
    assert [fingerprint({"a": kind}) for kind in again] == [prints[1], prints[4]]


def test_looks_into_containers_scripts_and_predictors() -> None:
    class Predictor:
        def __init__(self) -> None:
            self.network = net()

    Pair = collections.namedtuple("Pair", "model decoder")  # noqa: PYI024 - as hub repositories write it
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit")
        script = torch.jit.script(net())
    assert fingerprint(script) == fingerprint(net())
    for thing in ((net(), print), [net()], {"model": net(), "labels": ["a"]}, Pair(net(), None), Predictor()):
        assert fingerprint(thing) is not None
    assert fingerprint((net(), net(1))) != fingerprint((net(1), net()))
    assert fingerprint(net().state_dict()) == fingerprint(net())


def test_looks_as_deep_as_there_is_anything() -> None:
    class Slotted:
        __slots__ = ("__weight", "unset")

        def __init__(self, weight: object) -> None:
            self.__weight = weight

    def deep(number: float) -> object:
        return {"parts": [{"enc": {"layers": Slotted({"w": torch.tensor(number)})}}], "norm": nn.LayerNorm(2)}

    assert fingerprint(deep(1)) == fingerprint(deep(1)) != fingerprint(deep(2))
    assert fingerprint(Slotted(torch.ones(1))) is not None


class Unreadable(dict[str, object]):
    def items(self) -> NoReturn:
        raise KeyError


COLLIDING = [{"a.b": torch.ones(2), "a": {"b": torch.ones(1)}}, {1: torch.ones(2), "1": torch.ones(1)}]


@pytest.mark.parametrize("thing", [*COLLIDING, [nn.LayerNorm(2), Unreadable()]])
def test_is_none_rather_than_that_of_a_part(thing: object) -> None:
    assert fingerprint(thing) is None


@pytest.mark.parametrize("thing", [None, 3, "text", {}, print, int, [1, {"a": 2}]])
def test_is_none_without_a_module(thing: object) -> None:
    assert fingerprint(thing) is None


def test_is_none_where_numbers_are_missing() -> None:
    assert fingerprint(nn.LazyLinear(2)) is None
    assert fingerprint(nn.Linear(2, 2, device="meta")) is None


def test_survives_a_loop_of_references() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert fingerprint(loop) is None


def test_one_tensor_that_is_reached_twice_under_one_name_is_no_clash() -> None:
    model = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(2, 2)))

    assert fingerprint({"model": model, "layers": dict(model.named_modules())}) is not None
    assert fingerprint({"a": {"b": torch.ones(1)}, "a.b": torch.zeros(1)}) is None
