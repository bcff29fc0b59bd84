"""Where a project is found, and how its files are replaced."""

import itertools
import os
import subprocess
import sys
import sysconfig
import unittest
from pathlib import Path

import pytest

from hublock.actions.locate import lock_file
from hublock.actions.project import Project, find_lock, find_project, open_project, upward
from hublock.actions.textfiles import replace_file
from hublock.core.lockfile import Lock
from hublock.errors import InputError, InvalidManifest, NotLocked, StoreError

TABLES = '[tool.hublock]\nenvironment = "exact"\n'


def test_the_manifest_is_hub_toml_unless_pyproject_holds_tables(tmp_path: Path) -> None:
    assert Project.at(tmp_path).manifest == tmp_path / "hub.toml"

    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'hublock-user'\n")
    assert Project.at(tmp_path).manifest == tmp_path / "hub.toml"

    (tmp_path / "pyproject.toml").write_text(TABLES)
    project = Project.at(tmp_path)
    assert (project.manifest, project.embedded) == (tmp_path / "pyproject.toml", True)
    assert project.read_manifest().environment == "exact"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"<<<<<<< HEAD\n{TABLES}", 1),
        (f"{TABLES}oops\n", 3),
        ("[ tool . 'hublock' ]\nenvironment = \n", 2),
        ("tool.hublock.environment =\n", 1),
    ],
)
def test_tables_that_do_not_parse_are_no_other_manifest(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "pyproject.toml").write_text(text)

    with pytest.raises(InvalidManifest, match=rf"pyproject\.toml: line {line}"):
        Project.at(tmp_path).read_manifest()


@pytest.mark.parametrize(
    "text",
    ["# hublock\ntool = 3\n", "# hublock\n[oops\n", '[tool.other]\nname = "hublock"\n', "# [tool.hublock]\noops\n"],
)
def test_a_file_without_our_tables_has_no_say(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)

    assert not Project.at(tmp_path).embedded


def test_a_byte_order_mark_hides_no_tables(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f"\ufeff{TABLES}", encoding="utf-8")

    assert Project.at(tmp_path).read_manifest().environment == "exact"


def test_two_manifests_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(TABLES)
    (tmp_path / "hub.toml").write_text("")

    with pytest.raises(InvalidManifest, match=r"both .*hub\.toml and \[tool\.hublock\] of .*pyproject\.toml"):
        Project.at(tmp_path)


def test_a_missing_manifest_names_the_command_that_begins_one(tmp_path: Path) -> None:
    with pytest.raises(NotLocked) as caught:
        Project.at(tmp_path).read_manifest()

    assert caught.value.hint == "hublock init"


def test_a_manifest_that_is_not_utf8_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_bytes(b"# caf\xe9\n")

    with pytest.raises(InputError, match=r"hub\.toml is not UTF-8 text \(byte 5\)"):
        Project.at(tmp_path).read_manifest()


@pytest.mark.parametrize(
    "main",
    [
        Path(sys.executable).with_name("uvicorn"),
        Path(sysconfig.get_path("purelib"), "pytest", "__main__.py"),
        Path(unittest.__file__).with_name("__main__.py"),
        Path(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")), "celery"),
        Path(sysconfig.get_path("scripts"), "pytest.exe", "__main__.py"),
    ],
)
def test_under_an_installed_program_the_lock_is_searched_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: Path
) -> None:
    for name in ("here", "script"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hub.lock").write_text("")
    (tmp_path / "linked").symlink_to(main)
    monkeypatch.chdir(tmp_path / "here")

    def found(script: Path) -> Path:
        monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
        return lock_file({"HOME": str(tmp_path)})

    assert found(tmp_path / "script" / "train.py") == tmp_path / "script" / "hub.lock"
    assert found(main) == found(tmp_path / "linked") == tmp_path / "here" / "hub.lock"


def test_a_manifest_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text('environment = "exact"\n', encoding="utf-8-sig")
    project = Project.at(tmp_path)

    assert project.read_manifest().environment == "exact"
    assert project.manifest_text() == 'environment = "exact"\n'


def test_a_lock_that_anybody_may_have_planted_is_not_found(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    mine = shared / "mine"
    mine.mkdir(parents=True)
    (shared / "hub.lock").write_text("")
    assert find_lock(mine, tmp_path) == shared / "hub.lock"

    shared.chmod(0o1777)

    with pytest.raises(NotLocked):
        find_lock(mine, tmp_path)
    assert find_project(mine, tmp_path) is None
    assert find_lock(shared, tmp_path) == shared / "hub.lock"


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    project = Project.at(tmp_path)
    project.lock.symlink_to(os.devnull)
    project.manifest.symlink_to(os.devnull)

    with pytest.raises(InputError, match=r"hub\.lock is not a file"):
        project.read_lock()
    with pytest.raises(InputError, match=r"hub\.toml is not a file"):
        project.read_manifest()


def test_the_search_goes_upward_and_stops_after_a_git_folder(tmp_path: Path) -> None:
    deep = tmp_path / "repo" / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "hub.toml").write_text("")
    assert find_project(deep, tmp_path) is not None

    (tmp_path / "repo" / ".git").mkdir()
    assert find_project(deep, tmp_path) is None

    (tmp_path / "repo" / "hub.toml").write_text("")
    found = find_project(deep, tmp_path)
    assert found is not None
    assert found.folder == (tmp_path / "repo").resolve()


def test_the_search_stops_at_the_home_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)

    assert list(upward(home / "work", home)) == [(home / "work").resolve(), home.resolve()]


