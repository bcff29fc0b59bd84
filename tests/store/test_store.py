import errno
import hashlib
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hublock.core.digest import Digest
from hublock.core.tree import Entry, Listing, SourceFile
from hublock.errors import DigestMismatch, OfflineError, StoreError, TreeMismatch, UnsafeArchive
from hublock.store.disk import host_name
from hublock.store.store import Store, StoredTree

ROOT = Path(__file__).parents[2]
FILES = (
    SourceFile(path="hubconf.py", mode="100644", data=b"dependencies = []\n"),
    SourceFile(path="net/__init__.py", mode="100644", data=b""),
    SourceFile(path="net/deep/er/model.py", mode="100644", data=b"x = 1\n"),
    SourceFile(path="run.sh", mode="100755", data=b"#!/bin/sh\n"),
    SourceFile(path="link.py", mode="120000", data=b"net/deep/er/model.py"),
    SourceFile(path="net/\udcff.bin", mode="100644", data=bytes(range(256))),
)


def sha256(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).hexdigest())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def tree(store: Store) -> StoredTree:
    return store.add_tree(FILES)


def leftovers(store: Store) -> list[str]:
    return [path.name for path in (store.root / "v1" / "partial").iterdir()]


def test_nothing_is_made_before_something_is_written(store: Store) -> None:
    assert store.blob(sha256(b"x")) is None
    assert store.tree(Digest("git-sha256", "0" * 64)) is None
    assert not store.root.exists()


def test_a_file_is_found_by_its_digest_read_only(store: Store) -> None:
    digest = store.add_blob(b"bytes")
    path = store.blob(digest)
    assert digest == sha256(b"bytes")
    assert path is not None
    assert path.read_bytes() == b"bytes"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert leftovers(store) == []


