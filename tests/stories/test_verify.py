"""What verify catches: every kind of tampering, each with its exit code and a sentence that says what to do."""

# mypy: disable-error-code="func-returns-value"

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from hublock.core.canonical import dump_lock
from hublock.core.digest import Digest
from hublock.core.lockfile import HuggingFaceFile, Lock
from hublock.core.lockreader import parse_lock
from hublock.store.layout import Layout
from tests.forge import Forge
from tests.net.packs import BLOB, entry, pack
from tests.stories.conftest import PLAIN, Run, state_dict, without_privileges
from tests.stories.test_bad_input import snapshot

NET, BIG, BACKBONE = "https://example.org/net.pth", "https://example.org/big.pth", "https://example.org/backbone.bin"
COMMIT = "cccccccccccccccccccccccccccccccccccccccc"
PICKLE = b"\x80\x02cbuiltins\nset\nq\x00."


@dataclass(frozen=True)
class Scene:
    """A project that verifies, about to be tampered with."""

    project: Path
    layout: Layout
    forge: Forge

    @property
    def lock_file(self) -> Path:
        return self.project / "hub.lock"

    @property
    def lock(self) -> Lock:
        return parse_lock(self.lock_file.read_text(), file="hub.lock")

    def relock(self, change: Callable[[Lock], Lock]) -> None:
        """Replace the lock by another canonical one."""
        self.lock_file.write_text(dump_lock(change(self.lock)))

    def edit(self, old: str, new: str, *, file: str = "hub.lock") -> None:
        path = self.project / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    @property
    def tree(self) -> Path:
        """Where the files of a/tagged:v1 lie."""
        return self.layout.tree(self.lock.repos[0].digest) / "tree"

    @property
    def linked_tree(self) -> Path:
        """Where the files of b/branch lie: one of them is a link."""
        return self.layout.tree(self.lock.repos[1].digest) / "tree"

    @property
    def blob(self) -> Path:
        """The file of https://example.org/net.pth."""
        return self.layout.blob(self.lock.repos[0].models[0].weights[0].digest)

    def rename(self, repo: str, to: str) -> None:
        old = self.forge.find_repo("github.com", repo)
        assert old is not None
        self.forge.adopt(to, old.path)
        old.renamed_to = to

    def commit(self, repo: str, *, orphan: bool = False, branch: str = "main") -> str:
        found = self.forge.find_repo("github.com", repo)
        assert found is not None
        return found.commit({"hubconf.py": PLAIN.replace("NAME", "big") + "# moved\n"}, orphan=orphan, branch=branch)

    def send(self, repo: str, pack: Callable[[bytes], bytes]) -> None:
        """Let the host send something else than the packs that git makes."""
        found = self.forge.find_repo("github.com", repo)
        assert found is not None
        found.tamper = lambda asked, answer: pack(answer) if b"command=fetch" in asked else answer

    def git(self, repo: str, *words: str) -> None:
        found = self.forge.find_repo("github.com", repo)
        assert found is not None
        found.git(*words)


def sideband(data: bytes) -> bytes:
    """Return a short pack as git-upload-pack sends it (gitprotocol-v2, side-band-64k)."""
    return f"{len(data) + 5:04x}\1".encode() + data + b"0000"


def write(path: Path, data: bytes) -> None:
    """Change a file of the store, as whoever owns it can."""
    path.parent.chmod(0o755)
    if path.exists():
        path.chmod(0o644)
    path.write_bytes(data)


