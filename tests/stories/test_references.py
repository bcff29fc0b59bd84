"""Every spelling of a repository, from the command line to the lock."""

import shlex
import sys
from pathlib import Path

import pytest

from hublock.core.lockfile import Repo
from hublock.core.lockreader import parse_lock
from tests.forge import Forge, ForgeRepo, git
from tests.stories.conftest import Done, Run

HUBCONF = "dependencies = []\n\n\ndef net(pretrained=False):\n    return None\n"
FILE = "https://example.org/net.pth"


@pytest.fixture
def repo(forge: Forge) -> ForgeRepo:
    forge.serve(FILE, b"the weights of net")
    return forge.repo("someone/model", {"hubconf.py": HUBCONF})


@pytest.fixture
def hublock(forge: Forge, project: Path, store: Path, monkeypatch: pytest.MonkeyPatch, inside: Run) -> Run:
    """Run ``hublock …`` in the project, in this process."""
    monkeypatch.setenv("HUBLOCK_CACHE_DIR", str(store))
    monkeypatch.chdir(project)
    return inside


@pytest.fixture
def add(hublock: Run) -> Run:
    """Add an entry point and its files without running it."""

    def call(reference: str, *options: str) -> Done:
        return hublock("add", reference, "net", "--no-trace", "--url", FILE, *options)

    return call


def locked(project: Path) -> Repo:
    """Return the only repository of the lock."""
    [repo] = parse_lock((project / "hub.lock").read_text(), file="hub.lock").repos
    return repo


def refused(done: Done, project: Path, code: int, sentence: str, hint: str) -> None:
    """Check the whole of what was said, and that nothing was written."""
    assert (done.code, done.out, done.err) == (code, "", f"error: {sentence}\n   hint: {hint}\n")
    assert list(project.iterdir()) == []


