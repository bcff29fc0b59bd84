"""Folders that an entry point puts on ``sys.path`` while it runs: each load has its own, in any process."""

import random
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from hublock.runtime import torchhub
from hublock.runtime.repository import Repository, namespace
from tests.runtime.answering import Shelf, run
from tests.runtime.carrying import in_a_fresh_process
from tests.runtime.conftest import MakeRepository
from tests.runtime.trees import make_repository

HOW = {
    "insert": "sys.path.insert(0, folder)",
    "insert once": "if folder not in sys.path: sys.path.insert(0, folder)",
    "append": "sys.path.append(folder)",
    "insert and take back": "sys.path.insert(0, folder); import model; sys.path.remove(folder)",
}


def _with_roots(folder: Path, how: str) -> Repository:
    files = {
        "hubconf.py": f"""
            import os, sys
            def _from(folder):
                folder = os.path.join(os.path.dirname(__file__), folder)
                {HOW[how]}
                from model import Net
                import model
                assert model.pack.inner is Net.module
                return Net()
            def one():
                return _from("v1")
            def two():
                return _from("deep/v-2")
        """,
        "space/part.py": "number = 300",
    }
    if how != "append":
        files |= {"model.py": "class Net: number = 0", "layers.py": "number = 0"}
    for number, root in ((1, "v1"), (2, "deep/v-2")):
        files |= {
            f"{root}/model.py": f"""
                import solo{number}
                from layers import number
                import layers, pack.inner, space.part
                class Net:
                    number = number
                    module, inner = pack.inner, pack.inner.number
                    part = space.part.number
                    same = solo{number}.layers is layers
                    def late(self):
                        import importlib, layers, pack.inner
                        return layers.number, pack.inner.number, importlib.import_module("layers").number
            """,
            f"{root}/layers.py": f"number = {number}",
            f"{root}/solo{number}.py": "import layers",
            f"{root}/pack/__init__.py": "from .inner import number",
            f"{root}/pack/inner.py": f"from pack import other\nnumber = {number}0",
            f"{root}/pack/other.py": "",
            f"{root}/space/part.py": f"number = {number}00",
        }
    return make_repository(folder, files)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("order", ["one two", "two one", "one two one two"])
def test_folders_that_entry_points_put_on_sys_path_give_each_its_own_code_here_and_in_a_fresh_process(
    tmp_path: Path, shelf: Shelf, order: str, how: str
) -> None:
    expected: dict[str, tuple[Any, ...]] = {"one": (1, 10, 100, True), "two": (2, 20, 200, True)}
    repository = _with_roots(tmp_path, how)
    nets = [run(repository, name, answers=shelf) for name in order.split()]
    facts: list[tuple[Any, ...]] = [(net.number, net.inner, net.part, net.same) for net in nets]
    if how in ("insert and take back", "append"):
        # of a folder that other ones complete, as part of a namespace, stock takes the part that comes first
        facts, expected = [f[:2] for f in facts], {name: numbers[:2] for name, numbers in expected.items()}

    assert facts == [expected[name] for name in order.split()]
    for net in nets:
        assert net.late() == (net.number, net.inner, net.number)
    told = [f"{net.number} {net.inner} {net.same} {net.late()}" for net in nets]
    assert in_a_fresh_process(repository, nets, "number", "inner", "same") == told
    if how == "insert":
        assert [in_a_fresh_process(repository, [net], "part") for net in nets] == [
            [f"{net.part} {net.late()}"] for net in nets
        ]


