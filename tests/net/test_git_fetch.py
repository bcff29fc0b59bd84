"""The files of a commit are proven, or there are none."""

import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hublock.core.digest import Digest
from hublock.core.progress import Progress, Task
from hublock.core.reference import Reference
from hublock.core.tree import tree_id
from hublock.errors import IntegrityError, RefNotFound, TransferError, TreeMismatch, UnsafeArchive
from hublock.net.git.hosts import fetch_archive
from hublock.net.git.remote import open_remote
from hublock.net.transport import HttpTransport
from hublock.settings import Settings
from tests.forge import Executable, Forge, ForgeRepo, Gitlink, Link, git
from tests.net import packs
from tests.net.remotes import contents, digest, fetch, remote
from tests.net.wire import Wire, ok

ROOT = Path(__file__).parents[2]

FILES = {"hubconf.py": "dependencies = []\n", "net/layers.py": "x = 1\n", "run.sh": Executable("#!/bin/sh\n")}


@pytest.fixture
def repo(forge: Forge) -> ForgeRepo:
    return forge.repo("someone/model", FILES)


def test_brings_the_files_of_the_commit_and_nothing_of_its_history(forge: Forge, repo: ForgeRepo) -> None:
    repo.commit({"old.bin": bytes(1000)})
    commit = repo.commit({"old.bin": None, "link": Link("net/layers.py")})
    found = fetch(forge, "someone/model")
    assert {file.path: file.mode for file in found.files} == {
        "hubconf.py": "100644",
        "link": "120000",
        "net/layers.py": "100644",
        "run.sh": "100755",
    }
    assert contents(found.files)["link"] == b"net/layers.py"
    assert found.commit == commit
    assert found.tree == Digest("git-sha1", repo.git("rev-parse", "main^{tree}"))
    assert found.committed == datetime.fromtimestamp(int(repo.git("log", "-1", "--format=%ct", commit)), UTC)


ODD = {
    "plain.txt": "text\n",
    "crlf.txt": "one\r\ntwo\r\n",
    ".gitattributes": "*.txt text=auto\n",
    "tool": Executable("#!/bin/sh\n"),
    "link": Link("folder/ä ö.txt"),
    "folder/ä ö.txt": "umlauts",
    "folder/quote\"'.txt": "q",
    b"latin-\xe4.txt": "not UTF-8",
    "folder.txt": "sorts before folder/",
    "empty": b"",
    "-dash": "d",
}


def test_git_zip_and_disk_give_one_digest(forge: Forge) -> None:
    repo = forge.repo("someone/odd", ODD)
    found = fetch(forge, "someone/odd")
    zipped = fetch_archive(Reference.parse("someone/odd"), found.commit, HttpTransport(forge.settings()))
    local = fetch(forge, str(repo.path))
    assert digest(found.files) == digest(zipped) == digest(local.files)
    assert digest(found.files, "sha1") == found.tree.hex == repo.git("rev-parse", "main^{tree}")


def test_a_repository_in_the_sha256_format_gives_the_same_digest(forge: Forge) -> None:
    repo = forge.repo("someone/new", ODD, object_format="sha256")
    forge.repo("someone/odd", ODD)
    found = fetch(forge, "someone/new")
    assert found.tree == Digest("git-sha256", repo.git("rev-parse", "main^{tree}"))
    assert digest(found.files) == found.tree.hex == digest(fetch(forge, "someone/odd").files)
    older, _ = found.commit, repo.commit({"a": "1"})
    assert remote(forge, "someone/new").resolve(older).ref == "refs/heads/main"


def test_submodules_are_recorded_and_left_empty(forge: Forge, repo: ForgeRepo) -> None:
    modules = '[submodule "x"]\n\tpath = third/party\n\turl = https://example.org/x.git\n'
    repo.commit({".gitmodules": modules, "third/party": Gitlink("1" * 40), "other": Gitlink("2" * 40)})
    found = fetch(forge, "someone/model")
    assert [(sub.path, sub.url, sub.commit) for sub in found.submodules] == [
        ("other", "?", "2" * 40),
        ("third/party", "https://example.org/x.git", "1" * 40),
    ]
    assert not [path for path in contents(found.files) if path.startswith("third")]


