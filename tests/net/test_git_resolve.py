"""Which commit a reference names, and what is said when it names none."""

import base64
import logging
import subprocess
import time
from pathlib import Path

import pytest

from hublock.core.reference import Reference
from hublock.errors import InputError, RefNotFound, RepositoryNotFound, TransferError
from hublock.net.git.hosts import fetch_archive
from hublock.net.git.remote import open_remote
from hublock.net.transport import HttpTransport
from hublock.settings import Settings
from tests.forge import EPOCH, Forge, ForgeRepo, git, git_environment
from tests.net import packs
from tests.net.bench import Heard
from tests.net.remotes import contents, fetch, remote, resolve

FILES = {"hubconf.py": "dependencies = []\n"}


@pytest.fixture
def repo(forge: Forge) -> ForgeRepo:
    return forge.repo("someone/model", FILES)


def test_the_default_branch_is_the_one_head_points_to(forge: Forge, repo: ForgeRepo) -> None:
    repo.commit({"a": "1"}, branch="trunk")
    repo.default_branch("trunk")
    found = resolve(forge, "someone/model")
    assert (found.ref, found.commit) == ("refs/heads/trunk", repo.git("rev-parse", "trunk"))
    assert (found.warning, found.moved) == (None, None)


@pytest.mark.parametrize("word", ["fix/all/things", "refs/heads/fix/all/things"])
def test_finds_a_branch_with_slashes(forge: Forge, repo: ForgeRepo, word: str) -> None:
    commit = repo.commit({"a": "1"}, branch="fix/all/things")
    found = resolve(forge, f"someone/model:{word}")
    assert (found.ref, found.commit) == ("refs/heads/fix/all/things", commit)


@pytest.mark.parametrize("annotated", [False, True])
@pytest.mark.parametrize("word", ["v1.0", "refs/tags/v1.0"])
def test_finds_the_commit_of_a_tag(forge: Forge, repo: ForgeRepo, word: str, annotated: bool) -> None:
    repo.tag("v1.0", annotated=annotated)
    commit = repo.git("rev-parse", "main")
    repo.commit({"a": "1"})
    found = resolve(forge, f"someone/model:{word}")
    assert (found.ref, found.commit) == ("refs/tags/v1.0", commit)


def test_a_ref_that_only_begins_like_the_name_is_not_taken(forge: Forge, repo: ForgeRepo) -> None:
    repo.tag("v1.0.1")
    repo.branch("v1.0-fixes")
    with pytest.raises(RefNotFound):
        resolve(forge, "someone/model:v1.0")


@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_a_whole_commit_id_is_named_by_the_best_ref_that_proves_it(forge: Forge, repo: ForgeRepo, case: type) -> None:
    commit = repo.git("rev-parse", "main")
    repo.branch("aaa")
    repo.tag("aaa")
    found = resolve(forge, f"someone/model:{case(commit)}")
    assert (found.ref, found.commit) == ("refs/heads/main", commit)


def test_a_branch_and_tag_at_one_commit_are_the_branch(forge: Forge, repo: ForgeRepo) -> None:
    repo.branch("v2")
    repo.tag("v2", annotated=True)
    assert resolve(forge, "someone/model:v2").ref == "refs/heads/v2"


def test_a_branch_and_tag_at_two_commits_must_be_told_apart(forge: Forge, repo: ForgeRepo) -> None:
    repo.tag("v2")
    commit = repo.commit({"a": "1"}, branch="v2")
    with pytest.raises(InputError, match="both a branch and a tag") as caught:
        resolve(forge, "someone/model:v2")
    assert caught.value.hint == "write refs/heads/v2 or refs/tags/v2 in its place"
    nested = resolve(forge, "someone/model:v2", nested=True)
    assert (nested.ref, nested.commit) == ("refs/heads/v2", commit)
    assert nested.warning is not None
    assert "the branch is taken" in nested.warning
    assert resolve(forge, "someone/model:refs/tags/v2").commit != commit


def test_an_abbreviated_commit_id_is_refused_with_the_whole_one(forge: Forge, repo: ForgeRepo) -> None:
    commit = repo.git("rev-parse", "main")
    with pytest.raises(RefNotFound, match="abbreviated") as caught:
        resolve(forge, f"someone/model:{commit[:8]}")
    assert caught.value.hint == f"write all of it: {commit}"
    with pytest.raises(RefNotFound, match="abbreviated"):
        resolve(forge, "someone/model:0000000")


