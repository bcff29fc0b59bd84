import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from hublock.actions.torch_cache import write_torch_cache
from hublock.core.digest import Digest
from hublock.core.lockfile import HuggingFaceFile, Lock, Model, NamedWeights, Repo, Weights
from hublock.core.tree import EXECUTABLE, FILE, LINK, SourceFile
from hublock.errors import DigestMismatch, InputError, OfflineError, StoreError, TreeMismatch
from hublock.store.store import Store

FILES = [
    SourceFile(path="hubconf.py", mode=FILE, data=b"def net():\n    return 1\n"),
    SourceFile(path="tools/run.sh", mode=EXECUTABLE, data=b"#!/bin/sh\n"),
    SourceFile(path="tools/link.py", mode=LINK, data=b"../hubconf.py"),
]
URL = "https://example.org/files/net-1a2b.pth?raw=true"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def weights(store: Store, url: str, data: bytes) -> Weights:
    return Weights(url=url, digest=store.add_blob(data), size=len(data), pickle="none")


def named(store: Store, url: str, data: bytes) -> NamedWeights:
    return NamedWeights(name="own", url=url, digest=store.add_blob(data), size=len(data), pickle="none")


def repo(
    store: Store, name: str, *rows: Weights, ref: str = "refs/heads/main", files: list[SourceFile] = FILES
) -> Repo:
    return Repo(
        id=name,
        ref=ref,
        commit="0" * 40,
        tree=Digest("git-sha1", "0" * 40),
        digest=store.add_tree(files).digest,
        models=(Model(name=name, entrypoint="net", weights=rows),),
    )


def other(data: bytes = b"other") -> list[SourceFile]:
    return [SourceFile(path="hubconf.py", mode=FILE, data=data)]


def test_trees_files_and_trusted_owners_have_torch_hubs_names(store: Store, tmp_path: Path) -> None:
    lock = Lock(
        repos=(
            repo(store, "a/one:feature/x", weights(store, URL, b"bytes")),
            repo(store, "b/two", ref="refs/heads/master"),
            repo(store, "b/three", ref="refs/heads/develop"),
            repo(store, "git+https://example.org/four@v1"),
        ),
        # torch.hub cuts parameters off
        weights=(named(store, "https://example.org/own.bin;v=2", b"own"),),
    )

    done = write_torch_cache(lock, store, tmp_path / "torch")

    hub = tmp_path / "torch" / "hub"
    assert sorted(path.name for path in hub.iterdir()) == [
        "a_one_feature_x", "b_three_main", "b_two_master", "checkpoints", "trusted_list",
    ]  # fmt: skip
    assert {path.name: path.read_bytes() for path in (hub / "checkpoints").iterdir()} == {
        "net-1a2b.pth": b"bytes",
        "own.bin": b"own",
    }
    assert (hub / "trusted_list").read_text() == "a_one\nb_three\nb_two\n"
    assert (done.trees, done.files, done.set_aside) == (3, 2, ())
    assert done.left_out == ("git+https://example.org/four@v1 is not on GitHub",)


def test_a_link_that_has_lost_a_slash_is_no_copy(store: Store, tmp_path: Path) -> None:
    files = [SourceFile(path="data", mode=LINK, data=b"tools/"), *FILES]
    lock = Lock(repos=(repo(store, "a/one", files=files),))
    write_torch_cache(lock, store, tmp_path)
    link = tmp_path / "hub" / "a_one_main" / "data"
    link.unlink()
    link.symlink_to("tools")

    done = write_torch_cache(lock, store, tmp_path)

    assert (os.readlink(link), done.set_aside) == ("tools/", (("a_one_main", "a_one_main.before-hublock"),))


def test_files_that_torch_hub_has_no_place_for_are_named(store: Store, tmp_path: Path) -> None:
    file = HuggingFaceFile(
        repo="o/n", type="model", revision="main", commit="1" * 40, file="a.bin", digest=store.add_blob(b"a"), size=1,
        pickle="none",
    )  # fmt: skip
    bare = weights(store, "https://example.org/files/", b"bytes")
    long = f"https://example.org/{'n' * 215}"
    lock = Lock(
        repos=(
            replace(repo(store, "a/one:v1"), models=(Model(name="a", entrypoint="a", weights=(bare,), hf=(file,)),)),
            repo(store, "a/two:v1", weights(store, long[:-1], b"fits"), weights(store, long, b"long")),
        ),
        weights=(named(store, "https://example.org/own/", b"own"),),
    )

    assert write_torch_cache(lock, store, tmp_path / "torch").left_out == (
        "https://example.org/files/ names no file",
        "a.bin of o/n is Hugging Face's",
        f"{long} names a file in more than 214 bytes",
        "https://example.org/own/ names no file",
    )


