"""The public names."""

import pytest

import hublock


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


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        hublock.lode  # noqa: B018
