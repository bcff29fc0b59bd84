"""Repositories on this machine, and behind the user's own ssh."""

import shlex
import shutil
import sys
from pathlib import Path

import pytest

from hublock.core.reference import Reference
from hublock.errors import (
    EnvironmentMismatch,
    InvalidReference,
    RefNotFound,
    RepositoryNotFound,
    TransferError,
    TreeMismatch,
)
from hublock.net.git.remote import open_remote
from hublock.net.git.worktree import read_blob, run_git
from tests.forge import Forge, ForgeRepo, git
from tests.net.remotes import contents, digest, fetch, remote, resolve


@pytest.fixture
def bare(forge: Forge) -> ForgeRepo:
    repo = forge.repo("someone/model", {"hubconf.py": "one\n"})
    repo.commit({"hubconf.py": "two\n"})
    return repo


@pytest.fixture
def work(bare: ForgeRepo, tmp_path: Path) -> Path:
    """A clone with a work tree, in a folder whose name needs quoting."""
    folder = tmp_path / "my model's"
    git("clone", "--quiet", bare.path, folder)
    return folder


def test_a_path_names_the_head_of_its_repository(forge: Forge, bare: ForgeRepo, work: Path) -> None:
    for text in (str(bare.path), str(work)):
        found = resolve(forge, text)
        assert (found.ref, found.commit) == ("refs/heads/main", bare.git("rev-parse", "main"))
        assert (found.warning, found.moved) == (None, None)
        assert contents(fetch(forge, text).files) == {"hubconf.py": b"two\n"}
    assert forge.requests == []


def test_a_path_is_relative_to_the_manifest(forge: Forge, work: Path) -> None:
    here = remote(forge, f"./{work.name}", base=work.parent)
    assert here.resolve(None).ref == "refs/heads/main"


def test_a_path_may_begin_with_the_users_home(forge: Forge, work: Path, clean_environment: Path) -> None:
    shutil.copytree(work, clean_environment / "mine")
    assert resolve(forge, "~/mine").ref == "refs/heads/main"


@pytest.mark.parametrize("ref", ["main", "v1", "refs/tags/v1"])
def test_a_file_url_takes_a_ref(forge: Forge, bare: ForgeRepo, ref: str) -> None:
    bare.tag("v1", annotated=True)
    found = resolve(forge, f"git+file://{bare.path}@{ref}")
    assert found.commit == bare.git("rev-parse", "main")


def test_an_older_commit_of_a_local_repository_is_proven_too(forge: Forge, bare: ForgeRepo) -> None:
    older = bare.git("rev-parse", "main~1")
    assert resolve(forge, f"git+file://{bare.path}@{older}").ref == "refs/heads/main"
    stranger = bare.commit({"evil": "1"}, ref="refs/pull/1/head", parent="refs/heads/main")
    with pytest.raises(RefNotFound, match="of a fork or a pull request"):
        resolve(forge, f"git+file://{bare.path}@{stranger}")


def test_a_shallow_clone_will_do(forge: Forge, bare: ForgeRepo, tmp_path: Path) -> None:
    git("clone", "--quiet", "--depth=1", f"file://{bare.path}", tmp_path / "shallow")
    assert digest(fetch(forge, str(tmp_path / "shallow")).files) == digest(fetch(forge, str(bare.path)).files)


def test_a_linked_work_tree_will_do(forge: Forge, work: Path, tmp_path: Path) -> None:
    git("worktree", "add", "--quiet", "-b", "side", tmp_path / "linked", cwd=work)
    assert resolve(forge, str(tmp_path / "linked")).ref == "refs/heads/side"


@pytest.mark.parametrize(("name", "text"), [("hubconf.py", "changed\n"), ("new.py", "untracked\n")])
def test_uncommitted_changes_warn_and_are_not_fetched(forge: Forge, work: Path, name: str, text: str) -> None:
    (work / name).write_text(text)
    found = resolve(forge, str(work))
    assert found.warning is not None
    assert "uncommitted changes" in found.warning
    assert contents(fetch(forge, str(work)).files) == {"hubconf.py": b"two\n"}


def test_looking_for_changes_runs_nothing_the_repository_names(forge: Forge, work: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "program.sh"
    program.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(ran))}\ncat\n")
    program.chmod(0o755)
    for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.process"):
        git("config", key, str(program), cwd=work)
    git("config", "filter.evil.required", "true", cwd=work)
    (work / ".git" / "hooks").mkdir(exist_ok=True)
    shutil.copy(program, work / ".git" / "hooks" / "post-index-change")
    (work / ".git" / "info").mkdir(exist_ok=True)
    (work / ".git" / "info" / "attributes").write_text("* filter=evil\n")
    (work / "hubconf.py").write_text("two\n")
    (work / "hubconf.py").touch()
    resolve(forge, str(work))
    assert not ran.exists()


