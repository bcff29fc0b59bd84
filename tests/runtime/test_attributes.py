"""torch.hub's attributes, ``sys.argv`` and the hub folder: what a repository makes of them, its own code alone has."""

import os
import pickle
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch.hub

from tests.runtime.answering import Shelf, ones, run
from tests.runtime.conftest import MakeRepository

URL = "https://example.org/net.pth"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    def now() -> tuple[Any, ...]:
        return (
            sys.argv,
            list(sys.argv),
            torch.hub.get_dir(),
            {name: getattr(torch.hub, name) for name in dir(torch.hub)},
        )

    before = now()
    yield
    assert now() == before


PATCHING = """
    import torch
    fetch = torch.hub.load_state_dict_from_url
    def stripped(url):
        return {name.upper(): value for name, value in fetch(url).items()}
    torch.hub.load_state_dict_from_url = stripped
    def model():
        return list(torch.hub.load_state_dict_from_url("https://example.org/net.pth"))
    def later():
        return model
    def back():
        torch.hub.load_state_dict_from_url = fetch
        return model()
    def again():
        torch.hub.load_state_dict_from_url = fetch
        import late
        return model()
"""


def test_what_modules_assign_as_they_are_imported_holds_for_every_load_of_them(
    shelf: Shelf, repository: MakeRepository
) -> None:
    shelf.put(URL, ones(2))
    late = "import torch\ntorch.hub.load_state_dict_from_url = lambda url: {'late': 1}\n"
    repo, other = repository(PATCHING, {"late.py": late}), repository(PATCHING.replace("upper", "lower"))

    for _ in range(3):
        assert run(repo, "model", answers=shelf) == ["W"]
        assert run(other, "model", answers=shelf) == ["w"]
    assert run(repo, "later", answers=shelf)() == ["W"]
    assert run(repo, "again", answers=shelf) == ["late"]
    # hubconf.py, which runs anew, has found that, as under torch.hub
    assert run(repo, "model", answers=shelf) == run(repo, "back", answers=shelf) == ["LATE"]


def test_what_an_entry_point_assigns_its_models_have_and_no_other_code(
    shelf: Shelf, repository: MakeRepository
) -> None:
    repo = repository("""
        import torch
        def model(value):
            torch.hub.made_here = value
            if value == 1:
                del torch.hub.HASH_REGEX
            return lambda: (torch.hub.made_here, hasattr(torch.hub, "HASH_REGEX"))
        def lost():
            del torch.hub.never_there
    """)
    plain = repository("""
        import torch
        def look():
            return hasattr(torch.hub, "made_here"), hasattr(torch.hub, "HASH_REGEX")
    """)
    forward = run(repo, "model", [1], answers=shelf)
    assert forward() == (1, False)
    assert run(plain, "look", answers=shelf) == (False, True)
    assert run(repo, "model", [2], answers=shelf)() == forward() == (2, False)
    assert not hasattr(torch.hub, "made_here")
    with pytest.raises(AttributeError, match="never_there"):
        run(repo, "lost", answers=shelf)


def test_a_bystander_and_another_load_do_not_run_what_a_load_assigns(
    shelf: Shelf, repository: MakeRepository, tmp_path: Path
) -> None:
    shelf.put(URL, ones(2))
    repo = repository("""
        import torch
        fetch = torch.hub.load_state_dict_from_url
        def model(begun, go):
            torch.hub.load_state_dict_from_url = lambda *args, **options: fetch(*args, **options)
            begun.set()
            go.wait(60)
            return list(torch.hub.load_state_dict_from_url("https://example.org/net.pth"))
    """)
    other = repository("""
        import torch
        def model():
            return torch.hub.load_state_dict_from_url.__name__
    """)
    torch.save({"mine": torch.ones(1)}, tmp_path / "mine.pth")
    begun, go = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(run, repo, "model", [begun, go], answers=shelf)
        assert begun.wait(60)
        try:
            mine = torch.hub.load_state_dict_from_url("https://example.net/mine.pth", model_dir=str(tmp_path))
            assert (list(mine), run(other, "model", answers=shelf)) == (["mine"], "load_state_dict_from_url")
        finally:
            go.set()
        assert load.result() == ["w"]


def test_of_a_load_within_a_load_the_last_assignment_stands(shelf: Shelf, either: MakeRepository) -> None:
    text = """
        import torch
        torch.hub.made_here = NAME
        def model():
            return torch.hub.made_here
        def outer():
            return torch.hub.made_here, torch.hub.load("some/inner", "model"), torch.hub.made_here
    """
    shelf.repos["some/inner"] = either(text.replace("NAME", "'inner'"))
    repo = either(text.replace("NAME", "'outer'"))
    assert run(repo, "outer", answers=shelf) == ("outer", "inner", "inner")
    assert run(repo, "model", answers=shelf) == "outer"


