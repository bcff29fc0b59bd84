import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hublock.errors import StoreError
from hublock.store.disk import inherited_mode, make_folder, open_shared, publish, remove, write_whole, writing
from tests.stories.conftest import without_privileges


def name_it(temporary: Path, final: Path) -> None:
    publish(open_shared(temporary), temporary, final)


def test_a_published_file_is_whole_and_read_only(tmp_path: Path) -> None:
    (tmp_path / "temporary").write_bytes(b"bytes")
    name_it(tmp_path / "temporary", tmp_path / "a" / "final")
    assert (tmp_path / "a" / "final").read_bytes() == b"bytes"
    assert stat.S_IMODE((tmp_path / "a" / "final").stat().st_mode) == 0o444
    assert not (tmp_path / "temporary").exists()


def test_the_first_of_two_publishers_stays(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)
        name_it(tmp_path / name, tmp_path / "final")
    assert (tmp_path / "final").read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["final"]


@pytest.mark.parametrize(
    ("code", "hint"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "HUBLOCK_CACHE_DIR"), (errno.EACCES, "HUBLOCK_CACHE_DIR")],
)
def test_a_failed_write_names_the_path_and_the_reason(code: int, hint: str) -> None:
    with pytest.raises(StoreError) as raised, writing(Path("the/path")):
        raise OSError(code, os.strerror(code))
    assert raised.value.message == f"the/path cannot be written: {os.strerror(code)}"
    assert hint in (raised.value.hint or "")


def test_a_failed_small_write_keeps_the_old_bytes_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole(tmp_path / "note", b"old", scratch=tmp_path / "scratch")

    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="Input/output error"):
        write_whole(tmp_path / "note", b"new", scratch=tmp_path / "scratch")
    assert (tmp_path / "note").read_bytes() == b"old"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_folders_below_a_shared_folder_are_shared(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    make_folder(shared / "a" / "b")
    assert stat.S_IMODE((shared / "a" / "b").stat().st_mode) == 0o2775
    assert inherited_mode(shared / "a" / "b") & stat.S_IWGRP


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o775, 0o3777])
def test_nothing_is_ever_shared_with_everybody(tmp_path: Path, mode: int) -> None:
    everybody = tmp_path / "everybody"
    everybody.mkdir()
    everybody.chmod(mode)
    make_folder(everybody / "a" / "b")
    for path in (everybody / "a", everybody / "a" / "b"):
        assert not stat.S_IMODE(path.stat().st_mode) & stat.S_IWOTH
    assert not inherited_mode(everybody) & stat.S_IWOTH
    if not mode & stat.S_ISGID:
        assert not stat.S_IMODE((everybody / "a").stat().st_mode) & stat.S_IWGRP


def test_folders_of_one_user_are_not_shared(tmp_path: Path) -> None:
    make_folder(tmp_path / "own" / "a")
    assert not stat.S_IMODE((tmp_path / "own" / "a").stat().st_mode) & stat.S_IWGRP
    assert not inherited_mode(tmp_path / "own" / "a") & stat.S_IWGRP


def test_a_file_where_a_folder_must_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        make_folder(tmp_path / "file" / "below")


def test_removes_files_and_folders_and_forgives_their_absence(tmp_path: Path) -> None:
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / "file").write_text("")
    (tmp_path / "folder" / "below" / "file").chmod(0o444)
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to("target")
    for name in ("folder", "link", "absent"):
        remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_removes_what_lies_in_folders_that_nobody_may_write(tmp_path: Path) -> None:
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / "file").write_text("")
    (tmp_path / "folder" / "closed").mkdir()
    (tmp_path / "folder" / "closed" / "file").write_text("")
    tmp_path.chmod(0o755)
    for folder, mode in (("folder/below", 0o555), ("folder/closed", 0), ("folder", 0)):
        (tmp_path / folder).chmod(mode)
    before = tmp_path.stat().st_mode
    script = "import pathlib, sys; from hublock.store.disk import remove; remove(pathlib.Path(sys.argv[1]))"
    words = [*without_privileges(), sys.executable, "-c", script, str(tmp_path / "folder")]
    subprocess.run(words, check=True)
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.stat().st_mode == before


def test_making_shared_folders_leaves_the_umask_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # which is the whole process's: another thread may make a file meanwhile
    monkeypatch.delattr(os, "umask")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o2775)
    make_folder(tmp_path / "shared" / "a" / "b")
    assert stat.S_IMODE((tmp_path / "shared" / "a" / "b").stat().st_mode) & 0o2070 == 0o2070
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["a"]


def test_a_shared_folder_that_somebody_else_made_is_not_replaced(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    handle = os.open(shared, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    maker = threading.Thread(target=make_folder, args=[shared / "a"])
    maker.start()
    maker.join(0.1)
    assert maker.is_alive(), "it must wait for who makes folders there"
    (shared / "a").mkdir()
    theirs = (shared / "a").stat().st_ino
    os.close(handle)
    maker.join()
    assert [(path.name, path.stat().st_ino) for path in shared.iterdir()] == [("a", theirs)]


def test_a_shared_folder_is_made_by_who_comes_first_where_the_file_system_cannot_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(handle: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    def too_late(own: Path, path: Path) -> None:
        (path / "theirs").mkdir(parents=True)
        os.rename(own, path)  # noqa: PTH104 - the method is this

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(Path, "rename", too_late)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o2775)
    make_folder(tmp_path / "shared" / "a")
    assert [path.name for path in tmp_path.glob("shared/**/*")] == ["a", "theirs"]
