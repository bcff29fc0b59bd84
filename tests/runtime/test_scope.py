import gc
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import ref

import pytest

from hublock.errors import OfflineError, UnlockedDownload
from hublock.runtime.repository import MARKER, namespace
from hublock.runtime.strict import frames, refusals
from hublock.runtime.strict.callers import current
from hublock.runtime.strict.folders import private_folder
from hublock.runtime.strict.reads import Beside
from hublock.runtime.strict.refusals import Refusal, origin
from hublock.runtime.strict.scope import Scope, namespaces, outside
from hublock.runtime.strict.started import bound
from tests.runtime.answering import Shelf, run
from tests.runtime.conftest import MakeRepository


def make(folder: Path) -> Scope:
    return Scope(answers=Shelf(folder), folder=folder, hub_dir=folder / "hub", private_hub=folder / "hub")


def test_a_scope_is_current_inside_and_the_outer_one_after_it(tmp_path: Path) -> None:
    one, two = make(tmp_path), make(tmp_path)
    assert current() is None
    with one.entered():
        with two.entered():
            assert current() is two
        assert current() is one
        with outside():
            assert current() is None
        assert current() is one
    assert current() is None


def test_a_bound_function_takes_its_scope_along_until_the_load_has_returned(tmp_path: Path) -> None:
    one = make(tmp_path)
    seen: list[Scope | None] = []

    def call() -> None:
        thread = threading.Thread(target=bound(one, lambda: seen.append(current())))
        thread.start()
        thread.join()

    with one.under_way():
        call()
    call()

    assert seen == [one, None]
    assert current() is None


def test_frames_of_a_repository_are_inside_after_the_load(tmp_path: Path, repository: MakeRepository) -> None:
    repo, one = repository(""), make(tmp_path)
    one.adopt(repo)
    marked: dict[str, object] = {MARKER: namespace(repo), "current": current}
    exec("def ask():\n    return current()\ndef call(function):\n    return function()", marked)

    def users_own(function: Callable[[], Scope | None] = current) -> Scope | None:
        return function()

    assert marked["ask"]() is one  # type: ignore[operator]
    assert marked["call"](current) is one  # type: ignore[operator]
    assert users_own() is None
    # a hook or a dataset of the user's, called by the repository; and what the repository gave the user to call
    assert marked["call"](users_own) is None  # type: ignore[operator]
    assert marked["call"](lambda: users_own(marked["ask"])) is one  # type: ignore[arg-type,operator]
    with outside():
        assert marked["ask"]() is None  # type: ignore[operator]


def test_code_of_a_tree_that_carries_no_mark_is_not_the_users(
    tmp_path: Path, repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    repo, one = repository("", {"tool.py": "def call():\n    return current()\n"}), make(tmp_path)
    one.adopt(repo)
    marked: dict[str, object] = {MARKER: namespace(repo)}
    exec("def call(function):\n    return function()", marked)
    users = tmp_path / "users.py"
    users.write_text("def call():\n    return current()\n")

    for file, expected in ((repo.root / "tool.py", one), (users, None)):
        call = runpy.run_path(str(file), {"current": current})["call"]
        call.__globals__["current"] = current
        assert marked["call"](call) is expected  # type: ignore[operator]


def test_questions_are_asked_outside_and_refusals_are_kept(tmp_path: Path) -> None:
    one = make(tmp_path)

    def refuse(answers: object) -> None:
        assert answers is one.answers
        assert current() is None
        raise OfflineError("absent")

    with one.entered(), pytest.raises(OfflineError, match="absent"):
        one.ask("https://example.org", refuse)
    assert [refusal.what for refusal in one.refusals] == ["https://example.org"]
    assert isinstance(one.first_refusal(), OfflineError)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.org/a?b=c", "https://example.org"),
        ("https://user:secret@example.org/a", "https://example.org"),
        ("http://127.0.0.1:8000/a", "http://127.0.0.1:8000"),
    ],
)
def test_a_refusal_is_named_by_its_host(url: str, expected: str) -> None:
    assert origin(url) == expected


def test_private_folders_are_new_and_only_the_owners() -> None:
    one, two = private_folder(), private_folder()
    assert one != two
    assert list(one.iterdir()) == []
    if os.name == "posix":
        assert one.parent.stat().st_mode & 0o777 == 0o700


