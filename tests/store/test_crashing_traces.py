"""Kill a whole ``hublock add``, which traces a model, at a sample of its system calls and of those of its child.

As :mod:`tests.store.test_crashing_commands`; each run imports torch twice, so this is for the night.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Record
from tests.forge import Forge
from tests.store.test_crashes import CHANGING
from tests.store.test_crashing_commands import Case, Harness, begin, files, judge
from tests.store.warm import Warm
from tests.stories.conftest import publish

ADD = ("add", "someone/net:v1", "net", "--kwarg", "pretrained=True")
OF_EACH = 3
"""How many calls of one name are tried: the first, the last, and those between at even distances."""
CHILD_KILLED = 6


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with Forge(tmp_path_factory.mktemp("forge")) as forge, Warm("tests.store.commands") as warm:
        publish(forge)
        yield Harness(forge, warm)


def sample(log: str) -> list[tuple[str, int]]:
    """Return some changes of the command itself, and of the child that traces: name and number of the call."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for process, call in re.findall(r"^(\d+) +(\w+)\(", log, re.MULTILINE):
        counts[process][call] += 1
    parent, *children = counts.values()
    chosen = [(call, number) for call, count in parent.items() for number in spread(count)]
    # only what the parent never does reaches a child: strace counts the calls of each apart
    return chosen + [(call, number) for call in children[0] if call not in parent for number in spread(2)]


def spread(count: int) -> list[int]:
    return sorted({1 + (count - 1) * step // (OF_EACH - 1) for step in range(OF_EACH)})


def finish(harness: Harness, folder: Path, case: Case) -> None:
    """Run the command again: it must complete with no help."""
    # one that was killed behind its last change has nothing to do: to add twice is refused
    complete = files(folder) == case.after
    code = harness.run(folder, case.arguments, allowed=(0, 2))
    assert code == 0 or complete, "the second run fails"
    assert files(folder) == case.after
    assert sorted(path.name for path in (folder / "project").iterdir()) == sorted(case.after), "something is left"
    assert harness.run(folder, ("verify", "--deep")) == 0
    assert list((folder / "cache" / "v1" / "partial").iterdir()) == []


@pytest.mark.nightly
def test_an_add_killed_while_it_traces_leaves_old_or_new_files_and_a_right_store(
    harness: Harness, tmp_path: Path, record_property: Record
) -> None:
    whole = begin(tmp_path / "whole", Case(ADD, {}, {}))
    assert harness.run(whole, ADD, "-e", f"trace={CHANGING}", "-o", str(tmp_path / "log")) == 0
    case = Case(ADD, {}, files(whole))
    assert case.after.keys() == {"hub.toml", "hub.lock"}

    points = sample((tmp_path / "log").read_text())
    codes: Counter[int] = Counter()
    for call, number in points:
        here = begin(tmp_path / f"{call}-{number}", case)
        inject = f"inject={call}:signal=SIGKILL:when={number}"
        options = ("-e", f"trace={call}", "-e", inject, "-o", os.devnull)
        code = harness.run(here, ADD, *options, allowed=(0, -9, CHILD_KILLED))
        codes[code] += 1
        judge(here, case)
        assert code == 0 or code == -9 or files(here) == {}, "a trace that failed changes nothing"
        finish(harness, here, case)

    record_property("told", f"{codes[-9]} kills of the command, {codes[CHILD_KILLED]} of its child")
    assert codes[-9] >= 15
    assert codes[CHILD_KILLED] >= 2
    assert codes[0] <= 3
