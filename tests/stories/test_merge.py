"""Two branches that change one lock."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forge import Forge, git
from tests.stories.conftest import Run

DECLARED = ("--no-trace", "--url", "https://example.org/net.pth")


@pytest.fixture
def clone(pinned: Forge, project: Path, hub: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project in a git repository, on branch main, with `hublock` on PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    script = programs / "hublock"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hublock "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{_path()}")
    git("init", "--quiet", "--initial-branch=main", cwd=project)
    commit(project, "base")
    return project


def _path() -> str:
    import os

    return os.environ["PATH"]


def commit(project: Path, message: str) -> None:
    git("add", "--all", cwd=project)
    git("commit", "--quiet", "--message", message, cwd=project)


def merge(project: Path, branch: str) -> subprocess.CompletedProcess[str]:
    """Merge as a user does."""
    return subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@e.org", "merge", "--quiet", "--no-edit", branch],
        cwd=project, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def settle_manifest(project: Path) -> None:
    """Resolve the manifest as a person does: keep the tables of both sides."""
    texts = [git("show", f"{branch}:hub.toml", cwd=project).decode() for branch in ("main", "topic")]
    tables = dict.fromkeys(table.strip() for text in texts for table in text.split("\n\n"))
    (project / "hub.toml").write_text("\n\n".join(tables) + "\n")
    git("add", "hub.toml", cwd=project)


def both_sides(project: Path, hub: Run, ours: tuple[str, ...], theirs: tuple[str, ...]) -> None:
    git("switch", "--quiet", "--create", "topic", cwd=project)
    assert hub(*theirs).code == 0
    commit(project, "theirs")
    git("switch", "--quiet", "main", cwd=project)
    assert hub(*ours).code == 0
    commit(project, "ours")


def test_init_sets_up_what_git_needs(clone: Path, hub: Run) -> None:
    done = hub("init", "--merge-driver")

    assert done.code == 0
    assert (clone / ".gitattributes").read_text() == "hub.lock merge=hublock\n"
    assert git("config", "merge.hublock.driver", cwd=clone).decode().startswith("hublock merge-driver %O %A %B || {")
    before = (clone / ".gitattributes").read_text()
    assert hub("init", "--merge-driver").code == 0
    assert (clone / ".gitattributes").read_text() == before


@pytest.mark.parametrize("text", [b"*.bat text\r\n# \x0c\xe2\x80\xa8\r\n", b"*.bat text\r\n*.sh text\n", b"*.bat text"])
def test_init_adds_a_line_and_leaves_the_others_as_they_are(clone: Path, hub: Run, text: bytes) -> None:
    (clone / ".gitattributes").write_bytes(text)

    for _ in range(2):
        assert hub("init", "--merge-driver").code == 0

    after = (clone / ".gitattributes").read_bytes()
    assert (after[: len(text)], after[len(text) :].strip()) == (text, b"hub.lock merge=hublock")
    assert after.endswith(b"\r\n") is text.endswith(b"\xa8\r\n")
    assert git("check-attr", "merge", "hub.lock", cwd=clone) == b"hub.lock: merge: hublock\n"


def test_init_offers_it_in_a_git_repository(tmp_path: Path, hub: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, git_too in (("plain", False), ("git", True)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        if git_too:
            git("init", "--quiet", cwd=tmp_path / name)
        assert ("hublock init --merge-driver writes `hub.lock merge=hublock`" in hub("init").err) is git_too
    monkeypatch.chdir(tmp_path / "plain")
    refused = hub("init", "--merge-driver")
    assert (refused.code, "takes no git configuration" in refused.err) == (2, True)


def test_the_driver_merges_by_entry_what_git_would_not(clone: Path, hub: Run) -> None:
    assert hub("init", "--merge-driver").code == 0
    commit(clone, "attributes")
    both_sides(
        clone, hub,
        ours=("add", "a/tagged:v1", "net", "--name", "net-a", *DECLARED),
        theirs=("add", "a/tagged:v1", "net", "--name", "net-b", *DECLARED),
    )  # fmt: skip

    merge(clone, "topic")

    settle_manifest(clone)
    assert git("ls-files", "--unmerged", cwd=clone) == b""
    lock = (clone / "hub.lock").read_text()
    assert lock.count('name = "net-a"') == lock.count('name = "net-b"') == 1
    assert hub("verify").code == 0, hub("verify")


def both_move(clone: Path, pinned: Forge, hub: Run) -> tuple[str, str]:
    """With the driver set up, pin another commit of one branch on each side; return ours and theirs."""
    assert hub("init", "--merge-driver").code == 0
    commit(clone, "attributes")
    branch = pinned.find_repo("github.com", "b/branch")
    assert branch is not None
    ours = branch.commit({"1": "1"})
    theirs = branch.commit({"2": "2"})
    both_sides(clone, hub, ours=("update", "big", "--precise", ours), theirs=("update", "big", "--precise", theirs))
    return ours, theirs


def test_a_conflict_is_marked_and_lock_recovers_what_is_agreed(clone: Path, pinned: Forge, hub: Run) -> None:
    first, second = both_move(clone, pinned, hub)

    done = merge(clone, "topic")

    assert done.returncode == 1
    assert "warning: hub.lock: both sides changed b/branch" in done.stderr
    text = (clone / "hub.lock").read_text()
    assert text.count("<<<<<<< ours\n") == text.count("=======\n") == text.count(">>>>>>> theirs\n") > 0
    for words in (("verify",), ("sync",), ("list",), ("lock", "--check"), ("diff",), ("update", "--all")):
        refused = hub(*words)
        assert (refused.code, "holds git conflict markers" in refused.err) == (2, True), words
        assert refused.err.endswith("   hint: hublock lock\n"), words
    asked = len(pinned.requests)
    recovered = hub("lock")
    assert recovered.code == 0
    assert (
        "hub.lock is in conflict: every pin that both sides agree on is kept; found out again: b/branch\n"
        "to have the pins of one side instead: git checkout --ours hub.lock, or --theirs, then hublock lock\n"
        in recovered.err
    )
    assert not [request for request in pinned.requests[asked:] if "tagged" in request.path]
    assert f'commit = "{second}"' in (clone / "hub.lock").read_text()
    assert hub("verify").code == 0
    git("checkout", "--ours", "hub.lock", cwd=clone)
    assert hub("lock").code == 0
    assert f'commit = "{first}"' in (clone / "hub.lock").read_text()


def test_where_git_does_not_find_hublock_the_lock_is_in_conflict_and_no_side_is_lost(
    clone: Path, pinned: Forge, hub: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver is in the configuration, and a git of another shell has no virtual environment on its PATH."""
    _, theirs = both_move(clone, pinned, hub)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "git").symlink_to(str(shutil.which("git")))
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(bare))
        assert merge(clone, "topic").returncode == 1

    text = (clone / "hub.lock").read_text()
    assert ("<<<<<<< ours\n" in text, f'commit = "{theirs}"\n' in text) == (True, True), text
    assert hub("lock", "--check").code == 2
    assert hub("lock").code == 0