@pytest.mark.parametrize(
    ("spelling", "ref"),
    [
        ("someone/model", "refs/heads/main"),
        ("SomeOne/MODEL", "refs/heads/main"),
        ("someone/model:main", "refs/heads/main"),
        ("someone/model:fix/all/things", "refs/heads/fix/all/things"),
        ("someone/model:v1.0", "refs/tags/v1.0"),
        ("someone/model:refs/heads/main", "refs/heads/main"),
        ("someone/model:refs/tags/v1.0", "refs/tags/v1.0"),
        ("someone/model:COMMIT", "refs/heads/main"),
        ("git+https://github.com/someone/model", "refs/heads/main"),
        ("git+https://gitlab.com/group/sub/model.git@v1.0", "refs/tags/v1.0"),
        ("git+https://gitlab.com/group/sub/model@fix/all/things", "refs/heads/fix/all/things"),
        ("git+https://gitlab.com/group/sub/model@COMMIT", "refs/heads/main"),
        ("git+https://github.example.org/team/model@refs/tags/v1.0", "refs/tags/v1.0"),
        ("git+ssh://git@example.org/BARE@v1.0", "refs/tags/v1.0"),
        ("git+ssh://git@example.org:2222/BARE", "refs/heads/main"),
        ("git+file:///BARE", "refs/heads/main"),
        ("git+file:///BARE@refs/tags/v1.0", "refs/tags/v1.0"),
        ("git+file:///BARE@COMMIT", "refs/heads/main"),
        ("../work", "refs/heads/main"),
        ("../shallow", "refs/heads/main"),
        ("../bare.git", "refs/heads/main"),
    ],
)
def test_every_spelling_is_locked_synced_and_verified(
    forge: Forge,
    repo: ForgeRepo,
    project: Path,
    store: Path,
    hublock: Run,
    add: Run,
    ssh: Path,
    spelling: str,
    ref: str,
) -> None:
    repo.tag("v1.0", annotated=True)
    repo.branch("fix/all/things")
    commit = repo.git("rev-parse", "main")
    forge.adopt("group/sub/model", repo.path, host="gitlab.com")
    forge.adopt("team/model", repo.path, host="github.example.org")
    git("clone", "--quiet", repo.path, project.parent / "work")
    git("clone", "--quiet", "--bare", repo.path, project.parent / "bare.git")
    git("clone", "--quiet", "--depth=1", f"file://{repo.path}", project.parent / "shallow")
    typed = spelling.replace("COMMIT", commit).replace("/BARE", str(repo.path))

    done = add(typed)

    assert (done.code, done.out) == (0, ""), done
    assert f"   Locked net: net() of {typed} at {commit[:12]} of 2023-11-14\n" in done.err, done
    found = locked(project)
    assert (found.id, found.ref, found.commit) == (typed, ref, commit)
    assert str(found.digest).removeprefix("git-sha256:") == sha256_tree(repo, commit)
    assert str(found.tree) == f"git-sha1:{repo.git('rev-parse', 'main^{tree}')}"
    assert f'repo = "{typed}"' in (project / "hub.toml").read_text()
    remove(store)
    assert hublock("sync", "--locked").code == 0
    assert hublock("verify").code == 0
    assert hublock("lock", "--check").code == 0
    assert hublock("verify", "--upstream").code == 0
    assert hublock("outdated").code == 0


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own ssh: a program that runs here what it should run there, and notes how it was called."""
    log, program = tmp_path / "ssh.log", tmp_path / "my ssh.py"
    program.write_text(
        "import subprocess, sys\n"
        f"open({str(log)!r}, 'a').write(repr(sys.argv[1:]) + '\\n')\n"
        "sys.exit(subprocess.call(['sh', '-c', sys.argv[-1]]))\n"
    )
    monkeypatch.setenv("GIT_SSH_COMMAND", f"{shlex.quote(sys.executable)} {shlex.quote(str(program))}")
    return log


def sha256_tree(repo: ForgeRepo, commit: str) -> str:
    """Let plain git compute the tree in its SHA-256 object format."""
    folder = repo.path.parent / "sha256"
    git("init", "--quiet", "--object-format=sha256", folder)
    git("--git-dir", repo.path, "--work-tree", folder, "checkout", "--quiet", "--force", commit, "--", ".")
    git("add", "--force", "--all", cwd=folder)
    return git("write-tree", cwd=folder).decode().strip()


def remove(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.mark.parametrize(
    ("spelling", "sentence"),
    [
        ("someone/model:", "'someone/model:' has no valid branch, tag or commit after its repository"),
        ("someone/model:a..b", "'someone/model:a..b' has no valid branch, tag or commit after its repository"),
        ("someone/model:-x", "'someone/model:-x' has no valid branch, tag or commit after its repository"),
        ("git+https://g.org/m@", "'git+https://g.org/m@' has no valid branch, tag or commit after its repository"),
        ("someone", "'someone' does not name a repository"),
    ],
)
def test_what_names_nothing_is_refused(project: Path, add: Run, spelling: str, sentence: str) -> None:
    hint = "write owner/repo[:ref], git+https://host/path[@ref] or a local path such as ./repo"
    refused(add(spelling), project, 2, sentence, hint)


@pytest.mark.parametrize(
    ("spelling", "hint"),
    [
        (
            "https://github.com/someone/model.git",
            "write someone/model, and behind a colon the branch, tag or commit",
        ),
        (
            "https://github.com/someone/model/tree/main",
            "write someone/model, and behind a colon the branch, tag or commit",
        ),
        ("github.com/someone/model", "write someone/model, and behind a colon the branch, tag or commit"),
        ("someone/model@v1.0", "write someone/model:v1.0"),
        ("https://gitlab.com/group/model", "write git+https://gitlab.com/group/model"),
        ("ssh://example.org/model", "write git+ssh://example.org/model"),
        ("git@github.com:someone/model.git", "write git+ssh://git@github.com/someone/model.git"),
    ],
)
def test_what_git_and_browsers_write_is_answered_with_our_spelling(
    project: Path, add: Run, spelling: str, hint: str
) -> None:
    refused(add(spelling), project, 2, f"'{spelling}' does not name a repository", hint)


def test_a_host_that_is_an_option_of_ssh_is_refused(project: Path, add: Run, ssh: Path) -> None:
    done = add("git+ssh://-oProxyCommand=x/y")
    refused(done, project, 2, "ssh://-oProxyCommand=x/y names no host", "write git+ssh://git@host/path")
    assert not ssh.exists()


@pytest.mark.parametrize("scheme", ["git+https", "https", "http"])
def test_a_password_in_a_reference_is_refused_and_not_repeated(project: Path, add: Run, scheme: str) -> None:
    done = add(f"{scheme}://me:canary@gitlab.com/g/m@main")
    hint = "put credentials into ~/.netrc or a token variable, never into a reference"
    refused(done, project, 2, "the reference to gitlab.com holds a user name or password", hint)


def test_a_missing_repository_names_the_three_causes(repo: ForgeRepo, project: Path, add: Run) -> None:
    sentence = (
        "github.com does not show someone/nothing: it does not exist, it is private, "
        "or the host limits visitors without a token"
    )
    hint = (
        "check the name; for a private or limited repository set GITHUB_TOKEN, "
        "or add an entry for github.com to ~/.netrc"
    )
    refused(add("someone/nothing:main"), project, 2, sentence, hint)


def test_a_missing_folder_is_named(project: Path, add: Run) -> None:
    done = add("../nothing")
    assert (done.code, done.out) == (2, "")
    assert "../nothing" in done.err
    assert list(project.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "sentence", "hint"),
    [
        ("TMP/bare", "../bare (TMP/bare) is a folder, but no git repository", "git init TMP/bare, then commit"),
        ("../work", "../gone/work (TMP/gone/work) is no folder", "give the path of a git repository"),
        (
            "TMP/bare:v1",
            "../bare:v1 (TMP/bare:v1) is no folder",
            "write git+file://TMP/bare@v1; a path alone means what is checked out there",
        ),
    ],
)
def test_a_folder_is_told_of_by_a_path_that_is_right_wherever_it_was_typed(
    project: Path, add: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, sentence: str, hint: str
) -> None:
    for folder in ("bare", "gone/here"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "gone/here")
    monkeypatch.setenv("HUBLOCK_PROJECT", str(project))
    done = add(typed.replace("TMP", str(tmp_path)))
    refused(done, project, 2, sentence.replace("TMP", str(tmp_path)), hint.replace("TMP", str(tmp_path)))


@pytest.mark.parametrize(("folder", "typed", "meant"), [(".", "./a\nb", "./a\nb"), ("../a\nb", "./c", "../a\nb/c")])
def test_a_folder_whose_name_no_lock_can_hold_is_refused_before_it_is_read(
    repo: ForgeRepo, project: Path, add: Run, monkeypatch: pytest.MonkeyPatch, folder: str, typed: str, meant: str
) -> None:
    (project / folder).mkdir(exist_ok=True)
    monkeypatch.chdir(project / folder)
    monkeypatch.setenv("HUBLOCK_PROJECT", str(project))
    refused(add(typed), project, 2, f"{meant!r} holds a control character", "rename the folder")


def test_a_folder_whose_name_begins_with_a_dot_is_a_folder_like_any(repo: ForgeRepo, project: Path, add: Run) -> None:
    git("clone", "--quiet", repo.path, project / ".work")
    assert add("./.work").code == 0
    assert locked(project).id == "./.work"


def test_an_unknown_ref_is_answered_with_the_nearest(repo: ForgeRepo, project: Path, add: Run) -> None:
    repo.tag("v1.0")
    sentence = "someone/model has no branch or tag v1.O; did you mean v1.0?"
    refused(add("someone/model:v1.O"), project, 2, sentence, "it has main, v1.0")


def test_head_is_answered_with_how_to_name_the_default_branch(repo: ForgeRepo, project: Path, add: Run) -> None:
    sentence = "someone/model has no branch or tag HEAD"
    refused(add("someone/model:HEAD"), project, 2, sentence, "leave the ref out for the default branch")


def test_an_abbreviated_commit_is_refused_with_the_whole_one(repo: ForgeRepo, project: Path, add: Run) -> None:
    commit = repo.git("rev-parse", "main")
    sentence = (
        f"someone/model has no branch or tag {commit[:7]}, "
        "and an abbreviated commit id could mean another commit tomorrow"
    )
    refused(add(f"someone/model:{commit[:7]}"), project, 2, sentence, f"write all of it: {commit}")


def test_a_branch_and_a_tag_at_one_commit_are_the_branch(repo: ForgeRepo, project: Path, add: Run) -> None:
    repo.branch("v2")
    repo.tag("v2", annotated=True)
    assert add("someone/model:v2").code == 0
    assert locked(project).ref == "refs/heads/v2"


def test_a_branch_and_a_tag_at_two_commits_must_be_told_apart(repo: ForgeRepo, project: Path, add: Run) -> None:
    repo.tag("v2")
    commit = repo.commit({"a": "1"}, branch="v2", parent="refs/heads/main")
    sentence = "v2 is both a branch and a tag of someone/model, at two commits"
    refused(add("someone/model:v2"), project, 2, sentence, "write refs/heads/v2 or refs/tags/v2 in its place")
    assert add("someone/model:refs/tags/v2").code == 0
    assert add("someone/model:refs/heads/v2", "--name", "other").code == 0
    repos = parse_lock((project / "hub.lock").read_text(), file="hub.lock").repos
    assert [(item.ref, item.commit == commit) for item in repos] == [("refs/heads/v2", True), ("refs/tags/v2", False)]


def test_a_branch_that_looks_like_a_short_commit_is_a_branch(repo: ForgeRepo, project: Path, add: Run) -> None:
    commit = repo.commit({"a": "1"}, branch="deadbeef", parent="refs/heads/main")
    assert add("someone/model:deadbeef").code == 0
    assert (locked(project).ref, locked(project).commit) == ("refs/heads/deadbeef", commit)


def test_a_branch_called_like_a_commit_does_not_take_its_place(repo: ForgeRepo, project: Path, add: Run) -> None:
    commit = repo.git("rev-parse", "main")
    other = repo.commit({"evil": "1"}, branch="other")
    repo.ref(f"refs/heads/{commit}", other)
    done = add(f"someone/model:{commit}")
    assert done.code == 0, done
    assert f"warning: refs/heads/{commit} is called like a commit id; the commit is taken\n" in done.err
    assert (locked(project).ref, locked(project).commit) == ("refs/heads/main", commit)


class TestCommitsThatNoBranchLeadsTo:
    @pytest.fixture
    def stranger(self, repo: ForgeRepo) -> str:
        """A commit that somebody offered as a pull request; the host serves it under the repository's name."""
        return repo.commit({"evil.py": "1"}, ref="refs/pull/7/head", parent="refs/heads/main")

    def test_are_refused_with_the_reason(self, repo: ForgeRepo, stranger: str, project: Path, add: Run) -> None:
        sentence = (
            f"no branch or tag of someone/model leads to {stranger}, though its host serves it: "
            "it is of a fork or a pull request, or its branch was rewritten"
        )
        hint = "if you trust that commit, add it with --allow-unreachable"
        refused(add(f"someone/model:{stranger}"), project, 2, sentence, hint)

    def test_can_be_allowed_and_stay_allowed(
        self, repo: ForgeRepo, stranger: str, project: Path, store: Path, hublock: Run, add: Run
    ) -> None:
        assert add(f"someone/model:{stranger}", "--allow-unreachable").code == 0
        assert (locked(project).ref, locked(project).commit) == (stranger, stranger)
        assert locked(project).allow_unreachable
        assert "allow-unreachable = true" in (project / "hub.toml").read_text()
        assert "allow-unreachable = true" in (project / "hub.lock").read_text()
        remove(store)
        assert hublock("sync", "--locked").code == 0
        before = (project / "hub.lock").read_bytes()
        assert hublock("lock").code == 0
        assert hublock("verify").code == 0
        assert (project / "hub.lock").read_bytes() == before
        (project / "hub.lock").unlink()
        done = hublock("lock")
        assert done.code == 0, done
        assert (project / "hub.lock").read_bytes() == before

    def test_are_refused_again_once_the_manifest_no_longer_allows_them(
        self, repo: ForgeRepo, stranger: str, project: Path, hublock: Run, add: Run
    ) -> None:
        assert add(f"someone/model:{stranger}", "--allow-unreachable").code == 0
        assert add(f"someone/model:{stranger}", "--allow-unreachable", "--name", "again").code == 0
        manifest = project / "hub.toml"
        manifest.write_text(manifest.read_text().replace("allow-unreachable = true\n", "", 1))
        assert hublock("lock", "--check").code == 0, "one of the two still allows it"
        manifest.write_text(manifest.read_text().replace("allow-unreachable = true\n", ""))
        before = (project / "hub.lock").read_bytes()
        checked = hublock("lock", "--check")
        assert checked.code == 1
        assert "at an unreachable commit, which the manifest no longer allows" in checked.out + checked.err
        done = hublock("lock")
        assert (done.code, done.err.splitlines()[-1]) == (
            2,
            "   hint: if you trust that commit, add it with --allow-unreachable",
        )
        assert (project / "hub.lock").read_bytes() == before

    def test_are_kept_by_no_model_that_only_another_one_allows_them(
        self, repo: ForgeRepo, stranger: str, project: Path, hublock: Run, add: Run
    ) -> None:
        for name in ("net", "again"):
            assert add(f"someone/model:{stranger}", "--allow-unreachable", "--name", name).code == 0
        manifest = project / "hub.toml"
        manifest.write_text(manifest.read_text().replace("allow-unreachable = true\n", "", 1))
        before = (manifest.read_bytes(), (project / "hub.lock").read_bytes())
        done = hublock("remove", "again")
        sentence = "model net is locked at an unreachable commit, which the manifest no longer allows"
        hint = "allow it there in the manifest, then remove it"
        assert (done.code, done.err) == (1, f"error: without again, {sentence}\n   hint: {hint}\n")
        assert (manifest.read_bytes(), (project / "hub.lock").read_bytes()) == before
        assert hublock("remove", "net").code == 0
        assert hublock("lock", "--check").code == 0

    def test_that_nobody_has_are_told_apart(self, repo: ForgeRepo, project: Path, add: Run) -> None:
        refused(
            add("someone/model:" + "1" * 40),
            project,
            2,
            f"someone/model has no commit {'1' * 40}",
            "check the commit id",
        )

    @pytest.mark.parametrize("options", [(), ("--allow-unreachable",)])
    def test_of_another_object_format_are_told_apart(
        self, repo: ForgeRepo, project: Path, add: Run, options: tuple[str, ...]
    ) -> None:
        sentence = f"someone/model has no commit {'a' * 64}: its commit ids have 40 digits"
        refused(add("someone/model:" + "A" * 64, *options), project, 2, sentence, "check the commit id")

    def test_on_a_host_without_filters_need_consent(self, repo: ForgeRepo, project: Path, add: Run) -> None:
        first = repo.git("rev-parse", "main")
        repo.commit({"a": "1"})
        repo.config["uploadpack.allowFilter"] = "false"
        done = add(f"someone/model:{first}")
        assert done.code == 2
        assert "--allow-unreachable" in done.err
        assert add(f"someone/model:{first}", "--allow-unreachable").code == 0


