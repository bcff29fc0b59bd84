"""What a reviewer sees of a changed lock."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.forge import Forge, git
from tests.stories.conftest import PLAIN, Run


@pytest.fixture
def committed(pinned: Forge, project: Path) -> Forge:
    """The project, in a git repository whose HEAD holds its lock."""
    git("init", "--quiet", "--initial-branch=main", cwd=project)
    git("add", ".", cwd=project)
    git("commit", "--quiet", "--message", "locked", cwd=project)
    return pinned


def move(forge: Forge, hub: Run) -> None:
    branch = forge.find_repo("github.com", "b/branch")
    assert branch is not None
    branch.commit({"hubconf.py": PLAIN.replace("NAME", "big").replace("pretrained", "weights")})
    forge.serve("https://example.org/net.pth", b"THE WEIGHTS OF NET")
    assert hub("update", "--all").code == 0


def test_without_a_change_it_says_so(committed: Forge, hub: Run) -> None:
    assert str(hub("diff")) == "exit 0\n--- stdout\n--- stderr\nhub.lock pins what it pinned before\n"
    assert hub("diff", "--exit-code").code == 0


def test_shows_pins_files_and_the_contract(committed: Forge, hub: Run) -> None:
    move(committed, hub)

    done = hub("diff")

    assert str(done) == (
        "exit 0\n--- stdout\n"
        "~ repository b/branch\n"
        "  ~ commit: <hex> -> <hex>\n"
        "  ~ tree: git-sha1:<hex> -> git-sha1:<hex>\n"
        "  ~ digest: git-sha256:<hex> -> git-sha256:<hex>\n"
        "~ model net\n"
        "  ! file https://example.org/net.pth: sha256:<hex>, 18 bytes, pickle none -> "
        "sha256:<hex>, 18 bytes, pickle none\n"
        "~ what callers of b/branch find\n"
        "  ~ big(pretrained=False) -> big(weights=False)\n"
        "--- stderr\n"
    )
    assert hub("diff", "--exit-code").code == 1
    assert hub("diff", "HEAD").out == done.out


def test_as_markdown_for_a_pull_request(committed: Forge, hub: Run) -> None:
    move(committed, hub)

    comment = hub("diff", "--format", "markdown").out

    assert comment.startswith("### `hub.lock`: 2 entries changed\n\n> [!WARNING]\n> Look twice")
    assert "> - `model net` `file https://example.org/net.pth`\n" in comment
    assert "| ⚠ `model net` | `file https://example.org/net.pth` | `sha256:" in comment
    assert "- `~ big(pretrained=False) -> big(weights=False)`\n" in comment


def test_as_json(committed: Forge, hub: Run) -> None:
    move(committed, hub)

    report = json.loads(hub("diff", "--format", "json").out)

    assert [change["what"] for change in report["changes"] if change["alarming"]] == [
        "file https://example.org/net.pth"
    ]
    [signature] = report["contracts"]["b/branch"]["signatures"]
    assert signature == {"name": "big", "old": "(pretrained=False)", "new": "(weights=False)"}


def test_shows_other_bytes_also_of_a_model_that_was_renamed(committed: Forge, project: Path, hub: Run) -> None:
    assert hub("remove", "net").code == 0
    committed.serve("https://example.org/net.pth", b"evil bytes of net!")
    words = ("--no-trace", "--url", "https://example.org/net.pth", "--input", "best.pt")
    assert hub("add", "a/tagged:v1", "net", "--name", "net2", *words).code == 0
    file = "file https://example.org/net.pth: sha256:<hex>, 18 bytes, pickle none"

    done = hub("diff")
    (project / "old.lock").write_bytes(git("show", "HEAD:hub.lock", cwd=project))

    assert f"- model net: net of a/tagged:v1\n  - {file}\n" in done.out
    assert f"+ model net2: net of a/tagged:v1\n  ! {file} -> sha256:<hex>, 18 bytes, pickle none\n" in done.out
    held = hub("verify", "--against", "old.lock")
    assert f"in model net {file} only there\n" in held.err
    assert f"in model net2 {file} there, sha256:<hex>, 18 bytes, pickle none here\n" in held.err


def test_against_a_file_or_a_commit_before_the_lock(committed: Forge, project: Path, hub: Run) -> None:
    (project / "old.lock").write_text((project / "hub.lock").read_text())
    git("rm", "--quiet", "--cached", "hub.lock", cwd=project)
    git("commit", "--quiet", "--message", "no lock", cwd=project)

    assert hub("diff", "old.lock").out == ""
    assert "+ model net: net of a/tagged:v1\n" in hub("diff").out
    assert hub("diff", "HEAD~1").out == ""


def test_the_project_may_be_a_folder_of_the_repository(pinned: Forge, project: Path, hub: Run) -> None:
    git("init", "--quiet", "--initial-branch=main", cwd=project.parent)
    git("add", "project/hub.lock", cwd=project.parent)
    git("commit", "--quiet", "--message", "locked", cwd=project.parent)

    assert hub("diff", "--exit-code").code == 0


def test_no_line_of_a_lock_looks_like_one_of_ours(committed: Forge, project: Path, hub: Run) -> None:
    lock = (project / "hub.lock").read_text()
    names = r'["a.b", "x\n::error::forged\nhub.lock pins what it pinned before"]'
    assert 'pickle = "none"' in lock
    (project / "hub.lock").write_text(lock.replace('pickle = "none"', f"pickle = {names}"))

    for done in (hub("diff"), hub("diff", "--format", "markdown"), hub("verify")):
        assert r"x\n::error::forged\nhub.lock pins" in done.out + done.err
        assert not any(line.startswith(("::", "hub.lock pins")) for line in (done.out + done.err).splitlines())


@pytest.mark.parametrize("against", ["nowhere", "--output=x", "HEAD:hub.lock"])
def test_refuses_what_is_neither_file_nor_commit(committed: Forge, project: Path, hub: Run, against: str) -> None:
    done = hub("diff", "--", against)

    assert (done.code, done.out) == (2, "")
    assert f"error: {against} is neither a lock file nor a commit" in done.err
    assert not (project / "x").exists()


def test_run_from_a_hook_it_looks_into_its_own_repository(
    committed: Forge, project: Path, tmp_path: Path, hub: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    subprocess.run(["git", "init", "--quiet", other], check=True)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))

    assert hub("diff", "--exit-code").code == 0


def test_a_lock_of_a_commit_that_cannot_be_read_is_named(committed: Forge, project: Path, hub: Run) -> None:
    good = (project / "hub.lock").read_text()
    (project / "hub.lock").write_text("version = 1\nbad = 1\n")
    git("commit", "--quiet", "--all", "--message", "bad", cwd=project)
    (project / "hub.lock").write_text(good)

    done = hub("diff")

    assert (done.code, "error: HEAD:hub.lock: bad: unknown key" in done.err) == (2, True)


@pytest.mark.parametrize("left_out", ["blob:none", "tree:0"])
def test_a_partial_clone_fetches_the_lock_that_it_lacks(
    committed: Forge, project: Path, hub: Run, left_out: str
) -> None:
    move(committed, hub)
    git("commit", "--quiet", "--all", "--message", "moved", cwd=project)
    clone, away = project.parent / "clone", project.parent / "away"
    git("config", "uploadpack.allowFilter", "true", cwd=project)
    git("clone", "--quiet", f"--filter={left_out}", f"file://{project}", clone)
    project.rename(away)

    unreachable = hub("diff", "--project", str(clone), "HEAD~1")
    away.rename(project)
    done = hub("diff", "--project", str(clone), "HEAD~1")

    assert str(unreachable) == (
        "exit 5\n--- stdout\n--- stderr\nerror: git can neither read nor fetch HEAD~1:hub.lock\n"
        "   hint: check that `git show HEAD~1:./hub.lock` works\n"
    )
    assert (done.code, done.out) == (0, hub("diff", "HEAD~1").out)
    assert "+ model" not in done.out


def test_a_lock_that_is_a_link_is_followed_in_its_commit(committed: Forge, project: Path, hub: Run) -> None:
    (project / "shared").mkdir()
    (project / "hub.lock").rename(project / "shared" / "real.lock")
    (project / "hub.lock").symlink_to("shared/real.lock")
    git("add", ".", cwd=project)
    git("commit", "--quiet", "--message", "linked", cwd=project)

    assert hub("diff", "--exit-code").code == 0
    move(committed, hub)
    assert "~ model net\n" in hub("diff").out


@pytest.mark.parametrize("target", ["nowhere", "/etc/hostname", "folder", "hub.lock", None])
def test_a_lock_that_is_no_file_of_its_commit_is_named(
    committed: Forge, project: Path, hub: Run, target: str | None
) -> None:
    lock, good = project / "hub.lock", (project / "hub.lock").read_text()
    (project / "folder").mkdir()
    (project / "folder" / "file").touch()
    lock.unlink()
    (project / "folder").rename(lock) if target is None else lock.symlink_to(target)
    git("add", ".", cwd=project)
    git("commit", "--quiet", "--message", "no file", cwd=project)
    lock.rename(project / "aside")
    lock.write_text(good)

    done = hub("diff")

    assert str(done) == (
        "exit 2\n--- stdout\n--- stderr\nerror: HEAD:hub.lock is no file, and no link to one in that commit\n"
        "   hint: hublock diff OTHER.lock\n"
    )