def quietly(path: Path, data: bytes) -> None:
    """Change a file in place so that its size and its times are what they were."""
    facts = path.stat()
    assert len(data) == facts.st_size
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(data)
    path.chmod(facts.st_mode)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def flip(path: Path, how: Callable[[Path, bytes], None]) -> None:
    data = path.read_bytes()
    how(path, bytes([data[0] ^ 1]) + data[1:])


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def hugging_face(scene: Scene, *, commit: str = COMMIT, data: bytes = b"hf", served: bool = True) -> None:
    """Lock a file of Hugging Face, put it into the store, and let the host name ``commit`` as its main."""
    digest = Digest("sha256", hashlib.sha256(b"hf").hexdigest())
    row = HuggingFaceFile(
        repo="o/n", type="model", revision="main", commit=COMMIT, file="f.bin", digest=digest, size=2, pickle="none"
    )

    def with_file(lock: Lock) -> Lock:
        repo = lock.repos[0]
        return replace(lock, repos=(replace(repo, models=(replace(repo.models[0], hf=(row,)),)), *lock.repos[1:]))

    scene.relock(with_file)
    scene.layout.blob(digest).parent.mkdir(parents=True, exist_ok=True)
    scene.layout.blob(digest).write_bytes(b"hf")
    if served:
        scene.forge.serve(
            "https://huggingface.co/api/models/o/n/revision/main", json.dumps({"sha": commit, "siblings": []}).encode()
        )
    scene.forge.serve(f"https://huggingface.co/o/n/resolve/{COMMIT}/f.bin", data)


@dataclass(frozen=True)
class Tampering:
    name: str
    do: Callable[[Scene], object]
    code: int
    sentence: str
    hint: str
    words: tuple[str, ...] = ()


