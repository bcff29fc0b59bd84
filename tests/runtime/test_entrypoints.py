"""Entry points are found by torch.hub's rule."""

from types import ModuleType

import pytest

from hublock.core.hubconf import EntryPoint
from hublock.errors import EntrypointNotFound
from hublock.runtime.entrypoints import describe, find


@pytest.fixture
def hubconf() -> ModuleType:
    module = ModuleType("hubconf")
    source = '''
import functools
dependencies = ["torch"]
def small(pretrained=False, *, classes=10, **kwargs):
    """A small net.

    Args:
        classes: how many
    """
    return "small"
class Net:
    def __init__(self, width): pass
def _helper(): pass
def hook(function=small): pass
number = 5
for size in (18, 34):
    globals()[f"resnet{size}"] = functools.partial(small, classes=size)
c_function = min
'''
    exec(source, vars(module))
    return module


def test_finds_functions_classes_and_what_was_made_at_run_time(hubconf: ModuleType) -> None:
    assert find(hubconf, "small", "owner/repo")() == "small"
    assert find(hubconf, "Net", "owner/repo") is hubconf.Net
    assert find(hubconf, "resnet18", "owner/repo")() == "small"
    assert find(hubconf, "_helper", "owner/repo") is hubconf._helper


@pytest.mark.parametrize("name", ["number", "dependencies", "functools", "smal", "__class__"])
def test_refuses_what_torch_hub_refuses(hubconf: ModuleType, name: str) -> None:
    with pytest.raises(EntrypointNotFound, match=f"owner/repo has no entry point '{name}'") as caught:
        find(hubconf, name, "owner/repo")
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.hint == "hublock list owner/repo"


def test_offers_the_nearest_names(hubconf: ModuleType) -> None:
    with pytest.raises(EntrypointNotFound, match=r"did you mean resnet\d\d or resnet\d\d\?"):
        find(hubconf, "resnet50", "owner/repo")


def test_a_signature_calls_modules_as_their_author_does() -> None:
    hubconf = ModuleType("hubconf")
    code = "from typing import Union\nclass Weights: ...\ndef net(weights: Union[Weights, str] = None): ..."
    exec(code, vars(hubconf) | {"__name__": "hublock.repos.o_r_0123456789abcdef__1a2b3c4d.net.weights"}, found := {})  # type: ignore[var-annotated]
    vars(hubconf)["net"] = found["net"]

    assert describe(hubconf)[0].signature == "(weights: Union[net.weights.Weights, str] = None)"


def test_describes_every_entry_point_by_name(hubconf: ModuleType) -> None:
    found = {entry.name: entry for entry in describe(hubconf)}
    assert list(found) == ["Net", "c_function", "hook", "resnet18", "resnet34", "small"]
    assert found["small"] == EntryPoint(
        name="small",
        signature="(pretrained=False, *, classes=10, **kwargs)",
        doc=hubconf.small.__doc__,
        parameters=("pretrained", "classes", "kwargs"),
    )
    assert found["Net"].parameters == ("width",)
    assert found["hook"].signature == "(function=<function small>)"
    assert found["c_function"].signature == ""