@pytest.mark.parametrize(
    ("written", "recorded"),
    [
        ("https://me:secret@example.org/x.git", "https://example.org/x.git"),
        ("https://secret@example.org/x.git", "https://example.org/x.git"),
        ("ssh://git@example.org/x.git", "ssh://git@example.org/x.git"),
        ("ssh://git:secret@example.org/x.git", "ssh://git@example.org/x.git"),
        ("git@example.org:x.git", "git@example.org:x.git"),
        ("../x.git", "../x.git"),
        ("has space", "?"),
        ("", "?"),
    ],
)
def test_the_url_of_a_submodule_is_recorded_without_secrets(
    forge: Forge, repo: ForgeRepo, written: str, recorded: str
) -> None:
    repo.commit({".gitmodules": f'[submodule "x"]\n\tpath = x\n\turl = {written}\n', "x": Gitlink("1" * 40)})
    assert [sub.url for sub in fetch(forge, "someone/model").submodules] == [recorded]


@pytest.mark.parametrize(
    "modules", ["[submodule", '[submodule "x"]\npath\n', "\0\0[", '[submodule "a"]\n[submodule "a"]']
)
def test_a_broken_gitmodules_does_not_stop_a_fetch(forge: Forge, repo: ForgeRepo, modules: str) -> None:
    repo.commit({".gitmodules": modules, "sub": Gitlink("1" * 40)})
    assert [sub.path for sub in fetch(forge, "someone/model").submodules] == ["sub"]


