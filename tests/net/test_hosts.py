"""Where hosts keep things, and what an archive is worth."""

from pathlib import Path

import pytest

from hublock.core.digest import Digest
from hublock.core.progress import Progress
from hublock.core.reference import Reference
from hublock.core.tree import SourceFile, digest_of
from hublock.errors import RefNotFound, RepositoryNotFound, TransferError, TreeMismatch, UnsafeArchive
from hublock.net.git.hosts import archive_url, fetch_archive, git_url, moved
from hublock.net.git.locked import fetch_locked
from hublock.net.transport import HttpTransport
from hublock.settings import Settings
from tests.forge import Executable, Forge, ForgeRepo, Gitlink, Link
from tests.net import packs
from tests.net.archives import HUBCONF, archive, below
from tests.net.remotes import fetch

SHA = "1" * 40


@pytest.mark.parametrize(
    ("text", "git", "zipped"),
    [
        ("o/r:v1", "https://github.com/o/r.git", f"https://codeload.github.com/o/r/zip/{SHA}"),
        (
            "git+https://github.com/o/r.git@v1",
            "https://github.com/o/r.git",
            f"https://codeload.github.com/o/r/zip/{SHA}",
        ),
        (
            "git+https://gitlab.com/g/s/p@v1",
            "https://gitlab.com/g/s/p",
            f"https://gitlab.com/g/s/p/-/archive/{SHA}/p-{SHA}.zip",
        ),
        (
            "git+https://gitlab.example.org/g/p.git",
            "https://gitlab.example.org/g/p.git",
            f"https://gitlab.example.org/g/p/-/archive/{SHA}/p-{SHA}.zip",
        ),
        (
            "git+https://ghe.example.org/o/r",
            "https://ghe.example.org/o/r",
            f"https://ghe.example.org/o/r/archive/{SHA}.zip",
        ),
        ("git+ssh://git@github.com/o/r", "ssh://git@github.com/o/r", None),
        ("git+file:///srv/r", "file:///srv/r", None),
    ],
)
def test_knows_where_hosts_keep_things(text: str, git: str, zipped: str | None) -> None:
    reference = Reference.parse(text)
    assert git_url(reference) == git
    assert archive_url(reference, SHA) == zipped


@pytest.mark.parametrize(
    ("text", "url", "name"),
    [
        ("o/r", "https://github.com/o/r.git", None),
        ("O/R", "https://github.com/o/r", None),
        ("o/r:v1", "https://github.com/new/r.git", "new/r:v1"),
        ("o/r", "https://example.org/r.git", "git+https://example.org/r.git"),
        ("git+https://gitlab.com/a/b@v1", "https://gitlab.com/a/c", "git+https://gitlab.com/a/c@v1"),
        ("git+https://gitlab.com/a/b", "https://gitlab.com/a/b.git", None),
        ("./repo", "file:///home/me/repo", None),
    ],
)
def test_knows_a_new_name_when_it_sees_one(text: str, url: str, name: str | None) -> None:
    found = moved(Reference.parse(text), url)
    assert (str(found) if found else None) == name


FILES = {"hubconf.py": "dependencies = []\n", "run.sh": Executable("#!/bin/sh\n"), "link": Link("hubconf.py")}


@pytest.fixture
def repo(forge: Forge) -> ForgeRepo:
    return forge.repo("someone/model", FILES)


def locked(
    forge: Forge, commit: str, digest: Digest, text: str = "someone/model", settings: Settings | None = None
) -> list[SourceFile]:
    transport = HttpTransport(settings or forge.settings())
    reference = Reference.parse(text)
    return list(fetch_locked(reference, commit, digest, transport, base=Path("/"), progress=Progress()))


def pin(forge: Forge, text: str = "someone/model") -> tuple[str, Digest]:
    found = fetch(forge, text)
    return found.commit, digest_of(found.files)


def test_a_locked_tree_comes_by_git(forge: Forge, repo: ForgeRepo) -> None:
    assert len(locked(forge, *pin(forge))) == 3
    assert not forge.seen("codeload.github.com")