def test_a_file_is_copied_and_never_linked(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "given"
    source.write_bytes(b"bytes" * 500_000)
    path = store.blob(store.add_blob(source, sha256(b"bytes" * 500_000)))
    assert path is not None
    source.write_bytes(b"other")
    assert path.read_bytes() == b"bytes" * 500_000


def test_refuses_bytes_of_another_digest(store: Store, tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(b"bytes")
    with pytest.raises(DigestMismatch, match="given holds bytes of sha256:"):
        store.add_blob(tmp_path / "given", sha256(b"wanted"))
    assert store.blob(sha256(b"wanted")) is None
    assert store.blob(sha256(b"bytes")) is None
    assert leftovers(store) == []


def test_the_store_tells_backup_programs_that_it_is_a_cache(store: Store) -> None:
    store.add_blob(b"x")
    tag = (store.root / "v1" / "CACHEDIR.TAG").read_bytes()
    assert tag.startswith(b"Signature: 8a477f597d28d172789f06886806bc55")


def test_every_flipped_byte_is_found(store: Store) -> None:
    data = bytes(range(64))
    digest = store.add_blob(data)
    path = store.blob(digest)
    assert path is not None
    for at in range(len(data)):
        path.chmod(0o644)
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        for deep in (True, False):
            with pytest.raises(DigestMismatch, match=r"holds bytes of sha256:"):
                store.check_blob(digest, deep=deep)
    path.write_bytes(data)
    store.check_blob(digest)


def test_a_file_that_looks_as_it_did_is_hashed_only_when_asked(store: Store) -> None:
    digest = store.add_blob(b"bytes")
    path = store.blob(digest)
    assert path is not None
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"other")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    store.check_blob(digest, deep=False)
    with pytest.raises(DigestMismatch):
        store.check_blob(digest)


def test_a_file_that_was_touched_is_hashed_once_and_then_trusted(store: Store) -> None:
    digest = store.add_blob(b"bytes")
    path = store.blob(digest)
    assert path is not None
    os.utime(path, ns=(0, 0))
    store.check_blob(digest, deep=False)
    stamp = path.with_suffix(".stamp").read_text()
    assert stamp == f"5 0 {path.stat().st_ino}\n"


def test_a_file_of_another_size_is_refused(store: Store) -> None:
    with pytest.raises(DigestMismatch, match="has 5 bytes, not 6"):
        store.check_blob(store.add_blob(b"bytes"), size=6)


def test_what_is_absent_is_said_to_be_absent(store: Store) -> None:
    with pytest.raises(OfflineError, match="is not in the store"):
        store.check_blob(sha256(b"x"))
    with pytest.raises(OfflineError, match="is not in the store"):
        store.check_tree(Digest("git-sha256", "0" * 64))
    with pytest.raises(OfflineError, match="is not in the store"):
        store.note(Digest("git-sha256", "0" * 64), "note.json", b"")


def test_a_broken_off_file_is_there_for_the_next_attempt(store: Store) -> None:
    with store.incoming("https://a.org/x") as incoming:
        incoming.note({"validator": "1"})
        incoming.path.write_bytes(b"first half")
    with store.incoming("https://a.org/y") as other:
        assert other.open().read() == b""
    with store.incoming("https://a.org/x") as incoming:
        assert incoming.path.read_bytes() == b"first half"
        assert incoming.facts == {"validator": "1", "synced": True}
        incoming.path.write_bytes(b"first half, second half")
        path = incoming.publish(sha256(b"first half, second half"))
    assert path == store.blob(sha256(b"first half, second half"))
    assert leftovers(store) == []


def test_the_bytes_reach_the_disk_before_the_name_does(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real_fsync, real_rename = os.fsync, os.replace

    def fsync(handle: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        real_fsync(handle)

    def rename(source: Path, target: Path) -> None:
        real_rename(source, target)
        order.append("rename")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    with store.incoming("key") as incoming:
        incoming.open().write(b"bytes")
        order.clear()
        incoming.publish(sha256(b"bytes"))
    assert [step for step in order if step != "folder"] == ["file", "rename"]
    assert order[-1] == "folder"


def test_facts_never_lie_beside_no_file(store: Store) -> None:
    # nobody would take them over, or remove them
    with store.incoming("key") as incoming:
        incoming.note({"validator": "1"})
        assert sorted(name.endswith(".facts") for name in leftovers(store)) == [False, True]


def test_what_was_taken_over_but_never_opened_is_left_closed(store: Store) -> None:
    with store.incoming("key") as incoming:
        incoming.note({"validator": "1"})
        incoming.open().write(b"half")
    with store.incoming("key") as again:
        assert again.size == 4
    assert again._file is None
    with store.incoming("key") as incoming:
        assert incoming.open().read() == b"half"


def test_bytes_that_nothing_is_known_of_do_not_stay(store: Store) -> None:
    with store.incoming("key") as incoming:
        incoming.path.write_bytes(b"?")
    assert leftovers(store) == []


def test_facts_of_other_bytes_are_not_believed(store: Store) -> None:
    with store.incoming("key") as incoming:
        incoming.open().write(b"half")
        incoming.note({"validator": "1"})
    [left] = [path for path in (store.root / "v1" / "partial").iterdir() if path.suffix != ".facts"]
    # as where locks do nothing and two take over at once
    other = left.with_name("other")
    other.write_bytes(b"HALF of another")
    other.replace(left)

    with store.incoming("key") as incoming:
        assert incoming.facts == {}


def test_what_a_killed_writer_left_is_taken_over(store: Store) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom hublock.store.store import Store\n"
        "with Store(Path(sys.argv[1])).incoming('key') as incoming:\n"
        "    incoming.note({'validator': '1'})\n    incoming.path.write_bytes(b'half')\n    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, store.root], cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    assert len(leftovers(store)) == 2
    with store.incoming("key") as incoming:
        assert incoming.path.read_bytes() == b"half"
        assert incoming.facts == {"validator": "1"}
        incoming.clear()
        assert incoming.facts == {}
    assert leftovers(store) == []


def test_what_an_earlier_process_of_the_same_number_left_is_taken_over(store: Store) -> None:
    # the first process of every container is number 1
    store.add_blob(b"x")
    with store.incoming("key") as incoming:
        left = incoming.path.with_name(re.sub(r"\d+$", "0", incoming.path.name))
    assert f"-{os.getpid()}-" in left.name
    left.write_bytes(b"half")
    with store.incoming("key") as incoming:
        assert incoming.open().read() == b"half"
    assert leftovers(store) == []


def test_what_a_living_writer_has_is_left_alone(store: Store) -> None:
    store.add_blob(b"x")
    partial = store.root / "v1" / "partial"
    with store.incoming("key") as incoming:
        name = incoming.path.name.split("-")[0]
    live = partial / f"{name}-{host_name()}-{os.getppid()}-0"
    live.write_bytes(b"in use")
    foreign = partial / f"{name}-00000000-1-0"
    foreign.write_bytes(b"in use on another machine")
    with store.incoming("key") as incoming:
        assert incoming.open().read() == b""
    assert live.exists()
    assert foreign.exists()
    os.utime(foreign, (0, 0))
    with store.incoming("key") as incoming:
        assert incoming.path.read_bytes() == b"in use on another machine"


def test_a_tree_is_written_as_git_has_it(store: Store, tree: StoredTree) -> None:
    assert (tree.root / "link.py").is_symlink()
    assert (tree.root / "link.py").read_bytes() == b"x = 1\n"
    assert stat.S_IMODE((tree.root / "hubconf.py").stat().st_mode) == 0o444
    assert stat.S_IMODE((tree.root / "run.sh").stat().st_mode) == 0o555
    folders = [tree.root, *(path for path in tree.root.rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o555}
    assert tree.listing.digest == tree.digest
    assert store.tree(tree.digest) == tree
    for deep in (True, False):
        assert store.check_tree(tree.digest, deep=deep) == tree
    assert leftovers(store) == []


def test_the_digest_of_a_tree_is_the_one_git_computes(store: Store, tree: StoredTree, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    git = ["git", "-C", str(repo), "-c", "core.autocrlf=false"]
    subprocess.run(["git", "init", "-q", "--object-format=sha256", repo], check=True)
    subprocess.run(["cp", "-a", f"{tree.root}/.", repo], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    made = subprocess.run([*git, "write-tree"], check=True, capture_output=True, text=True).stdout.strip()
    assert str(tree.digest) == f"git-sha256:{made}"


def test_an_unexpected_tree_is_not_kept(store: Store) -> None:
    with pytest.raises(TreeMismatch, match="the source tree is git-sha256:"):
        store.add_tree(FILES, expected=Digest("git-sha256", "0" * 64))
    assert not (store.root / "v1" / "trees").exists()
    assert leftovers(store) == []


def write(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a changed byte": (lambda root: write(root / "hubconf.py", b"dependencies = [ \n"), "changed hubconf.py"),
    "a longer file": (lambda root: write(root / "hubconf.py", b"dependencies = []\n#"), "changed hubconf.py"),
    "a missing file": (lambda root: (root / "net/deep/er/model.py").unlink(), "missing net/deep/er/model.py"),
    "an extra file": (lambda root: (root / "net/torch.py").write_text(""), "extra net/torch.py"),
    "an extra empty folder": (lambda root: (root / "net/__pycache__").mkdir(), "extra net/__pycache__"),
    "an extra link": (lambda root: (root / "evil").symlink_to("/etc"), "extra evil"),
    "a link elsewhere": (lambda root: relink(root / "link.py", "hubconf.py"), "changed link.py"),
    "a link made a file": (
        lambda root: replace(root / "link.py", lambda path: path.write_text("x")),
        "changed link.py",
    ),
    "a file made a link": (lambda root: relink(root / "hubconf.py", "run.sh"), "changed hubconf.py"),
    "a lost executable bit": (lambda root: (root / "run.sh").chmod(0o444), "changed run.sh"),
    "an added executable bit": (lambda root: (root / "hubconf.py").chmod(0o555), "changed hubconf.py"),
    "a folder for a file": (lambda root: replace(root / "run.sh", Path.mkdir), "extra run.sh, missing run.sh"),
    "a pipe": (lambda root: replace(root / "run.sh", lambda path: os.mkfifo(path, 0o555)), "changed run.sh"),
    "no tree at all": (lambda root: root.rename(root.with_name("elsewhere")), "missing hubconf.py"),
}


@pytest.mark.parametrize(("tamper", "named"), TAMPERED.values(), ids=TAMPERED.keys())
@pytest.mark.parametrize("deep", [True, False])
def test_a_tampered_tree_is_refused(
    store: Store, tree: StoredTree, tamper: Callable[[Path], object], named: str, deep: bool
) -> None:
    tamper(tree.root)
    with pytest.raises(TreeMismatch) as raised:
        store.check_tree(tree.digest, deep=deep)
    assert named in raised.value.message


def test_a_listing_edited_to_match_is_refused(store: Store, tree: StoredTree) -> None:
    write(tree.root / "hubconf.py", b"import evil")
    forged = [
        entry if entry.path != "hubconf.py" else Entry(path=entry.path, mode=entry.mode, size=11, blob="0" * 64)
        for entry in tree.listing.entries
    ]
    (tree.root.parent / "listing").write_bytes(Listing.of(forged).to_bytes())
    with pytest.raises(TreeMismatch, match=r"the listing of .* was changed"):
        store.check_tree(tree.digest)


@pytest.mark.parametrize("data", [b"", b"garbage", b"100644 x y\tz\0", b"\xff\xfe"])
def test_a_listing_that_cannot_be_read_is_refused(store: Store, tree: StoredTree, data: bytes) -> None:
    (tree.root.parent / "listing").write_bytes(data)
    with pytest.raises(TreeMismatch):
        store.check_tree(tree.digest)


def test_many_differences_are_counted(store: Store, tree: StoredTree) -> None:
    for number in range(20):
        (tree.root / f"extra{number:02}").write_text("")
    with pytest.raises(TreeMismatch, match=r"extra extra00, .* and 15 more"):
        store.check_tree(tree.digest)


def test_a_damaged_tree_is_replaced(store: Store, tree: StoredTree) -> None:
    write(tree.root / "hubconf.py", b"import evil")
    store.add_tree(FILES, expected=tree.digest)
    store.check_tree(tree.digest)
    assert leftovers(store) == []


def test_discarded_things_are_gone(store: Store, tree: StoredTree) -> None:
    digest = store.add_blob(b"bytes")
    for item in (digest, tree.digest):
        store.discard(item)
        store.discard(item)
    assert store.blob(digest) is None
    assert store.tree(tree.digest) is None
    assert leftovers(store) == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", "", ".", "a/.", "a\0b"])
def test_a_path_that_leaves_the_tree_is_refused(store: Store, tmp_path: Path, path: str) -> None:
    with pytest.raises(UnsafeArchive):
        store.add_tree([SourceFile(path=path, mode="100644", data=b"evil")])
    assert not list(tmp_path.rglob("x"))
    assert leftovers(store) == []


@pytest.mark.parametrize("mode", ["40000", "160000", "104755", ""])
def test_a_mode_that_git_does_not_store_is_refused(store: Store, mode: str) -> None:
    with pytest.raises(UnsafeArchive):
        store.add_tree([SourceFile(path="x", mode=mode, data=b"")])


def test_nothing_is_written_through_a_link(store: Store, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    evil = [
        SourceFile(path="a", mode="120000", data=os.fsencode(tmp_path / "outside")),
        SourceFile(path="a/x", mode="100644", data=b"evil"),
    ]
    with pytest.raises((UnsafeArchive, StoreError)):
        store.add_tree(evil)
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("mode", ["100644", "120000"])
def test_two_names_that_the_disk_takes_for_one_stand_for_the_same_bytes(store: Store, mode: str) -> None:
    # a disk that keeps case apart has such names only where they are the same
    other = SourceFile(path="x", mode=mode, data=b"other")
    twins = [SourceFile(path="x", mode=mode, data=b"one") for _ in range(2)]
    store.add_tree(twins)
    with pytest.raises(StoreError, match="x"):
        store.add_tree([*twins, other])
    assert leftovers(store) == []
    assert leftovers(store) == []


def test_notes_stand_beside_a_tree(store: Store, tree: StoredTree) -> None:
    assert store.read_note(tree.digest, "entrypoints.json") is None
    store.note(tree.digest, "entrypoints.json", b"[1]")
    store.note(tree.digest, "entrypoints.json", b"[2]")
    assert store.read_note(tree.digest, "entrypoints.json") == b"[2]"
    store.check_tree(tree.digest)


@pytest.mark.parametrize("name", ["../listing", "a/b", "", "A", ".x"])
def test_a_note_has_a_plain_name(store: Store, tree: StoredTree, name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a note"):
        store.note(tree.digest, name, b"")


def test_leftovers_of_killed_writers_go(store: Store) -> None:
    store.add_blob(b"x")
    code = "import os; print(os.getpid())"
    dead = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
    partial = store.root / "v1" / "partial"
    (partial / f"tree-{host_name()}-{dead}-0" / "tree").mkdir(parents=True)
    (partial / f"small-{host_name()}-{dead}-0").write_text("")
    (partial / f"copy-{host_name()}-{dead}-0").write_text("")
    Store(store.root).add_blob(b"y")
    assert leftovers(store) == []


def test_what_another_container_of_the_same_name_writes_is_not_taken_for_left_behind(store: Store) -> None:
    # process numbers mean other processes there: this one is unknown here, and may be alive
    other = [sys.executable, "-c", "from hublock.store.disk import host_name; print(host_name(), end='')"]
    contained = subprocess.run(["unshare", "-rfp", *other], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folder = store.root / "v1" / "partial" / f"tree-{contained}-999999999-0"
    folder.mkdir(parents=True)

    Store(store.root).add_blob(b"y")
    assert leftovers(store) == [folder.name]


READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 1
DROPPED=-dac_override,-dac_read_search
exec setpriv --bounding-set "$DROPPED" --inh-caps "$DROPPED" "$2" -c "$3" "$1"
"""
OPENED = """
import sys
from pathlib import Path
from hublock.core.digest import Digest
from hublock.errors import StoreError
from hublock.store.store import Store
store = Store(Path(sys.argv[1]))
"""


def read_only(store: Store, code: str) -> str:
    """Run ``code`` on a read-only mount of the store, with no right to overrule it, and return what it prints."""
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--map-root-user",
            "sh",
            "-c",
            READ_ONLY,
            "sh",
            store.root,
            sys.executable,
            OPENED + code,
        ],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_read_only_store_can_be_read(store: Store, tree: StoredTree) -> None:
    digest = store.add_blob(b"bytes")
    path = store.blob(digest)
    assert path is not None
    os.utime(path, ns=(0, 0))
    code = (
        f"digest, tree = Digest.parse('{digest}'), Digest.parse('{tree.digest}')\n"
        "print(store.blob(digest).read_bytes())\n"
        "for deep in (True, False):\n    store.check_blob(digest, deep=deep)\n    store.check_tree(tree, deep=deep)\n"
        "print(store.tree(tree).listing.digest == tree, store.read_note(tree, 'none'))\n"
    )
    assert read_only(store, code) == "b'bytes'\nTrue None\n"


def test_a_read_only_store_says_so_when_written(store: Store) -> None:
    store.add_blob(b"bytes")
    code = "try:\n    store.add_blob(b'new')\nexcept StoreError as error:\n    print(error)\n"
    said = read_only(store, code)
    assert "cannot be written: Read-only file system" in said
    assert "HUBLOCK_CACHE_DIR" in said


def test_a_copy_is_written_into_a_file_that_nobody_else_knows(store: Store) -> None:
    # as a writer of another container looks, whose process number nobody has here
    store.add_blob(b"first")
    left = store.root / "v1" / "partial" / f"copy-{host_name()}-999999999-1"
    with left.open("wb") as other:
        digest = store.add_blob(b"second")
        other.write(b"not of this file")
    store.check_blob(digest)


def test_bytes_that_the_disk_did_not_take_are_not_taken_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with store.incoming("key") as incoming:
        incoming.note({"validator": "1"})
        incoming.open().write(b"bytes")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(StoreError, match="No space left"):
                incoming.publish(sha256(b"bytes"))
    assert leftovers(store) == []


def test_a_partial_file_of_another_user_is_not_taken_over(store: Store) -> None:
    with store.incoming("key") as incoming:
        incoming.note({"validator": "1"})
        incoming.open().write(b"theirs")
    [left] = [path for path in (store.root / "v1" / "partial").iterdir() if path.suffix != ".facts"]
    os.chown(left, 64_001, -1)
    with store.incoming("key") as incoming:
        assert (incoming.size, incoming.facts) == (0, {})
    assert leftovers(store) == []


@pytest.mark.parametrize(("age", "stays"), [(3600, True), (2 * 86_400, False)])
def test_a_tree_that_another_machine_writes_has_a_day(store: Store, age: int, stays: bool) -> None:
    store.add_blob(b"first")
    folder = store.root / "v1" / "partial" / "tree-00000000-1-1"
    folder.mkdir()
    os.utime(folder, (time.time() - age,) * 2)
    Store(store.root).add_blob(b"second")
    assert folder.exists() == stays


def test_a_name_that_cannot_be_made_to_last_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def fail(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(handle)

    store.add_blob(b"first")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="Input/output error"):
        store.add_blob(b"second")