class TestRenamedRepositories:
    @pytest.fixture
    def old(self, forge: Forge, repo: ForgeRepo) -> str:
        forge.repo("someone/old").renamed_to = "someone/model"
        return "someone/old"

    def test_are_added_under_their_new_name(self, repo: ForgeRepo, old: str, project: Path, add: Run) -> None:
        done = add(f"{old}:main")
        assert done.code == 0, done
        warning = f"warning: {old} is called someone/model by now: adding it under that name\n"
        assert done.err.startswith(warning), done
        assert done.err.count("someone/old") == 1
        assert locked(project).id == "someone/model:main"
        assert 'repo = "someone/model:main"' in (project / "hub.toml").read_text()

    def test_in_an_old_manifest_are_locked_with_a_warning(
        self, repo: ForgeRepo, old: str, project: Path, store: Path, hublock: Run
    ) -> None:
        (project / "hub.toml").write_text(f'[models.net]\nrepo = "{old}"\nurls = ["{FILE}"]\n')
        done = hublock("lock")
        assert done.code == 0, done
        assert "is called someone/model by now" in done.err
        assert locked(project).id == old
        remove(store)
        assert hublock("sync").code == 0


def test_uncommitted_changes_warn_once(repo: ForgeRepo, project: Path, add: Run) -> None:
    git("clone", "--quiet", repo.path, project.parent / "work")
    (project.parent / "work" / "hubconf.py").write_text("changed")
    done = add("../work")
    assert done.code == 0, done
    assert done.err.count("has uncommitted changes") == 1