def test_gitmodules_names_no_file_of_this_machine(forge: Forge, repo: ForgeRepo, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.write_text('[submodule "x"]\n\tpath = sub\n\turl = https://intern.example/secret.git\n')
    repo.commit({".gitmodules": f"[include]\n\tpath = {private}\n", "sub": Gitlink("1" * 40)})
    assert [sub.url for sub in fetch(forge, "someone/model").submodules] == ["?"]


def test_a_tree_of_an_old_tool_is_read_as_git_reads_it(forge: Forge, repo: ForgeRepo) -> None:
    folder = bytes.fromhex(repo.git("rev-parse", "HEAD:net"))
    tree = repo.object("tree", b"040000 net\0" + folder)
    repo.git("update-ref", "refs/heads/main", repo.commit_tree(tree))
    found = fetch(forge, "someone/model")
    assert contents(found.files) == {"net/layers.py": b"x = 1\n"}
    assert found.tree == Digest("git-sha1", tree)


def test_a_host_that_says_it_still_works_is_waited_for(forge: Forge, repo: ForgeRepo) -> None:
    packs: list[bytes] = []

    def keep(_: bytes, body: bytes) -> bytes:
        packs.append(body)
        return body

    repo.tamper = keep
    commit = fetch(forge, "someone/model").commit
    address = f"{forge.url}github.com/someone/model.git/info/refs?service=git-upload-pack"
    asked = urllib.request.Request(address, headers={"Git-Protocol": "version=2"})
    greeting = urllib.request.urlopen(asked).read()
    start = packs[-1].index(b"packfile\n") + len(b"packfile\n")

    def reply(head: bytes) -> Iterator[bytes]:
        if head.startswith(b"GET"):
            yield ok(greeting, "Content-Type: application/x-git-upload-pack-advertisement")
            return
        kind = "Content-Type: application/x-git-upload-pack-result"
        if sum(head.startswith(b"POST") for head in wire.heads) == 1:
            yield ok(packs[-2], kind)
            return
        yield ok(b"", kind, "Transfer-Encoding: chunked", length=None)
        # git-upload-pack's keepalive, as of uploadpack.keepAlive (git-config)
        for piece in (packs[-1][:start], *[b"0005\x01"] * 20, packs[-1][start:], b""):
            yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
            time.sleep(0.05)

    with Wire(reply) as wire:
        settings = Settings(cache=Path("unused"), mirrors=(("https://github.com/", wire.url),))
        transport = HttpTransport(settings, idle_timeout=0.2)
        slow = open_remote(Reference.parse("someone/model"), transport, base=Path())
        assert slow.fetch(commit).commit == commit


def test_a_full_disk_for_temporary_files_is_named(forge: Forge, repo: ForgeRepo, tmp_path: Path) -> None:
    code = f"""
import os, sys, tempfile
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from hublock.core.reference import Reference
from hublock.errors import StoreError
from hublock.net.git.remote import open_remote
from hublock.net.transport import HttpTransport
from hublock.settings import Settings
tempfile.tempdir = {str(tmp_path)!r}
settings = Settings(cache=Path("unused"), mirrors=(("https://", {forge.url!r}),))
there = open_remote(Reference.parse("someone/model"), HttpTransport(settings), base=Path())
try:
    there.fetch(there.resolve(None).commit)
except StoreError as error:
    print(error.message, error.hint, sep="\\n")
"""
    for size in (200_000, 20_000):
        repo.commit({"weights.bin": random.Random(0).randbytes(size)})
        wrap = f'mount -t tmpfs -o size=16k none {tmp_path} && "$@"'
        words = ["unshare", "--mount", "--map-root-user", "sh", "-c", wrap, "sh", sys.executable, "-c", code]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == [
            f"nothing can be put aside in {tmp_path}: No space left on device",
            "free some space there, or set TMPDIR to another folder",
        ]


def test_a_commit_that_is_gone_is_told_with_what_to_do(forge: Forge, repo: ForgeRepo) -> None:
    with pytest.raises(RefNotFound, match="or no longer") as caught:
        remote(forge, "someone/model").fetch("1" * 40)
    assert caught.value.hint == "check the commit id"


def test_progress_counts_the_bytes_of_the_pack(forge: Forge, repo: ForgeRepo) -> None:
    counted: list[int] = []

    class Counting(Task):
        def advance(self, amount: int) -> None:
            counted.append(amount)

    class Heard(Progress):
        def task(self, label: str, total: int | None = None) -> Task:
            assert label == "fetching someone/model"
            return Counting()

    remote(forge, "someone/model").fetch(repo.git("rev-parse", "main"), progress=Heard())
    assert sum(counted) > 100


class TestLies:
    """A host that sends something else than it was asked for."""

    def edited(self, repo: ForgeRepo, edit: Callable[[str, bytes], bytes | None]) -> None:
        """Let the forge send every object of main as ``edit`` makes it; None leaves it out."""
        entries = []
        for line in repo.git("rev-list", "--objects", "main").splitlines():
            identity = line.split(" ")[0]
            kind = repo.git("cat-file", "-t", identity)
            data = git("--git-dir", repo.path, "cat-file", kind, identity)
            changed = edit(kind, data)
            if changed is not None:
                entries.append(packs.entry(({"commit": 1, "tree": 2, "blob": 3}[kind], changed)))
        repo.tamper = packs.answering(packs.pack(entries))

    def test_an_honest_pack_is_read(self, forge: Forge, repo: ForgeRepo) -> None:
        self.edited(repo, lambda kind, data: data)
        assert "hubconf.py" in contents(fetch(forge, "someone/model").files)

    def test_another_file_is_refused(self, forge: Forge, repo: ForgeRepo) -> None:
        self.edited(repo, lambda kind, data: data.replace(b"x = 1", b"x = 2"))
        with pytest.raises(TreeMismatch, match=r"did not send the blob \w{40} \(net/layers.py\)"):
            fetch(forge, "someone/model")

    def test_another_mode_is_refused(self, forge: Forge, repo: ForgeRepo) -> None:
        self.edited(repo, lambda kind, data: data.replace(b"100755 run.sh", b"100644 run.sh"))
        with pytest.raises(TreeMismatch, match=r"did not send the tree \w{40} \(the root folder\)"):
            fetch(forge, "someone/model")

    def test_another_commit_is_refused(self, forge: Forge, repo: ForgeRepo) -> None:
        self.edited(repo, lambda kind, data: data.replace(b"the first commit", b"the other commit"))
        with pytest.raises(TreeMismatch, match=r"did not send the commit \w{40}"):
            fetch(forge, "someone/model")

    @pytest.mark.parametrize("kind", ["commit", "tree", "blob"])
    def test_a_missing_object_is_refused(self, forge: Forge, repo: ForgeRepo, kind: str) -> None:
        self.edited(repo, lambda what, data: None if what == kind else data)
        with pytest.raises(TreeMismatch, match=f"did not send the {kind}"):
            fetch(forge, "someone/model")

    def test_an_object_of_another_kind_is_refused(self, forge: Forge, repo: ForgeRepo) -> None:
        blob = packs.object_id("blob", b"x")
        commit = packs.commit_of(blob)
        repo.tamper = packs.answering(
            packs.pack([packs.entry((packs.BLOB, b"x")), packs.entry((packs.COMMIT, commit))])
        )
        with pytest.raises(TreeMismatch, match="is a blob, not a tree"):
            remote(forge, "someone/model").fetch(packs.object_id("commit", commit).hex())
        with pytest.raises(RefNotFound, match="is a blob, not a commit"):
            remote(forge, "someone/model").fetch(blob.hex())

    @pytest.mark.parametrize(("kind", "at"), [("tree", "main^{tree}"), ("blob", "main:hubconf.py")])
    def test_a_tag_of_something_else_is_no_failure_of_the_host(
        self, forge: Forge, repo: ForgeRepo, kind: str, at: str
    ) -> None:
        repo.tag("odd", at, annotated=True)
        with pytest.raises(RefNotFound, match=f"of someone/model is a {kind}, not a commit") as caught:
            fetch(forge, "someone/model:odd")
        assert caught.value.hint == "name a branch, or a tag of a commit"

    @pytest.mark.parametrize("cut", [1, 20, 40, 300])
    def test_a_truncated_pack_is_refused(self, forge: Forge, repo: ForgeRepo, cut: int) -> None:
        repo.tamper = lambda request, response: (
            packs.answering(packs.sent_pack(response)[:-cut])(request, response)
            if b"command=fetch" in request
            else response
        )
        with pytest.raises(TransferError, match=r"truncated|damaged|no pack"):
            fetch(forge, "someone/model")

    @pytest.mark.parametrize("keep", [1, 30, 200])
    def test_an_answer_that_breaks_off_is_refused(self, forge: Forge, repo: ForgeRepo, keep: int) -> None:
        repo.tamper = lambda request, response: response[:-keep] if b"command=fetch" in request else response
        with pytest.raises(TransferError):
            fetch(forge, "someone/model")

    @pytest.mark.parametrize(
        "answer", [b"", b"garbage that is no packet", b"0000", b"0009packfile\n", b"ffff" + bytes(9)]
    )
    def test_nonsense_is_refused(self, forge: Forge, repo: ForgeRepo, answer: bytes) -> None:
        repo.tamper = lambda request, response: answer
        with pytest.raises((TransferError, RefNotFound)):
            fetch(forge, "someone/model")

    def test_a_host_that_refuses_in_the_middle_is_told(self, forge: Forge, repo: ForgeRepo) -> None:
        line = b"ERR come back later"
        repo.tamper = lambda request, response: b"%04x" % (len(line) + 4) + line
        with pytest.raises(TransferError, match=r"github\.com refuses someone/model: come back later"):
            fetch(forge, "someone/model")

    def test_a_host_may_not_send_us_elsewhere_for_packs(self, forge: Forge, repo: ForgeRepo) -> None:
        lines = [b"packfile-uris\n", b"https://evil.example.org/a.pack sha1 " + b"1" * 40 + b"\n", b"packfile\n"]
        uris = b"".join(b"%04x" % (len(line) + 4) + line for line in lines)
        repo.tamper = lambda request, response: uris + b"0001" if b"command=fetch" in request else response
        with pytest.raises(TransferError):
            fetch(forge, "someone/model")
        assert {request.host for request in forge.requests} == {"github.com"}


class TestNames:
    """Trees that git itself would not write."""

    def sends(self, repo: ForgeRepo, *trees: bytes) -> str:
        """Let the forge send ``trees`` below a commit of the last one, and return the commit's id."""
        commit = packs.commit_of(packs.object_id("tree", trees[-1]))
        objects: list[packs.Object] = [
            (packs.BLOB, b"x"),
            (packs.COMMIT, commit),
            *((packs.TREE, tree) for tree in trees),
        ]
        repo.tamper = packs.answering(packs.pack([packs.entry(item) for item in objects]))
        return packs.object_id("commit", commit).hex()

    def tree(self, *rows: tuple[str, bytes]) -> bytes:
        blob = packs.object_id("blob", b"x")
        return b"".join(mode.encode() + b" " + name + b"\0" + blob for mode, name in rows)

    @pytest.mark.parametrize(
        "name",
        [b"..", b".", b"", b".git", b".GIT", b"git~1", b".g\xe2\x80\x8cit", b"a/b", b"a\\b", b"a\nb", b"x" * 256],
    )
    def test_a_dangerous_name_is_refused(self, forge: Forge, repo: ForgeRepo, name: bytes) -> None:
        commit = self.sends(repo, self.tree(("100644", name)))
        with pytest.raises(UnsafeArchive, match="the tree holds"):
            remote(forge, "someone/model").fetch(commit)

    @pytest.mark.parametrize(
        ("first", "second"),
        [(b"A", b"a"), (b"a", b"a"), ("\u00e9".encode(), "e\u0301".encode()), (b"K", "\u212a".encode())],
    )
    def test_two_names_that_are_one_to_a_disk_are_refused(
        self, forge: Forge, repo: ForgeRepo, first: bytes, second: bytes
    ) -> None:
        commit = self.sends(repo, self.tree(("100644", first), ("100755", second)))
        with pytest.raises(UnsafeArchive, match=r"one|twice"):
            remote(forge, "someone/model").fetch(commit)

    @pytest.mark.parametrize("mode", ["100600", "0140000", "777", "", "60000"])
    def test_an_unknown_mode_is_refused(self, forge: Forge, repo: ForgeRepo, mode: str) -> None:
        with pytest.raises(UnsafeArchive, match="mode"):
            remote(forge, "someone/model").fetch(self.sends(repo, self.tree((mode, b"a"))))

    def test_the_mode_of_old_is_an_ordinary_file(self, forge: Forge, repo: ForgeRepo) -> None:
        found = remote(forge, "someone/model").fetch(self.sends(repo, self.tree(("100664", b"a"))))
        assert [file.mode for file in found.files] == ["100644"]

    @pytest.mark.parametrize("target", ["/etc/passwd", "../x", "net/../../x", "C:/x", "a\\b", ""])
    def test_a_link_out_of_the_tree_is_refused(self, forge: Forge, repo: ForgeRepo, target: str) -> None:
        repo.commit({"link": Link(target)})
        with pytest.raises(UnsafeArchive, match="link"):
            fetch(forge, "someone/model")

    def test_a_submodule_may_not_have_a_dangerous_name_either(self, forge: Forge, repo: ForgeRepo) -> None:
        with pytest.raises(UnsafeArchive, match="the tree holds"):
            remote(forge, "someone/model").fetch(self.sends(repo, self.tree(("160000", b".."))))

    def test_a_malformed_tree_or_commit_is_refused(self, forge: Forge, repo: ForgeRepo) -> None:
        for body in (b"100644 a", b"100644 a\0short", b"\0" * 30):
            with pytest.raises(TreeMismatch, match="malformed"):
                remote(forge, "someone/model").fetch(self.sends(repo, body))

    def test_a_malformed_commit_is_refused(self, forge: Forge, repo: ForgeRepo) -> None:
        for body in (b"", b"parent x\n", b"tree 12\nauthor", b"tree " + b"1" * 40 + b"\nparent 1\nauthor "):
            repo.tamper = packs.answering(packs.pack([packs.entry((packs.COMMIT, body))]))
            with pytest.raises(TreeMismatch, match="malformed"):
                remote(forge, "someone/model").fetch(packs.object_id("commit", body).hex())

    def test_a_tree_that_unfolds_without_end_is_refused(self, forge: Forge, repo: ForgeRepo) -> None:
        trees = [b""]
        for _ in range(6):
            below = packs.object_id("tree", trees[-1])
            trees.append(b"".join(b"40000 %d\0" % n + below for n in range(10)))
        with pytest.raises(UnsafeArchive, match="more than 100000 files and folders"):
            remote(forge, "someone/model").fetch(self.sends(repo, *trees))

    def test_a_tree_too_deep_is_refused(self, forge: Forge, repo: ForgeRepo) -> None:
        repo.commit({"a/" * 120 + "b": "1"})
        with pytest.raises(UnsafeArchive, match="folders deep"):
            fetch(forge, "someone/model")


class TestLimits:
    def test_a_187_byte_pack_of_2_gib_is_refused_in_little_memory(self, tmp_path: Path) -> None:
        """In a process that may not hold 1 GiB; what reads the pack without looking first needs 2."""
        assert len(packs.delta_bomb()) <= 187
        path = tmp_path / "pack"
        path.write_bytes(packs.delta_bomb())
        script = (
            "import resource, sys, pathlib\n"
            "import dulwich.pack, hublock.net.git.pack as pack, hublock.errors as errors\n"
            "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
            "try:\n    list(pack.read_objects(open(sys.argv[1], 'rb'), 'sha1'))\n"
            "except errors.UnsafeArchive as error:\n    print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
        assert "declares an object of 2164260735 bytes" in done.stdout, done.stderr

    def test_it_is_refused_from_a_host_too(self, forge: Forge, repo: ForgeRepo) -> None:
        repo.tamper = packs.answering(packs.delta_bomb())
        with pytest.raises(UnsafeArchive, match="declares an object of 2164260735 bytes"):
            fetch(forge, "someone/model")

    def test_more_bytes_than_the_limit_are_not_even_stored(
        self, forge: Forge, repo: ForgeRepo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from hublock.net.git import remote as git_module
        from hublock.net.git.wire import Extent

        monkeypatch.setattr(git_module, "Extent", lambda **given: Extent(**{**given, "limit": 100}))
        with pytest.raises(UnsafeArchive, match="more than 100 bytes"):
            fetch(forge, "someone/model")

    @pytest.mark.parametrize(("command", "head"), [(b"ls-refs", b""), (b"fetch", b"0011shallow-info\n")])
    def test_a_host_that_says_more_than_the_limit_beside_its_objects_is_not_listened_to(
        self, forge: Forge, repo: ForgeRepo, monkeypatch: pytest.MonkeyPatch, command: bytes, head: bytes
    ) -> None:
        """All of it would be kept in memory: dulwich makes 4 GB of 400 MB of refs."""
        monkeypatch.setattr("hublock.net.git.wire.MAX_TALK", 1 << 20)
        lines = (b"shallow %040x" % n if head else b"%040x refs/heads/%06d" % (n, n) for n in range(30_000))
        answer = head + b"".join(b"%04x" % (len(line) + 4) + line for line in lines) + (b"0001" if head else b"0000")
        repo.tamper = lambda request, response: answer if b"command=" + command in request else response
        with pytest.raises(UnsafeArchive, match="someone/model sends more than 1048576 bytes beside its objects"):
            fetch(forge, "someone/model")

    @pytest.mark.parametrize("kind", ["host", "disk"])
    def test_objects_are_not_counted_as_what_is_said_beside_them(
        self, forge: Forge, repo: ForgeRepo, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        repo.commit({"big.bin": random.Random(1).randbytes(3 << 20)})
        monkeypatch.setattr("hublock.net.git.wire.MAX_TALK", 1 << 20)
        found = fetch(forge, "someone/model" if kind == "host" else f"git+file://{repo.path}")
        assert len(contents(found.files)["big.bin"]) == 3 << 20

    def test_a_child_that_says_more_than_the_limit_is_not_listened_to(
        self, forge: Forge, repo: ForgeRepo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hublock.net.git.wire.MAX_TALK", 100)
        with pytest.raises(UnsafeArchive, match="sends more than 100 bytes beside its objects"):
            fetch(forge, f"git+file://{repo.path}")

    def test_a_pack_that_fails_publishes_nothing(self, forge: Forge, repo: ForgeRepo, tmp_path: Path) -> None:
        repo.tamper = packs.answering(packs.delta_bomb())
        with pytest.raises(IntegrityError):
            fetch(forge, "someone/model")
        assert not (forge.root / "cache").exists()


def test_the_tree_id_of_the_files_is_the_commits(forge: Forge, repo: ForgeRepo) -> None:
    """What the lock calls ``tree`` can be computed from the files again, without submodules."""
    found = fetch(forge, "someone/model")
    entries = ((file.path, file.mode, repo.git("rev-parse", f"main:{file.path}")) for file in found.files)
    assert tree_id(entries, "sha1") == found.tree.hex