def in_a_process(script: str, temporary: Path) -> str:
    """Run a script that makes its temporary folders in ``temporary``, and return what it prints; it never complains."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    words = [sys.executable, "-c", script]
    ended = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    assert ended.stderr == ""
    return ended.stdout


def test_private_folders_go_with_the_process_that_made_them(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from hublock.runtime.strict.folders import private_folder\n"
        "folder = private_folder()\n"
        "if os.fork() == 0:\n"
        "    own = private_folder()\n"
        "    assert own.parent != folder.parent\n"
        "    print(own)\n"
        "    sys.exit()\n"
        "os.wait()\n"
        "assert folder.is_dir()\n"
        "print(folder)\n"
    )
    said = in_a_process(script, tmp_path)
    assert len(said.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys, time
from hublock.runtime.strict.folders import private_folder
print(private_folder().parent, flush=True)
if "fork" in sys.argv and os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""
LATER = "from hublock.runtime.strict.folders import private_folder; private_folder()"
LONG_AGO = 1_000_000_000


@pytest.mark.parametrize(
    ("lives_on", "age", "stays"), [(False, "old", False), (True, "old", True), (False, "new", True)]
)
def test_private_folders_of_killed_processes_go_with_a_later_one(
    tmp_path: Path, lives_on: bool, age: str, stays: bool
) -> None:
    words = [sys.executable, "-c", KILLED, *(["fork"] if lives_on else [])]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    others = tmp_path / "hublock-load-er"
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert process.wait(30) == -signal.SIGKILL
        others.symlink_to(tmp_path / "elsewhere")
        if age == "old":
            os.utime(folder, (LONG_AGO, LONG_AGO))

        in_a_process(LATER, tmp_path)

        assert folder.is_dir() == stays
    assert others.is_symlink()


def test_private_folders_are_made_where_somebody_has_cleaned_up() -> None:
    shutil.rmtree(private_folder().parent)
    assert list(private_folder().iterdir()) == []


def test_private_folders_of_forked_workers_go_with_them(tmp_path: Path) -> None:
    script = (
        "import multiprocessing\n"
        "from hublock.runtime.strict.folders import private_folder\n"
        "def work(): print(private_folder())\n"
        "worker = multiprocessing.get_context('fork').Process(target=work)\n"
        "worker.start()\n"
        "worker.join()\n"
    )
    said = in_a_process(script, tmp_path)
    assert Path(said.strip()).is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_namespace_belongs_to_its_latest_load_and_keeps_one_of_each_owner(
    tmp_path: Path, repository: MakeRepository
) -> None:
    repo, one, two, three = repository(""), make(tmp_path), make(tmp_path), make(tmp_path)
    three.owner = "another"
    for scope in (one, three, two):
        scope.adopt(repo)

    assert list(namespaces[namespace(repo)].values()) == [three, two]


def test_a_load_that_has_ended_takes_the_place_of_the_last_one(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("def model(): return 1\n")
    for _ in range(3):
        run(repo, "model", answers=shelf)
    assert list(namespaces[namespace(repo)]) == [f"{repo.id} model"]


IS_OTHERS = """
import os, sys
from hublock.runtime.strict.frames import is_others
os.chdir("/")
print(*[is_others(f"{folder}/module.py") for folder in sys.argv[1:]])
"""


def test_a_library_is_one_wherever_it_is_installed_and_the_program_that_is_one_the_users(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("library", "started-in", "program", "else where")]
    for folder in folders:
        folder.mkdir()
        facts = {"url": folder.as_uri(), "dir_info": {"editable": folder.name != "else where"}}
        known = tmp_path / "site" / f"{folder.name.replace(' ', '_')}-1.dist-info"
        known.mkdir(parents=True)
        (known / "METADATA").write_text(f"Name: {folder.name}\nVersion: 1\n")
        (known / "direct_url.json").write_text(json.dumps(facts))
    broken = tmp_path / "site" / "broken-1.dist-info"
    broken.mkdir()
    (broken / "direct_url.json").write_text("{")
    script = tmp_path / "program" / "train.py"
    script.write_text(IS_OTHERS)
    # as `pip install --target` leaves them, also where the program itself is
    for target in ("vendored", "program"):
        installed = tmp_path / target / "zoo-1.dist-info"
        installed.mkdir(parents=True)
        (installed / "METADATA").write_text("Name: zoo\nVersion: 1\n")
        (installed / "INSTALLER").write_text("pip\n")
    (tmp_path / "own" / "mine.egg-info").mkdir(parents=True)
    (tmp_path / "own" / "mine.egg-info" / "PKG-INFO").write_text("Name: mine\nVersion: 1\n")
    folders += [tmp_path / "vendored", tmp_path / "own"]

    path = [tmp_path / "site", tmp_path / "vendored", tmp_path / "own", Path(__file__).parents[2]]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    words = [sys.executable, str(script), *map(str, folders)]
    done = subprocess.run(words, cwd=tmp_path / "started-in", env=environ, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["True", "False", "False", "False", "True", "False"]


def test_a_library_may_be_put_on_the_path_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not frames.is_others(str(tmp_path / "zoo.py"))
    (tmp_path / "zoo-1.dist-info").mkdir()
    (tmp_path / "zoo-1.dist-info" / "METADATA").write_text("Name: zoo\nVersion: 1\n")
    (tmp_path / "zoo-1.dist-info" / "INSTALLER").write_text("pip\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert frames.is_others(str(tmp_path / "zoo.py"))


def test_of_a_process_that_was_started_anew_what_stands_below_its_job_says_nothing() -> None:
    starter: dict[str, Any] = {"__name__": "multiprocessing.spawn"}
    exec("def spawn_main(job):\n    return job()", starter)

    assert starter["spawn_main"](frames.innermost_namespace) is None
    assert starter["spawn_main"](lambda: frames.innermost_namespace()) == frames.USERS


def test_who_calls_is_told_and_what_callers_have_goes_when_they_end() -> None:
    class Thing:
        """Something of a caller's."""

    def call() -> ref[Thing]:
        own = Thing()
        frames.innermost_namespace()
        return ref(own)

    gc.disable()
    try:
        assert call()() is None
    finally:
        gc.enable()