def test_what_an_earlier_model_imports_late_is_still_found(tmp_path: Path, shelf: Shelf) -> None:
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": """
                import os, sys
                class Lazy:
                    def __call__(self):
                        from layers import value
                        return value
                def one():
                    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "src"))
                    return Lazy()
                def two():
                    return 2
            """,
            "src/layers.py": "value = 3",
        },
    )
    lazy = run(repository, "one", answers=shelf)
    run(repository, "two", answers=shelf)
    assert lazy() == 3


IMPORTS = {
    "import": "import model",
    "from": "from model import Net as _; import model",
    "as": "import model as other; model = other",
    "dotted": "import pack.inner as inner; import model",
    "library": "import importlib; model = importlib.import_module('model')",
    "by hand": "model = __import__('model')",
}


@pytest.mark.parametrize("how", IMPORTS)
@pytest.mark.parametrize("also_in_root", [False, True])
def test_loads_at_the_same_time_have_each_their_own(
    tmp_path: Path, shelf: Shelf, how: str, *, also_in_root: bool
) -> None:
    files = {
        "hubconf.py": f"""
            import os, sys
            def model(version, meet):
                meet()
                sys.path.insert(0, os.path.join(os.path.dirname(__file__), version))
                meet()
                {IMPORTS[how]}
                meet()
                import layers
                meet()
                return model.Net(), layers.number, sys.path[:2]
        """
    }
    if also_in_root:
        files |= {"model.py": "class Net: number = 0", "layers.py": "number = 0", "pack/inner.py": "number = 0"}
    for version in ("v1", "v2", "v3"):
        files |= {
            f"{version}/model.py": "import layers, pack.inner\nclass Net:\n    number = layers.number\n"
            "    inner = pack.inner.number\n    late = lambda self: __import__('layers').number",
            f"{version}/layers.py": f"number = '{version}'",
            f"{version}/pack/__init__.py": "",
            f"{version}/pack/inner.py": f"number = '{version}'",
        }
    repository = make_repository(tmp_path, files)
    versions = ["v1", "v2", "v3"]
    for order in (versions, versions[::-1]):
        barrier = threading.Barrier(3, timeout=60)

        def load(version: str, barrier: threading.Barrier = barrier) -> Any:
            return run(repository, "model", [version, barrier.wait], answers=shelf)

        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(load, order))
        for version, (net, number, path) in zip(order, found, strict=True):
            assert (net.number, net.inner, number, net.late()) == (version,) * 4
            assert path == [str(tmp_path / version), str(tmp_path)]
    nets = [net for net, _, _ in found]
    assert in_a_fresh_process(repository, nets, "number", "inner") == [" ".join([version] * 3) for version in order]


ORDERS = {
    "first": ("sys.path[:0] = [lib, src]", "lib"),
    "behind": ("sys.path[:0] = [src, lib]", "src"),
    "around the root": ("sys.path.insert(0, lib); sys.path.append(src)", "lib"),
    "behind the root": ("sys.path += [src]", "root"),
}


@pytest.mark.parametrize("how", ORDERS)
def test_of_several_folders_the_first_one_answers_whoever_asks(tmp_path: Path, shelf: Shelf, how: str) -> None:
    statement, expected = ORDERS[how]
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": f"""
                import os, sys
                here = os.path.dirname(__file__)
                def model():
                    lib, src = os.path.join(here, "l-i_b"), os.path.join(here, "src", "deep")
                    {statement}
                    from net import Net
                    return Net()
                def other():
                    pass
            """,
            "src/deep/net.py": """
                import shared
                class Net:
                    where = shared.where
                    def late(self):
                        import later
                        return later.where
            """,
            **{
                f"{folder}{module}.py": f"where = {name!r}"
                for folder, name in (("", "root"), ("l-i_b/", "lib"), ("src/deep/", "src"))
                for module in ("shared", "later")
            },
        },
    )
    net = run(repository, "model", answers=shelf)
    run(repository, "other", answers=shelf)

    assert (net.where, net.late()) == (expected, expected)
    assert in_a_fresh_process(repository, [net], "where") == [f"{expected} {expected}"]


def test_a_folder_that_comes_first_later_answers_what_is_imported_later(tmp_path: Path, shelf: Shelf) -> None:
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": """
                import os, sys
                def model():
                    for folder in ("src", "lib"):
                        sys.path.insert(0, os.path.join(os.path.dirname(__file__), folder))
                        import net
                    return net.late()
            """,
            "src/net.py": "def late():\n    import shared\n    return shared.where",
            "src/shared.py": "where = 'src'",
            "lib/shared.py": "where = 'lib'",
        },
    )
    assert run(repository, "model", answers=shelf) == "lib"


def test_the_list_that_hubconf_has_kept_counts_in_every_load(tmp_path: Path, shelf: Shelf) -> None:
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": """
                import os
                from sys import path
                def model():
                    path.append(os.path.join(os.path.dirname(__file__), "src"))
                    from inner import value
                    return value
            """,
            "src/inner.py": "value = 5",
            "more/inner.py": "value = 6",
        },
    )
    for _ in range(2):
        assert run(repository, "model", answers=shelf) == 5


def test_a_name_that_was_imported_stays_until_the_code_forgets_it(tmp_path: Path, shelf: Shelf) -> None:
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": """
                import os, sys
                def add(folder):
                    sys.path.insert(0, os.path.join(os.path.dirname(__file__), folder))
                def model(number):
                    seen = ["layers" in sys.modules, *(name for name in sys.modules if name == "layers")]
                    for folder in ("v1", "v2"):
                        add(folder)
                        import layers
                        seen.append(layers.number)
                    seen.append(sys.modules["layers"] is layers)
                    del sys.modules["layers"]
                    seen.append("layers" in sys.modules)
                    import layers
                    return [*seen, layers.number]
            """,
            "v1/layers.py": "number = 1",
            "v2/layers.py": "number = 2",
        },
    )
    for number in range(3):
        assert run(repository, "model", [number], answers=shelf) == [False, 1, 1, True, False, 2]


SHARED = {
    "shared.py": "from layers import number\ndef late():\n    from layers import number\n    return number",
    "v1/layers.py": "import sys\nnumber = 1\nme = sys.modules[__name__]",
    "v2/layers.py": "import sys\nnumber = 2\nme = sys.modules[__name__]",
    "src/fast.py": "",
}


def test_what_a_load_imports_from_the_root_is_its_own_too(tmp_path: Path, shelf: Shelf) -> None:
    hubconf = """
        import os, sys
        def model(version):
            folder = os.path.join(os.path.dirname(__file__), version)
            sys.path.insert(0, folder)
            import layers, shared
            assert layers.me is layers
            sys.path.remove(folder)
            import layers as again
            assert again is layers
            return shared
        def plain():
            try:
                import fast
            except ImportError:
                return "plain"
    """
    repository = make_repository(tmp_path, {"hubconf.py": hubconf, **SHARED})
    models = {version: run(repository, "model", [version], answers=shelf) for version in ("v1", "v2", "v1")}

    assert {version: (shared.number, shared.late()) for version, shared in models.items()} == {
        "v1": (1, 1),
        "v2": (2, 2),
    }
    assert run(repository, "plain", answers=shelf) == "plain"


def test_a_load_that_adds_folders_leaves_earlier_ones_as_they_were(tmp_path: Path, shelf: Shelf) -> None:
    hubconf = """
        import os, sys
        def early():
            def late():
                try:
                    import shared
                except ImportError:
                    return "nothing"
                return shared.number
            return late
        def model(version):
            sys.path.insert(0, os.path.join(os.path.dirname(__file__), version))
            import shared
            return shared.number
    """
    repository = make_repository(tmp_path, {"hubconf.py": hubconf, **SHARED})
    late = run(repository, "early", answers=shelf)

    assert [run(repository, "model", [version], answers=shelf) for version in ("v1", "v2", "v1")] == [1, 2, 1]
    assert late() == "nothing"


def test_a_folder_named_from_where_the_code_has_gone_is_found(tmp_path: Path, shelf: Shelf) -> None:
    hubconf = """
        import os, sys
        def model():
            os.chdir(os.path.dirname(__file__))
            sys.path.insert(0, "v1")
            import layers
            return layers.number
    """
    repository = make_repository(tmp_path, {"hubconf.py": hubconf, "layers.py": "number = 0", **SHARED})
    assert run(repository, "model", answers=shelf) == 1


def test_replacing_and_restoring_sys_modules_comes_to_an_end(tmp_path: Path, shelf: Shelf) -> None:
    hubconf = """
        import os, sys
        from unittest import mock
        def model():
            import layers
            with mock.patch.dict(sys.modules, {"no_such_thing": None}):
                try:
                    import no_such_thing
                except ImportError:
                    import layers as again
            assert "no_such_thing" not in sys.modules and sys.modules["os"] is os
            import layers as third
            return layers is again is third
    """
    repository = make_repository(tmp_path, {"hubconf.py": hubconf, "layers.py": ""})
    assert run(repository, "model", answers=shelf) is True


@pytest.mark.parametrize("also_in_root", [False, True])
def test_a_compiled_model_imports_what_it_does_when_it_is_not_compiled(
    tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, *, also_in_root: bool
) -> None:
    hubconf = """
        import os, sys, torch
        class Net(torch.nn.Module):
            def forward(self, x):
                from layers import number
                return x * number
        def model(version):
            sys.path.insert(0, os.path.join(os.path.dirname(__file__), version))
            return Net()
    """
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "layers.py").write_text("number = 99")
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    files = {"hubconf.py": hubconf, **SHARED, **({"layers.py": "number = 10"} if also_in_root else {})}
    repository = make_repository(tmp_path / "tree", files)
    for number in (1, 2):
        net = run(repository, "model", [f"v{number}"], answers=shelf)
        compiled = torch.compile(net, backend="eager")
        assert compiled(torch.ones(1)).item() == net(torch.ones(1)).item() == number  # type: ignore[no-untyped-call]


def test_a_vendored_package_is_not_the_installed_one_in_a_fresh_process_either(tmp_path: Path, shelf: Shelf) -> None:
    hubconf = """
        import os, sys
        def model():
            here = os.path.dirname(__file__)
            sys.path[:0] = [os.path.join(here, "src"), os.path.join(here, "third")]
            import net
            return net.Net()
    """
    net = """
        import tqdm
        class Net:
            word = tqdm.word
            def late(self):
                import tqdm
                return tqdm.word
    """
    files = {"hubconf.py": hubconf, "src/net.py": net, "third/tqdm/__init__.py": "word = 'vendored'"}
    repository = make_repository(tmp_path, files)
    made = run(repository, "model", answers=shelf)

    assert in_a_fresh_process(repository, [made], "word") == ["vendored vendored"]


def test_what_a_process_loads_first_changes_no_name(tmp_path: Path, shelf: Shelf) -> None:
    names = []
    for order in ("one two", "two one"):
        repository = _with_roots(tmp_path / order, "insert")
        nets = {name: run(repository, name, answers=shelf) for name in order.split()}
        names.append({name: type(net).__module__.removeprefix(namespace(repository)) for name, net in nets.items()})

    # so what two processes have saved, each the first of its loads, is told apart by one that has both
    assert names[0] == names[1]
    assert len({module.partition(".")[0] for module in names[0].values()}) == 2


def test_a_repository_that_is_loaded_within_others_gives_each_call_its_own_code(tmp_path: Path, shelf: Shelf) -> None:
    hubconf = """
        import os, sys
        def net(version="v2"):
            sys.path.insert(0, os.path.join(os.path.dirname(__file__), version))
            import layers
            return layers.number
    """
    inner = make_repository(tmp_path / "inner", {"hubconf.py": hubconf, **SHARED})
    shelf.repos["inner"] = inner
    loads = [f'torch.hub.load("inner", "net", {version!r})' for version in ("v1", "v2")]
    both, two = (
        make_repository(tmp_path / name, {"hubconf.py": f"import torch\ndef net():\n    return {result}"})
        for name, result in (("both", f"[{', '.join(loads)}]"), ("two", loads[1]))
    )

    assert run(both, "net", answers=shelf) == [1, 2]
    assert run(two, "net", answers=shelf) == 2
    assert run(inner, "net", ["v1"], answers=shelf) == 1


def test_code_that_could_add_folders_and_does_not_is_shared_by_loads(tmp_path: Path, shelf: Shelf) -> None:
    hubconf = """
        from helper import Net
        def net(width, device=None):
            return Net()
    """
    helper = "import sys\nclass Net: ...\ndef main():\n    sys.path.append('scripts')"
    repository = make_repository(tmp_path, {"hubconf.py": hubconf, "helper.py": helper})
    nets = [run(repository, "net", [width], answers=shelf) for width in (1, 1, 2)]

    assert len({type(net) for net in nets}) == 1


def test_equal_calls_with_a_device_share_their_modules(tmp_path: Path, shelf: Shelf) -> None:
    hubconf = """
        import os, sys
        def model(device):
            sys.path.insert(0, os.path.join(os.path.dirname(__file__), "v1"))
            import layers
            return layers
    """
    repository = make_repository(tmp_path, {"hubconf.py": hubconf, **SHARED})
    got = [run(repository, "model", [torch.device("cpu")], answers=shelf) for _ in range(2)]

    assert got[0] is got[1]


@pytest.mark.parametrize("order", ["v1 v2", "v2 v1"])
def test_folders_of_hubconf_that_an_entry_point_puts_first_come_first(tmp_path: Path, shelf: Shelf, order: str) -> None:
    hubconf = """
        import os, sys
        here = os.path.dirname(__file__)
        sys.path += [os.path.join(here, "v1"), os.path.join(here, "v2")]
        def model(version):
            sys.path.remove(os.path.join(here, version))
            sys.path.insert(0, os.path.join(here, version))
            from net import Net
            return Net()
    """
    net = "from layers import number\nclass Net:\n    number = number\n    def late(self):\n"
    net += "        import layers\n        return layers.number"
    repository = make_repository(tmp_path, {"hubconf.py": hubconf, "v1/net.py": net, "v2/net.py": net, **SHARED})
    nets = [run(repository, "model", [version], answers=shelf) for version in order.split()]

    assert [f"v{net.number}" for net in nets] == [f"v{net.late()}" for net in nets] == order.split()
    assert in_a_fresh_process(repository, nets, "number") == [f"{net.number} {net.number}" for net in nets]


def test_a_load_that_must_begin_again_has_the_same_random_numbers_and_leaves_no_module_behind(
    tmp_path: Path, shelf: Shelf
) -> None:
    hubconf = """
        import random, torch
        def early():
            import models
            def late():
                from models import sub
                return sub.number
            return late
        def fast():
            numbers = random.random(), torch.rand(1).item()
            import faster
            from models import sub
            return *numbers, sub.number
    """
    files = {
        "hubconf.py": hubconf,
        "faster.py": "import os, sys\nsys.path.insert(0, os.path.join(os.path.dirname(__file__), 'v1'))",
        "models/__init__.py": "",
        "models/sub.py": "from layers import number",
        "layers.py": "number = 0",
    }
    results = []
    for number, early in enumerate((False, True)):
        repository = make_repository(tmp_path / str(number), {**files, **SHARED, "layers.py": "number = 0"})
        late = run(repository, "early", answers=shelf) if early else None
        random.seed(0)
        torch.manual_seed(0)
        results.append(run(repository, "fast", answers=shelf))
        assert late is None or late() == 0

    assert results[0] == results[1]
    assert results[0][2] == 1


@pytest.mark.parametrize(
    "way",
    [
        "from os import sys\nsys.path.append(SRC)",
        "from os import sys\nsys.path.insert(0, SRC)",
        "import site\nsite.addsitedir(SRC)",
    ],
)
def test_folders_that_code_puts_on_the_path_of_all_are_its_own(
    shelf: Shelf, either: MakeRepository, way: str, tmp_path: Path
) -> None:
    lines = textwrap.indent(way, " " * 12)
    repo = either(
        f"""
            import os
            SRC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "src")
{lines}
            def one():
                from first import NAME
                return NAME
            def two():
                from second import NAME
                return NAME
            def order():
                from both import NAME
                return NAME
            def late():
                def forward():
                    import third
                    return third.Net
                return forward
        """,
        {
            "both.py": "NAME = 'root'",
            "src/both.py": "NAME = 'src'",
            "src/first.py": "NAME = 'first'",
            "src/second.py": "NAME = 'second'",
            "src/third.py": "class Net:\n    pass\n",
        },
    )
    before = list(sys.path)
    for _ in range(2):
        assert [run(repo, name, answers=shelf) for name in ("two", "one")] == ["second", "first"]
    assert run(repo, "order", answers=shelf) == ("src" if "insert(0, SRC)" in way else "root")
    net = run(repo, "late", answers=shelf)()
    assert net.__module__ == f"{namespace(repo)}.third"
    assert sys.path == before
    assert not {"first", "second", "third"} & sys.modules.keys()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("sys.path.append(A); import only; sys.path.remove(A); sys.path.append(B); import common", "b"),
        ("sys.path.append(A); import only; sys.path.append(B); sys.path.insert(0, B); import common", "b"),
        ("sys.path.append(A); sys.path.append(B); import common", "a"),
    ],
)
def test_the_path_of_all_is_followed_as_it_changes(
    shelf: Shelf, either: MakeRepository, change: str, found: str
) -> None:
    repo = either(
        f"""
            import os
            from os import sys
            A, B = [os.path.join(os.path.dirname(os.path.abspath(__file__)), name) for name in "ab"]
            {change}
            def model():
                import late
                return common.NAME, late.NAME
        """,
        {"a/only.py": "", **{f"{f}/{name}.py": f"NAME = {f!r}" for f in "ab" for name in ("common", "late")}},
    )
    before = list(sys.path)
    for _ in range(2):
        assert run(repo, "model", answers=shelf) == (found, found)
        assert sys.path == before


def test_only_folders_of_the_tree_leave_the_path_of_all(shelf: Shelf, tmp_path: Path) -> None:
    folder, beside = tmp_path / "my", tmp_path / "my_common"
    for path in (folder / "src", beside):
        path.mkdir(parents=True)
    (tmp_path / "linked").symlink_to(folder)
    (folder / "hubconf.py").write_text(
        "import os\nfrom os import sys\ndef model(*folders):\n    sys.path.extend(folders)\n    return len(folders)\n"
    )
    before = list(sys.path)
    added = [str(folder / "src"), str(beside), str(tmp_path / "linked" / "src")]
    try:
        assert torchhub.watch_local(folder, "model", added, answers=shelf).result == 3
        assert sys.path == [*before, str(beside)]
    finally:
        sys.path[:] = before
