"""The public names, and torch.hub's signatures."""

import inspect

import pytest
import torch.hub

import hublock

HUB = list(torch.hub.__all__)


def test_the_public_names_are_these() -> None:
    assert sorted(hublock.__all__) == [
        "HublockError",
        "__version__",
        "activate",
        "activated",
        "download_url_to_file",
        "get_dir",
        "help",
        "list",
        "load",
        "load_state_dict_from_url",
        "modules",
        "set_dir",
        "use",
    ]
    assert dir(hublock) == sorted(hublock.__all__)


@pytest.mark.parametrize("name", HUB)
def test_every_function_of_torch_hub_is_here_with_its_parameters(name: str) -> None:
    theirs = inspect.signature(getattr(torch.hub, name)).parameters
    ours = inspect.signature(getattr(hublock, name)).parameters

    assert list(theirs) == [key for key in ours if key in theirs], name
    for key, parameter in theirs.items():
        if (name, key) == ("load", "model"):
            continue  # a name alone loads a locked model
        if key == "trust_repo" and parameter.default is None:
            continue  # until it became "check"; it has no effect here
        assert (ours[key].kind, ours[key].default) == (parameter.kind, parameter.default), f"{name}({key})"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        hublock.lode  # noqa: B018
