import hashlib
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from hublock.core.digest import Digest
from hublock.core.lockfile import HuggingFaceFile, Input, Lock, Model, Reply, Repo, TreeWeights, Weights
from hublock.core.tree import SourceFile
from hublock.errors import DigestMismatch, OfflineError, TreeMismatch, UnlockedDownload
from hublock.runtime import answers
from hublock.runtime.answers import LockedAnswers, forget_checked, sha256_of
from hublock.runtime.strict import placing
from hublock.store.store import Store

URL = "https://example.org/net.pth"
SHA1 = Digest("git-sha1", "1" * 40)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def weights(store: Store, url: str, data: bytes) -> Weights:
    return Weights(url=url, digest=store.add_blob(data), size=len(data), pickle="tensors")


def repo(store: Store, name: str, *models: Model, text: bytes = b"") -> Repo:
    tree = store.add_tree([SourceFile(path="hubconf.py", mode="100644", data=text)])
    found = TreeWeights(path="w/save.pth", pickle="tensors")
    return Repo(
        id=name, ref="HEAD", commit="1" * 40, tree=SHA1, digest=tree.digest, tree_weights=(found,), models=models
    )


def locked(store: Store, *models: Model, others: tuple[Repo, ...] = ()) -> LockedAnswers:
    main = repo(store, "Owner/Repo:v1", *models)
    return LockedAnswers(Lock(repos=(main, *others)), main, models, store)


def test_files_are_found_by_url_in_every_model(store: Store) -> None:
    one = Model(name="a", entrypoint="net", weights=(weights(store, URL, b"one"),))
    two = Model(name="b", entrypoint="net", weights=(weights(store, URL + "2", b"two"),))
    found = locked(store, one, two)

    assert found.fetch(URL).path.read_bytes() == b"one"
    assert found.fetch(URL + "2", hash_prefix="3fc4").size == 3
    with pytest.raises(UnlockedDownload) as caught:
        found.fetch(URL + "?other")
    assert caught.value.message == f"Owner/Repo:v1 asks for {URL}?other, which the lock does not list for net"
    assert caught.value.hint == (
        "hublock add Owner/Repo:v1 net with the arguments of this call; "
        "where those are locked, hublock lock --retrace NAME adds what is asked for here"
    )
    with pytest.raises(UnlockedDownload) as caught:
        locked(store, one).fetch(URL + "?other")
    assert str(caught.value.hint).endswith(", hublock lock --retrace a adds what is asked for here")
    with pytest.raises(UnlockedDownload) as caught:
        found.fetch("https://user:secret@example.org/a@b")
    assert "asks for https://example.org/a@b, which" in caught.value.message
    with pytest.raises(DigestMismatch):
        found.fetch(URL, hash_prefix="00000000")


def test_a_file_that_is_not_in_the_store_asks_for_sync(store: Store) -> None:
    absent = Weights(url=URL, digest=Digest("sha256", "a" * 64), size=1, pickle="none")

    with pytest.raises(OfflineError, match=r"https://example\.org/net\.pth is locked but not in the store") as caught:
        locked(store, Model(name="a", entrypoint="net", weights=(absent,))).fetch(URL)
    assert caught.value.hint == "hublock sync"


@pytest.mark.parametrize("planted", [b"two", b"longer than before", b""])
def test_changed_bytes_in_the_store_are_never_handed_out(store: Store, planted: bytes) -> None:
    item = weights(store, URL, b"one")
    path = store.blob(item.digest)
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(planted)

    with pytest.raises(DigestMismatch, match="the stored bytes of"):
        locked(store, Model(name="a", entrypoint="net", weights=(item,))).fetch(URL)


