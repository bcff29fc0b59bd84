"""Kill a writer at its system calls, one after the other, and look at what it leaves; strace does the killing.

SIGKILL loses no page cache, so this proves publishing by rename; that bytes are synced before they get a name is judged
from the log of system calls.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hublock.errors import HublockError
from tests.conftest import Record
from tests.forge import Forge
from tests.store import working
from tests.store.calls import TRACED, Call, misordered, published, read_log
from tests.store.warm import Warm

CHANGING = (
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,symlink,symlinkat,"
    "chmod,fchmod,fchmodat,truncate,ftruncate,write,pwrite64"
)
STORED = "/(blobs|trees)/"
EVERY = 3
"""Of the points, one in so many is tried in the ordinary run."""


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with Forge(tmp_path_factory.mktemp("forge")) as forge:
        for url, data in working.TOGETHER.items():
            forge.serve(url, data)
        yield forge


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm("tests.store.working") as warm:
        yield warm


@dataclass(frozen=True)
class Harness:
    """What runs the work and kills it."""

    forge: Forge
    warm: Warm

    def run(self, cache: Path, *strace: str, broken: str = "") -> int:
        """Run the work under strace and return how it ended; -9 if it was killed."""
        done = self.warm.run([cache, self.forge.mirrors, broken], strace=strace)
        assert done.code in (0, -9), done.said
        return done.code

    def calls(self, folder: Path, broken: str, together: str) -> list[Call]:
        """Run the work, or several downloads at once, and return what it asked of the system."""
        options = ["-y", "-s", "0", "-e", TRACED, "-o", str(folder / "log")]
        done = self.warm.run([folder / "cache", self.forge.mirrors, broken, together], strace=options)
        assert done.code == 0, done.said
        return read_log(folder / "log")


@pytest.fixture(scope="module")
def harness(forge: Forge, warm: Warm) -> Harness:
    return Harness(forge, warm)


def points(harness: Harness, folder: Path, broken: str) -> list[tuple[str, int]]:
    """Return every change the work makes: the name of the system call and its number among those of the name."""
    log = folder / "log"
    assert harness.run(folder / "whole", "-e", f"trace={CHANGING}", "-o", str(log), broken=broken) == 0
    count: Counter[str] = Counter()
    found = []
    for call in re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE):
        count[call] += 1
        found.append((call, count[call]))
    return found


def crash_everywhere(harness: Harness, folder: Path, *, every: int, broken: str = "") -> tuple[int, list[str]]:
    """Kill at one change in ``every``, and return how often it was killed and what was found wrong."""
    fired, wrong = 0, []
    for call, number in points(harness, folder, broken)[::every]:
        cache = folder / f"{call}-{number}"
        inject = f"inject={call}:signal=SIGKILL:when={number}"
        # how often bytes are written depends on how they arrive: the last of these may not come
        fired += harness.run(cache, "-e", f"trace={call}", "-e", inject, "-o", os.devnull, broken=broken) == -9
        try:
            working.judge(cache, complete=False)
            # the next run, in this process to save time: it must complete with no help
            working.work(cache, harness.forge.mirrors)
            working.judge(cache, complete=True)
        except (AssertionError, HublockError, OSError) as error:
            wrong.append(f"{call} {number}: {type(error).__name__}: {error}")
    return fired, wrong


def test_a_writer_killed_at_any_point_leaves_the_store_right(
    harness: Harness, tmp_path: Path, record_property: Record
) -> None:
    fired, wrong = crash_everywhere(harness, tmp_path, every=EVERY)
    record_property("told", f"{fired} kills")
    assert wrong == []
    assert fired >= 15


@pytest.mark.nightly
def test_a_writer_killed_at_every_point_leaves_the_store_right(
    harness: Harness, tmp_path: Path, record_property: Record
) -> None:
    fired, wrong = crash_everywhere(harness, tmp_path, every=1)
    record_property("told", f"{fired} kills")
    assert wrong == []
    assert fired >= 50


@pytest.mark.parametrize("broken", ["in-place", "early-rename", "early-name"])
def test_the_same_kills_find_out_a_writer_that_does_it_wrong(harness: Harness, tmp_path: Path, broken: str) -> None:
    fired, wrong = crash_everywhere(harness, tmp_path, every=3, broken=broken)
    assert fired
    assert any("not what its name says" in line or "TreeMismatch" in line for line in wrong)


@pytest.mark.parametrize(("together", "count"), [("", 4), ("together", len(working.TOGETHER))])
def test_bytes_are_synced_before_they_get_a_name_and_the_name_after(
    harness: Harness, tmp_path: Path, together: str, count: int
) -> None:
    calls = harness.calls(tmp_path, "", together)
    # of the work, two files, a tree and a note
    assert len(published(calls, STORED)) == count
    assert misordered(calls, STORED) == []


@pytest.mark.parametrize("together", ["", "together"])
@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("unsynced-files", "is not synced before it becomes"),
        ("unsynced-folders", "is not synced after"),
        ("early-rename", "is written under its final name"),
    ],
)
def test_the_log_tells_who_syncs_too_little_or_too_late(
    harness: Harness, tmp_path: Path, broken: str, told: str, together: str
) -> None:
    faults = misordered(harness.calls(tmp_path, broken, together), STORED)
    assert len([fault for fault in faults if told in fault and "/blobs/" in fault]) >= 2
