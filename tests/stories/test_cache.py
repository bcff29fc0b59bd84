"""Keeping house in the store."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hublock.cli.cache import seconds
from hublock.core.digest import Digest
from hublock.core.inventory import locked_content
from hublock.core.lockreader import parse_lock
from hublock.core.tree import Listing
from hublock.errors import InputError
from hublock.store import pruning
from hublock.store.layout import Layout
from hublock.store.mutex import mutex
from hublock.store.pruning import Held
from hublock.store.stamps import stamp
from hublock.store.store import Store
from hublock.store.trees import read_listing
from tests.forge import Forge
from tests.stories.conftest import Run, without_privileges

BACKBONE = "https://example.org/backbone.bin"
OLD = "https://example.org/old.bin"
DECLARED = ("add", "someone/net:v1", "net", "--no-trace", "--url", BACKBONE)


@pytest.fixture
def kept(served: Forge, run: Run, project: Path, store: Path) -> Path:
    """A project with a tree and a file, in a store that also holds what another project locked; all of it is old."""
    served.serve(BACKBONE, b"backbone" * 100)
    served.serve(OLD, b"old" * 100)
    other = project.parent / "other"
    other.mkdir()
    assert run(*DECLARED).code == 0
    assert run("add", "--url", OLD, "--name", "old", cwd=other).code == 0
    age(store, days=3)
    return other / "hub.lock"


def age(store: Path, *, days: float) -> None:
    """Let everything in the store look as if it was last used so many days ago."""
    then = time.time() - days * 86_400
    for path in store.rglob("*"):
        if not path.is_symlink():
            facts = path.stat()
            # the stamps of files tell their time of change: that stays
            changed = then if path.suffix == ".stamp" or path.name == "stamp" or path.is_dir() else facts.st_mtime
            os.utime(path, (then, changed))
    for path in store.glob("v1/blobs/sha256/*/*"):
        if path.suffix != ".stamp":
            os.utime(path, (then, then))
            # what is known of the file stays true: using it hashes nothing
            beside = path.with_suffix(".stamp")
            beside.write_text(stamp(path.stat()))
            os.utime(beside, (then, then))


def blobs(store: Path) -> set[bytes]:
    return {path.read_bytes()[:3] for path in store.glob("v1/blobs/sha256/*/*") if path.suffix != ".stamp"}


def trees(store: Path) -> int:
    return len(list(store.glob("v1/trees/git-sha256/*/*")))


def test_dir_size_and_list_tell_what_the_store_holds(kept: Path, run: Run, store: Path) -> None:
    assert run("cache", "dir").out == "<store>\n"
    size = sum(path.stat().st_size for path in store.glob("v1/trees/git-sha256/*/*/tree/*")) + 1100
    assert run("cache", "size").out == f"{size / 1024:.1f} KiB in 1 tree and 2 files\n"
    lines = run("cache", "list").out.splitlines()
    assert len(lines) == 3
    assert [line.split()[-1] for line in lines if "git-sha256:" in line] == ["someone/net:v1"]
    assert sorted(line.split()[-1] for line in lines if "git-" not in line) == ["-", BACKBONE]


def test_an_empty_store_is_no_error(run: Run) -> None:
    assert run("cache", "size").out == "0 B in 0 trees and 0 files\n"
    assert run("cache", "list").out == ""
    assert run("cache", "verify").code == 0
    assert run("cache", "prune", "--older-than", "0s").code == 0


def test_prune_keeps_what_the_lock_of_the_project_names(kept: Path, run: Run, store: Path) -> None:
    assert str(run("cache", "prune", "--dry-run")) == ("exit 0\n--- stdout\n--- stderr\nWould remove 1 item, 300 B\n")
    assert blobs(store) == {b"bac", b"old"}
    assert str(run("cache", "prune")) == "exit 0\n--- stdout\n--- stderr\n  Removed 1 item, 300 B\n"
    assert blobs(store) == {b"bac"}
    assert run("verify", "--deep").code == 0


def test_prune_keeps_what_a_given_lock_names(kept: Path, run: Run, store: Path, project: Path) -> None:
    assert run("cache", "prune", "--keep-lock", str(kept)).err == "  Removed 0 items, 0 B\n"
    assert run("cache", "prune", "--keep-lock", str(kept), cwd=project.parent).err.startswith("  Removed 2 items")
    assert (blobs(store), trees(store)) == ({b"old"}, 0)


def test_prune_wants_to_know_what_to_keep(kept: Path, run: Run, store: Path, project: Path) -> None:
    done = run("cache", "prune", cwd=project.parent)
    assert done.code == 2
    assert "nothing says what the store shall keep" in done.err
    assert "hublock cache prune --older-than 30d" in done.err
    missing = run("cache", "prune", "--keep-lock", "nowhere/hub.lock")
    assert missing.code == 4
    assert blobs(store) == {b"bac", b"old"}


def test_refuses_an_age_that_is_none(run: Run) -> None:
    done = run("cache", "prune", "--older-than", "")
    assert done.code == 2
    assert "'' is no age" in done.err
    for text in ("30", "d", "-1d", "1.5d", "1y", "9999999d", "1d\n", "\u0661d"):
        with pytest.raises(InputError, match="is no age"):
            seconds(text)
    assert [seconds(text) for text in ("0s", "2m", "12h", "30d", "2w")] == [0, 120, 43_200, 2_592_000, 1_209_600]


def test_prune_keeps_what_was_used_lately(kept: Path, run: Run, store: Path, project: Path) -> None:
    assert run("cache", "prune", "--older-than", "4d", cwd=project.parent).err == "  Removed 0 items, 0 B\n"
    # a sync uses what the lock of this project names
    assert run("sync").code == 0
    assert run("cache", "prune", "--older-than", "2d", cwd=project.parent).err == "  Removed 1 item, 300 B\n"
    assert (blobs(store), trees(store)) == ({b"bac"}, 1)


def test_prune_keeps_what_another_project_has_just_used(kept: Path, run: Run, store: Path, project: Path) -> None:
    for beside in store.glob("v1/**/*stamp"):
        # used yesterday
        then = time.time() - 82_800
        os.utime(beside, (then, then))
    assert run("verify").code == 0
    assert run("cache", "prune", "--older-than", "1h", cwd=project.parent).err == "  Removed 1 item, 300 B\n"
    assert (blobs(store), trees(store)) == ({b"bac"}, 1)


def test_prune_leaves_alone_what_somebody_works_on(kept: Path, run: Run, store: Path, project: Path) -> None:
    [old] = locked_content(parse_lock(kept.read_text(), file="hub.lock"))
    with mutex(Layout(store).lock(str(old.digest))):
        assert run("cache", "prune").err == "  Removed 0 items, 0 B\n"
    assert run("cache", "prune").err == "  Removed 1 item, 300 B\n"


def test_prune_disturbs_nobody_who_reads(kept: Path, run: Run, store: Path) -> None:
    [path] = [path for path in store.glob("v1/blobs/sha256/*/*") if path.stat().st_size == 300]
    with path.open("rb") as file:
        assert run("cache", "prune").code == 0
        assert not path.exists()
        assert file.read() == b"old" * 100


def test_prune_removes_what_broke_off_long_ago(kept: Path, run: Run, store: Path) -> None:
    partial = store / "v1" / "partial"
    old, young = partial / ("0" * 32), partial / ("1" * 32)
    for path in (old, young):
        path.write_bytes(b"x" * 1000)
    then = time.time() - 86_400
    os.utime(old, (then, then))
    assert "2.0 KiB of it unfinished" in run("cache", "size").out
    assert run("cache", "prune").err == "  Removed 2 items, 1.3 KiB\n"
    assert [path.name for path in partial.iterdir()] == ["1" * 32]


def test_prune_of_a_store_that_cannot_be_written_says_so(kept: Path, run: Run, store: Path) -> None:
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    wrap = ("unshare", "--mount", "--map-root-user", "sh", "-c", script, str(store))
    command = (*wrap, sys.executable, "-m", "hublock", "cache", "prune")
    environment = {**os.environ, "HUBLOCK_CACHE_DIR": str(store)}
    done = subprocess.run(command, cwd=kept.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 7, done
    assert "Read-only file system" in done.stderr
    assert blobs(store) == {b"bac", b"old"}


def test_verify_hashes_the_whole_store(kept: Path, run: Run, store: Path) -> None:
    done = run("cache", "verify")
    assert done.code == 0
    assert done.err.startswith(" Verified 1 tree, 2 files, ")
    [path] = [path for path in store.glob("v1/blobs/sha256/*/*") if path.stat().st_size == 300]
    facts = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"odl" * 100)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    [source] = store.glob("v1/trees/git-sha256/*/*/tree/net.py")
    source.chmod(0o644)
    source.write_text("import os\n")
    broken = run("cache", "verify")
    assert broken.code == 3
    assert broken.err.count("error:") == 2
    assert "changed net.py" in broken.err
    assert "holds bytes of sha256:" in broken.err


@pytest.mark.parametrize("amid", [False, True])
def test_what_is_pruned_while_all_is_verified_is_not_wrong(
    kept: Path, run: Run, store: Path, monkeypatch: pytest.MonkeyPatch, amid: bool
) -> None:
    def prune() -> None:
        pruning.prune(Store(store), keep=(), before=float("inf"))

    def listed(of: Store) -> Iterator[Held]:
        held = list(pruning.contents(of))
        if not amid:
            prune()
        return iter(held)

    def read(folder: Path, digest: Digest) -> Listing:
        prune()
        return read_listing(folder, digest)

    # one after another: what is verified at that very moment is in use, and may stay
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr("hublock.actions.cache.contents", listed)
    if amid:
        monkeypatch.setattr("hublock.store.trees.read_listing", read)
    done = run("cache", "verify")
    assert (done.code, trees(store), blobs(store)) == (0, 0, set()), done
    assert done.err == " Verified 0 trees, 0 files, 0 B\n"


def test_what_is_pruned_while_a_lock_is_verified_is_found_missing(
    kept: Path, run: Run, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pruned(name: str) -> None:
        check = getattr(Store, name)

        def checked(self: Store, *args: object, **kwargs: object) -> object:
            pruning.prune(Store(store), keep=(), before=float("inf"))
            return check(self, *args, **kwargs)

        monkeypatch.setattr(Store, name, checked)

    pruned("check_tree")
    pruned("check_blob")
    done = run("verify", "--format", "json")
    assert (done.code, {row["rule"] for row in json.loads(done.out)["findings"]}) == (
        4,
        {"tree-missing", "file-missing"},
    )


@pytest.mark.parametrize("damaged", ["blobs/sha256/*/*", "trees/git-sha256/*/*/tree/net.py"])
def test_the_hint_of_verify_helps_with_what_no_lock_here_names(
    kept: Path, run: Run, inside: Run, store: Path, damaged: str
) -> None:
    path = max((store / "v1").glob(damaged), key=lambda path: path.stat().st_size)
    path.chmod(0o644)
    path.write_bytes(b"damaged")

    hint, _, remedy = inside("cache", "verify").err.splitlines()[-1].partition(", else ")
    subprocess.run([*without_privileges(), "sh", "-c", remedy], check=True)

    assert hint == "   hint: hublock sync where a lock names it"
    assert run("cache", "verify").code == 0
    assert run("sync").code == 0
    assert run("verify", "--deep").code == 0


def test_who_stops_reading_changes_neither_the_work_nor_the_exit_code(kept: Path, store: Path, project: Path) -> None:
    for path in store.glob("v1/blobs/sha256/*/*"):
        path.chmod(0o644)
        path.write_bytes(b"damaged")
    line = f"set -o pipefail; {sys.executable} -m hublock verify --format json {{}}| true"
    environ = {**os.environ, "HUBLOCK_CACHE_DIR": str(store)}
    for redirected in ("", "2>&1 "):
        assert (
            subprocess.run(["bash", "-c", line.format(redirected)], cwd=project, env=environ, check=False).returncode
            == 3
        )


def test_the_key_follows_the_bytes_and_nothing_else(kept: Path, run: Run, project: Path, served: Forge) -> None:
    key = run("cache", "key").out
    assert key.startswith("hublock-v1-")
    (project / "hub.lock").write_text((project / "hub.lock").read_text().replace('"net"', '"other"'))
    assert run("cache", "key").out == key
    served.serve("https://example.org/more.bin", b"more")
    assert run("add", "--url", "https://example.org/more.bin", "--name", "more").code in (0, 1)
    assert run("cache", "key").out != key
    nowhere = run("cache", "key", cwd=project.parent)
    assert nowhere.code == 4


def test_options_stand_before_or_after_the_action(kept: Path, run: Run, project: Path) -> None:
    asked = [
        run("cache", "key"),
        run("cache", "--project", str(project), "key", cwd=project.parent),
        run("cache", "key", "--project", str(project), cwd=project.parent),
    ]
    assert len({done.out for done in asked}) == 1
    assert run("cache").code == 2