def test_what_is_written_is_a_copy_that_its_user_may_change(store: Store, tmp_path: Path) -> None:
    lock = Lock(repos=(repo(store, "a/one:v1", weights(store, URL, b"bytes")),))
    write_torch_cache(lock, store, tmp_path)

    folder = tmp_path / "hub" / "a_one_v1"
    (folder / "hubconf.py").write_text("changed")
    (tmp_path / "hub" / "checkpoints" / "net-1a2b.pth").write_text("changed")

    assert (folder / "tools" / "run.sh").stat().st_mode & 0o100
    assert (folder / "tools" / "link.py").read_text() == "changed"
    store.check_tree(lock.repos[0].digest)
    store.check_blob(lock.repos[0].models[0].weights[0].digest)


def test_a_second_time_replaces_only_what_differs(store: Store, tmp_path: Path) -> None:
    lock = Lock(repos=(repo(store, "a/one:v1", weights(store, URL, b"bytes")), repo(store, "a/two:v1", files=other())))
    write_torch_cache(lock, store, tmp_path)
    hub = tmp_path / "hub"
    # torch.hub would run this bytecode instead of the source beside it
    (hub / "a_one_v1" / "__pycache__").mkdir()
    (hub / "a_one_v1" / "__pycache__" / "hubconf.cpython-311.pyc").write_bytes(b"planted")
    (hub / "checkpoints" / "net-1a2b.pth").unlink()
    (hub / "checkpoints" / "net-1a2b.pth").symlink_to(tmp_path / "store")
    (hub / "trusted_list").write_text("someone_else")
    before = (hub / "a_two_v1").stat().st_ino

    done = write_torch_cache(lock, store, tmp_path)

    # a link of the user's own is kept, bytecode is not
    assert done.set_aside == (("net-1a2b.pth", "net-1a2b.pth.before-hublock"),)
    assert not (hub / "a_one_v1" / "__pycache__").exists()
    assert not (hub / "checkpoints" / "net-1a2b.pth").is_symlink()
    assert (hub / "checkpoints" / "net-1a2b.pth.before-hublock").readlink() == tmp_path / "store"
    assert (hub / "a_two_v1").stat().st_ino == before
    assert (hub / "trusted_list").read_text() == "someone_else\na_one\na_two\n"
    assert write_torch_cache(lock, store, tmp_path).set_aside == ()
    assert not list(hub.glob(".*"))


def test_what_the_user_has_there_is_kept_under_another_name(store: Store, tmp_path: Path) -> None:
    lock = Lock(repos=(repo(store, "a/one:v1", weights(store, URL, b"bytes")),))
    hub = tmp_path / "hub"
    for content in ("first", "second"):
        write_torch_cache(lock, store, tmp_path)
        (hub / "a_one_v1" / "notes.txt").write_text(content)
        (hub / "checkpoints" / "net-1a2b.pth").write_text(content)

    write_torch_cache(lock, store, tmp_path)

    for suffix, content in (("", "first"), ("1", "second")):
        assert (hub / f"a_one_v1.before-hublock{suffix}" / "notes.txt").read_text() == content
        assert (hub / "checkpoints" / f"net-1a2b.pth.before-hublock{suffix}").read_text() == content
    assert (hub / "checkpoints" / "net-1a2b.pth").read_bytes() == b"bytes"


def test_refuses_two_files_or_trees_of_one_name_before_anything_is_written(store: Store, tmp_path: Path) -> None:
    url = "https://example.net/else/NET-1a2b.pth"
    files = repo(store, "a/one:v1", weights(store, URL, b"bytes"), weights(store, url, b"others"))
    with pytest.raises(InputError) as caught:
        write_torch_cache(Lock(repos=(files,)), store, tmp_path / "torch")
    assert URL in str(caught.value)
    assert url in str(caught.value)

    trees = (repo(store, "a/one:x/y"), repo(store, "a/one:x_y", files=other()))
    with pytest.raises(InputError, match=r"keep a/one:x/y and a/one:x_y under one name, a_one_x_y"):
        write_torch_cache(Lock(repos=trees), store, tmp_path / "torch")

    assert not (tmp_path / "torch").exists()


