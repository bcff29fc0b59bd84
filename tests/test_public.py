"""The public names."""

import subprocess
import sys
from collections.abc import Callable

import pytest

import hublock
from hublock import hub


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


@pytest.mark.parametrize(
    "call",
    [
        lambda: hublock.help("someone/net", None),  # type: ignore[arg-type]
        lambda: hublock.help(None, "net"),  # type: ignore[arg-type]
        lambda: hublock.list(3),  # type: ignore[arg-type]
        lambda: hublock.load("someone/net", "net", source=None),  # type: ignore[arg-type]
        lambda: hublock.load(b"someone/net", "net"),  # type: ignore[arg-type]
        lambda: hublock.load("someone/net", 3),  # type: ignore[arg-type]
        lambda: hub.instead(allow_local=True)["load"]("someone/net", None),
    ],
)
def test_a_name_that_is_no_string_is_a_value_error_as_in_torch_hub(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"^Invalid input: [a-z_]+ should be a string, not "):
        call()


@pytest.mark.parametrize(("switch", "expected"), [("gc.enable()", "True True"), ("gc.disable()", "True False")])
def test_what_comes_when_it_is_used_is_not_searched_for_garbage(switch: str, expected: str) -> None:
    program = f"""
import gc, hublock
{switch}
before = gc.get_stats()[0]["collections"]
hublock.load
print(gc.get_stats()[0]["collections"] - before < 3, gc.isenabled())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == expected


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        hublock.lode  # noqa: B018