REFUSALS = [401, 403, 404, 429, 500, "temporarily limiting some unauthenticated downloads"]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_when_git_is_refused_the_archive_is_taken(forge: Forge, repo: ForgeRepo, refusal: int | str) -> None:
    commit, digest = pin(forge)
    repo.refuse = refusal
    assert digest_of(locked(forge, commit, digest)) == digest
    assert [request.path for request in forge.seen("codeload.github.com")] == [f"/someone/model/zip/{commit}"]


@pytest.mark.parametrize(("refusal", "said"), [(403, "refuses git"), (404, "does not show")])
def test_an_archive_of_other_files_is_refused_and_proves_nothing(
    forge: Forge, repo: ForgeRepo, refusal: int, said: str
) -> None:
    commit, digest = pin(forge)
    other = repo.commit({"hubconf.py": "evil = 1\n"})
    repo.refuse = refusal
    with pytest.raises(TransferError, match=rf"{said} .*; and \S+/zip/\S+ holds other files") as caught:
        locked(forge, other, digest)
    assert (caught.value.hint or "").startswith("try later, or set GITHUB_TOKEN")
    assert digest_of(locked(forge, commit, digest)) == digest


def test_other_content_by_git_is_refused_though_it_hashes_to_its_commit(forge: Forge, repo: ForgeRepo) -> None:
    commit, _ = pin(forge)
    with pytest.raises(TreeMismatch, match="as locked"):
        locked(forge, commit, Digest("git-sha256", "0" * 64))


def test_a_git_that_lies_is_not_replaced_by_an_archive(forge: Forge, repo: ForgeRepo) -> None:
    commit, digest = pin(forge)
    repo.tamper = packs.answering(packs.pack([packs.entry((packs.COMMIT, b"tree x\n"))]))
    with pytest.raises(TreeMismatch):
        locked(forge, commit, digest)
    assert not forge.seen("codeload.github.com")


def test_a_commit_that_is_gone_is_not_looked_for_in_archives(forge: Forge, repo: ForgeRepo) -> None:
    with pytest.raises(RefNotFound):
        locked(forge, SHA, Digest("git-sha256", "0" * 64))
    assert not forge.seen("codeload.github.com")


@pytest.mark.parametrize("refusal", [401, 403])
def test_when_both_are_refused_git_is_named(forge: Forge, repo: ForgeRepo, refusal: int) -> None:
    commit, digest = pin(forge)
    repo.refuse = refusal
    repo.refuse_archives = 429
    with pytest.raises(RepositoryNotFound if refusal == 401 else TransferError) as caught:
        locked(forge, commit, digest)
    assert caught.value.message.startswith("github.com ")
    assert "GITHUB_TOKEN" in (caught.value.hint or "")


def test_a_web_page_in_place_of_the_archive_is_named_beside_what_git_said(forge: Forge, repo: ForgeRepo) -> None:
    commit, digest = pin(forge)
    repo.refuse = 429
    url = f"https://codeload.github.com/someone/model/zip/{commit}"
    forge.serve(url, b"<html>log in</html>")
    with pytest.raises(TransferError) as caught:
        locked(forge, commit, digest)
    assert "429" in caught.value.message
    assert caught.value.message.endswith(f"; and {url} answers with something that is no zip archive")


def test_a_mirror_without_the_archive_is_passed_over(forge: Forge, repo: ForgeRepo) -> None:
    commit, digest = pin(forge)
    repo.refuse = 429
    forge.serve(f"https://mirror.org/someone/model/zip/{commit}", b"<html>log in</html>")
    forge.serve(f"https://other.org/someone/model/zip/{commit}", archive([HUBCONF]))
    host = "https://codeload.github.com/"
    first, second = (
        f"{host}{path}={forge.url}{to}" for path, to in (("someone/", "mirror.org/someone/"), ("", "other.org/"))
    )
    settings = forge.settings(HUBLOCK_MIRRORS=f"{first} {second} {forge.mirrors}")
    assert digest_of(locked(forge, commit, digest, settings=settings)) == digest
    assert [len(forge.seen(name)) for name in ("mirror.org", "other.org", "codeload.github.com")] == [1, 1, 1]


def test_a_host_without_archives_is_named_for_git(forge: Forge) -> None:
    with pytest.raises(RepositoryNotFound, match="no folder"):
        locked(forge, SHA, Digest("git-sha256", "0" * 64), "git+file:///nonexistent")


