"""Carrying what a lock names to a machine without a network."""

import os
import re
import shutil
import tarfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import pytest

from hublock.store.bundle import END, VERSION, VERSION_NAME, header, padding
from hublock.store.incoming import replacing
from hublock.store.pruning import contents, prune
from hublock.store.store import Store
from tests.forge import Executable, Forge, Link
from tests.stories.conftest import Run, hublock

BACKBONE = "https://example.org/backbone.bin"
TREE = {
    "hubconf.py": 'dependencies = ["torch"]\n\ndef net(): ...\n',
    "bin/run.sh": Executable("#!/bin/sh\n"),
    "copy.py": 'dependencies = ["torch"]\n\ndef net(): ...\n',
    "link": Link("hubconf.py"),
}
NOWHERE = {"HUBLOCK_MIRRORS": "https://=http://127.0.0.1:9/"}
"""No network at all."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a tree, a fetched file and one handed in, and a store with all of it; made once."""
    folder = tmp_path_factory.mktemp("made")
    project = folder / "project"
    project.mkdir()
    (project / "best.pt").write_bytes(b"no pickle, just bytes")
    with Forge() as forge:
        forge.repo("someone/net", TREE).tag("v1")
        forge.serve(BACKBONE, b"backbone" * 1000)
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "HUBLOCK_MIRRORS": forge.mirrors,
            "HUBLOCK_CACHE_DIR": str(folder / "store"),
        }
        declared = ("--no-trace", "--url", BACKBONE, "--input", "best.pt")
        done = hublock("add", "someone/net:v1", "net", *declared, cwd=project, environ=environ)
        assert done.code == 0, done
        told = hublock("bundle", "out.tar", cwd=project, environ=environ)
        assert str(told) == "exit 0\n--- stdout\n--- stderr\n  Bundled 1 tree and 2 files, 7.9 KiB into out.tar\n"
    return folder


@pytest.fixture
def filled(made: Path, project: Path, store: Path) -> Path:
    """Such a project and such a store; returns the bundle."""
    shutil.copytree(made / "project", project, dirs_exist_ok=True)
    shutil.copytree(made / "store", store, symlinks=True)
    return project / "out.tar"


@pytest.fixture
def elsewhere(filled: Path, project: Path, tmp_path: Path) -> Path:
    """The project on a machine without a network, where the user's own file is not."""
    there = tmp_path / "there"
    there.mkdir()
    for name in ("hub.toml", "hub.lock"):
        shutil.copy(project / name, there / name)
    return there


def there(tmp_path: Path) -> dict[str, str]:
    return {"HUBLOCK_CACHE_DIR": str(tmp_path / "store there"), **NOWHERE}


def test_a_bundle_brings_everything_to_a_machine_without_a_network(
    filled: Path, elsewhere: Path, run: Run, tmp_path: Path
) -> None:
    assert str(run("sync", "--from-bundle", str(filled), cwd=elsewhere, **there(tmp_path))).replace(
        str(filled), "<bundle>"
    ) == (
        "exit 0\n--- stdout\n--- stderr\n"
        "  Took in 1 tree and 2 files, 7.9 KiB from <bundle>\n"
        "   Synced 1 tree and 1 file of hub.lock\n"
    )
    assert run("verify", "--deep", cwd=elsewhere, **there(tmp_path)).code == 0
    again = run("sync", "--from-bundle", str(filled), cwd=elsewhere, **there(tmp_path))
    assert "Took in 0 trees and 0 files, 0 B" in again.err


def test_the_same_lock_gives_the_same_bytes_everywhere(filled: Path, elsewhere: Path, run: Run, tmp_path: Path) -> None:
    assert run("sync", "--from-bundle", str(filled), cwd=elsewhere, **there(tmp_path)).code == 0
    assert run("bundle", "again.tar", cwd=elsewhere, **there(tmp_path)).code == 0
    assert (elsewhere / "again.tar").read_bytes() == filled.read_bytes()


def test_tar_lists_a_bundle_by_digests_only(filled: Path) -> None:
    with tarfile.open(filled) as tar:
        names = tar.getnames()
    assert [name.rpartition("/")[0] for name in names] == [
        "", "trees/git-sha256", *["objects/git-sha256"] * 3, *["blobs/sha256"] * 2
    ]  # fmt: skip
    assert names == [names[0], names[1], *sorted(names[2:5]), *sorted(names[5:])]


def test_what_the_store_lacks_is_named_before_anything_is_written(filled: Path, run: Run, project: Path) -> None:
    done = run("bundle", "new.tar", HUBLOCK_CACHE_DIR=str(project / "empty"))
    assert done.code == 4
    assert f"the tree of someone/net:v1, best.pt, {BACKBONE}" in done.err
    assert not (project / "new.tar").exists()