def test_no_absolute_path_enters_a_lock(repo: ForgeRepo, project: Path, add: Run) -> None:
    git("clone", "--quiet", repo.path, project.parent / "work")
    assert add(str(project.parent / "work")).code == 0
    assert locked(project).id == "../work"
    for name in ("hub.lock", "hub.toml"):
        assert str(project.parent) not in (project / name).read_text()


def test_a_file_url_warns_that_it_names_a_folder_of_this_machine(repo: ForgeRepo, project: Path, add: Run) -> None:
    done = add(f"git+file://{repo.path}")
    assert done.code == 0, done
    assert f"warning: git+file://{repo.path} names a folder of this machine alone" in done.err


def test_no_api_is_ever_asked(forge: Forge, repo: ForgeRepo, hublock: Run, add: Run, store: Path) -> None:
    """The forge answers 403 to each of its calls."""
    repo.tag("v1")
    assert add("someone/model:v1").code == 0
    assert add(f"someone/model:{repo.git('rev-parse', 'main')}", "--name", "b").code == 0
    remove(store)
    for words in (["sync"], ["lock"], ["verify", "--upstream"], ["outdated"], ["list", "someone/model:v1"]):
        assert hublock(*words).code == 0, words
    assert forge.seen("api.github.com") == []


class TestHostsThatRefuseGit:
    TOKEN = "ghp_0123456789abcdef"

    @pytest.fixture
    def gone(self, repo: ForgeRepo, store: Path, add: Run) -> Path:
        """The folder of trees of an emptied store, after ``hublock add someone/model``."""
        assert add("someone/model").code == 0
        remove(store)
        return store / "v1" / "trees"

    @pytest.mark.parametrize("refusal", [401, 403, 429, "temporarily limited"])
    def test_sync_takes_the_archive_of_the_commit(
        self, repo: ForgeRepo, hublock: Run, gone: Path, refusal: int | str
    ) -> None:
        repo.refuse = refusal
        assert hublock("sync").code == 0
        assert hublock("verify", "--deep").code == 0

    def test_the_archive_of_a_private_repository_needs_the_token(
        self, forge: Forge, repo: ForgeRepo, hublock: Run, gone: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repo.token = self.TOKEN
        forge.serve("https://github.com/someone/model.git/info/refs?service=git-upload-pack", status=429)
        assert hublock("sync").code == 5
        monkeypatch.setenv("GITHUB_TOKEN", self.TOKEN)
        assert hublock("sync").code == 0
        assert hublock("verify").code == 0

    @pytest.mark.parametrize("attribute", ["export-ignore", "export-subst"])
    def test_sync_refuses_an_archive_that_is_not_what_was_locked(
        self, repo: ForgeRepo, project: Path, store: Path, hublock: Run, add: Run, attribute: str
    ) -> None:
        repo.commit({".gitattributes": f"extra.py {attribute}\n", "extra.py": "v = '$Format:%H$'\n"})
        assert add("someone/model").code == 0
        remove(store)
        repo.refuse = 403
        done = hublock("sync")
        assert done.code == 5, done
        assert "github.com refuses git for someone/model (HTTP 403); and https://codeload.github.com/" in done.err
        assert not [path for path in (store / "v1" / "trees").rglob("*") if path.is_file()]

    def test_sync_refuses_the_archive_of_another_commit(
        self, forge: Forge, repo: ForgeRepo, project: Path, hublock: Run, gone: Path
    ) -> None:
        other = repo.commit({"hubconf.py": HUBCONF + "# evil\n"})
        zipped = git("--git-dir", repo.path, "archive", "--format=zip", f"--prefix=model-{other}/", other)
        forge.serve(f"https://codeload.github.com/someone/model/zip/{locked(project).commit}", zipped)
        repo.refuse = 403
        done = hublock("sync")
        assert done.code == 5, done
        assert not [path for path in gone.rglob("*") if path.is_file()]

    @pytest.mark.parametrize(("refusal", "code"), [(401, 2), (403, 5), (429, 5), ("temporarily limited", 5)])
    def test_nothing_new_is_added_from_an_archive(
        self, repo: ForgeRepo, project: Path, add: Run, refusal: int | str, code: int
    ) -> None:
        """What has no digest in a lock cannot be told from what it should be."""
        repo.refuse = refusal
        done = add("someone/model:main")
        assert (done.code, list(project.iterdir())) == (code, [])
        assert "set GITHUB_TOKEN, or add an entry for github.com to ~/.netrc" in done.err


def test_a_locked_commit_that_is_gone_says_so(
    repo: ForgeRepo, project: Path, store: Path, hublock: Run, add: Run
) -> None:
    assert add("someone/model:main").code == 0
    remove(store)
    repo.commit({"hubconf.py": HUBCONF + "# rewritten\n"}, orphan=True)
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "--quiet", "--prune=now")
    done = hublock("sync")
    sentence = f"someone/model has no commit {locked(project).commit}, or no longer"
    hint = "if its history was rewritten, hublock update someone/model:main --allow-rewritten follows it"
    assert (done.code, done.err) == (2, f"error: {sentence}\n   hint: {hint}\n")


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_pack_that_breaks_off_adds_nothing(repo: ForgeRepo, project: Path, store: Path, add: Run, cut: float) -> None:
    repo.tamper = lambda request, answer: answer[: int(len(answer) * cut)] if b"command=fetch" in request else answer
    done = add("someone/model:main")
    assert done.code in (3, 5), done
    assert list(project.iterdir()) == []
    assert not [path for path in (store / "v1" / "trees").rglob("*") if path.is_file()]