@pytest.mark.parametrize("style", ["merge", "diff3"])
def test_lock_recovers_what_git_itself_leaves(clone: Path, pinned: Forge, hub: Run, style: str) -> None:
    """Without the driver: both sides add a model at the same place, and git sets its markers line by line."""
    git("config", "merge.conflictStyle", style, cwd=clone)
    both_sides(
        clone, hub,
        ours=("add", "a/tagged:v1", "net", "--name", "net-a", *DECLARED),
        theirs=("add", "a/tagged:v1", "net", "--name", "net-b", *DECLARED),
    )  # fmt: skip
    assert merge(clone, "topic").returncode == 1
    assert "<<<<<<< " in (clone / "hub.lock").read_text()
    settle_manifest(clone)
    asked = len(pinned.requests)

    recovered = hub("lock")

    assert (recovered.code, "every pin that both sides agree on is kept\n" in recovered.err) == (0, True), recovered
    assert len(pinned.requests) == asked
    lock = (clone / "hub.lock").read_text()
    assert lock.count('name = "net-a"') == lock.count('name = "net-b"') == 1
    assert hub("verify").code == 0


def test_an_entry_of_one_side_is_not_kept_under_the_commit_of_the_other(clone: Path, pinned: Forge, hub: Run) -> None:
    """Git merges the line of the commit by itself, and marks the entries alone."""
    branch = pinned.find_repo("github.com", "b/branch")
    assert branch is not None
    second = branch.commit({"2": "2"})
    git("switch", "--quiet", "--create", "topic", cwd=clone)
    assert hub("add", "b/branch", "big", "--name", "two", *DECLARED).code == 0
    commit(clone, "theirs")
    git("switch", "--quiet", "main", cwd=clone)
    assert hub("update", "big").code == 0
    assert hub("add", "b/branch", "big", "--name", "more", *DECLARED).code == 0
    commit(clone, "ours")
    assert merge(clone, "topic").returncode == 1
    marked = (clone / "hub.lock").read_text()
    assert (marked.count("<<<<<<< "), marked.count("commit = ")) == (1, 2)
    settle_manifest(clone)

    recovered = hub("lock")

    assert recovered.code == 0, recovered
    assert "every pin that both sides agree on is kept; found out again: b/branch\n" in recovered.err
    assert "   Locked two: big() of b/branch at <commit>" in recovered.err
    assert f'commit = "{second}"' in (clone / "hub.lock").read_text()


