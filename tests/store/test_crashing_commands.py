"""Kill whole commands at their system calls, and look at the store, the manifest and the lock they leave.

As in :mod:`tests.store.test_crashes`, strace does the killing; then the same command is run again.
"""

import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hublock.cli.main import main
from hublock.core.canonical import dump_lock
from hublock.core.digest import Digest
from hublock.core.lockfile import Lock
from hublock.core.lockreader import parse_lock
from hublock.core.manifest import parse_manifest
from hublock.errors import HublockError
from hublock.store.store import Store
from tests.conftest import Record
from tests.forge import Executable, Forge
from tests.store.calls import TRACED, Call, misordered, published, read_log
from tests.store.test_crashes import CHANGING
from tests.store.warm import Warm
from tests.store.working import digest_of, small_parts

LARGE, SMALL, OTHER = (f"https://example.org/{name}.bin" for name in ("large", "small", "other"))
DATA = {LARGE: random.Random(5).randbytes(300_000), SMALL: b"small", OTHER: b"other" * 1000}
TREE = {"hubconf.py": "dependencies = []\n\ndef net(): ...\n", "run.sh": Executable("#!/bin/sh\n")}
FEW = 9
"""How many points of a command are tried in the ordinary run."""


@dataclass(frozen=True)
class Case:
    """A command, the project it is run in, and what the project's files may be afterwards."""

    arguments: tuple[str, ...]
    before: dict[str, str]
    after: dict[str, str]


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with Forge(tmp_path_factory.mktemp("forge")) as forge:
        for url, data in DATA.items():
            forge.serve(url, data)
        forge.repo("someone/net", TREE).tag("v1")
        yield forge


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm("tests.store.commands") as warm:
        yield warm


@dataclass(frozen=True)
class Harness:
    """What runs commands and kills them."""

    forge: Forge
    warm: Warm

    def environ(self, folder: Path) -> dict[str, str]:
        return {
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "HUBLOCK_MIRRORS": self.forge.mirrors,
            "HUBLOCK_CACHE_DIR": str(folder / "cache"),
        }

    def run(
        self,
        folder: Path,
        arguments: tuple[str, ...],
        *strace: str,
        broken: str = "-",
        allowed: tuple[int, ...] = (0, -9),
    ) -> int:
        """Run a command in ``folder/project``, under strace if it is given any options; -9 if it was killed."""
        words = [broken, *arguments, "--project", folder / "project"]
        done = self.warm.run(words, environ=self.environ(folder), strace=strace)
        assert done.code in allowed, done.said
        return done.code


@pytest.fixture(scope="module")
def harness(forge: Forge, warm: Warm) -> Harness:
    return Harness(forge, warm)


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "project").iterdir() if not path.name.startswith(".")}