def test_who_calls_is_told_without_a_look_into_a_lazy_module(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise ImportError("circular import")

    # as tensorboard does: the module has the name of the function that loads it
    library = ModuleType("zoo")
    exec(compile("def lazy(job):\n    return job()", f"{frames.library_folders()[1]}/zoo.py", "exec"), vars(library))
    load, vars(library)["lazy"] = library.lazy, Lazy("zoo.lazy")
    monkeypatch.setitem(sys.modules, "zoo", library)
    repository: dict[str, Any] = {"__name__": "hublock.repos.owner_net.net", MARKER: "hublock.repos.owner_net"}
    exec("def model(load, job):\n    return load(job)", repository)

    assert repository["model"](load, frames.innermost_namespace) == "hublock.repos.owner_net"


def test_what_a_library_was_refused_may_live_on_in_it(tmp_path: Path) -> None:
    library: dict[str, Any] = {"__name__": "zoo"}
    code = compile("def call(job):\n    return job()", f"{frames.library_folders()[1]}/zoo.py", "exec")
    exec(code, library)
    scope = make(tmp_path)
    scope.tolerated = ("https://tolerated.example",)
    refused = [
        ("https://a.example", ""),
        ("https://a.example", "https://a.example/x"),
        ("https://tolerated.example", ""),
        ("https://tolerated.example", "https://tolerated.example/x"),
    ]
    for what, file in refused[2:]:
        library["call"](partial(scope.remember, Refusal(what=what, error=UnlockedDownload("no"), file=file)))
    # what this load can do without another may need
    assert refusals.by_library == {"zoo": {"https://tolerated.example/x": {scope.owner}}}
    assert Beside(scope).keepers(named=None) == []
    scope.tolerated = ()
    assert [kept.file for kept in Beside(scope).keepers(named=None)] == ["https://tolerated.example/x"]

    for what, file in refused[:2]:
        library["call"](partial(scope.remember, Refusal(what=what, error=UnlockedDownload("no"), file=file)))
    kept = [kept.file for kept in Beside(scope).keepers(named=None)]
    assert kept == ["https://tolerated.example/x", "https://a.example/x", ""]