def test_a_side_that_is_no_lock_is_refused_and_named(clone: Path, hub: Run) -> None:
    text = f"<<<<<<< a\nversion = 1\nbad = 1\n=======\n{(clone / 'hub.lock').read_text()}>>>>>>> b\n"
    (clone / "hub.lock").write_text(text)

    done = hub("lock")

    assert str(done) == (
        "exit 2\n--- stdout\n--- stderr\n"
        "error: <project>/hub.lock (our side): bad: unknown key, so its conflict cannot be read by entry\n"
        "   hint: git checkout --ours hub.lock, then hublock lock\n"
    )
    assert (clone / "hub.lock").read_text() == text


def test_the_driver_marks_everything_where_a_side_cannot_be_read(tmp_path: Path, clone: Path, hub: Run) -> None:
    good = (clone / "hub.lock").read_text()
    for name, text in (("base", ""), ("ours", good), ("theirs", good.replace("version = 1", "version = 9"))):
        (tmp_path / name).write_text(text)

    done = hub("merge-driver", *(str(tmp_path / name) for name in ("base", "ours", "theirs")))

    assert done.code == 1
    assert "their lock: version: is 9" in done.err
    assert "<<<<<<< ours\nversion = 1\n=======\nversion = 9\n>>>>>>> theirs\n" in (tmp_path / "ours").read_text()


def test_the_driver_marks_the_entries_that_both_sides_changed(
    tmp_path: Path, pinned: Forge, project: Path, hub: Run
) -> None:
    base = (project / "hub.lock").read_text()
    for name, size in (("base", "10"), ("ours", "11"), ("theirs", "12")):
        (tmp_path / name).write_text(base.replace("size = 10", f"size = {size}"))

    done = hub("merge-driver", *(str(tmp_path / name) for name in ("base", "ours", "theirs")))

    assert (done.code, "both sides changed backbone" in done.err) == (1, True)
    assert (tmp_path / "ours").read_text() == base.replace(
        "size = 10\n", "<<<<<<< ours\nsize = 11\n=======\nsize = 12\n>>>>>>> theirs\n"
    )


def test_a_file_that_is_not_there_is_named(run: Run, project: Path) -> None:
    done = run("merge-driver", "a", "b", "c")

    assert done.code == 2
    assert done.err == "error: a does not exist\n   hint: hublock init --merge-driver has git call it\n"