def begin(folder: Path, case: Case) -> Path:
    """Make the project of ``case`` anew."""
    (folder / "project").mkdir(parents=True)
    for name, text in case.before.items():
        (folder / "project" / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def cases(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    folder = tmp_path_factory.mktemp("cases")
    (folder / "project").mkdir()
    assert harness.run(folder, ("add", "someone/net:v1", "net", "--no-trace", "--url", SMALL)) == 0
    assert harness.run(folder, ("add", "--url", LARGE, "--name", "large")) == 0
    whole = files(folder)
    add = ("add", "--url", OTHER, "--name", "other")
    assert harness.run(folder, add) == 0
    more = files(folder)
    return {
        "sync": Case(("sync", "--jobs", "2"), whole, whole),
        "lock": Case(("lock",), {**whole, "hub.toml": more["hub.toml"]}, more),
        "add": Case(add, whole, more),
        "remove": Case(("remove", "other"), more, whole),
    }


def points(harness: Harness, folder: Path, case: Case, broken: str) -> list[tuple[str, int]]:
    """Return every change the command makes: the name of the system call and its number among those of the name."""
    log = folder / "log"
    begin(folder / "whole", case)
    options = ("-e", f"trace={CHANGING}", "-o", str(log))
    assert harness.run(folder / "whole", case.arguments, *options, broken=broken) == 0
    assert files(folder / "whole") == case.after
    count: Counter[str] = Counter()
    found = []
    calls = re.findall(r"^(\d+) +(\w+)\(", log.read_text(), re.MULTILINE)
    for thread, call in calls:
        # those of other programs and threads come when they come
        if thread != calls[0][0]:
            continue
        count[call] += 1
        found.append((call, count[call]))
    return found


def judge(folder: Path, case: Case) -> None:
    """Check that every file of the project is an old or a new one, and that what has a name in the store is whole."""
    for name, text in files(folder).items():
        assert text in (case.before.get(name), case.after[name]), f"{name} is torn"
    assert case.before.keys() <= files(folder).keys()
    # else the next `hublock lock` would make a pin anew, and maybe another one
    assert case.arguments[0] == "lock" or not lacking(files(folder)), "a pin is lost"
    root = folder / "cache" / "v1"
    for path in root.glob("blobs/sha256/*/*"):
        if path.suffix != ".stamp":
            assert digest_of(path.read_bytes()).hex == path.name, f"{path} is not what its name says"
    store = Store(folder / "cache")
    for path in root.glob("trees/git-sha256/*/*"):
        store.check_tree(Digest("git-sha256", path.name))


def lacking(project: dict[str, str]) -> set[str]:
    """Return the names that the manifest wants and the lock lacks."""
    # a first add has neither before it begins
    manifest = parse_manifest(project.get("hub.toml", ""), file="hub.toml", embedded=False)
    lock = parse_lock(project.get("hub.lock", dump_lock(Lock())), file="hub.lock")
    return {*manifest.names} - {*lock.names}


def finish(harness: Harness, folder: Path, case: Case, patch: pytest.MonkeyPatch) -> None:
    """Run the command again, in this process to save time: it must complete with no help, and leave nothing."""
    for name, value in harness.environ(folder).items():
        if name.startswith("HUBLOCK_"):
            patch.setenv(name, value)
    # one that was killed behind its last change has nothing to do: to add twice is refused
    complete = case.before != case.after and files(folder) == case.after
    code = main([*case.arguments, "--quiet", "--project", str(folder / "project")])
    assert code == 0 or (complete and code == 2), "the second run fails"
    assert files(folder) == case.after
    assert sorted(path.name for path in (folder / "project").iterdir()) == sorted(case.after), "something is left"
    assert main(["verify", "--deep", "--quiet", "--project", str(folder / "project")]) in (0, 4)
    assert list((folder / "cache" / "v1").glob("partial/*")) == []


def crash(
    harness: Harness, folder: Path, case: Case, patch: pytest.MonkeyPatch, *, few: int | None, broken: str = "-"
) -> tuple[int, list[str]]:
    """Kill at some points, or at all, and return how often it was killed and what was found wrong."""
    found = points(harness, folder, case, broken)
    chosen = found if few is None else sorted(random.Random(len(found)).sample(found, min(few, len(found))))
    fired, wrong = 0, []
    for call, number in chosen:
        here = begin(folder / f"{call}-{number}", case)
        inject = f"inject={call}:signal=SIGKILL:when={number}"
        options = ("-e", f"trace={call}", "-e", inject, "-o", os.devnull)
        fired += harness.run(here, case.arguments, *options, broken=broken) == -9
        try:
            judge(here, case)
            if broken == "-":
                finish(harness, here, case, patch)
        except (AssertionError, HublockError, OSError) as error:
            wrong.append(f"{call} {number}: {type(error).__name__}: {error}")
        shutil.rmtree(here)
    return fired, wrong


@pytest.fixture
def small() -> None:
    """Let this process fetch as the killed one does."""
    small_parts()


@pytest.mark.parametrize("name", ["sync", "lock", "add", "remove"])
def test_a_command_killed_anywhere_leaves_old_or_new_files_and_a_right_store(
    harness: Harness,
    cases: dict[str, Case],
    name: str,
    tmp_path: Path,
    small: None,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Record,
) -> None:
    # a remove has a dozen points in all
    few = None if name == "remove" else FEW
    fired, wrong = crash(harness, tmp_path, cases[name], monkeypatch, few=few)
    record_property("told", f"{fired} kills")
    assert wrong == []
    assert fired >= FEW - 2


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["sync", "lock", "add"])
def test_a_command_killed_at_every_point_leaves_old_or_new_files_and_a_right_store(
    harness: Harness,
    cases: dict[str, Case],
    name: str,
    tmp_path: Path,
    small: None,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Record,
) -> None:
    fired, wrong = crash(harness, tmp_path, cases[name], monkeypatch, few=None)
    record_property("told", f"{fired} kills")
    assert wrong == []
    assert fired >= 25


@pytest.mark.parametrize(
    ("name", "broken"), [("sync", "in-place"), ("sync", "early-rename"), ("add", "torn"), ("lock", "torn")]
)
def test_the_same_kills_find_out_a_command_that_writes_in_place(
    harness: Harness, cases: dict[str, Case], name: str, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = cases[name]
    # with `write` alone, a few are enough to meet a broken one
    monkeypatch.setattr(f"{__name__}.CHANGING", "write")
    fired, wrong = crash(harness, tmp_path, case, monkeypatch, few=2 * FEW, broken=broken)
    assert fired
    assert any("is torn" in line or "not what its name says" in line for line in wrong), wrong


ORDERED = r"/(blobs|trees)/|/project/hub\.(toml|lock)$"


def calls(harness: Harness, folder: Path, case: Case, *, broken: str = "-") -> list[Call]:
    """Run a command, and return what it asked of the system."""
    begin(folder, case)
    options = ("-y", "-s", "0", "-e", TRACED, "-o", str(folder / "log"))
    assert harness.run(folder, case.arguments, *options, broken=broken) == 0
    return read_log(folder / "log")


# sync: a tree and two files; lock: a file and the lock; add: the manifest as well
@pytest.mark.parametrize(("name", "count"), [("sync", 3), ("lock", 2), ("add", 3)])
def test_a_command_syncs_bytes_before_they_get_a_name_and_the_name_after(
    harness: Harness, cases: dict[str, Case], name: str, count: int, tmp_path: Path
) -> None:
    found = calls(harness, tmp_path, cases[name])
    assert misordered(found, ORDERED) == []
    assert len(published(found, ORDERED)) == count


@pytest.mark.parametrize("name", ["sync", "lock", "add"])
@pytest.mark.parametrize(
    ("broken", "told"),
    [("unsynced-files", "is not synced before it becomes"), ("unsynced-folders", "is not synced after")],
)
def test_the_log_tells_of_a_command_that_syncs_too_little(
    harness: Harness, cases: dict[str, Case], name: str, broken: str, told: str, tmp_path: Path
) -> None:
    faults = misordered(calls(harness, tmp_path, cases[name], broken=broken), ORDERED)
    assert any(told in fault and "/blobs/" in fault for fault in faults), faults
    assert name == "sync" or any(told in fault and "/project" in fault for fault in faults), faults
