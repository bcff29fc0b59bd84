"""One store for several users of a group, and one that a user may not write."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hublock.net.reading import FEWEST
from tests.conftest import Record
from tests.forge import Forge
from tests.store import working
from tests.store.test_crowd import kill_writers

ROOT = Path(__file__).parents[2]
GROUP = 64_000
ALICE, BOB = 64_001, 64_002
START = "import sys; from pathlib import Path; from tests.store import working; cache = Path(sys.argv[1]); "
WORK = START + "working.work(cache, sys.argv[2])"
JUDGE = START + "working.judge(cache, complete=True)"
PRUNE = """
import sys, time
from pathlib import Path
from hublock.store.pruning import prune
from hublock.store.store import Store
print(len(prune(Store(Path(sys.argv[1])), keep=(), before=time.time() + 1)))
"""
TRY = """
import sys
from pathlib import Path
from hublock.errors import HublockError
from tests.store import working
from tests.store.test_crowd import kill_writers
try:
    working.fetch(Path(sys.argv[1]), sys.argv[2])
except HublockError as error:
    print(type(error).__name__, error.exit_code, error)
"""


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    with Forge(tmp_path / "forge") as forge:
        for url, data in working.BLOBS.items():
            forge.serve(url, data)
        yield forge


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return shared_folder(tmp_path / "cache")


def shared_folder(cache: Path) -> Path:
    """Make a folder that a group shares (``chmod g+rwxs``), owned by neither of the two."""
    cache.mkdir()
    os.chown(cache, -1, GROUP)
    cache.chmod(0o2770)
    return cache


def user(number: int) -> list[str]:
    """Return what runs a command as a user, who may read all (Python may lie in root's home) but not write."""
    caps = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
    return [
        "setpriv",
        f"--reuid={number}",
        f"--regid={GROUP}",
        "--clear-groups",
        *caps,
        "--bounding-set=-all,+dac_read_search",
    ]


def start(who: int, script: str, cache: Path, forge: Forge, *, umask: int = 0o022) -> "subprocess.Popen[str]":
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    command = [*user(who), sys.executable, "-B", "-c", script, str(cache), forge.mirrors]
    return subprocess.Popen(
        command, cwd="/", env=environment, umask=umask, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(who: int, script: str, cache: Path, forge: Forge, *, umask: int = 0o022) -> str:
    process = start(who, script, cache, forge, umask=umask)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def test_the_users_of_these_tests_may_not_write_everywhere(tmp_path: Path, forge: Forge) -> None:
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o755)
    said = run(ALICE, "import os, sys; print(os.getuid(), os.access(sys.argv[1], os.W_OK))", mine, forge)
    assert said == f"{ALICE} False\n"


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_one_user_fetched_another_has(shared: Path, forge: Forge, umask: int) -> None:
    run(ALICE, WORK, shared, forge, umask=umask)
    asked = len(forge.requests)
    run(BOB, WORK, shared, forge, umask=umask)
    run(BOB, JUDGE, shared, forge, umask=umask)
    assert len(forge.requests) == asked
    found = [path for path in shared.rglob("*") if not path.is_symlink()]
    assert {path.stat().st_uid for path in found if path.suffix != ".stamp"} >= {ALICE}
    for path in found:
        mode = path.stat().st_mode
        assert mode & 0o2070 == 0o2070 if path.is_dir() else mode & 0o040, f"{path} is not shared"
        assert mode & 0o002 == 0


def sizes(folder: Path) -> Iterator[int]:
    for path in folder.glob("*-*"):
        with suppress(FileNotFoundError):
            yield path.stat().st_size


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_another_user_finishes_what_one_was_killed_at(shared: Path, forge: Forge, umask: int) -> None:
    large = max(working.BLOBS, key=lambda url: len(working.BLOBS[url]))
    # behind what a first read takes, after the quick ones of the small file
    forge.serve(large, working.BLOBS[large], stall=5 * FEWEST, times=1)
    alice = start(ALICE, WORK, shared, forge, umask=umask)
    partial = shared / "v1" / "partial"
    while not any(size >= FEWEST for size in sizes(partial)):
        assert alice.poll() is None
    alice.kill()
    alice.communicate()
    run(BOB, WORK, shared, forge, umask=umask)
    run(BOB, JUDGE, shared, forge, umask=umask)


def test_one_user_repairs_and_prunes_what_another_has_written(shared: Path, forge: Forge) -> None:
    run(ALICE, WORK, shared, forge)
    [large] = [path for path in shared.glob("v1/blobs/*/*/*") if path.stat().st_size == 600_000]
    large.chmod(0o644)
    large.write_bytes(b"damaged")
    run(BOB, WORK, shared, forge)
    run(BOB, JUDGE, shared, forge)
    assert large.stat().st_uid == BOB
    assert run(BOB, PRUNE, shared, forge) == f"{len(working.BLOBS) + 1}\n"
    assert [path for path in shared.glob("v1/*/*/*/*") if path.suffix != ".stamp"] == []


def test_what_one_user_left_half_made_holds_no_other_up(shared: Path, forge: Forge) -> None:
    # of a tree, whose folders are shared last
    half = "import os; from pathlib import Path; made = cache / 'v1/partial/tree-x-00000000-1-0/tree/models'; "
    leave = f"{half}made.mkdir(parents=True); (made / 'net.py').touch(); os.utime(made.parent.parent, (0, 0))"
    run(ALICE, WORK, shared, forge)
    run(ALICE, START + leave, shared, forge)
    run(BOB, WORK, shared, forge)


def test_two_users_at_once_fetch_each_file_once(shared: Path, forge: Forge) -> None:
    crowd = [start(who, WORK, shared, forge) for who in (ALICE, BOB, ALICE, BOB)]
    assert [process.communicate(timeout=60)[1] for process in crowd] == [""] * 4
    run(ALICE, JUDGE, shared, forge)
    assert len(forge.requests) == len(working.BLOBS)


@pytest.mark.nightly
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_crowds_of_two_users_never_leave_anything_wrong(
    tmp_path: Path, forge: Forge, umask: int, record_property: Record
) -> None:
    killed = 0
    for url, data in working.BLOBS.items():
        forge.serve(url, data, pace=0.03)
    for turn in range(10):
        forge.requests.clear()
        cache = shared_folder(tmp_path / str(turn))
        crowd = [start((ALICE, BOB)[number % 2], WORK, cache, forge, umask=umask) for number in range(16)]
        victims = kill_writers(crowd, cache, turn % 5)
        said = [process.communicate(timeout=120)[1] for process in crowd]
        killed += sum(process.returncode == -9 for process in crowd)
        assert [text for process, text in zip(crowd, said, strict=True) if process not in victims and text] == []
        run(BOB, WORK, cache, forge, umask=umask)
        run(ALICE, JUDGE, cache, forge, umask=umask)
        assert len(forge.requests) <= len(working.BLOBS) + len(victims)
    record_property("told", f"{killed} kills")


def test_a_store_of_somebody_else_is_named_with_the_cause(tmp_path: Path, forge: Forge) -> None:
    cache = tmp_path / "cache"
    working.work(cache, forge.mirrors)
    assert run(ALICE, TRY, cache, forge) == "", "what it holds can be read"
    [large] = [path for path in cache.glob("v1/blobs/*/*/*") if path.stat().st_size == 600_000]
    large.unlink()
    said = run(ALICE, TRY, cache, forge)
    assert re.match(rf"StoreError 7 https://a\.org/600000\.pth: {cache}/v1/", said)
    assert "cannot be written: Permission denied" in said
    assert "HUBLOCK_CACHE_DIR" in said


def test_a_folder_that_cannot_be_made_is_named_with_the_cause(tmp_path: Path, forge: Forge) -> None:
    (tmp_path / "mine").mkdir(mode=0o755)
    said = run(ALICE, TRY, tmp_path / "mine" / "cache", forge)
    assert f"{tmp_path}/mine/cache cannot be written: Permission denied" in said