def test_the_users_list_of_trusted_owners_is_only_added_to(store: Store, tmp_path: Path) -> None:
    listed = tmp_path / "hub" / "trusted_list"
    listed.parent.mkdir()
    listed.write_bytes(b"caf\xe9_net\nowner_one")
    link = tmp_path / "kept"
    link.hardlink_to(listed)

    for _ in range(2):
        write_torch_cache(Lock(repos=(repo(store, "owner/two:v1"), repo(store, "owner/one:v1"))), store, tmp_path)

    # not replaced either: who was killed in between would leave it empty
    assert link.read_bytes() == b"caf\xe9_net\nowner_one\nowner_two\n"


def test_several_that_write_at_once_take_each_others_half_trees_for_nothing_else(store: Store, tmp_path: Path) -> None:
    many = [SourceFile(path=f"d{number % 20}/f{number}.py", mode=FILE, data=b"%d" % number) for number in range(200)]
    lock = Lock(repos=(repo(store, "owner/many:v1", files=many),))
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(write_torch_cache, lock, store, tmp_path) for _ in range(8)]
        assert [run.result().set_aside for run in runs] == [()] * 8


def test_two_urls_of_the_same_bytes_may_share_a_name(store: Store, tmp_path: Path) -> None:
    rows = [weights(store, f"https://{host}.example.org/net.pth", b"bytes") for host in ("a", "b")]
    assert write_torch_cache(Lock(repos=(repo(store, "a/one:v1", *rows),)), store, tmp_path).files == 1


def test_one_tree_or_file_of_two_spellings_stands_under_both(store: Store, tmp_path: Path) -> None:
    # a model's code may load "a/one" where the user's manifest says "A/One:main"
    rows = weights(store, URL, b"bytes"), weights(store, "https://example.net/NET-1a2b.pth", b"bytes")
    lock = Lock(repos=(repo(store, "A/One:main", *rows), repo(store, "a/one")))

    for _ in range(2):
        assert write_torch_cache(lock, store, tmp_path).set_aside == ()

    for folder in ("A_One_main", "a_one_main"):
        assert (tmp_path / "hub" / folder / "hubconf.py").is_file()
    for name in ("net-1a2b.pth", "NET-1a2b.pth"):
        assert (tmp_path / "hub" / "checkpoints" / name).read_bytes() == b"bytes"


def test_refuses_to_copy_what_is_damaged_or_absent(store: Store, tmp_path: Path) -> None:
    lock = Lock(repos=(repo(store, "a/one:v1", weights(store, URL, b"bytes")),))
    root = store.check_tree(lock.repos[0].digest).root
    (root / "hubconf.py").chmod(0o644)
    (root / "hubconf.py").write_bytes(b"def net():\n    return 2\n")
    with pytest.raises(TreeMismatch):
        write_torch_cache(lock, store, tmp_path / "torch")

    blob = store.blob(lock.repos[0].models[0].weights[0].digest)
    assert blob is not None
    only_file = Lock(weights=(named(store, URL, b"bytes"),))
    blob.chmod(0o644)
    blob.write_bytes(b"bytse")
    with pytest.raises(DigestMismatch):
        write_torch_cache(only_file, store, tmp_path / "torch")
    blob.unlink()
    with pytest.raises(OfflineError):
        write_torch_cache(only_file, store, tmp_path / "torch")
    assert not (tmp_path / "torch").exists()


def test_a_cache_that_cannot_be_written_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "torch").write_text("a file")
    with pytest.raises(StoreError, match=r"torch.* cannot be written") as caught:
        write_torch_cache(Lock(), store, tmp_path / "torch")
    assert "TORCH_HOME" in str(caught.value.hint)


@pytest.mark.skipif(os.name != "posix", reason="a limit of POSIX stands for a full disk")
def test_a_full_cache_is_named_and_not_what_is_copied_there(store: Store, tmp_path: Path) -> None:
    import resource

    lock = Lock(weights=(named(store, URL, bytes(100_000)),))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(StoreError) as caught:
            write_torch_cache(lock, store, tmp_path / "torch")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.message.startswith(f"{tmp_path}/torch/hub/checkpoints/net-1a2b.pth.")
    assert caught.value.message.endswith(" cannot be written: File too large")