def test_a_file_that_is_no_bundle_is_not_replaced_by_one(filled: Path, run: Run, project: Path) -> None:
    (project / "train.py").write_text("import torch\n")
    (project / "empty.tar").touch()
    before = {name: (project / name).read_bytes() for name in ("train.py", "hub.lock", "hub.toml")}

    for name in before:
        done = run("bundle", name)
        assert done.code == 2
        assert done.err.splitlines()[-1] == "   hint: hublock bundle ANOTHER.tar"
    missing = run("bundle", "nowhere/out.tar")

    assert (missing.code, "there is no folder" in missing.err) == (2, True)
    assert {name: (project / name).read_bytes() for name in before} == before
    for name in ("out.tar", "empty.tar"):
        assert run("bundle", name).code == 0
    assert (project / "empty.tar").read_bytes() == filled.read_bytes()


def test_what_is_no_file_is_neither_replaced_nor_read(filled: Path, elsewhere: Path, run: Run, tmp_path: Path) -> None:
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    large.mkdir()
    link = tmp_path / "link.tar"
    link.symlink_to(large / "real.tar")

    for name in (str(pipe), "/dev/null"):
        assert run("bundle", name).code == 2
        assert run("sync", "--from-bundle", name, cwd=elsewhere, **there(tmp_path)).code == 2
    assert run("bundle", str(link)).code == 0

    assert pipe.is_fifo()
    assert Path("/dev/null").is_char_device()
    assert link.readlink() == large / "real.tar"
    assert (large / "real.tar").read_bytes() == filled.read_bytes()


def test_what_is_handed_in_again_mends_the_store(filled: Path, run: Run, store: Path) -> None:
    [blob] = [path for path in store.glob("v1/blobs/sha256/*/*") if path.read_bytes() == b"no pickle, just bytes"]
    for damage in (b"damaged", b"NO PICKLE, JUST BYTES"):
        blob.chmod(0o644)
        blob.write_bytes(damage)
        assert run("verify").code == 3
        assert run("sync").code == 0
        assert run("verify", "--deep").code == 0


@pytest.mark.parametrize("damaged", ["blobs/sha256/*/*", "trees/git-sha256/*/*/tree/hubconf.py"])
def test_what_is_damaged_is_not_synced_without_a_network(filled: Path, run: Run, store: Path, damaged: str) -> None:
    path = max((store / "v1").glob(damaged), key=lambda path: path.stat().st_size)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:4])

    done = run("sync", "--offline")

    assert (done.code, done.err.splitlines()[-1]) == (3, "   hint: hublock sync")


@pytest.mark.parametrize("listing", [b"", b"100644", b"100644 zz 1\tx\0", None])
def test_a_tree_whose_listing_cannot_be_read_is_fetched_again(
    filled: Path, run: Run, store: Path, listing: bytes | None
) -> None:
    [path] = store.glob("v1/trees/git-sha256/*/*/listing")
    path.unlink()
    if listing is not None:
        path.write_bytes(listing)

    for words in (("verify",), ("sync", "--offline"), ("bundle", "again.tar"), ("cache", "verify")):
        done = run(*words)
        assert done.code in (3, 4), done
        assert done.err.splitlines()[-1].startswith("   hint: hublock sync"), done
    with Forge() as forge:
        forge.repo("someone/net", TREE).tag("v1")
        done = run("sync", HUBLOCK_MIRRORS=forge.mirrors)
    assert done.code == 0, done
    assert run("verify", "--deep").code == 0


@pytest.mark.parametrize("damaged", ["blobs/sha256/*/*", "trees/git-sha256/*/*/tree/hubconf.py"])
def test_a_damaged_store_is_not_bundled(filled: Path, run: Run, project: Path, store: Path, damaged: str) -> None:
    path = max((store / "v1").glob(damaged), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    before = filled.read_bytes()
    assert run("bundle", "out.tar").code == 3
    assert filled.read_bytes() == before
    assert sorted(path.name for path in project.iterdir()) == ["best.pt", "hub.lock", "hub.toml", "out.tar"]


@pytest.mark.parametrize(
    ("kind", "named"), [("tree", "the tree git-sha256:<hex>"), ("file", r"(best\.pt|https://\S+)")]
)
def test_what_is_pruned_meanwhile_is_missing_and_not_damaged(
    filled: Path, run: Run, project: Path, store: Path, monkeypatch: pytest.MonkeyPatch, kind: str, named: str
) -> None:
    def after_a_prune(path: Path) -> AbstractContextManager[BinaryIO]:
        others = {held.digest for held in contents(Store(store)) if held.kind != kind and held.digest}
        assert prune(Store(store), keep=others, before=time.time() + 1)
        return replacing(path)

    # between the look at what is there and the reading of it
    monkeypatch.setattr("hublock.actions.bundle.replacing", after_a_prune)
    done = run("bundle", "new.tar")

    assert done.code == 4, done
    assert re.fullmatch(f"error: not in the store: {named}\n   hint: hublock sync\n", done.err), done
    assert not list(project.glob("*new.tar*"))


def rebuilt(bundle: Path, change: dict[str, bytes | None]) -> Path:
    """Write the bundle again with other bytes, or none, for what lies under a folder."""
    other = bundle.with_name("other.tar")
    with tarfile.open(bundle) as tar, other.open("wb") as file:
        for item in tar:
            reader = tar.extractfile(item)
            assert reader is not None
            data: bytes | None = reader.read()
            for folder, changed in change.items():
                data = changed if item.name.startswith(folder) else data
            if data is not None:
                file.write(header(item.name, len(data)) + data + padding(len(data)))
        file.write(END)
    return other


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"blobs/": b"x" * 8000}, 3, "bytes for"),
        ({"blobs/": b"backbona" * 1000}, 3, ""),
        ({"trees/": b""}, 3, "another listing than that of someone/net:v1"),
        ({"trees/": b"no listing"}, 3, "another listing than that of someone/net:v1"),
        ({"objects/": b"evil"}, 3, "holds other bytes than its name objects/git-sha256/"),
        ({"objects/": None}, 3, "lacks objects/git-sha256/"),
        ({"blobs/": None}, 4, "not in the store: " + BACKBONE),
        ({"trees/": None}, 4, "the tree of someone/net:v1"),
    ],
)
def test_bytes_that_are_not_the_locked_ones_are_not_taken_in(
    filled: Path, elsewhere: Path, run: Run, tmp_path: Path, change: dict[str, bytes | None], code: int, said: str
) -> None:
    # the file handed in is there, so that only what is changed is wrong
    shutil.copy(filled.with_name("best.pt"), elsewhere / "best.pt")
    done = run("sync", "--from-bundle", str(rebuilt(filled, change)), cwd=elsewhere, **there(tmp_path))
    assert done.code == code, done
    assert said in done.err
    root = tmp_path / "store there" / "v1"
    assert all(b"evil" not in path.read_bytes() for path in root.glob("trees/git-sha256/*/*/tree/*.py"))
    assert all(path.read_bytes()[:1] != b"x" for path in root.glob("blobs/sha256/*/*"))
    partial = root / "partial"
    assert not partial.exists() or list(partial.iterdir()) == []


