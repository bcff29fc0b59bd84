"""hubconf.py keeps nothing from one load for the next, as under torch.hub, which runs it anew for each."""

import copy
import gc
import importlib
import inspect
import os
import pickle
import random
import subprocess
import sys
import textwrap
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import torch.hub

from hublock.runtime import isolation, torchhub
from hublock.runtime.repository import Repository, namespace
from tests.runtime.answering import Shelf, run
from tests.runtime.conftest import MakeRepository

KEEPING = {
    "a global": """
        _kept = None
        def model():
            global _kept
            _kept = _kept or []
            _kept.append(1)
            return len(_kept)
    """,
    "a cache": """
        import functools
        @functools.lru_cache
        def _made():
            return []
        def model():
            _made().append(1)
            return len(_made())
    """,
    "a default": """
        def model(seen=[]):
            seen.append(1)
            return len(seen)
    """,
    "a default of a keyword": """
        def model(*, seen={}):
            seen[len(seen)] = 1
            return len(seen)
    """,
    "a list": """
        SEEN: list = []
        def model():
            SEEN.append(1)
            return len(SEEN)
    """,
    "a table": """
        try:
            TABLE = {"a": 1}
        except ImportError:
            pass
        def model():
            TABLE["a"] += 1
            return TABLE["a"]
    """,
    "a table given away": """
        TABLE = {}
        def _add(table):
            table[len(table)] = 1
            return len(table)
        def model():
            return _add(TABLE)
    """,
    "a table in a table": """
        TABLES = {"a": {}}
        def model():
            table = TABLES["a"]
            table[len(table)] = 1
            return len(table)
    """,
    "a table by another name": """
        TABLE = {}
        OTHER = TABLE
        def model():
            OTHER[len(OTHER)] = 1
            return len(TABLE)
    """,
    "a table as a default": """
        TABLE = {}
        def model(table=TABLE):
            table[len(table)] = 1
            return len(TABLE)
    """,
    "an attribute of a function": """
        def model():
            model.count = getattr(model, "count", 0) + 1
            return model.count
    """,
    "an attribute of a class": """
        class Net:
            made = 0
            def __init__(self):
                Net.made += 1
        def model():
            return Net().made
    """,
    "a list of a class": """
        class Net:
            made = []
            def __init__(self):
                self.made.append(1)
        def model():
            return len(Net().made)
    """,
    "a class by its method": """
        class Net:
            made = 0
            @classmethod
            def make(cls):
                cls.made += 1
                return cls.made
        def model():
            return Net.make()
    """,
    "its namespace": """
        count = 0
        def model():
            globals()["count"] += 1
            return count
    """,
    "an object": """
        import itertools
        numbers = itertools.count()
        def model():
            return next(numbers)
    """,
    "a seed": """
        import random
        random.seed(7)
        def model():
            return random.random()
    """,
    "a loop": """
        import random
        for number in (7,):
            random.seed(number)
        def model():
            return random.random()
    """,
    "an attribute of what a function is given": """
        def _once(build):
            build.made = getattr(build, "made", 0) + 1
            return build.made
        def _build():
            return 1
        def model():
            return _once(_build)
    """,
    "an attribute of a function by another name": """
        def model():
            function = model
            function.count = getattr(function, "count", 0) + 1
            return function.count
    """,
    "the namespace of a function": """
        count = 0
        def model():
            model.__globals__["count"] += 1
            return count
    """,
    "the annotations of a function": """
        def model(size: int = 1):
            model.__annotations__[len(model.__annotations__)] = int
            return len(model.__annotations__)
    """,
    "a lambda": """
        model = lambda seen=[]: (seen.append(1), len(seen))[1]
    """,
}


@pytest.mark.parametrize("hubconf", KEEPING.values(), ids=KEEPING)
def test_what_hubconf_keeps_does_not_hold_for_the_next_load(
    hubconf: str, shelf: Shelf, repository: MakeRepository
) -> None:
    repo, stock = repository(hubconf), cast("Any", torch.hub.load)
    theirs = [stock(os.fspath(repo.root), "model", source="local") for _ in range(3)]
    assert [run(repo, "model", answers=shelf) for _ in range(3)] == theirs


