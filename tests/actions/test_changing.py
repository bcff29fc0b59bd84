"""Two commands, or a command and an editor, that change one project at once."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hublock.actions.add import Wish, add_models, add_weights
from hublock.actions.context import Context
from hublock.actions.lock import lock_project
from hublock.actions.project import Project
from hublock.actions.trace import TraceOptions
from hublock.core.progress import Progress
from hublock.errors import InputError
from tests.forge import Forge

SIGNED = "https://example.org/a.pth?sig=0"
"""Locking it warns, in the midst of the work."""
PLAIN = "https://example.org/b.pth"


class Meanwhile(Progress):
    """Does something else as soon as it is warned."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def warn(self, message: str) -> None:
        del message
        self._act()


class Waiting(Progress):
    """Tells that somebody waits."""

    def __init__(self) -> None:
        self.waits = threading.Event()
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)
        self.waits.set()


@pytest.fixture
def project(forge: Forge, tmp_path: Path) -> Project:
    forge.serve(SIGNED, b"a")
    forge.serve(PLAIN, b"b")
    (tmp_path / "project").mkdir()
    return Project.at(tmp_path / "project")


def context(forge: Forge, tmp_path: Path, progress: Progress) -> Context:
    return Context(settings=forge.settings(tmp_path / "store"), progress=progress)


def test_two_commands_keep_what_the_other_wrote(forge: Forge, tmp_path: Path, project: Project) -> None:
    second = Waiting()
    thread = threading.Thread(
        target=lambda: add_weights("b", PLAIN, project, context(forge, tmp_path, second), options=TraceOptions()),
        name="second",
    )

    def meanwhile() -> None:
        thread.start()
        while thread.is_alive() and not second.waits.wait(0.05):
            pass

    add_weights("a", SIGNED, project, context(forge, tmp_path, Meanwhile(meanwhile)), options=TraceOptions())
    thread.join()

    assert sorted(project.read_manifest().names) == ["a", "b"]
    assert [item.name for item in project.read_lock().weights] == ["a", "b"]
    assert second.said[0] == f"waiting for another hublock that changes {project.folder}"


def test_what_two_processes_of_a_program_ask_for_at_once_is_locked_once(
    forge: Forge, tmp_path: Path, project: Project
) -> None:
    second = Waiting()
    other = "https://example.org/other/a.pth"
    forge.serve(other, b"other")

    def ask(progress: Progress, *urls: str) -> None:
        for url in urls:
            add_weights("a", url, project, context(forge, tmp_path, progress), options=TraceOptions(), recorded=True)

    thread = threading.Thread(target=ask, args=[second, SIGNED, other], name="second")

    def meanwhile() -> None:
        thread.start()
        while thread.is_alive() and not second.waits.wait(0.05):
            pass

    ask(Meanwhile(meanwhile), SIGNED)
    thread.join()

    assert [(item.name, item.url) for item in project.read_lock().weights] == [("a", SIGNED), ("a-2", other)]


def test_a_model_that_several_processes_ask_for_is_locked_once(forge: Forge, tmp_path: Path, project: Project) -> None:
    forge.repo("a/net", {"hubconf.py": "def net(width=1): ..."})
    wish = Wish(reference="a/net", entrypoints=("net",), urls=(PLAIN,), recorded=True)
    for asked in (wish, wish, replace(wish, kwargs={"width": 1}), wish):
        add_models(asked, project, context(forge, tmp_path, Progress()), options=TraceOptions())

    assert project.read_manifest().names == ("net", "net-2")


def test_what_a_user_writes_meanwhile_stays(forge: Forge, tmp_path: Path, project: Project) -> None:
    def edit() -> None:
        project.manifest.write_text('# mine\nenvironment = "exact"\n')

    add_weights("a", SIGNED, project, context(forge, tmp_path, Meanwhile(edit)), options=TraceOptions())

    text = project.manifest.read_text()
    assert text.startswith('# mine\nenvironment = "exact"\n')
    assert project.read_manifest().names == ("a",)


def test_a_name_that_is_taken_meanwhile_is_not_replaced(forge: Forge, tmp_path: Path, project: Project) -> None:
    theirs = f'[weights.a]\nurl = "{PLAIN}"\n'

    def edit() -> None:
        project.manifest.write_text(theirs)

    with pytest.raises(InputError, match="already has another a"):
        add_weights("a", SIGNED, project, context(forge, tmp_path, Meanwhile(edit)), options=TraceOptions())

    assert project.manifest.read_text() == theirs
    assert not project.lock.exists()


def test_a_store_that_cannot_be_written_holds_nobody_back(forge: Forge, tmp_path: Path, project: Project) -> None:
    project.manifest.write_text("")
    (tmp_path / "store").write_text("in the way")

    assert not lock_project(project, context(forge, tmp_path, Progress()), options=TraceOptions()).lock.repos