def test_what_no_lock_names_is_passed_over(filled: Path, elsewhere: Path, run: Run, tmp_path: Path) -> None:
    more = filled.with_name("more.tar")
    stranger = header("blobs/sha256/" + "0" * 64, 3) + b"abc" + padding(3)
    more.write_bytes(filled.read_bytes()[: -len(END)] + stranger + END)
    assert run("sync", "--from-bundle", str(more), cwd=elsewhere, **there(tmp_path)).code == 0
    assert len(list((tmp_path / "store there").glob("v1/blobs/sha256/*/*.stamp"))) == 2
    assert not list((tmp_path / "store there").glob("v1/blobs/sha256/00/*"))


def test_a_file_that_is_no_bundle_is_refused(filled: Path, elsewhere: Path, run: Run, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.tar"
    with tarfile.open(stranger, "w") as tar:
        tar.add(elsewhere / "hub.toml", "../../hub.toml")
    done = run("sync", "--from-bundle", str(stranger), cwd=elsewhere, **there(tmp_path))
    assert (done.code, "it is not a bundle" in done.err) == (3, True)
    newer = tmp_path / "newer.tar"
    newer.write_bytes(header(VERSION_NAME, len(VERSION)) + b"2\n" + padding(len(VERSION)) + END)
    done = run("sync", "--from-bundle", str(newer), cwd=elsewhere, **there(tmp_path))
    assert (done.code, "a layout that this hublock does not know" in done.err) == (3, True)
    done = run("sync", "--from-bundle", "nowhere.tar", cwd=elsewhere, **there(tmp_path))
    assert (done.code, "there is no bundle nowhere.tar" in done.err) == (2, True)


def test_a_bundle_repairs_a_damaged_store(filled: Path, elsewhere: Path, run: Run, tmp_path: Path) -> None:
    assert run("sync", "--from-bundle", str(filled), cwd=elsewhere, **there(tmp_path)).code == 0
    for path in (tmp_path / "store there").glob("v1/*/*/*/*"):
        if path.is_file() and path.suffix != ".stamp":
            path.chmod(0o644)
            path.write_bytes(b"damaged")
    assert run("verify", "--deep", cwd=elsewhere, **there(tmp_path)).code == 3
    assert run("sync", "--from-bundle", str(filled), cwd=elsewhere, **there(tmp_path)).code == 0
    assert run("verify", "--deep", cwd=elsewhere, **there(tmp_path)).code == 0


def test_a_stored_file_that_cannot_be_read_is_named_and_not_the_bundle(
    filled: Path, project: Path, store: Path, hub: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("HUBLOCK_CACHE_DIR", str(store))
    [blob] = [path for path in store.glob("v1/blobs/sha256/*/*") if path.stat().st_size == 8000]
    blob.unlink()
    # which reads as a broken disk does
    blob.symlink_to("/proc/self/mem")
    done = hub("bundle", "more.tar")
    assert (done.code, "error: <store>/v1/blobs/" in done.err, " cannot be read: " in done.err) == (7, True, True)
    assert re.search(r"hint: rm <store>/v1/blobs/sha256/\S+, then hublock sync$", done.err, re.MULTILINE)
    assert not (project / "more.tar").exists()