def test_the_search_never_enters_a_folder_of_another_user(tmp_path: Path) -> None:
    foreign = tmp_path / "shared"
    (foreign / "mine").mkdir(parents=True)
    (foreign / "hub.toml").write_text("")
    os.chown(foreign, 12345, 12345)

    assert find_project(foreign / "mine", Path("/nonexistent")) is None


def test_a_lock_that_is_nowhere_names_every_folder_tried(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)

    with pytest.raises(NotLocked) as caught:
        find_lock(tmp_path / "a" / "b", tmp_path)

    for folder in (tmp_path, tmp_path / "a", tmp_path / "a" / "b"):
        assert str(folder.resolve()) in caught.value.message


def test_a_project_may_be_named_by_its_folder_or_by_one_of_its_files(tmp_path: Path) -> None:
    assert open_project(tmp_path / "hub.lock").folder == tmp_path
    assert open_project(tmp_path).folder == tmp_path
    with pytest.raises(InputError, match="does not exist"):
        open_project(tmp_path / "nowhere")


def test_a_lock_is_written_only_when_its_bytes_change(tmp_path: Path) -> None:
    project = Project.at(tmp_path)

    assert project.write_lock(Lock())
    before = project.lock.stat()
    assert not project.write_lock(Lock())
    assert project.lock.stat().st_mtime_ns == before.st_mtime_ns
    assert project.read_lock() == Lock()


def test_replacing_a_file_keeps_its_mode_and_follows_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "hub.toml"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)

    replace_file(link, "new")

    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub.toml", "real.toml"]


def test_a_link_into_no_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    project = Project.at(tmp_path)
    project.manifest.symlink_to(tmp_path / "nowhere" / "hub.toml")

    with pytest.raises(StoreError, match=r"hub\.toml is a link into .*nowhere, which is no folder") as caught:
        project.check_writable()
    assert caught.value.hint == f"mkdir -p {tmp_path / 'nowhere'}"


@pytest.mark.parametrize("less", [False, True])
@pytest.mark.parametrize(("mounted", "files"), [("hub.toml", ["hub.toml"]), ("hub.lock", ["hub.lock", "hub.toml"])])
def test_both_files_change_or_neither(tmp_path: Path, mounted: str, files: list[str], less: bool) -> None:
    """A file that is mounted alone cannot be replaced, which shows when it is renamed, and not before."""
    project = Project.at(tmp_path)
    for name in files:
        (tmp_path / name).write_text("before\r\n", newline="")
    subprocess.run(["mount", "--bind", tmp_path / mounted, tmp_path / mounted], check=True)
    try:
        with pytest.raises(StoreError, match=rf"{mounted} cannot be written: Device or resource busy") as caught:
            project.write_both("after", Lock(), less=less)
    finally:
        subprocess.run(["umount", tmp_path / mounted], check=True)

    assert (caught.value.hint or "").startswith(f"mount the folder that holds {mounted}, not the file alone")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(files, b"before\r\n")


@pytest.mark.parametrize("less", [False, True])
@pytest.mark.parametrize(("broken_at", "changed"), [(1, False), (2, True)])
def test_both_files_change_or_neither_wherever_a_user_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_at: int, changed: bool, less: bool
) -> None:
    project, calls = Project.at(tmp_path), itertools.count(1)
    for name in ("hub.toml", "hub.lock"):
        (tmp_path / name).write_text("before")

    def flush(folder: Path) -> None:
        # what follows each renaming
        if next(calls) == broken_at:
            raise KeyboardInterrupt

    monkeypatch.setattr("hublock.store.incoming.sync_folder", flush)
    with pytest.raises(KeyboardInterrupt):
        project.write_both("after", Lock(), less=less)

    assert [path.read_text() != "before" for path in tmp_path.iterdir()] == [changed, changed]


def test_a_file_that_cannot_be_replaced_is_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "hub.lock"
    target.write_text("old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StoreError, match=r"hub\.lock cannot be written: No space left on device"):
        replace_file(target, "new")

    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["hub.lock"]
