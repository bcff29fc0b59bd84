import functools
import inspect
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hublock.runtime.strict.swap import own, swap


def seen(calls: list[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decide(original: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*args: Any, **kwargs: Any) -> Any:
            calls.append((args, kwargs))
            return original(*args, **kwargs)

        return instead

    return decide


def test_every_name_given_earlier_follows() -> None:
    def function(a: int) -> int:
        return a + 1

    alias, partial, method = function, functools.partial(function, 1), {"f": function}
    calls: list[Any] = []
    swap(function, seen(calls))

    assert (alias(1), partial(), method["f"](2)) == (2, 2, 3)
    assert len(calls) == 3


def test_identity_signature_defaults_name_and_source_stay() -> None:
    def function(a: int, /, b: int = 2, *rest: int, c: int = 3, **more: int) -> tuple[Any, ...]:
        """Say something."""
        return a, b, rest, c, more

    before = (inspect.signature(function), function.__defaults__, function.__kwdefaults__, inspect.getsource(function))
    facts = (id(function), function.__name__, function.__qualname__, function.__doc__, function.__module__)
    swap(function, seen([]))

    after = (inspect.signature(function), function.__defaults__, function.__kwdefaults__, inspect.getsource(function))
    assert after == before
    assert facts == (id(function), function.__name__, function.__qualname__, function.__doc__, function.__module__)
    assert function(1) == (1, 2, (), 3, {})
    assert function(1, 5, 6, 7, c=8, d=9) == (1, 5, (6, 7), 8, {"d": 9})
    with pytest.raises(TypeError, match=r"function\(\) missing 1 required positional argument: 'a'"):
        function()  # type: ignore[call-arg]


def test_free_variables_and_super_keep_their_cells() -> None:
    step, factor = 2, 10

    def function(a: int) -> int:
        return a * factor + step

    class Base:
        def who(self) -> str:
            return "base"

    class Derived(Base):
        def who(self) -> str:
            return super().who() + "+"

    swap(function, seen([]))
    swap(Derived.who, seen([]))
    step = 3

    assert function(1) == 13
    assert Derived().who() == "base+"


def test_keyword_only_without_star_arguments() -> None:
    def function(a: int, *, b: int) -> int:
        return a - b

    calls: list[Any] = []
    swap(function, seen(calls))

    assert function(5, b=3) == 2
    assert calls == [((5,), {"b": 3})]


def test_a_second_swap_does_nothing() -> None:
    def function() -> int:
        return 1

    first: list[Any] = []
    second: list[Any] = []
    swap(function, seen(first))
    swap(function, seen(second))

    assert function() == 1
    assert (len(first), len(second)) == (1, 0)


def test_decorators_are_looked_through() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return "wrapped", function(*args)

        return wrapper

    @logged
    def function(a: int) -> int:
        return a

    calls: list[Any] = []
    swap(function, seen(calls))

    assert function(4) == ("wrapped", 4)
    assert calls == [((4,), {})]


def test_what_users_put_in_place_of_a_function_is_looked_through() -> None:
    class Own:
        def method(self, a: int) -> int:
            return a

    calls: list[Any] = []
    partial, bound = functools.partial(functools.partial(lambda a, b: a - b, 5), b=2), Own().method
    for function in (partial, bound):
        swap(function, seen(calls))

    assert (partial(), bound(4)) == (3, 4)
    assert len(calls) == 2


def test_the_module_of_the_function_is_left_as_it_is() -> None:
    module = types.ModuleType("somewhere")
    exec("def function(a):\n    return a", vars(module))
    before = set(vars(module))
    swap(module.function, seen([]))

    assert module.function(1) == 1
    assert set(vars(module)) == before


def test_refuses_what_has_no_code() -> None:
    with pytest.raises(TypeError, match="has no code object"):
        swap(len, seen([]))


def calling(function: Callable[[int], int]) -> Callable[[int], int]:
    return lambda x: function(x) + 1


def test_the_function_of_a_module_is_found_behind_what_its_user_has_put_in_its_place() -> None:
    module = types.ModuleType("of_tests")
    exec("def load(x):\n    return x\nclass Other:\n    def load(self):\n        pass\n", vars(module))
    real = vars(module)["load"]
    assert own(module, "load") is real
    partly = vars(module)["load"] = functools.partial(real, 1)
    assert own(module, "load") is partly
    vars(module)["load"] = calling(real)
    assert own(module, "load") is real
    alone = vars(module)["load"] = abs
    del real, partly
    assert own(module, "load") is alone


BEFORE = """
import sys
from pathlib import Path
import torch
real, load = torch.hub.load_state_dict_from_url, torch.load
def mine(url, **options):
    return real(url, **options, map_location="cpu") | {"mine": 1}
def loading(*args, **options):
    return load(*args, **{**options, "weights_only": False})
torch.hub.load_state_dict_from_url, torch.load = mine, loading
from hublock.errors import UnlockedDownload
from tests.runtime.answering import Shelf, ones, run
from tests.runtime.trees import make_repository
folder = Path(sys.argv[1])
shelf = Shelf(folder / "shelf")
shelf.put("https://example.org/net.pth", ones(2))
repo = make_repository(folder / "tree", {"hubconf.py": '''
import torch
def model():
    return sorted(torch.hub.load_state_dict_from_url("https://example.org/net.pth", progress=False))
def unknown(path):
    return torch.serialization.load(path)
'''})
print(run(repo, "model", answers=shelf), torch.hub.load_state_dict_from_url is mine)
(folder / "unknown.pth").write_bytes(ones(3))
try:
    run(repo, "unknown", [str(folder / "unknown.pth")], answers=shelf)
except UnlockedDownload as error:
    print(error.message)
"""


def test_what_a_program_puts_in_place_of_functions_before_they_are_exchanged_calls_the_exchanged_ones(
    tmp_path: Path,
) -> None:
    done = subprocess.run([sys.executable, "-c", BEFORE, tmp_path], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.splitlines()) == (
        "",
        ["['mine', 'w'] True", "owner/repo0 unknown loads unknown.pth, whose bytes the lock does not list"],
    )
