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
from tests.forge import Forge
from tests.store import working
from tests.store.warm import Warm

CHANGING = (
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,symlink,symlinkat,"
    "chmod,fchmod,fchmodat,truncate,ftruncate,write,pwrite64"
)
EVERY = 3
"""Of the points, one in so many is tried in the ordinary run."""


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with Forge(tmp_path_factory.mktemp("forge")) as forge:
        for url, data in working.BLOBS.items():
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
    harness: Harness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fired, wrong = crash_everywhere(harness, tmp_path, every=EVERY)
    with capsys.disabled():
        print(f" [{fired} kills]", end="")
    assert wrong == []
    assert fired >= 15


@pytest.mark.nightly
def test_a_writer_killed_at_every_point_leaves_the_store_right(
    harness: Harness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fired, wrong = crash_everywhere(harness, tmp_path, every=1)
    with capsys.disabled():
        print(f" [{fired} kills]", end="")
    assert wrong == []
    assert fired >= 50


@pytest.mark.parametrize("broken", ["in-place", "early-name"])
def test_the_same_kills_find_out_a_writer_that_does_it_wrong(harness: Harness, tmp_path: Path, broken: str) -> None:
    fired, wrong = crash_everywhere(harness, tmp_path, every=3, broken=broken)
    assert fired
    assert any("not what its name says" in line or "TreeMismatch" in line for line in wrong)


def test_bytes_are_synced_before_they_get_a_name_and_the_name_after(harness: Harness, tmp_path: Path) -> None:
    log = tmp_path / "log"
    cache = tmp_path / "cache"
    assert harness.run(cache, "-y", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2", "-o", str(log)) == 0
    published = 0
    lines = log.read_text().splitlines()
    for at, line in enumerate(lines):
        match = re.search(r'rename\w*\("([^"]+)", "([^"]+)"\) = 0', line)
        if match is None or not re.search(r"/(blobs|trees)/", match[2]):
            continue
        source, target = match[1], match[2]
        published += 1
        before = {found for text in lines[:at] for found in re.findall(r"fsync\(\d+<([^>]+)>", text)}
        after = {found for text in lines[at:] for found in re.findall(r"fsync\(\d+<([^>]+)>", text)}
        assert target.rpartition("/")[0] in after, f"the folder of {target} is synced after the rename"
        written = [Path(target)] if Path(target).is_file() else everything(Path(target))
        for path in written:
            assert str(path).replace(target, source) in before, f"{path} is synced before the rename"
    # two files, a tree and a note
    assert published == 4


def everything(tree: Path) -> list[Path]:
    below = [path for path in tree.rglob("*") if not path.is_symlink() and "notes" not in path.parts]
    return [tree, *below]