def test_a_detached_head_at_no_branch_says_so(forge: Forge, work: Path) -> None:
    git("checkout", "--quiet", "--detach", cwd=work)
    assert resolve(forge, str(work)).ref == "refs/heads/main"
    git("commit", "--quiet", "--allow-empty", "-m", "lost", cwd=work)
    with pytest.raises(RefNotFound, match="no branch or tag"):
        resolve(forge, str(work))
    found = resolve(forge, str(work), allow_unreachable=True)
    assert found.ref == found.commit


def test_a_hook_of_another_repository_does_not_mislead(
    forge: Forge, bare: ForgeRepo, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = forge.repo("someone/other", {"hubconf.py": "other\n"})
    monkeypatch.setenv("GIT_DIR", str(other.path))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other.path / "objects"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.path / "index"))
    found = resolve(forge, str(work))
    assert (found.commit, found.warning) == (bare.git("rev-parse", "main"), None)
    assert contents(fetch(forge, str(work)).files) == {"hubconf.py": b"two\n"}


def test_a_wrong_object_on_disk_is_noticed(forge: Forge, bare: ForgeRepo) -> None:
    blob, other = bare.git("rev-parse", "main:hubconf.py"), bare.object("blob", b"evil\n")
    for path in (bare.path / "objects" / "pack").glob("*.pack"):
        moved = path.rename(bare.path / path.name)
        bare.git("unpack-objects", "-q", data=moved.read_bytes())
    right, wrong = (bare.path / "objects" / name[:2] / name[2:] for name in (blob, other))
    right.chmod(0o644)
    right.write_bytes(wrong.read_bytes())
    with pytest.raises((TransferError, TreeMismatch)):
        fetch(forge, str(bare.path))


@pytest.mark.parametrize("kind", ["nothing", "a file", "a plain folder"])
def test_a_path_without_a_repository_is_refused(forge: Forge, tmp_path: Path, kind: str) -> None:
    if kind == "a file":
        (tmp_path / "x").write_text("x")
    elif kind == "a plain folder":
        (tmp_path / "x").mkdir()
    with pytest.raises(RepositoryNotFound) as caught:
        resolve(forge, str(tmp_path / "x"))
    assert caught.value.hint


def test_a_folder_that_only_looks_like_a_repository_is_refused_by_git_in_its_words(
    forge: Forge, tmp_path: Path
) -> None:
    (tmp_path / "x" / ".git").mkdir(parents=True)
    with pytest.raises(RepositoryNotFound, match="git"):
        resolve(forge, str(tmp_path / "x"))


def test_without_git_it_says_what_is_missing(forge: Forge, bare: ForgeRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EnvironmentMismatch, match="cannot be read without git") as caught:
        resolve(forge, str(bare.path))
    assert caught.value.hint == "install git"


class TestSsh:
    @pytest.fixture
    def ssh(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The user's ssh: notes how it was called, and runs the command here."""
        log = tmp_path / "ssh.log"
        program = tmp_path / "ssh.py"
        program.write_text(
            "import os, subprocess, sys\n"
            f"open({str(log)!r}, 'a').write(repr((sys.argv[1:], os.environ.get('GIT_PROTOCOL'))) + '\\n')\n"
            "sys.exit(subprocess.call(['sh', '-c', sys.argv[-1]]))\n"
        )
        monkeypatch.setenv("GIT_SSH_COMMAND", f"{shlex.quote(sys.executable)} {shlex.quote(str(program))} -i key")
        return log

    def test_goes_through_the_users_own_ssh(self, forge: Forge, bare: ForgeRepo, work: Path, ssh: Path) -> None:
        text = f"git+ssh://git@example.org:2222{str(work).replace(' ', '%20')}/.git"
        found = resolve(forge, f"{text}@main")
        assert (found.ref, found.commit) == ("refs/heads/main", bare.git("rev-parse", "main"))
        assert contents(fetch(forge, text).files) == {"hubconf.py": b"two\n"}
        called = ssh.read_text()
        assert "['-i', 'key', '-o', 'SendEnv=GIT_PROTOCOL', '-p', '2222', 'git@example.org', " in called
        assert "'version=2')" in called

    def test_what_ssh_complains_about_is_told(self, forge: Forge, ssh: Path) -> None:
        with pytest.raises(RepositoryNotFound, match="does not appear to be a git repository"):
            resolve(forge, "git+ssh://git@example.org/nothing@main")

    def test_a_host_is_never_an_option(self, forge: Forge) -> None:
        for text in ("git+ssh://-oProxyCommand=x/path", "git+ssh://-x@host/path"):
            with pytest.raises(InvalidReference):
                open_remote(Reference(kind="git", location=text), None, base=Path("/"))  # type: ignore[arg-type]


def test_a_machine_without_git_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentMismatch, match="git, which is not installed"):
        run_git(tmp_path, "status")
    assert read_blob(tmp_path, "HEAD:hub.lock") is None
