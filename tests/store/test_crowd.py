"""Many processes on one cold store, some of them killed."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Record
from tests.forge import Forge
from tests.store import working

ROOT = Path(__file__).parents[2]


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    with Forge(tmp_path / "forge") as forge:
        for url, data in working.BLOBS.items():
            # slow enough to be killed amid of
            forge.serve(url, data, pace=0.03)
        yield forge


def crowd(forge: Forge, cache: Path, *, size: int, killed: int = 0, broken: str = "") -> list[str]:
    """Let ``size`` processes do the same work at once, kill ``killed`` of them, and return the errors of the others."""
    command = [sys.executable, "-m", "tests.store.working", str(cache), forge.mirrors, *([broken] if broken else [])]
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(size)
    ]
    victims = kill_writers(processes, cache, killed)
    ended = [(process, *process.communicate(timeout=120)) for process in processes]
    working.judge(cache, complete=False)
    return [errors for process, said, errors in ended if process not in victims and said != "done\n"]


def kill_writers(
    processes: Sequence["subprocess.Popen[str]"], cache: Path, count: int
) -> list["subprocess.Popen[str]"]:
    """Kill so many of the processes amid a download, each at another moment, and return them."""
    victims: list[subprocess.Popen[str]] = []
    while len(victims) < count and any(process.poll() is None for process in processes):
        for process in processes:
            if process not in victims and writes(process.pid, cache):
                with suppress(subprocess.TimeoutExpired):
                    # the seed makes no promise about where
                    process.wait(random.Random(process.pid).random() * 0.1)
                process.kill()
                # one that nobody waits for still has its number, and counts as alive
                process.wait()
                victims.append(process)
                break
    return victims


def writes(pid: int, cache: Path) -> bool:
    """Say whether a process has one of the store's partial files open, into which bytes have come already."""
    with suppress(OSError):
        opened = [file for file in Path(f"/proc/{pid}/fd").iterdir() if file.stat().st_size > 10]
        return any(str(file.readlink()).startswith(str(cache / "v1" / "partial")) for file in opened)
    return False


def test_a_crowd_on_a_cold_store_fetches_each_file_once(forge: Forge, tmp_path: Path) -> None:
    assert crowd(forge, tmp_path / "cache", size=8) == []
    working.judge(tmp_path / "cache", complete=True)
    assert [request.path for request in forge.requests].count("/600000.pth") == 1
    assert len(forge.requests) == len(working.BLOBS)


def test_killed_members_of_a_crowd_hold_up_nobody(forge: Forge, tmp_path: Path) -> None:
    assert crowd(forge, tmp_path / "cache", size=8, killed=3) == []
    working.work(tmp_path / "cache", forge.mirrors)
    assert len(working.BLOBS) < len(forge.requests) <= len(working.BLOBS) + 3


def test_a_crowd_without_locks_does_more_work_and_nothing_wrong(forge: Forge, tmp_path: Path) -> None:
    assert crowd(forge, tmp_path / "cache", size=8, broken="no-locks") == []
    working.judge(tmp_path / "cache", complete=True)
    assert len(forge.requests) > len(working.BLOBS)


@pytest.mark.nightly
@pytest.mark.parametrize("broken", ["", "no-locks"])
def test_crowds_never_leave_anything_wrong(forge: Forge, tmp_path: Path, broken: str, record_property: Record) -> None:
    asked = 0
    for turn in range(20):
        forge.requests.clear()
        cache = tmp_path / str(turn)
        assert crowd(forge, cache, size=16, killed=turn % 5, broken=broken) == []
        working.work(cache, forge.mirrors)
        if not broken:
            assert len(forge.requests) <= len(working.BLOBS) + turn % 5
        asked += len(forge.requests)
    # some of the killed ones were amid a download
    assert asked > 20 * len(working.BLOBS)
    record_property("told", f"{asked} downloads of {20 * len(working.BLOBS)} files")