def test_a_branch_that_looks_like_an_abbreviated_commit_id_is_a_branch(forge: Forge, repo: ForgeRepo) -> None:
    commit = repo.commit({"a": "1"}, branch="deadbeef")
    assert resolve(forge, "someone/model:deadbeef").commit == commit


def test_a_whole_commit_id_means_the_commit_whatever_a_branch_is_called(forge: Forge, repo: ForgeRepo) -> None:
    commit = repo.git("rev-parse", "main")
    other = repo.commit({"evil": "1"}, branch="other")
    repo.ref(f"refs/heads/{commit}", other)
    found = resolve(forge, f"someone/model:{commit}")
    assert (found.ref, found.commit) == ("refs/heads/main", commit)
    assert found.warning is not None
    assert "called like a commit id" in found.warning


@pytest.mark.parametrize(("typed", "meant"), [("mian", "main"), ("V1.0", "v1.0"), ("v1.O", "v1.0")])
def test_an_unknown_ref_is_answered_with_the_nearest(forge: Forge, repo: ForgeRepo, typed: str, meant: str) -> None:
    repo.tag("v1.0")
    with pytest.raises(RefNotFound, match=rf"no branch or tag {typed}; did you mean {meant}\?") as caught:
        resolve(forge, f"someone/model:{typed}")
    assert caught.value.hint == "it has main, v1.0"


def test_an_unknown_ref_like_no_other_is_answered_with_what_there_is(forge: Forge, repo: ForgeRepo) -> None:
    with pytest.raises(RefNotFound) as caught:
        resolve(forge, "someone/model:zzzzzzz")
    assert caught.value.hint == "it has main"


def test_an_empty_repository_has_no_default_branch(forge: Forge) -> None:
    forge.repo("someone/empty")
    with pytest.raises(RefNotFound, match="no default branch"):
        resolve(forge, "someone/empty")
    with pytest.raises(RefNotFound) as caught:
        resolve(forge, "someone/empty:main")
    assert caught.value.hint == "it has no branches and no tags"


def test_a_head_without_a_branch_is_named_by_a_branch_or_tag(forge: Forge, repo: ForgeRepo) -> None:
    commit = repo.git("rev-parse", "main")
    repo.git("update-ref", "--no-deref", "HEAD", commit)
    (repo.path / "HEAD").write_text(commit + "\n")
    assert resolve(forge, "someone/model").ref == "refs/heads/main"
    repo.commit({"a": "1"})
    assert (repo.path / "HEAD").read_text().strip() == commit
    found = resolve(forge, "someone/model")
    assert (found.ref, found.commit) == ("refs/heads/main", commit)


def test_a_renamed_repository_is_found_and_its_new_name_reported(forge: Forge, repo: ForgeRepo) -> None:
    old = forge.repo("someone/old-model")
    old.renamed_to = "someone/model"
    found = resolve(forge, "someone/old-model:main")
    assert found.commit == repo.git("rev-parse", "main")
    assert found.url == "https://github.com/someone/model.git"
    assert str(found.moved) == "someone/model:main"
    assert found.warning is not None
    assert "called someone/model by now" in found.warning
    assert fetch(forge, "someone/old-model").commit == found.commit


def test_github_names_may_be_typed_in_any_case(forge: Forge, repo: ForgeRepo) -> None:
    found = resolve(forge, "SomeOne/Model")
    assert (found.commit, found.moved) == (repo.git("rev-parse", "main"), None)


@pytest.mark.parametrize(
    ("text", "host", "path"),
    [
        ("git+https://gitlab.com/group/sub/model.git@v1", "gitlab.com", "group/sub/model"),
        ("git+https://gitlab.com/group/sub/model@v1", "gitlab.com", "group/sub/model"),
        ("git+https://github.example.org/team/model@refs/tags/v1", "github.example.org", "team/model"),
    ],
)
def test_any_host_that_speaks_git_will_do(forge: Forge, text: str, host: str, path: str) -> None:
    repo = forge.repo(path, FILES, host=host)
    repo.tag("v1")
    found = resolve(forge, text)
    assert (found.ref, found.commit) == ("refs/tags/v1", repo.git("rev-parse", "main"))
    assert found.moved is None
    assert fetch(forge, text).commit == found.commit