def test_what_hubconf_reads_as_it_runs_each_load_reads_anew(
    shelf: Shelf, repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = repository("""
        import os
        width = os.environ["WIDTH"]
        if "WIDE" in os.environ:
            width += "!"
        def model():
            return width
    """)
    monkeypatch.setenv("WIDTH", "1")
    assert run(repo, "model", answers=shelf) == "1"
    monkeypatch.setenv("WIDTH", "2")
    monkeypatch.setenv("WIDE", "")
    assert run(repo, "model", answers=shelf) == "2!"


def test_an_object_that_the_lock_names_is_that_of_the_run(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("""
        import enum
        class Mode(enum.Enum):
            FAST = 1
        def model(mode):
            return mode is Mode.FAST
    """)
    fast = torchhub.resolve_object(repo, "hubconf.Mode.FAST")
    assert [run(repo, "model", [fast], answers=shelf) for _ in range(3)] == [True] * 3


def test_stock_names_are_those_of_the_latest_run(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("class Net:\n    pass\ndef model():\n    return Net()\n")
    for _ in range(3):
        model = run(repo, "model", answers=shelf)
        with isolation.stock_names(repo):
            assert type(model) is importlib.import_module("hubconf").Net
    assert not {"hubconf", "hubconf__2"} & set(sys.modules)


def test_loads_at_once_share_nothing_that_hubconf_keeps(shelf: Shelf, repository: MakeRepository) -> None:
    for _ in range(5):
        repo, barrier = repository(KEEPING["a list"]), threading.Barrier(6)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(barrier.wait, [60] * 6))
            assert [job.result() for job in [pool.submit(run, repo, "model", answers=shelf) for _ in range(6)]] == [
                1
            ] * 6


def test_loads_at_once_share_nothing_where_first_imports_fail(shelf: Shelf, repository: MakeRepository) -> None:
    once = """
        import itertools, time
        numbers = itertools.count()
        def fail():
            time.sleep(0.002)
            if next(numbers) < 5:
                raise ValueError("early")
    """

    def load(repo: Repository) -> int:
        try:
            return cast("int", run(repo, "model", answers=shelf))
        except ValueError:
            return 1

    for _ in range(3):
        repo = repository(f"import once\nonce.fail()\n{textwrap.dedent(KEEPING['a list'])}", {"once.py": once})
        with ThreadPoolExecutor(12) as pool:
            assert set(pool.map(load, [repo] * 48)) == {1}


def test_its_modules_are_those_of_the_first_load(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository(
        """
            import random
            random.seed(1)
            import below
            def model():
                below.seen.append(1)
                return len(below.seen)
        """,
        {"below.py": "seen = []\n"},
    )
    assert [run(repo, "model", answers=shelf) for _ in range(3)] == [1, 2, 3]


def test_what_it_does_to_the_process_it_does_for_each_load(
    shelf: Shelf, repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORDS", raising=False)
    repo = repository(
        """
            import os, pathlib, sys, torch
            os.chdir(os.path.join(os.path.dirname(__file__), "data"))
            os.chdir("below")
            os.environ["WORDS"] = "set"
            torch.hub.set_dir("hub")
            sys.path.insert(0, os.path.join(os.path.dirname(__file__), "first"))
            sys.path.insert(0, os.path.join(os.path.dirname(__file__), "second"))
            import late
            def model():
                import thing
                return pathlib.Path("text").read_text(), os.environ["WORDS"], os.environ["LATE"], thing.name, sys.path
        """,
        {
            "data/below/text": "read",
            "first/thing.py": "name = 'first'\n",
            "second/thing.py": "name = 'second'\n",
            "late.py": "import os\nos.environ['LATE'] = 'set'\n",
        },
    )
    here, first = Path.cwd(), run(repo, "model", answers=shelf)
    assert first[:4] == ("read", "set", "set", "second")
    assert [run(repo, "model", answers=shelf) for _ in range(2)] == [first, first]
    assert (Path.cwd(), os.environ.get("WORDS"), os.environ.get("LATE")) == (here, None, None)


def test_what_was_warned_of_once_is_not_warned_of_again(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository(
        "import net\nmade = []\ndef model():\n    made.append(1)\n    net.warn()\n",
        {
            "net.py": """
                import warnings
                warnings.filterwarnings("ignore", "of a library")
                def warn():
                    warnings.warn("old")
            """
        },
    )
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("default")
        for _ in range(3):
            run(repo, "model", answers=shelf)
    assert [str(warning.message) for warning in heard] == ["old"]


def test_a_seed_holds_also_where_an_unpickling_has_imported_it(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository(KEEPING["a seed"])
    isolation.serve(repo)
    importlib.import_module(f"{namespace(repo)}.hubconf")
    random.seed(1)
    assert [run(repo, "model", answers=shelf) for _ in range(2)] == [random.Random(7).random()] * 2


def test_what_cannot_run_twice_is_as_the_first_run_has_left_it(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository(
        """
            import registry
            @registry.register
            def net():
                return 1
            def model():
                return registry.known["net"]()
        """,
        {
            "registry.py": """
                known = {}
                def register(function):
                    assert function.__name__ not in known, function
                    return known.setdefault(function.__name__, function)
            """
        },
    )
    assert [run(repo, "model", answers=shelf) for _ in range(3)] == [1, 1, 1]


NET = """
    import logging
    import torch
    log = logging.getLogger(__name__)
    made = []
    scale = 1.0
    class Part(torch.nn.Module):
        def forward(self, x):
            return x * scale
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.line = torch.nn.Linear(2, 2)
            self.part = Part()
            self.add = add
        def forward(self, x):
            return self.add(self.part(self.line(x)))
    def add(x):
        return x + len(made)
    def model(by=1.0):
        global scale
        scale = by
        made.append(by)
        return Net()
"""


SCALING = """
    scale = 1
    def scaled(x):
        return x * scale
    def model(by):
        global scale
        scale = by
        return scaled
"""


def test_models_of_later_loads_are_whole(shelf: Shelf, repository: MakeRepository) -> None:
    repo, x = repository(NET), torch.ones(1, 2)
    models = [run(repo, "model", [by], answers=shelf) for by in (1.0, 2.0, 3.0)]
    assert len({type(model) for model in models}) == 3
    for number, model in enumerate(models, 1):
        there = model(x)
        assert torch.equal(there, model.line(x) * number + 1)
        assert torch.equal(copy.deepcopy(model)(x), there)
        assert torch.equal(pickle.loads(pickle.dumps(model))(x), there)
        assert torch.equal(torch.compile(lambda y, model=model: model(y), backend="eager", fullgraph=True)(x), there)
        assert "class Net" in inspect.getsource(type(model))


def test_what_is_compiled_of_one_load_is_not_what_another_runs(shelf: Shelf, repository: MakeRepository) -> None:
    repo, x = repository(SCALING), torch.ones(1)
    functions = [run(repo, "model", [by], answers=shelf) for by in (1, 2, 3, 4)]
    compiled: list[Any] = [torch.compile(function, backend="eager", fullgraph=True) for function in functions]
    assert [int(function(x)) for function in compiled] == [1, 2, 3, 4]


def test_protocols_of_later_loads_ask_for_no_more(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("""
        import typing
        @typing.runtime_checkable
        class Sized(typing.Protocol):
            def __len__(self): ...
        def model():
            return isinstance([], Sized), issubclass(list, Sized)
    """)
    assert [run(repo, "model", answers=shelf) for _ in range(3)] == [(True, True)] * 3


def test_functions_of_later_loads_can_be_pickled(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository(
        "made = []\ndef twice(x):\n    return 2 * x\ndef model():\n    made.append(1)\n    return twice\n"
    )
    first, second, third = (run(repo, "model", answers=shelf) for _ in range(3))
    for function in (first, second, third, second):
        assert pickle.loads(pickle.dumps(function)) is function


def test_nobody_holds_what_nobody_has_of_a_load(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("""
        import functools, torch
        @functools.lru_cache
        def model():
            return torch.nn.Linear(2, 2)
    """)
    run(repo, "model", answers=shelf)
    second = weakref.ref(run(repo, "model", answers=shelf))
    run(repo, "model", answers=shelf)
    gc.collect()
    assert second() is None
    assert not [name for name in sys.modules if name.startswith(f"{namespace(repo)}.hubconf__")]


def test_what_a_run_with_classes_keeps_goes_with_its_models(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("""
        import torch
        made = []
        class Net(torch.nn.Module):
            pass
        def model():
            made.append(Net())
            return made[0]
    """)
    kept = [run(repo, "model", answers=shelf) for _ in range(3)]
    others = [weakref.ref(run(repo, "model", answers=shelf)) for _ in range(60)]
    gc.collect()
    assert sum(other() is not None for other in others) == 32
    latest = run(repo, "model", answers=shelf)
    assert inspect.getsource(type(latest)) == "class Net(torch.nn.Module):\n    pass\n"
    for model in kept:
        assert type(pickle.loads(pickle.dumps(model))) is type(model)


def test_a_run_for_an_unpickling_is_not_let_go_before_its_end(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository(
        """
            import gate
            made = []
            gate.wait()
            def function():
                pass
            def model():
                made.append(1)
                return function
        """,
        {
            "gate.py": """
                import threading
                closed = []
                entered, opened = threading.Event(), threading.Event()
                def wait():
                    if closed and closed.pop():
                        entered.set()
                        assert opened.wait(60)
            """
        },
    )
    functions = [run(repo, "model", answers=shelf) for _ in range(2)]
    gate = sys.modules[f"{namespace(repo)}.gate"]
    gate.closed.append(True)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(pickle.loads, pickle.dumps(functions[1]).replace(b"hubconf__2", b"hubconf__9"))
        assert gate.entered.wait(60)
        run(repo, "model", answers=shelf)
        gate.opened.set()
        assert job.result(60).__module__ == f"{namespace(repo)}.hubconf__9"


def test_a_pickling_beside_loads_finds_what_it_has_imported(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("made = []\ndef model():\n    made.append(1)\n    return model\n")
    entered, opened = threading.Event(), threading.Event()

    class Slow(ModuleType):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            # the last step of its import
            if name == "hubconf__2":
                entered.set()
                assert opened.wait(60)

    function = [run(repo, "model", answers=shelf) for _ in range(2)][1]
    sys.modules[namespace(repo)].__class__ = Slow
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(pickle.dumps, function)
        assert entered.wait(60)
        run(repo, "model", answers=shelf)
        opened.set()
        assert pickle.loads(job.result(60)) is function


def test_another_process_makes_a_later_run_as_it_unpickles_something_of_it(
    tmp_path: Path, shelf: Shelf, repository: MakeRepository
) -> None:
    repo = repository(NET, name="owner/anew")
    run(repo, "model", answers=shelf)
    second = run(repo, "model", [2.0], answers=shelf)
    (tmp_path / "made").write_bytes(pickle.dumps([second, type(second)]))
    files = {entry.path: (repo.root / entry.path).read_bytes() for entry in repo.listing.entries}
    program = f"""
        import pickle, random, sys
        from pathlib import Path
        from hublock.runtime import isolation, torchhub
        from tests.runtime.trees import make_repository
        random.seed(3)
        before = random.getstate()
        repo = make_repository(Path({os.fspath(tmp_path / "again")!r}), {files!r}, identity="owner/anew")
        isolation.serve(repo)
        model, kind = pickle.loads(Path({os.fspath(tmp_path / "made")!r}).read_bytes())
        assert type(model) is kind
        assert random.getstate() == before
        sys.stdout.buffer.write(pickle.dumps(kind()))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, check=False, timeout=120
    )
    assert not done.returncode, done.stderr.decode()
    assert type(pickle.loads(done.stdout)) is type(second)