class TestAttributes:
    """Hosts apply a repository's attributes to its archives, never to its objects."""

    def answers(self, forge: Forge, attributes: str, files: dict[str, object]) -> tuple[Digest, Digest | None]:
        """Return the digest by git, and what the archive is accepted as."""
        repo = forge.repo("someone/attributes", {".gitattributes": attributes, **files})
        commit, digest = pin(forge, "someone/attributes")
        repo.refuse = 403
        try:
            return digest, digest_of(locked(forge, commit, digest, "someone/attributes"))
        except TransferError:
            return digest, None

    @pytest.mark.parametrize(
        ("attributes", "files"),
        [
            ("*.md export-ignore\n", {"README.md": "x"}),
            ("*.txt export-subst\n", {"v.txt": "$Format:%H$\n"}),
            ("*.txt text eol=crlf\n", {"v.txt": "one\n"}),
            ("*.txt ident\n", {"v.txt": "$Id$\n"}),
            ("*.txt working-tree-encoding=UTF-16\n", {"v.txt": "one\n"}),
        ],
    )
    def test_an_archive_that_attributes_changed_is_refused(
        self, forge: Forge, attributes: str, files: dict[str, object]
    ) -> None:
        assert self.answers(forge, attributes, files)[1] is None

    @pytest.mark.parametrize(
        ("attributes", "files"),
        [
            ("* text=auto\n", {"v.txt": "one\r\ntwo\r\n", "w.txt": "one\n"}),
            ("*.pth filter=lfs diff=lfs merge=lfs -text\n", {"w.pth": "version https://git-lfs.github.com/spec/v1\n"}),
            ("*.txt export-subst\n", {"v.txt": "nothing to replace\n"}),
            ("", {"sub": Gitlink("2" * 40), ".gitmodules": '[submodule "sub"]\npath = sub\nurl = https://a.org/b\n'}),
        ],
    )
    def test_an_archive_that_attributes_left_alone_is_accepted(
        self, forge: Forge, attributes: str, files: dict[str, object]
    ) -> None:
        by_git, accepted = self.answers(forge, attributes, files)
        assert accepted == by_git


class TestArchiveAddress:
    """The host itself is the attacker, or broken."""

    URL = f"https://codeload.github.com/someone/model/zip/{SHA}"

    def get(self, forge: Forge) -> None:
        fetch_archive(Reference.parse("someone/model"), SHA, HttpTransport(forge.settings()))

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            ({"status": 404}, RepositoryNotFound),
            ({"status": 401}, RepositoryNotFound),
            ({"status": 429}, TransferError),
            ({"status": 503}, TransferError),
            ({"truncate": 50}, TransferError),
            ({"drop": True}, TransferError),
            ({"chunked": True, "truncate": 50}, UnsafeArchive),
        ],
    )
    def test_a_failure_has_its_error(self, forge: Forge, fault: dict[str, object], error: type[Exception]) -> None:
        forge.serve(self.URL, archive([HUBCONF]), **fault)
        with pytest.raises(error):
            self.get(forge)

    def test_a_malicious_archive_is_refused(self, forge: Forge) -> None:
        forge.serve(self.URL, archive([HUBCONF, below(b"../evil")]))
        with pytest.raises(UnsafeArchive):
            self.get(forge)

    def test_an_archive_too_large_is_given_up_while_it_comes(
        self, forge: Forge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hublock.net.git.hosts.MAX_ARCHIVE", 100)
        forge.serve(self.URL, bytes(1000))
        with pytest.raises(UnsafeArchive, match="more than 100 bytes"):
            self.get(forge)

    def test_a_redirect_to_another_host_gets_no_token(self, forge: Forge) -> None:
        forge.serve(self.URL, redirect_to="https://evil.example.org/x.zip")
        forge.serve("https://evil.example.org/x.zip", archive([HUBCONF]))
        transport = HttpTransport(forge.settings(None, GITHUB_TOKEN="secret-0123"))
        fetch_archive(Reference.parse("someone/model"), SHA, transport)
        assert "authorization" in forge.seen("codeload.github.com")[0].headers
        assert "authorization" not in forge.seen("evil.example.org")[0].headers

    def test_a_path_has_no_archive(self, forge: Forge) -> None:
        with pytest.raises(TransferError, match="offers no archives"):
            fetch_archive(Reference.parse("./here"), SHA, HttpTransport(forge.settings()))