@pytest.mark.parametrize("name", ["someone/nothing", "no-one/model"])
def test_a_missing_repository_names_the_three_causes(forge: Forge, name: str) -> None:
    with pytest.raises(RepositoryNotFound) as caught:
        resolve(forge, name)
    assert caught.value.message == (
        f"github.com does not show {name}: it does not exist, it is private, "
        "or the host limits visitors without a token"
    )
    assert "GITHUB_TOKEN" in (caught.value.hint or "")


@pytest.mark.parametrize("variable", ["GITHUB_TOKEN", "GH_TOKEN"])
def test_a_token_opens_a_private_repository_of_github(forge: Forge, repo: ForgeRepo, variable: str) -> None:
    repo.token = "secret-0123"
    with pytest.raises(RepositoryNotFound) as caught:
        resolve(forge, "someone/model")
    assert "secret" not in str(caught.value)
    here = remote(forge, "someone/model", environ={variable: "secret-0123"})
    assert here.fetch(here.resolve(None).commit).commit == repo.git("rev-parse", "main")
    assert repr(here).find("secret") == -1


def test_the_token_of_github_goes_to_no_other_host(forge: Forge) -> None:
    forge.repo("group/model", FILES, host="gitlab.com")
    remote(forge, "git+https://gitlab.com/group/model", environ={"GITHUB_TOKEN": "secret-0123"}).resolve(None)
    assert not [request for request in forge.requests if "authorization" in request.headers]


