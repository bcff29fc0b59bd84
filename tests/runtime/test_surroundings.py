"""Environment and current directory: as before after a load, and for every load what its modules made of them."""

import contextvars
import importlib
import os
import pickle
import random
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch.hub

from hublock.runtime import isolation, torchhub
from hublock.runtime.repository import namespace
from hublock.runtime.strict import surroundings
from tests.runtime.answering import Shelf, run
from tests.runtime.conftest import MakeRepository
from tests.runtime.test_scope import make

BYTECODE = "PYTHONDONTWRITEBYTECODE"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    def now() -> tuple[dict[str, str], Path]:
        return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}, Path.cwd()

    before = now()
    yield
    assert now() == before


def test_what_modules_changed_as_they_were_imported_holds_for_every_load_of_them(
    shelf: Shelf, either: MakeRepository, tmp_path: Path
) -> None:
    repo = either(
        """
            import os
            os.environ["AT_TOP"] = "set"
            def model():
                import late
                os.environ["IN_CALL"] = "set"
                return [os.environ.get(name) for name in ("AT_TOP", "LATE", "REMOVED")], os.getcwd()
            def look():
                return os.environ.get("IN_CALL")
        """,
        {
            "late.py": f"""
                import os
                os.environ.setdefault("LATE", "set")
                del os.environ["REMOVED"]
                os.chdir({os.fspath(tmp_path)!r})
            """
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REMOVED", "before")
        before = dict(os.environ), Path.cwd()
        for _ in range(3):
            assert run(repo, "model", answers=shelf) == (["set", "set", None], str(tmp_path))
            assert run(repo, "look", answers=shelf) is None
            assert (dict(os.environ), Path.cwd()) == before


def test_what_modules_put_back_and_what_the_user_sets_later_stays(
    shelf: Shelf, either: MakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = either("""
        import os
        here, theirs = os.getcwd(), os.environ["THEIRS"]
        os.chdir(os.path.dirname(__file__))
        os.environ["THEIRS"] = "for a while"
        handle = os.open(here, os.O_RDONLY)
        os.chdir(handle)
        os.close(handle)
        os.chdir(here)
        os.environ["THEIRS"] = theirs
        os.environ.setdefault("CHOSEN", "default")
        def model():
            return os.getcwd(), os.environ["THEIRS"], os.environ["CHOSEN"]
    """)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CHOSEN", raising=False)
        for name, chosen in (("a", "default"), ("b", "users")):
            (tmp_path / name).mkdir()
            patch.chdir(tmp_path / name)
            patch.setenv("THEIRS", name)
            assert run(repo, "model", answers=shelf) == (str(tmp_path / name), name, chosen)
            patch.setenv("CHOSEN", "users")


@pytest.mark.parametrize("by", ["a load", "an unpickling"])
def test_an_import_that_failed_is_tried_again_as_it_was(shelf: Shelf, either: MakeRepository, by: str) -> None:
    repo = either("""
        import os
        token = os.environ.pop("TOKEN")
        if "FAILS" in os.environ:
            raise RuntimeError("not today")
        def model():
            return token
    """)
    if by == "an unpickling":
        torchhub.admit(repo, answers=shelf, tolerated=())
        isolation.serve(repo)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKEN", "secret")
        patch.setenv("FAILS", "1")
        with pytest.raises(RuntimeError, match="not today"):
            run(repo, "model", answers=shelf) if by == "a load" else _named(namespace(repo), "hubconf")
        patch.delenv("FAILS")
        assert run(repo, "model", answers=shelf) == "secret"


def test_what_a_module_set_holds_though_the_import_above_it_failed_at_first(
    shelf: Shelf, either: MakeRepository, tmp_path: Path
) -> None:
    repo = either(
        """
            import os, sys, torch
            seen = os.environ.get("OWN"), list(sys.argv)
            os.environ["OWN"] = "set"
            sys.argv.append("--own")
            import below
            os.environ["BOTH"] = "own"
            if "FAILS" in os.environ:
                raise RuntimeError("not today")
            def model():
                names = "OWN", "BELOW", "BOTH"
                return seen, [os.environ.get(name) for name in names], torch.hub.get_dir(), torch.hub.made_below
        """,
        {
            "below.py": f"""
                import os, torch
                os.environ["BELOW"] = os.environ["BOTH"] = "below"
                torch.hub.set_dir({str(tmp_path)!r})
                torch.hub.made_below = 1
            """
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAILS", "1")
        with pytest.raises(RuntimeError, match="not today"):
            run(repo, "model", answers=shelf)
        patch.delenv("FAILS")
        for _ in range(2):
            expected = (None, [""]), ["set", "below", "own"], str(tmp_path), 1
            assert run(repo, "model", answers=shelf) == expected


def test_an_unpickling_imports_hubconf_and_leaves_no_more_than_a_load_does(
    shelf: Shelf, either: MakeRepository, tmp_path: Path
) -> None:
    repo = either(
        f"""
            import argparse, os, random, torch
            from os import sys
            parser = argparse.ArgumentParser()
            parser.add_argument("--width", default=3)
            width = parser.parse_args().width
            sys.argv.append("--seen")
            sys.path.insert(0, os.path.join(os.path.dirname(__file__), "src"))
            random.seed(0), torch.manual_seed(0)
            os.environ["AT_TOP"] = "set"
            os.chdir({os.fspath(tmp_path)!r})
            hub = torch.hub.get_dir()
            own_files = [os.listdir(os.path.join(hub, folder)) for folder in os.listdir(hub)]
            torch.hub.set_dir(os.path.join(hub, "own"))
            import first
            class Net:
                def late(self):
                    import second
                    return width, second.there, "hubconf.py" in own_files[0], os.path.basename(torch.hub.get_dir())
            def model():
                return os.environ["AT_TOP"], os.getcwd(), [*sys.argv], Net().late()
        """,
        {"src/first.py": "", "src/second.py": "there = True"},
    )
    torchhub.admit(repo, answers=shelf, tolerated=())
    isolation.serve(repo)
    made_of = pickle.dumps(Named(f"{namespace(repo)}.hubconf", "Net"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", "--lr", "1"])
        argv = sys.argv

        def now() -> tuple[object, ...]:
            return [*sys.argv], [*sys.path], dict(os.environ), Path.cwd(), torch.hub.get_dir()

        before, numbers = now(), (random.getstate(), torch.get_rng_state().tolist())
        net = pickle.loads(made_of)()
        assert (now(), (random.getstate(), torch.get_rng_state().tolist())) == (before, numbers)
        assert sys.argv is argv
        answer = (3, True, True, "own")
        assert net.late() == answer
        # what its modules did then holds for loads of them
        assert run(repo, "model", answers=shelf) == ("set", str(tmp_path), ["", "--seen"], answer)
        assert now() == before


def test_a_child_that_is_forked_amid_an_unpickling_goes_on(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("""
        import os
        child = os.fork()
    """)
    torchhub.admit(repo, answers=shelf, tolerated=())
    isolation.serve(repo)
    mine = os.getpid()
    status = 1
    try:
        hubconf: Any = _named(namespace(repo), "hubconf")
        status = 0
    finally:
        if os.getpid() != mine:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(hubconf.child, 0)[1]) == 0


def test_what_a_load_imports_draws_the_numbers_that_follow(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("""
        import torch
        torch.manual_seed(7)
        def model():
            return torch.rand(1).item()
    """)
    torchhub.admit(repo, answers=shelf, tolerated=())
    torch.manual_seed(7)
    expected = torch.rand(1).item()
    assert run(repo, "model", answers=shelf) == expected


def test_an_unpickling_beside_a_load_puts_nothing_of_it_back(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("""
        import os
        os.environ["AT_TOP"] = "set"
        def model(beside):
            os.environ["IN_CALL"] = "set"
            beside()
            return os.environ["AT_TOP"], os.environ["IN_CALL"]
    """)

    def beside() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(in_no_load).result()

    def in_no_load() -> None:
        contextvars.Context().run(_named, f"{namespace(repo)}__0123abcd", "hubconf")

    assert run(repo, "model", [beside], answers=shelf) == ("set", "set")


def test_an_unpickling_may_load_another_repository(shelf: Shelf, repository: MakeRepository) -> None:
    inner = repository("""
        import os
        os.environ["INNER"] = "set"
        def model():
            return os.environ["INNER"]
    """)
    outer = repository(f"""
        import os, torch
        os.environ["OUTER"] = "set"
        inner = torch.hub.load({inner.id!r}, "model")
        after = os.environ["OUTER"], os.environ["INNER"]
    """)
    shelf.repos[inner.id] = inner
    torchhub.admit(outer, answers=shelf, tolerated=())
    isolation.serve(outer)
    hubconf: Any = _named(namespace(outer), "hubconf")
    assert (hubconf.inner, hubconf.after) == ("set", ("set", "set"))


class Named:
    """Pickles as what has ``name`` in ``module``."""

    def __init__(self, module: str, name: str) -> None:
        self.names = module, name

    def __reduce__(self) -> tuple[object, ...]:
        return _named, self.names


def _named(module: str, name: str) -> object:
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("value", [None, "", "0", "1"])
@pytest.mark.parametrize("does", ["pass", f"os.environ['{BYTECODE}'] = 'x'", f"os.environ.pop('{BYTECODE}', None)"])
def test_a_python_that_a_load_starts_writes_no_bytecode(
    shelf: Shelf, repository: MakeRepository, value: str | None, does: str
) -> None:
    repo = repository(
        f"""
            import os, subprocess, sys
            def model():
                subprocess.run([sys.executable, "-c", "import beside"], cwd=os.path.dirname(__file__), check=True)
                {does}
        """,
        {"beside.py": ""},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BYTECODE, value or "")
        if value is None:
            patch.delenv(BYTECODE)
        run(repo, "model", answers=shelf)
        assert not (repo.root / "__pycache__").exists()
        assert os.environ.get(BYTECODE) == value


def test_loads_side_by_side_leave_nothing(shelf: Shelf, either: MakeRepository) -> None:
    repo = either("""
        import os
        os.environ["RACE"] = "1"
        os.chdir(os.path.dirname(__file__))
        def model():
            return os.environ.get("RACE"), os.getcwd()
    """)
    often = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(run, repo, "model", answers=shelf) for _ in range(400)]:
                assert done.result() == ("1", str(repo.root))
    finally:
        sys.setswitchinterval(often)


def test_a_finalizer_amid_a_question_for_random_numbers_keeps_no_other_thread_from_its_own() -> None:
    program = """
        import gc, random, threading
        import torch
        from hublock.runtime.strict.randomness import random_state

        class Late:
            def __init__(self):
                self.itself, self.amid, self.other = self, threading.Event(), threading.Event()
            def __del__(self):
                self.amid.set()
                self.other.wait(60)

        def second(amid, other):
            amid.wait(60)
            other.set()
            random_state()

        def at(count):
            late = Late()
            thread = threading.Thread(target=second, args=(late.amid, late.other))
            thread.start()
            del late
            # the collector of garbage comes as torch, or what leads there, makes an object
            gc.set_threshold(gc.get_count()[0] + count)
            random_state()
            gc.set_threshold(0)
            gc.collect()
            thread.join()

        gc.set_threshold(0)
        gc.collect()
        for count in range(20):
            at(count)
        print("done")
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_a_load_that_ends_just_before_another_leaves_a_folder_does_not_bring_it_back(tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path)
    here, there = Path.cwd(), tmp_path / "there"
    there.mkdir()
    with surroundings.kept(first, ()), first.under_way():
        # what the event tells of has not happened yet
        surroundings.before_chdir(first, there)
        surroundings.before_putenv(first, "GOING", "1")
        with surroundings.kept(second, ()), second.under_way():
            surroundings.before_chdir(second, tmp_path)
            surroundings.before_putenv(second, "GOING", "2")
            os.chdir(there)
            os.environ["GOING"] = "1"
        assert (Path.cwd(), os.environ["GOING"]) == (there, "1")
        # and what the user has done since stays, whoever ends next
        surroundings.before_chdir(first, here)
        os.chdir(here)
        os.chdir(tmp_path)
        with surroundings.kept(second, ()), second.under_way():
            surroundings.before_chdir(second, there)
            os.chdir(there)
        assert Path.cwd() == tmp_path
    assert (Path.cwd(), os.environ.get("GOING")) == (here, None)


def test_a_load_that_began_in_a_folder_which_is_gone_puts_back_all_else(tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path)
    here, there = Path.cwd(), tmp_path / "there"
    there.mkdir()
    with surroundings.kept(first, ()), first.under_way():
        surroundings.before_chdir(first, there)
        os.chdir(there)
        with surroundings.kept(second, ()), second.under_way():
            for name in ("A_GOING", "GOING"):
                surroundings.before_putenv(second, name, "2")
                os.environ[name] = "2"
            surroundings.before_chdir(second, tmp_path)
            surroundings.before_chdir(first, here)
            os.chdir(here)
            there.rmdir()
        assert (Path.cwd(), os.environ.get("A_GOING"), os.environ.get("GOING")) == (here, None, None)


@pytest.mark.parametrize("way", ["never", "back", "gone"])
def test_a_load_beside_one_that_does_not_stay_in_a_folder_ends_where_it_was(tmp_path: Path, way: str) -> None:
    first, second = make(tmp_path), make(tmp_path)
    here, there = Path.cwd(), tmp_path / "there"
    there.mkdir()
    opened = os.open(here, os.O_RDONLY)
    with surroundings.kept(first, ()), first.under_way():
        if way == "never":
            # it was not let in
            there.rmdir()
            surroundings.before_chdir(first, there)
        else:
            surroundings.before_chdir(first, there)
            os.chdir(there)
            surroundings.before_chdir(first, opened if way == "back" else here)
            os.chdir(opened)
        with surroundings.kept(second, ()), second.under_way():
            surroundings.before_putenv(second, "GOING", "2")
            os.environ["GOING"] = "2"
            surroundings.before_chdir(second, tmp_path)
            os.chdir(tmp_path)
            if way == "gone":
                there.rmdir()
        assert (Path.cwd(), os.environ.get("GOING")) == (here, None)
    os.close(opened)


def test_a_load_that_waits_for_the_import_of_another_has_what_that_made(
    shelf: Shelf, either: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = either("""
        import os, sys
        sys.at_import.set()
        sys.go_on.wait(60)
        os.environ["MADE"] = "1"
        def model(ended=None):
            if ended is not None:
                ended.wait(60)
            return os.environ.get("MADE")
    """)
    monkeypatch.setattr(sys, "at_import", at_import := threading.Event(), raising=False)
    monkeypatch.setattr(sys, "go_on", go_on := threading.Event(), raising=False)
    ended = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, repo, "model", answers=shelf)
        assert at_import.wait(60)
        second = pool.submit(run, repo, "model", [ended], answers=shelf)
        while not second.running():
            assert not second.done()
        go_on.set()
        assert first.result() == "1"
        ended.set()
        assert second.result() == "1"


def test_a_load_that_is_interrupted_as_it_begins_leaves_nothing(
    shelf: Shelf, repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(list[str]):
        def __iter__(self) -> Iterator[str]:
            if sys._getframe(1).f_code.co_name == "kept":
                raise KeyboardInterrupt
            return super().__iter__()

    argv = sys.argv
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", Interrupted(sys.path))
        with pytest.raises(KeyboardInterrupt):
            run(repository("def model():\n    return 1\n"), "model", answers=shelf)
    assert sys.argv is argv