def test_bytes_are_hashed_once_while_the_file_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    item = weights(store, URL, b"one")
    found = locked(store, Model(name="a", entrypoint="net", weights=(item,)))
    path = store.blob(item.digest)
    assert path is not None
    forget_checked()
    hashed: list[int] = []
    real = answers._hash

    def counted(file: int, size: int) -> Digest:
        hashed.append(size)
        return real(file, size)

    monkeypatch.setattr(answers, "_hash", counted)
    threads = [threading.Thread(target=found.fetch, args=(URL,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hashed == [3]
    os.utime(path, ns=(1, 1))
    found.fetch(URL)
    assert hashed == [3, 3]
    forget_checked()
    found.fetch(URL)
    assert hashed == [3, 3, 3]


def test_bytes_that_changed_in_place_are_hashed_again_though_their_time_was_set_back(store: Store) -> None:
    item = weights(store, URL, b"one")
    found = locked(store, Model(name="a", entrypoint="net", weights=(item,)))
    path = found.fetch(URL).path
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(DigestMismatch, match="the stored bytes"):
        found.fetch(URL)


def test_prefetch_hashes_beside_other_work_and_leaves_what_is_absent(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = weights(store, URL, b"prefetched bytes")
    absent = replace(item, url=URL + "2", digest=Digest("sha256", "a" * 64))
    forget_checked()
    started, real = threading.Event(), answers._hash

    def watched(file: int, size: int) -> Digest:
        started.set()
        return real(file, size)

    monkeypatch.setattr(answers, "_hash", watched)
    found = locked(store, Model(name="a", entrypoint="net", weights=(absent, item)))
    found.prefetch()

    assert started.wait(10)
    assert found.fetch(URL).digest == item.digest


def test_an_error_while_hashing_reaches_the_caller_and_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sha256_of(tmp_path / "none")
    (tmp_path / "none").write_bytes(b"")
    assert sha256_of(tmp_path / "none").hex.startswith("e3b0c442")


def test_nested_repositories_are_those_of_the_models(store: Store) -> None:
    inner = repo(store, "other/inner", text=b"x = 1")
    stranger = repo(store, "some/stranger", text=b"x = 2")
    found = locked(store, Model(name="a", entrypoint="net", repos=("other/inner",)), others=(inner, stranger))

    assert found.repo("Other/Inner").digest == inner.digest
    assert found.repo("owner/repo:v1").id == "Owner/Repo:v1"
    for reference in ("some/stranger", "other/inner:main", "owner/repo", "not a reference"):
        with pytest.raises(UnlockedDownload):
            found.repo(reference)
    path = found.repo("other/inner").root / "hubconf.py"
    path.chmod(0o644)
    path.write_bytes(b"x = 3")
    with pytest.raises(TreeMismatch):
        found.repo("other/inner")


def test_what_is_put_back_in_a_copy_goes_through_no_link(tmp_path: Path) -> None:
    files = {
        "cfg/conf.yaml": "tree",
        "one.yaml": "tree",
        "plain.txt": "tree",
        "alike.txt": "tree",
        "deep/er/x.txt": "tree",
    }
    root, users = tmp_path / "root", tmp_path / "users"
    for name, text in files.items():
        for folder in (root, users):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text if folder == root else "user")
    (root / "link").symlink_to("one.yaml")
    copy = placing.writable_copy(root)
    shutil.rmtree(copy / "cfg")
    (copy / "cfg").symlink_to(users / "cfg")
    for name in ("one.yaml", "link"):
        (copy / name).unlink()
        (copy / name).symlink_to(users / "one.yaml")
    shutil.rmtree(copy / "deep")
    (copy / "deep").write_text("in the way")
    (copy / "plain.txt").write_text("changed")
    (users / "alike.txt").write_text("tree")
    (copy / "alike.txt").unlink()
    (copy / "alike.txt").symlink_to(users / "alike.txt")
    (copy / "more.txt").write_text("stays")

    assert placing.writable_copy(root) == copy
    assert {name: (copy / name).read_text() for name in files} == files
    assert ((copy / "link").readlink(), (copy / "more.txt").read_text()) == (Path("one.yaml"), "stays")
    assert not any((copy / name).is_symlink() for name in ("cfg", "alike.txt"))
    assert {name for name in files if (users / name).read_text() != "user"} == {"alike.txt"}


def test_a_nested_repository_that_the_lock_has_lost_is_found_out_again(store: Store) -> None:
    found = locked(store, Model(name="a", entrypoint="net", repos=("other/inner",)))

    with pytest.raises(UnlockedDownload, match="the lock has lost other/inner, which Owner/Repo:v1 loads") as caught:
        found.repo("other/inner")
    assert caught.value.hint == "hublock lock"


def test_a_nested_repository_that_writes_beside_its_code_gets_a_copy(store: Store) -> None:
    inner = repo(store, "other/inner", text=b"x = 1")
    model = Model(name="a", entrypoint="net", repos=("other/inner",))
    stored = locked(store, model, others=(inner,)).repo("other/inner").root
    found = locked(store, replace(model, writes_tree=True), others=(inner,))

    copy = found.repo("other/inner").root
    (copy / "kept").write_text("by the model")

    assert copy == found.repo("other/inner").root
    assert list(stored.iterdir()) == [stored / "hubconf.py"]


def test_replies_are_replayed(store: Store) -> None:
    reply = Reply.of("GET", URL, 404, "no")
    found = locked(store, Model(name="a", entrypoint="net", replies=(reply,)))

    assert found.reply("GET", URL) == (404, b"no")
    assert found.reply("HEAD", URL) is None


def test_hugging_face_files_are_found_at_branch_and_commit(store: Store) -> None:
    def file(name: str, data: bytes) -> HuggingFaceFile:
        return HuggingFaceFile(
            repo="o/n", type="model", revision="main", commit="c" * 40, file=name, digest=store.add_blob(data),
            size=len(data), pickle="none",
        )  # fmt: skip

    found = locked(store, Model(name="a", entrypoint="net", hf=(file("b.bin", b"bb"), file("a.json", b"a"))))

    assert found.hf("o/n", "model", "main", "b.bin")[1].path.read_bytes() == b"bb"
    assert found.hf("o/n", "model", "c" * 40, "a.json")[0] == "c" * 40
    assert found.hf_files("o/n", "model", "main") == ("c" * 40, ("a.json", "b.bin"))
    for question, address in (
        (("o/n", "model", "v1", "b.bin"), "/o/n/resolve/v1/b.bin,"),
        (("o/n", "dataset", "main", "b.bin"), "/datasets/o/n/resolve/main/b.bin,"),
        (("o/n", "model", "main", "c"), "/o/n/resolve/main/c,"),
    ):
        with pytest.raises(UnlockedDownload, match=f"https://huggingface.co{address}"):
            found.hf(*question)
    with pytest.raises(UnlockedDownload, match=r"https://huggingface\.co/spaces/o/other/tree/main,"):
        found.hf_files("o/other", "space", "main")


def test_inputs_are_known_by_their_bytes_wherever_they_lie(store: Store, tmp_path: Path) -> None:
    given = Input(name="best.pt", digest=store.add_blob(b"best"), size=4, pickle=("some.Class",))
    fetched = weights(store, URL, b"fetched")
    found = locked(store, Model(name="a", entrypoint="net", inputs=(given,), weights=(fetched,)))
    path = tmp_path / "renamed.pt"

    path.write_bytes(b"best")
    known = found.input(path)
    assert known is not None
    assert (known.path, known.pickle) == (path, ("some.Class",))
    path.write_bytes(b"fetched")
    assert found.input(path) is not None
    path.write_bytes(b"best")
    found.input(path)
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(b"test")
    os.utime(path, ns=times)
    assert found.input(path) is None
    path.write_bytes(b"of another size")
    assert found.input(path) is None
    with pytest.raises(UnlockedDownload) as caught:
        found.fetch("https://example.org/v1/best.pt")
    assert caught.value.hint == "run it from the folder that holds the input best.pt"


def test_tree_checkpoints_have_the_verdict_of_the_lock(store: Store) -> None:
    found = locked(store, Model(name="a", entrypoint="net"))

    assert found.pickle_of("owner/repo:v1", "w/save.pth") == "tensors"
    assert found.pickle_of("owner/repo:v1", "w/other.pth") is None
    assert found.pickle_of("other/repo", "w/save.pth") is None


def test_a_forked_child_does_not_wait_for_what_its_parents_threads_were_at(tmp_path: Path) -> None:
    script = """
import os, sys, threading
from pathlib import Path
from hublock.core import tree
from hublock.runtime import answers
from hublock.runtime.strict import placing
file = Path(sys.argv[1])
begun = threading.Barrier(4)
def slowly(*arguments):
    begun.wait()
    threading.Event().wait(60)
known = answers._hash, placing._copy_tree, tree.tree_id
answers._hash = placing._copy_tree = tree.tree_id = slowly
works = [
    lambda: answers.sha256_of(file),
    lambda: placing.writable_copy(file.parent),
    lambda: tree.Listing.of([]).digest,
]
for work in works:
    threading.Thread(target=work, daemon=True).start()
begun.wait()
answers._hash, placing._copy_tree, tree.tree_id = known
if os.fork() == 0:
    print([work() for work in works][0], flush=True)
    os._exit(0)
os.wait()
os._exit(0)
"""
    (tmp_path / "file").write_bytes(b"bytes")
    command = [sys.executable, "-c", script, str(tmp_path / "file")]

    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)

    assert done.stdout == f"sha256:{hashlib.sha256(b'bytes').hexdigest()}\n"
