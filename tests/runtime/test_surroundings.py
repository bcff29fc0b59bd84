"""Environment and current directory: as before after a load, and for every load what its modules made of them."""

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

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
    shelf: Shelf, repository: MakeRepository, tmp_path: Path
) -> None:
    repo = repository(
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
    shelf: Shelf, repository: MakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = repository("""
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


def test_an_import_that_failed_is_tried_again_as_it_was(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("""
        import os
        token = os.environ.pop("TOKEN")
        if "FAILS" in os.environ:
            raise RuntimeError("not today")
        def model():
            return token
    """)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKEN", "secret")
        patch.setenv("FAILS", "1")
        with pytest.raises(RuntimeError, match="not today"):
            run(repo, "model", answers=shelf)
        patch.delenv("FAILS")
        assert run(repo, "model", answers=shelf) == "secret"


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


def test_loads_side_by_side_leave_nothing(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("""
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


def test_a_load_that_ends_just_before_another_leaves_a_folder_does_not_bring_it_back(tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path)
    here, there = Path.cwd(), tmp_path / "there"
    there.mkdir()
    with surroundings.kept(first), first.under_way():
        # what the event tells of has not happened yet
        surroundings.before_chdir(first, there)
        surroundings.before_putenv(first, "GOING", "1")
        with surroundings.kept(second), second.under_way():
            surroundings.before_chdir(second, tmp_path)
            surroundings.before_putenv(second, "GOING", "2")
            os.chdir(there)
            os.environ["GOING"] = "1"
        assert (Path.cwd(), os.environ["GOING"]) == (there, "1")
        # and what the user has done since stays, whoever ends next
        surroundings.before_chdir(first, here)
        os.chdir(here)
        os.chdir(tmp_path)
        with surroundings.kept(second), second.under_way():
            surroundings.before_chdir(second, there)
            os.chdir(there)
        assert Path.cwd() == tmp_path
    assert (Path.cwd(), os.environ.get("GOING")) == (here, None)


def test_a_load_that_began_in_a_folder_which_is_gone_puts_back_all_else(tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path)
    here, there = Path.cwd(), tmp_path / "there"
    there.mkdir()
    with surroundings.kept(first), first.under_way():
        surroundings.before_chdir(first, there)
        os.chdir(there)
        with surroundings.kept(second), second.under_way():
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
    with surroundings.kept(first), first.under_way():
        if way == "never":
            # it was not let in
            there.rmdir()
            surroundings.before_chdir(first, there)
        else:
            surroundings.before_chdir(first, there)
            os.chdir(there)
            surroundings.before_chdir(first, opened if way == "back" else here)
            os.chdir(opened)
        with surroundings.kept(second), second.under_way():
            surroundings.before_putenv(second, "GOING", "2")
            os.environ["GOING"] = "2"
            surroundings.before_chdir(second, tmp_path)
            os.chdir(tmp_path)
            if way == "gone":
                there.rmdir()
        assert (Path.cwd(), os.environ.get("GOING")) == (here, None)
    os.close(opened)


def test_a_load_that_waits_for_the_import_of_another_has_what_that_made(
    shelf: Shelf, repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = repository("""
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