UP = ("--upstream",)
ALL = ("--upstream", "--deep")
DEEP = ("--deep",)
STALE, EDITED = "does not answer the manifest: ", "was edited by hand: it is not as hublock writes it"
TABLE = [
    # the text of the lock
    Tampering("lock: gone", lambda s: s.lock_file.unlink(), 4, "hub.lock does not exist", "hublock lock"),
    Tampering("lock: emptied", lambda s: s.lock_file.write_text(""), 2, "version: is missing", "git restore"),
    Tampering("lock: not UTF-8", lambda s: s.lock_file.write_bytes(b"\xff"), 2, "is not UTF-8 text", "UTF-8"),
    Tampering("lock: not TOML", lambda s: s.edit("[[repo]]", "[[repo]"), 2, "not valid TOML", "git restore"),
    Tampering("lock: in conflict", lambda s: s.edit("[[repo]]", "<<<<<<< a\n[[repo]]"), 2, "conflict", "hublock lock"),
    Tampering("lock: newer", lambda s: s.edit("version = 1", "version = 2"), 2, "reads only 1", "upgrade hublock"),
    Tampering("lock: key unknown", lambda s: s.edit("ref =", "reff ="), 2, "unknown key", "git restore"),
    Tampering("lock: key missing", lambda s: s.edit('ref = "refs/tags/v1"\n', ""), 2, "ref: is missing", "git restore"),
    Tampering("lock: URL with password", lambda s: s.edit("https://e", "https://a:b@e"), 2, "password", "~/.netrc"),
    Tampering("lock: absolute path", lambda s: s.edit('"best.pt"', '"/best.pt"'), 2, "best.pt", "git restore"),
    Tampering("lock: header gone", lambda s: s.edit("# @generated", "# by me"), 1, EDITED, "git diff hub.lock"),
    Tampering("lock: comment put in", lambda s: s.edit("[[repo]]", "# mine\n[[repo]]"), 1, EDITED, "git diff hub.lock"),
    Tampering("lock: spaces", lambda s: s.edit("version = 1", "version=1"), 1, EDITED, "git diff hub.lock"),
    Tampering(
        "lock: rows in another order",
        lambda s: s.lock_file.write_text(
            re.sub(
                r"(\[\[repo\]\].*?)(\[\[repo\]\].*?)(\[\[weights)", r"\2\1\3", s.lock_file.read_text(), flags=re.DOTALL
            )
        ),
        1,
        EDITED,
        "git diff hub.lock",
    ),
    Tampering("lock: size of a file", lambda s: s.edit("size = 18", "size = 19"), 3, "has 18 bytes, not 19", "sync"),
    Tampering(
        "lock: digest of a file",
        lambda s: s.edit(s.lock.repos[0].models[0].weights[0].digest.hex, "0" * 64),
        4,
        f"{NET} is not in the store",
        "hublock sync",
    ),
    Tampering(
        "lock: digest of a tree",
        lambda s: s.edit(s.lock.repos[0].digest.hex, "0" * 64),
        4,
        "the tree of a/tagged:v1 is not in the store",
        "hublock sync",
    ),
    Tampering(
        "lock: the digest of one file given to another",
        lambda s: s.edit(s.lock.repos[0].models[0].weights[0].digest.hex, s.lock.weights[0].digest.hex),
        3,
        "has 10 bytes, not 18",
        "hublock sync",
    ),
    Tampering(
        "lock: one URL, two digests",
        lambda s: s.edit(BIG, NET),
        2,
        "which is of the same file",
        "git restore",
    ),
    Tampering("lock: verdict", lambda s: s.edit('"none"', '"tensors"'), 3, "holds tensors, but", "git restore", DEEP),
    Tampering("lock: commit", lambda s: s.edit(s.lock.repos[0].commit, "0" * 40), 1, "v1 of a/tagged:v1", "update", UP),
    Tampering(
        "lock: tree of the commit",
        lambda s: s.edit(s.lock.repos[0].tree.hex, "0" * 40),
        3,
        "not the locked git-sha1:<hex>",
        "git restore hub.lock",
        ALL,
    ),
    # the manifest
    Tampering(
        "manifest: not TOML",
        lambda s: (s.project / "hub.toml").write_text("["),
        2,
        "hub.toml: at its end: not valid TOML",
        "correct it",
    ),
    Tampering(
        "manifest: two homes",
        lambda s: (s.project / "pyproject.toml").write_text("[tool.hublock]\n"),
        2,
        "both <project>/hub.toml and [tool.hublock]",
        "move the tables",
    ),
    Tampering(
        "manifest: other ref",
        lambda s: s.edit(":v1", ":v2", file="hub.toml"),
        1,
        f"{STALE}model net is locked from a/tagged:v1, the manifest wants a/tagged:v2",
        "hublock lock",
    ),
    Tampering(
        "manifest: other arguments",
        lambda s: s.edit('repo = "b', 'args = [1]\nrepo = "b', file="hub.toml"),
        1,
        f"{STALE}model big is locked with other arguments",
        "hublock lock",
    ),
    Tampering(
        "manifest: other entry point",
        lambda s: s.edit('repo = "b', 'entrypoint = "huge"\nrepo = "b', file="hub.toml"),
        1,
        f"{STALE}model big is locked with entry point big",
        "hublock lock",
    ),
    Tampering(
        "manifest: other requires",
        lambda s: s.edit('repo = "b', 'requires = ["torch>=2"]\nrepo = "b', file="hub.toml"),
        1,
        f"{STALE}model big is locked with other `requires`",
        "hublock lock",
    ),
    Tampering(
        "manifest: other declared URL",
        lambda s: s.edit("big.pth", "other.pth", file="hub.toml"),
        1,
        f"{STALE}model big is locked with other declared URLs",
        "hublock lock",
    ),
    Tampering(
        "manifest: one model more",
        lambda s: s.edit("[models.net]", '[models.more]\nrepo = "b/branch"\n\n[models.net]', file="hub.toml"),
        1,
        f"{STALE}model more is not locked yet",
        "hublock lock",
    ),
    Tampering(
        "manifest: one model less",
        lambda s: s.edit("[models.net]", "[models.renamed]", file="hub.toml"),
        1,
        f"{STALE}model net is locked but no longer wanted",
        "hublock lock",
    ),
    Tampering(
        "manifest: other URL of weights",
        lambda s: s.edit("backbone.bin", "other.bin", file="hub.toml"),
        1,
        f"{STALE}weights backbone are not locked yet",
        "hublock lock",
    ),
    Tampering(
        "manifest: environment",
        lambda s: s.edit("[models.net]", 'environment = "exact"\n[models.net]', file="hub.toml"),
        1,
        'the manifest "exact"',
        "hublock lock",
    ),
    # the stored trees
    Tampering("tree: gone", lambda s: shutil.rmtree(s.tree.parent), 4, "tree of a/tagged:v1 is not in", "hublock sync"),
    Tampering("tree: file changed", lambda s: flip(s.tree / "hubconf.py", write), 3, "changed hubconf.py", "sync"),
    Tampering(
        "tree: file changed, times kept",
        lambda s: flip(s.tree / "hubconf.py", quietly),
        3,
        "changed hubconf.py",
        "hublock sync",
        DEEP,
    ),
    Tampering("tree: file longer", lambda s: write(s.tree / "readme.md", b"read me!"), 3, "changed readme.md", "sync"),
    Tampering(
        "tree: file missing",
        lambda s: (s.tree / "hubconf.py").unlink(),
        3,
        "missing hubconf.py",
        "sync",
    ),
    Tampering("tree: file put in", lambda s: write(s.tree / "os.py", b""), 3, "extra os.py", "hublock sync"),
    Tampering(
        "tree: bytecode put in",
        lambda s: ((s.tree / "__pycache__").mkdir(), write(s.tree / "__pycache__" / "hubconf.pyc", b"")),
        3,
        "extra __pycache__",
        "hublock sync",
    ),
    Tampering("tree: empty folder put in", lambda s: (s.tree / "torch").mkdir(), 3, "extra torch", "hublock sync"),
    Tampering("tree: made executable", lambda s: (s.tree / "readme.md").chmod(0o555), 3, "changed readme.md", "sync"),
    Tampering("tree: file made a link", lambda s: relink(s.tree / "readme.md", "/etc/passwd"), 3, "readme.md", "sync"),
    Tampering("tree: link turned", lambda s: relink(s.linked_tree / "link", "/etc/hosts"), 3, "changed link", "sync"),
    Tampering(
        "tree: link made a file",
        lambda s: ((s.linked_tree / "link").unlink(), write(s.linked_tree / "link", b"hubconf.py")),
        3,
        "changed link",
        "hublock sync",
    ),
    # the listings
    Tampering("listing: gone", lambda s: (s.tree.parent / "listing").unlink(), 3, "cannot be read", "hublock sync"),
    Tampering("listing: garbage", lambda s: write(s.tree.parent / "listing", b"\0\1"), 3, "cannot be read", "sync"),
    Tampering("listing: emptied", lambda s: write(s.tree.parent / "listing", b""), 3, "listing", "hublock sync"),
    Tampering(
        "listing: of another tree",
        lambda s: write(s.tree.parent / "listing", (s.linked_tree.parent / "listing").read_bytes()),
        3,
        "was changed",
        "hublock sync",
    ),
    Tampering(
        "listing and file changed alike",
        lambda s: forge_listing(s.tree.parent),
        3,
        "was changed",
        "hublock sync",
    ),
    # the stored files
    Tampering("blob: gone", lambda s: s.blob.unlink(), 4, f"{NET} is not in the store", "hublock sync"),
    Tampering("blob: bit flipped", lambda s: flip(s.blob, write), 3, f"the stored bytes of {NET}", "hublock sync"),
    Tampering("blob: bit flipped, times kept", lambda s: flip(s.blob, quietly), 3, "holds bytes of", "sync", DEEP),
    Tampering("blob: emptied", lambda s: write(s.blob, b""), 3, "has 0 bytes, not 18", "hublock sync"),
    Tampering("blob: longer", lambda s: write(s.blob, s.blob.read_bytes() + b"!"), 3, "has 19 bytes", "hublock sync"),
    Tampering("blob: another's", lambda s: write(s.blob, b"the weights of big"), 3, "holds bytes of", "hublock sync"),
    Tampering(
        "blob: a pipe", lambda s: (s.blob.unlink(), os.mkfifo(s.blob)), 4, f"{NET} is not in the store", "hublock sync"
    ),
    Tampering(
        "blob: a folder", lambda s: (s.blob.unlink(), s.blob.mkdir()), 4, f"{NET} is not in the store", "hublock sync"
    ),
    Tampering(
        "blob: handed in",
        lambda s: s.layout.blob(s.lock.repos[0].models[0].inputs[0].digest).unlink(),
        4,
        "best.pt is not in the store",
        "hublock sync",
    ),
    # the stamps
    Tampering(
        "stamp: of a file, garbage",
        lambda s: (flip(s.blob, quietly), write(s.blob.with_suffix(".stamp"), b"\xff")),
        3,
        "holds bytes of",
        "sync",
    ),
    Tampering(
        "stamp: of a file, forged",
        lambda s: (flip(s.blob, write), forge_stamp(s.blob)),
        3,
        "holds bytes of",
        "sync",
        DEEP,
    ),
    Tampering(
        "stamp: of a tree, gone",
        lambda s: (flip(s.tree / "hubconf.py", quietly), (s.tree.parent / "stamp").unlink()),
        3,
        "changed hubconf.py",
        "hublock sync",
    ),
    # the hosts
    Tampering(
        "upstream: tag moved",
        lambda s: (s.commit("a/tagged"), s.git("a/tagged", "tag", "-f", "v1", "main")),
        1,
        "the tag v1 of a/tagged:v1 points to",
        "hublock update a/tagged:v1 --allow-rewritten",
        UP,
    ),
    Tampering(
        "upstream: tag gone",
        lambda s: s.git("a/tagged", "tag", "-d", "v1"),
        2,
        "v1 of a/tagged is gone",
        "keep the store",
        UP,
    ),
    Tampering(
        "upstream: a branch in the tag's place",
        lambda s: (s.commit("a/tagged", branch="v1"), s.git("a/tagged", "tag", "-d", "v1")),
        2,
        "refs/tags/v1, which led to the locked commit of a/tagged:v1, is gone",
        "hublock update a/tagged:v1 --allow-rewritten, if you trust that",
        UP,
    ),
    Tampering(
        "upstream: a branch beside the tag",
        lambda s: s.commit("a/tagged", branch="v1"),
        1,
        "no longer names one commit",
        "refs/tags/v1",
        UP,
    ),
    Tampering(
        "upstream: branch moved",
        lambda s: s.commit("b/branch"),
        1,
        "main of b/branch is",
        "hublock update b/branch",
        UP,
    ),
    Tampering(
        "upstream: branch rewritten",
        lambda s: s.commit("b/branch", orphan=True),
        1,
        "was rewritten to",
        "hublock update b/branch --allow-rewritten, if you trust that",
        UP,
    ),
    Tampering(
        "upstream: branch gone",
        lambda s: (
            s.commit("b/branch", branch="other"),
            s.git("b/branch", "symbolic-ref", "HEAD", "refs/heads/other"),
            s.git("b/branch", "update-ref", "-d", "refs/heads/main"),
        ),
        2,
        "refs/heads/main, which led to the locked commit of b/branch, is gone",
        "hublock update b/branch --allow-rewritten, if you trust that",
        UP,
    ),
    Tampering(
        "upstream: repository renamed",
        lambda s: s.rename("b/branch", "b/new"),
        1,
        "b/branch is called b/new by now, and its old name can be taken by anybody",
        "write b/new in the manifest",
        UP,
    ),
    Tampering(
        "upstream: repository gone",
        lambda s: setattr(s.forge.find_repo("github.com", "b/branch"), "token", "secret"),
        2,
        "b/branch is gone",
        "check the name",
        UP,
    ),
    Tampering(
        "upstream: host refuses",
        lambda s: setattr(s.forge.find_repo("github.com", "b/branch"), "refuse", 429),
        5,
        "b/branch could not be asked for",
        "try later",
        UP,
    ),
    Tampering("upstream: file gone", lambda s: s.forge.forget(NET), 5, f"{NET} serves nothing any more", "store", UP),
    Tampering(
        "upstream: file of another size", lambda s: s.forge.serve(NET, b"x"), 3, "serves 1 bytes", "update net", UP
    ),
    Tampering(
        "upstream: file replaced, ETag tells",
        lambda s: s.forge.serve(
            BIG, b"the weights of BIG", etag=f'"{hashlib.sha256(b"the weights of BIG").hexdigest()}"'
        ),
        3,
        f"{BIG} serves bytes of sha256:<hex>, not of the locked",
        "hublock update big",
        UP,
    ),
    Tampering(
        "upstream: file replaced, Content-MD5 tells",
        lambda s: s.forge.serve(BIG, b"the weights of BIG", headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}),
        3,
        f"{BIG} serves bytes of",
        "hublock update big",
        UP,
    ),
    Tampering(
        "upstream: file replaced, nothing tells",
        lambda s: s.forge.serve(BACKBONE, b"A BACKBONE"),
        3,
        f"{BACKBONE} serves bytes of",
        "hublock update backbone",
        ALL,
    ),
    Tampering(
        "upstream: commit is other bytes",
        lambda s: s.send("a/tagged", lambda answer: b"000dpackfile\n" + sideband(pack([entry((BLOB, b"other"))]))),
        3,
        "of a/tagged:v1 cannot be proven: the host did not send the commit",
        "keep the store, or name a mirror",
        ALL,
    ),
    Tampering(
        "upstream: commit breaks off",
        lambda s: s.send("a/tagged", lambda answer: answer[: len(answer) // 2]),
        5,
        "of a/tagged:v1 could not be asked for: a/tagged: git was refused or broke off",
        "try again later",
        ALL,
    ),
    Tampering(
        "upstream: file answered with a page to wait",
        lambda s: s.forge.serve(NET, b"the weights of net", status=202),
        5,
        "202",
        "try later",
        UP,
    ),
    Tampering("upstream: file refused", lambda s: s.forge.serve(NET, status=503), 5, "HTTP 503", "try later", UP),
    Tampering(
        "upstream: revision moved", lambda s: hugging_face(s, commit="d" * 40), 1, "main of o/n is", "update --all", UP
    ),
    Tampering("upstream: revision not told", lambda s: hugging_face(s, served=False), 5, "status 404", "later", UP),
    Tampering("upstream: hub file", lambda s: hugging_face(s, data=b"x"), 3, "serves 1 bytes", "update net", UP),
]


def forge_listing(folder: Path) -> None:
    """Change a file and its listing so that they agree with each other."""
    from hublock.core.tree import Listing, blob_id

    data = b"import os\n"
    listing = Listing.parse((folder / "listing").read_bytes())
    entries = [
        replace(entry, blob=blob_id(data), size=len(data)) if entry.path == "hubconf.py" else entry
        for entry in listing.entries
    ]
    write(folder / "tree" / "hubconf.py", data)
    write(folder / "listing", Listing.of(entries).to_bytes())


def forge_stamp(blob: Path) -> None:
    """Claim that a file looks as it did when it was last hashed."""
    facts = blob.stat()
    write(blob.with_suffix(".stamp"), f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ino}\n".encode())


@pytest.fixture
def scene(pinned: Forge, project: Path, store: Path) -> Scene:
    return Scene(project, Layout(store), pinned)


def test_the_table_is_of_forty_and_more() -> None:
    assert len(TABLE) >= 40
    assert len({tampering.name for tampering in TABLE}) == len(TABLE)


@pytest.mark.parametrize("tampering", TABLE, ids=[tampering.name for tampering in TABLE])
def test_tampering_is_caught(tampering: Tampering, scene: Scene, hub: Run) -> None:
    tampering.do(scene)
    before = snapshot(scene.project)

    done = hub("verify", *tampering.words)

    assert done.code == tampering.code, done
    assert tampering.sentence in done.err, done
    assert tampering.hint in done.err, done
    assert (done.out, done.err.count("error: ")) == ("", done.err.count("   hint: ")), done
    assert snapshot(scene.project) == before


def test_what_cannot_be_read_hides_nothing_else(scene: Scene) -> None:
    def unprivileged(*words: str) -> str:
        command = [*without_privileges(), sys.executable, "-m", "hublock", *words]
        done = subprocess.run(command, cwd=scene.project, capture_output=True, text=True)
        assert done.returncode == 3, done
        assert f"{scene.blob} cannot be read: Permission denied" in done.stderr
        assert "holds bytes of" in done.stderr
        return done.stderr

    scene.blob.chmod(0)
    # of the two, the one that is found last
    flip(scene.layout.blob(scene.lock.repos[0].models[0].inputs[0].digest), write)
    assert f"hint: chmod u+r {scene.blob}\n" in unprivileged("cache", "verify")
    scene.linked_tree.parent.parent.chmod(0)
    said = unprivileged("verify", "--deep")
    assert f"{NET} cannot be checked: " in said
    assert "b/branch cannot be checked: " in said


def test_of_a_damaged_file_it_is_not_said_that_the_lock_is_wrong(pinned: Forge, hub: Run, store: Path) -> None:
    url = "https://example.org/tensors.pth"
    for address, name in ((url, "tensors"), ("https://example.org/the-same.pth", "the-same")):
        pinned.serve(address, state_dict(4))
        assert hub("add", "--url", address, "--name", name).code == 0
    blob = next(path for path in store.glob("v1/blobs/sha256/*/*") if path.read_bytes() == state_dict(4))
    quietly(blob, state_dict(4).replace(b"PK", b"pk"))

    done = hub("verify", "--deep", "--format", "json")

    assert [(finding["rule"], finding["subject"]) for finding in json.loads(done.out)["findings"]] == [
        ("file-damaged", url)
    ]


def test_a_stored_file_that_cannot_be_read_hides_nothing_of_the_hosts(scene: Scene) -> None:
    scene.forge.serve(NET, b"the weights of net", etag=f'"{hashlib.md5(b"another file").hexdigest()}"')
    scene.forge.forget(BIG)
    scene.blob.chmod(0)
    command = [*without_privileges(), sys.executable, "-m", "hublock", "outdated"]
    done = subprocess.run(command, cwd=scene.project, capture_output=True, text=True)
    assert f"{BIG} serves nothing any more" in done.stdout, done
    assert NET not in done.stdout + done.stderr


def test_a_host_that_tells_another_size_than_it_serves_is_no_finding(scene: Scene, hub: Run) -> None:
    # of HEAD alone
    scene.forge.serve(NET, b"the weights of net", length=0, times=1)
    done = hub("outdated")
    assert (done.code, done.err) == (0, "hub.lock is up to date, as far as hosts tell without fetching files\n")


def test_a_host_that_breaks_off_amid_its_answers_hides_nothing_of_the_others(scene: Scene, hub: Run) -> None:
    scene.commit("a/tagged", branch="v1")
    scene.commit("b/branch", branch="other")
    scene.git("b/branch", "symbolic-ref", "HEAD", "refs/heads/other")
    branch = scene.forge.find_repo("github.com", "b/branch")
    assert branch is not None
    # it tells what its default branch is, and not whether the locked one is there still
    branch.tamper = lambda asked, body: b"" if b"ref-prefix refs/tags/" in asked else body

    done = hub("verify", "--upstream")

    assert done.code == 5, done
    assert "error: a/tagged:v1 no longer names one commit" in done.err, done
    assert "error: b/branch could not be asked for: " in done.err, done


def test_a_host_that_is_busy_for_a_moment_is_asked_for_a_file_again(scene: Scene, hub: Run) -> None:
    for status, *words in ((429, "verify", *UP), (503, "outdated"), (503, "update", "net", "--dry-run")):
        busy = {"Retry-After": "0"}
        scene.forge.serve(NET, b"the weights of net", status=status, headers=busy, times=1)
        done = hub(*words)
        assert done.code == 0, (words, done)


def test_a_file_that_breaks_off_once_is_fetched_again_to_be_checked(scene: Scene, hub: Run) -> None:
    # the first answer is that to HEAD
    scene.forge.serve(NET, b"the weights of net", truncate=5, times=2)
    done = hub("verify", *ALL)
    assert done.code == 0, done


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            {"headers": {"Content-Encoding": "gzip"}, "data": b"\x1f\x8b"},
            "answers in the encoding 'gzip', which nobody",
        ),
        ({"chunked": True, "truncate": 5}, "broke off: 5 of 18 bytes came"),
    ],
    ids=["encoded", "no length"],
)
def test_a_file_is_judged_as_sync_judges_it(scene: Scene, hub: Run, fault: dict[str, Any], said: str) -> None:
    scene.forge.serve(NET, **{"data": b"the weights of net", **fault})
    done = hub("verify", *ALL)
    assert done.code == 5, done
    assert f"{NET} {said}" in done.err