def test_netrc_opens_a_private_repository(
    forge: Forge, clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = forge.repo("group/model", FILES, host="gitlab.com")
    repo.token = "secret-0123"
    netrc = clean_environment / ".netrc"
    netrc.write_text("machine gitlab.com login me password secret-0123\n")
    netrc.chmod(0o600)
    assert resolve(forge, "git+https://gitlab.com/group/model").ref == "refs/heads/main"


@pytest.mark.parametrize(
    ("refuse", "said"),
    [
        (403, "github.com refuses git for someone/model (HTTP 403)"),
        (429, "github.com limits visitors for someone/model (HTTP 429)"),
        (503, "github.com refuses git for someone/model (HTTP 503)"),
        ("temporarily \x1b[31mlimited", "github.com refuses someone/model: temporarily  [31mlimited"),
    ],
)
def test_a_refusal_is_told_with_what_helps(forge: Forge, repo: ForgeRepo, refuse: int | str, said: str) -> None:
    repo.refuse = refuse
    with pytest.raises(TransferError) as caught:
        resolve(forge, "someone/model")
    assert caught.value.message == said
    assert "GITHUB_TOKEN" in (caught.value.hint or "")


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_that_is_busy_for_a_moment_is_asked_again(forge: Forge, repo: ForgeRepo, status: int) -> None:
    greeting = "https://github.com/someone/model.git/info/refs?service=git-upload-pack"
    forge.serve(greeting, status=status, headers={"Retry-After": "0"}, on_hit=lambda _: forge.forget(greeting))
    assert resolve(forge, "someone/model").commit == repo.git("rev-parse", "main")


def test_a_page_is_no_repository(forge: Forge) -> None:
    page = "https://example.org/model/info/refs?service=git-upload-pack"
    forge.serve(page, b"<html>", headers={"Content-Type": "text/html"})
    with pytest.raises(RepositoryNotFound, match="leads to a page"):
        resolve(forge, "git+https://example.org/model")
    forge.serve(page, redirect_to="https://example.org/login")
    forge.serve("https://example.org/login", b"<html>", headers={"Content-Type": "application/x-git-nonsense"})
    with pytest.raises(RepositoryNotFound, match="leads to a page"):
        resolve(forge, "git+https://example.org/model")


def test_a_host_that_speaks_only_the_old_protocol_will_do(forge: Forge, repo: ForgeRepo) -> None:
    repo.protocol_v2 = False
    repo.tag("v1", annotated=True)
    commit = repo.git("rev-parse", "main")
    found = resolve(forge, "someone/model:v1")
    assert (found.ref, found.commit) == ("refs/tags/v1", commit)
    assert resolve(forge, "someone/model").ref == "refs/heads/main"
    assert fetch(forge, "someone/model").commit == commit


def test_the_rest_api_is_never_asked(forge: Forge, repo: ForgeRepo) -> None:
    repo.tag("v1")
    for text in ("someone/model", "someone/model:v1", f"someone/model:{repo.git('rev-parse', 'main')}"):
        fetch(forge, text)
    with pytest.raises(RefNotFound):
        resolve(forge, "someone/model:v3")
    assert {request.host for request in forge.requests} == {"github.com"}
    assert {request.path.split("?")[0].rpartition("model.git/")[2] for request in forge.requests} == {
        "info/refs",
        "git-upload-pack",
    }


def test_what_a_host_can_do_is_asked_once(forge: Forge, repo: ForgeRepo) -> None:
    here = remote(forge, "someone/model")
    here.fetch(here.resolve("main").commit)
    assert [request.method for request in forge.requests] == ["GET", "POST", "POST", "POST"]


def test_one_ref_of_fifty_thousand_moves_kilobytes(forge: Forge, repo: ForgeRepo) -> None:
    commit = repo.git("rev-parse", "main")
    names = [f"refs/heads/b{n}" for n in range(1_000)] + [f"refs/tags/t{n}" for n in range(19_000)]
    names += [f"refs/pull/{n}/head" for n in range(30_000)]
    lines = sorted(f"{commit} {name}" for name in [*names, "refs/heads/main"])
    (repo.path / "packed-refs").write_text("# pack-refs with: peeled fully-peeled sorted \n" + "\n".join(lines) + "\n")
    (repo.path / "refs" / "heads" / "main").unlink()
    assert resolve(forge, "someone/model:main").commit == commit
    assert resolve(forge, "someone/model").commit == commit
    ours, repo.traffic = repo.traffic, 0
    assert ours < 4_000
    environment = {**git_environment({}), "GIT_ALLOW_PROTOCOL": "http"}
    url = f"{forge.url}github.com/someone/model"
    listed = subprocess.run(["git", "ls-remote", url, "main"], env=environment, capture_output=True, check=True).stdout
    assert listed.decode().split() == [commit, "refs/heads/main"]
    assert repo.traffic > 2_000_000


class TestForkCommits:
    @pytest.fixture
    def pull(self, forge: Forge, repo: ForgeRepo) -> str:
        """Somebody else's commit on top of main, offered as a pull request."""
        return repo.commit({"evil.py": "1"}, ref="refs/pull/7/head", parent="refs/heads/main")

    @pytest.fixture
    def history(self, repo: ForgeRepo) -> list[str]:
        """5,000 commits on main, oldest first."""
        tree = repo.git("rev-parse", "main^{tree}")
        stream = bytearray()
        for number in range(5_000):
            stream += b"commit refs/heads/main\nmark :%d\n" % (number + 1)
            stream += b"committer A <a@example.org> %d +0000\ndata 0\n" % (EPOCH + number)
            stream += b"from refs/heads/main^0\n" if number == 0 else b""
            stream += b"M 040000 %s \n" % tree.encode()
        git("--git-dir", repo.path, "fast-import", "--quiet", data=bytes(stream))
        return repo.git("rev-list", "--reverse", "main").split()

    def test_a_commit_of_a_pull_request_is_refused_with_that_reason(
        self, forge: Forge, repo: ForgeRepo, pull: str
    ) -> None:
        assert remote(forge, "someone/model").fetch(pull).commit == pull  # its host serves it
        with pytest.raises(RefNotFound, match="of a fork or a pull request") as caught:
            resolve(forge, f"someone/model:{pull}")
        assert "--allow-unreachable" in (caught.value.hint or "")

    def test_an_orphan_commit_is_refused(self, forge: Forge, repo: ForgeRepo) -> None:
        orphan = repo.commit({"evil.py": "1"}, ref="refs/pull/8/head", orphan=True)
        with pytest.raises(RefNotFound, match="of a fork or a pull request"):
            resolve(forge, f"someone/model:{orphan}")

    def test_a_pull_ref_is_refused_by_name_too(self, forge: Forge, pull: str) -> None:
        with pytest.raises(RefNotFound, match="strangers may write it"):
            resolve(forge, "someone/model:refs/pull/7/head")

    def test_a_server_that_shows_pull_refs_unasked_changes_nothing(
        self, forge: Forge, repo: ForgeRepo, pull: str
    ) -> None:
        """Servers may ignore ref-prefix (gitprotocol-v2)."""
        top = repo.commit({"x": "1"}, ref="refs/pull/7/head", parent=pull)
        line = f"{top} refs/pull/7/head\n".encode()
        packet = b"%04x" % (len(line) + 4) + line
        repo.tamper = lambda request, response: packet + response if b"command=ls-refs" in request else response
        for stranger in (top, pull):
            with pytest.raises(RefNotFound, match="of a fork or a pull request"):
                resolve(forge, f"someone/model:{stranger}")
        assert list(remote(forge, "someone/model").refs()) == ["refs/heads/main"]

    def test_it_can_be_allowed(self, forge: Forge, pull: str) -> None:
        found = resolve(forge, f"someone/model:{pull}", allow_unreachable=True)
        assert (found.ref, found.commit) == (pull, pull)
        found = resolve(forge, "someone/model:refs/pull/7/head", allow_unreachable=True)
        assert (found.ref, found.commit) == ("refs/pull/7/head", pull)

    def test_a_commit_that_does_not_exist_is_told_apart(self, forge: Forge, repo: ForgeRepo) -> None:
        with pytest.raises(RefNotFound, match=r"has no commit 1{40}"):
            resolve(forge, "someone/model:" + "1" * 40)

    def test_a_commit_5000_back_is_accepted_in_about_a_second(
        self, forge: Forge, repo: ForgeRepo, history: list[str]
    ) -> None:
        start = time.perf_counter()
        found = resolve(forge, f"someone/model:{history[0]}")
        assert (found.ref, found.commit) == ("refs/heads/main", history[0])
        assert time.perf_counter() - start < 5

    def test_only_the_commits_above_it_are_sent(self, forge: Forge, repo: ForgeRepo, history: list[str]) -> None:
        repo.traffic = 0
        assert resolve(forge, f"someone/model:{history[-50]}").ref == "refs/heads/main"
        assert repo.traffic < 30_000

    def test_a_commit_on_a_side_branch_behind_a_merge_is_found(self, forge: Forge, repo: ForgeRepo) -> None:
        side = repo.commit({"side": "1"}, branch="side")
        top = repo.commit({"side2": "1"}, branch="side")
        merge = repo.git("commit-tree", f"{top}^{{tree}}", "-p", "main", "-p", top, "-m", "merge")
        repo.ref("refs/heads/main", merge)
        repo.delete("refs/heads/side")
        assert resolve(forge, f"someone/model:{side}").ref == "refs/heads/main"

    def test_a_commit_only_a_tag_leads_to_is_named_by_the_tag(self, forge: Forge, repo: ForgeRepo) -> None:
        release = repo.commit({"a": "1"}, branch="release")
        repo.commit({"a": "2"}, branch="release")
        repo.tag("v9", "release", annotated=True)
        repo.delete("refs/heads/release")
        assert resolve(forge, f"someone/model:{release}").ref == "refs/tags/v9"

    def test_a_host_that_cannot_show_a_history_alone_needs_consent(self, forge: Forge, repo: ForgeRepo) -> None:
        first = repo.git("rev-parse", "main")
        tip = repo.commit({"a": "1"})
        repo.config["uploadpack.allowFilter"] = "false"
        assert resolve(forge, f"someone/model:{tip}").ref == "refs/heads/main"
        with pytest.raises(RefNotFound, match="cannot show a history alone") as caught:
            resolve(forge, f"someone/model:{first}")
        assert "--allow-unreachable" in (caught.value.hint or "")
        assert resolve(forge, f"someone/model:{first}", allow_unreachable=True).commit == first

    def test_a_history_beyond_the_limit_is_not_walked(
        self, forge: Forge, repo: ForgeRepo, history: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hublock.net.git.history.MAX_HISTORY", 100_000)
        with pytest.raises(RefNotFound, match="cannot be proven"):
            resolve(forge, f"someone/model:{history[0]}")

    def test_a_lying_host_cannot_prove_a_stranger(self, forge: Forge, repo: ForgeRepo, pull: str) -> None:
        """The chain of parents is computed from the bytes, so a pack that only claims to lead there does not."""
        tip = repo.git("rev-parse", "main")
        forged = f"tree {repo.git('rev-parse', 'main^{tree}')}\nparent {pull}\nauthor A <a@b> 1 +0000\n".encode()
        forged += b"committer A <a@b> 1 +0000\n\nlie\n"
        repo.tamper = packs.answering(packs.pack([packs.entry((packs.COMMIT, forged))]))
        assert packs.object_id("commit", forged).hex() != tip
        with pytest.raises(RefNotFound):
            resolve(forge, f"someone/model:{pull}")


class TestTokens:
    SECRET = "ghp_0123456789abcdef"

    def test_a_token_appears_in_no_log_and_no_error(
        self, forge: Forge, repo: ForgeRepo, caplog: pytest.LogCaptureFixture
    ) -> None:
        repo.token = self.SECRET
        here = remote(forge, "someone/model", environ={"GITHUB_TOKEN": self.SECRET})
        with caplog.at_level(logging.DEBUG):
            here.fetch(here.resolve(None).commit)
            repo.refuse, repo.token = 403, "another"
            with pytest.raises(TransferError) as caught:
                remote(forge, "someone/model", environ={"GITHUB_TOKEN": self.SECRET}).resolve(None)
        basic = base64.b64encode(f"x-access-token:{self.SECRET}".encode()).decode()
        assert [basic in request.headers.get("authorization", "") for request in forge.requests] == [True] * 5
        for secret in (self.SECRET, basic):
            assert secret not in caplog.text
            assert secret not in str(caught.value)

    def test_a_redirect_to_another_host_takes_no_token_along(self, forge: Forge) -> None:
        evil = forge.repo("someone/model", FILES, host="evil.example.org")
        service = "someone/model.git/info/refs?service=git-upload-pack"
        forge.serve(f"https://github.com/{service}", redirect_to=f"https://evil.example.org/{service}")
        here = remote(forge, "someone/model", environ={"GITHUB_TOKEN": self.SECRET})
        found = here.resolve("main")
        assert found.commit == evil.git("rev-parse", "main")
        assert str(found.moved) == "git+https://evil.example.org/someone/model.git@main"
        here.fetch(found.commit)
        assert len(forge.seen("evil.example.org")) == 4
        assert not [request for request in forge.seen("evil.example.org") if "authorization" in request.headers]

    def test_what_follows_the_first_answer_may_not_leave_the_repository(self, forge: Forge, repo: ForgeRepo) -> None:
        upload = "https://github.com/someone/model.git/git-upload-pack"
        forge.serve(upload, redirect_to="https://evil.example.org/git-upload-pack", redirect_status=302)
        with pytest.raises(TransferError):
            resolve(forge, "someone/model")
        assert not forge.seen("evil.example.org")


class TestTheLine:
    """Git goes by the same transport as everything else, so it knows the same limits and detours."""

    def test_a_host_that_falls_silent_is_given_up(self, forge: Forge, repo: ForgeRepo) -> None:
        greeting = "https://github.com/someone/model.git/info/refs?service=git-upload-pack"
        kind = {"Content-Type": "application/x-git-upload-pack-advertisement"}
        forge.serve(greeting, b"000eversion 2\n" * 9, stall=20, headers=kind)
        transport = HttpTransport(forge.settings(), idle_timeout=0.2)
        with pytest.raises(TransferError):
            open_remote(Reference.parse("someone/model"), transport, base=Path("/")).resolve(None)

    def test_a_mirror_serves_git_and_is_not_recorded(self, forge: Forge, repo: ForgeRepo) -> None:
        forge.adopt("mirrors/github/someone/model", repo.path, host="mirror.example.org")
        rule = f"https://github.com/={forge.url}mirror.example.org/mirrors/github/"
        settings = Settings.from_mapping({"HUBLOCK_CACHE_DIR": "/nonexistent", "HUBLOCK_MIRRORS": rule})
        here = open_remote(Reference.parse("someone/model"), HttpTransport(settings), base=Path("/"))
        found = here.resolve(None)
        assert (found.url, found.moved) == ("https://github.com/someone/model.git", None)
        assert here.fetch(found.commit).commit == repo.git("rev-parse", "main")
        assert {request.host for request in forge.requests} == {"mirror.example.org"}

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_where_a_mirror_redirects_to_another_address_of_its_own_is_not_recorded(
        self, forge: Forge, repo: ForgeRepo, host: str
    ) -> None:
        greeting = "someone/model.git/info/refs?service=git-upload-pack"
        forge.adopt("someone/model", repo.path, host="new.lan")
        forge.serve(f"https://old.lan/{greeting}", redirect_to=f"{forge.url}new.lan/{greeting}")
        mirror = f"{forge.url.replace('127.0.0.1', host)}old.lan/"
        here = remote(forge, "someone/model", mirror=("https://github.com/", mirror))
        found = here.resolve(None)
        assert (found.url, found.moved) == ("https://github.com/someone/model.git", None)
        assert here.fetch(found.commit).commit == repo.git("rev-parse", "main")
        assert not forge.seen("github.com")

    @pytest.mark.parametrize("mirror", ["dead", "limited", "another repository"])
    def test_a_mirror_that_fails_is_passed_over_and_says_so(self, forge: Forge, repo: ForgeRepo, mirror: str) -> None:
        address = f"{forge.url}mirror.example.org/"
        if mirror == "dead":
            address = "http://127.0.0.1:9/"
        elif mirror == "limited":
            forge.adopt("someone/model", repo.path, host="mirror.example.org").refuse = 429
        else:
            forge.repo("someone/model", {"hubconf.py": "raise SystemExit"}, host="mirror.example.org")
        commit, heard = repo.git("rev-parse", "main"), Heard()
        here = remote(forge, "someone/model", mirror=("https://github.com/", address), progress=heard)
        assert here.fetch(commit).commit == commit
        [line] = heard.lines
        assert line.startswith(f"warn mirror {address}someone/model.git failed, asking the next mirror: ")
        # who failed once is not asked again
        assert here.resolve("main").commit == commit
        assert here.refs() == {"refs/heads/main": commit}
        assert here.history(commit, commit).descends
        assert len(heard.lines) == 1

    def test_a_mirror_without_the_repository_is_named_and_not_the_host(self, forge: Forge, repo: ForgeRepo) -> None:
        heard, mirror = Heard(), ("https://github.com/", f"{forge.url}empty.lan/")
        remote(forge, "someone/model", mirror=mirror, progress=heard).resolve(None)
        assert "asking the next mirror: 127.0.0.1 does not show someone/model: " in heard.lines[0]

    def test_a_new_name_that_has_fewer_mirrors_is_found_and_fetched(self, forge: Forge, repo: ForgeRepo) -> None:
        forge.repo("old/model").renamed_to = "someone/model"
        here = remote(forge, "old/model", mirror=("https://github.com/old/", "http://127.0.0.1:9/"))
        found = here.resolve("main")
        assert str(found.moved) == "someone/model:main"
        assert here.fetch(found.commit).commit == repo.git("rev-parse", "main")

    def test_an_archive_comes_from_the_origin_where_its_mirror_is_dead(self, forge: Forge, repo: ForgeRepo) -> None:
        commit, heard = repo.git("rev-parse", "main"), Heard()
        repo.refuse = 429
        rules = (("https://codeload.github.com/", "http://127.0.0.1:9/"), ("https://", forge.url))
        transport = HttpTransport(Settings(cache=Path("unused"), mirrors=rules), progress=heard)
        files = fetch_archive(Reference.parse("someone/model"), commit, transport)
        assert contents(files) == {"hubconf.py": FILES["hubconf.py"].encode()}
        [line] = heard.lines
        assert line.startswith("warn mirror http://127.0.0.1:9/someone/model/zip/")

    def test_plain_http_beyond_loopback_is_refused(self, forge: Forge) -> None:
        with pytest.raises(TransferError, match="plain http"):
            resolve(forge, "git+http://example.org/model")