def test_what_a_library_does_as_it_is_first_imported_it_does_for_everybody(
    shelf: Shelf, repository: MakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "library_of_tests.py").write_text(
        "import os, torch.hub\nos.environ['BY_LIBRARY'] = '1'\ntorch.hub.by_library = 1\n"
    )
    (site / "library_of_tests-1.dist-info").mkdir()
    (site / "library_of_tests-1.dist-info" / "METADATA").write_text("Name: library-of-tests\nVersion: 1\n")
    (site / "library_of_tests-1.dist-info" / "INSTALLER").write_text("pip")
    monkeypatch.syspath_prepend(str(site))
    repo = repository("""
        import os, torch
        def model():
            import library_of_tests
            return os.environ.get("BY_LIBRARY"), torch.hub.by_library
    """)
    try:
        for _ in range(2):
            assert run(repo, "model", answers=shelf) == ("1", 1)
        assert (os.environ.get("BY_LIBRARY"), vars(torch.hub)["by_library"]) == ("1", 1)
    finally:
        del sys.modules["library_of_tests"], os.environ["BY_LIBRARY"]
        delattr(torch.hub, "by_library")


def test_the_users_own_assignments_are_the_users(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("""
        import torch
        def model():
            return torch.hub.made_by_user
    """)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.hub, "made_by_user", 1, raising=False)
        assert run(repo, "model", answers=shelf) == vars(torch.hub)["made_by_user"] == 1
    assert pickle.loads(pickle.dumps(torch.hub)) is torch.hub


def test_an_import_that_failed_assigns_nothing(shelf: Shelf, repository: MakeRepository, tmp_path: Path) -> None:
    repo = repository(f"""
        import os, sys, torch
        found = hasattr(torch.hub, "made_here"), list(sys.argv), torch.hub.get_dir() == "/set"
        if not os.path.exists({str(tmp_path / "once")!r}):
            open({str(tmp_path / "once")!r}, "w").close()
            torch.hub.made_here = 1
            torch.hub.set_dir("/set")
            sys.argv.append("--flag")
            raise ValueError("the first time")
        def model():
            return found
    """)
    with pytest.raises(ValueError, match="the first time"):
        run(repo, "model", answers=shelf)
    assert run(repo, "model", answers=shelf) == (False, [""], False)


def test_what_a_module_that_is_imported_late_sets_holds_for_every_load_of_it(
    shelf: Shelf, repository: MakeRepository, tmp_path: Path
) -> None:
    late = f"""
        import sys, torch
        torch.hub.set_dir({str(tmp_path)!r})
        sys.argv += ["--k"]
    """
    repo = repository(
        """
            import sys, torch
            def model():
                import late
                return list(sys.argv), torch.hub.get_dir()
        """,
        {"late.py": late},
    )
    for _ in range(2):
        assert run(repo, "model", answers=shelf) == (["", "--k"], str(tmp_path))


def test_a_folder_below_the_private_one_is_each_loads_own(shelf: Shelf, either: MakeRepository) -> None:
    repo = either("""
        import os, torch
        torch.hub.set_dir(os.path.join(torch.hub.get_dir(), "mine"))
        def model():
            return torch.hub.get_dir()
    """)
    first, second = (Path(run(repo, "model", answers=shelf)) for _ in range(2))
    assert (first.name, second.name) == ("mine", "mine")
    assert first != second


@pytest.mark.parametrize("change", ["sys.argv = ['main.py', '--k', '3']", "sys.argv[:] = ['main.py', '--k', '3']"])
def test_arguments_and_the_folder_that_an_import_sets_hold_for_every_load_of_it(
    shelf: Shelf, either: MakeRepository, tmp_path: Path, change: str
) -> None:
    repo = either(f"""
        import sys, torch
        {change}
        torch.hub.set_dir({str(tmp_path)!r})
        def model():
            found = list(sys.argv), torch.hub.get_dir()
            sys.argv.append("more")
            torch.hub.set_dir("/elsewhere")
            return found
        def other():
            return model()
    """)
    plain = either("""
        import sys
        def model():
            return list(sys.argv)
    """)
    expected = ["main.py", "--k", "3"], str(tmp_path)
    for entrypoint in ("model", "other", "model"):
        assert run(repo, entrypoint, answers=shelf) == expected
        assert run(plain, "model", answers=shelf) == [""]


def test_each_of_two_loads_has_its_own_arguments(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("""
        import sys
        def model(begun=None, go=None):
            if begun:
                sys.argv.append("--mine")
                begun.set()
                go.wait(60)
            return list(sys.argv)
    """)
    begun, go = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(run, repo, "model", [begun, go], answers=shelf)
        assert begun.wait(60)
        assert run(repo, "model", answers=shelf) == [""]
        go.set()
        assert load.result() == ["", "--mine"]