def test_a_shorter_file_that_comes_in_chunks_is_another_file(scene: Scene, hub: Run) -> None:
    chunks = b"5\r\nother\r\n0\r\n\r\n"
    scene.forge.serve(NET, chunks, etag=None, chunked=True, headers={"Transfer-Encoding": "chunked"})
    done = hub("verify", *ALL)
    assert done.code == 3, done
    assert f"{NET} serves 5 bytes, not the locked 18" in done.err
    assert hub("update", "net").code == 0


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 404},
        {"status": 500},
        {"headers": {"Content-Encoding": "gzip"}},
        {"headers": {"Transfer-Encoding": "gzip, chunked"}},
    ],
    ids=["gone", "failing", "encoded", "of an unknown coding"],
)
def test_a_host_that_answers_get_alone_well_still_serves_the_file(
    scene: Scene, hub: Run, fault: dict[str, Any]
) -> None:
    # the first answer is that to HEAD
    scene.forge.serve(NET, b"the weights of net", times=1, **fault)
    assert hub("verify", *UP).code == 0


def test_what_a_mirror_serves_otherwise_the_origin_is_asked_for(
    forge: Forge, project: Path, store: Path, hub: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("HUBLOCK_CACHE_DIR", str(store))
    monkeypatch.delenv("HUBLOCK_MIRRORS", raising=False)
    served = forge.serve(NET, b"the weights of net")
    assert hub("add", "--url", f"{forge.url}example.org/net.pth", "--name", "net").code == 0
    with Forge() as mirror:
        monkeypatch.setenv("HUBLOCK_MIRRORS", f"{forge.url}={mirror.url}")
        for data in (b"a page", b"THE WEIGHTS OF NET"):
            mirror.serve(NET, data)
            for words in (("verify", *ALL), ("outdated",), ("update", "net")):
                done = hub(*words)
                assert done.code == 0, (words, done)
        assert f"warning: mirror {mirror.url}example.org/net.pth failed, asking the origin: " in hub("verify", *ALL).err
        served.status = 503
        done = hub("verify", *ALL)
        assert done.code == 3
        assert f"not of the locked sha256:<hex> by its mirror {mirror.url}example.org/net.pth\n" in done.err


def test_what_nobody_touched_is_right_in_every_way(scene: Scene, hub: Run) -> None:
    hugging_face(scene)
    for words in ((), DEEP, UP, ALL, ("--against", "hub.lock")):
        done = hub("verify", *words)
        told = "          as far as hosts tell; with --deep every file is fetched and hashed\n" if words == UP else ""
        assert str(done) == (f"exit 0\n--- stdout\n--- stderr\n Verified 2 models, 2 trees, 5 files, 264 B\n{told}"), (
            words
        )
