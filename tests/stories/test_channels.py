"""Every way in which hub repositories fetch their files, and traces that do not come to their end."""

import io
from pathlib import Path

import pytest

from tests.forge import Forge
from tests.stories.conftest import NET, Run

KINDS = """\
dependencies = ["torch", "math"]
import functools, json, os, urllib.request
import torch
from net import Net
from torch.hub import load_state_dict_from_url
from torch.utils import model_zoo

HERE = os.path.dirname(os.path.abspath(__file__))
BASE = "https://example.org/"
_zoo = functools.partial(model_zoo.load_url, map_location="cpu")


def _filled(state):
    model = Net()
    model.load_state_dict(state)
    return model


def _two_files(size):
    return [_filled(load_state_dict_from_url(f"{BASE}{size}-{part}.pth")) for part in ("body", "head")]


def _retrieved():
    os.makedirs(".kept", exist_ok=True)
    urllib.request.urlretrieve(BASE + "retrieved", ".kept/retrieved")
    return _filled(torch.load(".kept/retrieved")["state_dict"])


def _into_its_own_tree():
    os.makedirs(HERE + "/kept", exist_ok=True)
    if not os.path.isfile(HERE + "/kept/own.pt"):
        torch.hub.download_url_to_file(BASE + "own.pt", HERE + "/kept/own.pt")
    return _filled(torch.load(HERE + "/kept/own.pt"))


def _as_the_api_says():
    with urllib.request.urlopen("https://api.example.org/latest") as answer:
        return _filled(_zoo(json.load(answer)["url"]))


def kinds(size="small"):
    try:
        torch.hub.load_state_dict_from_url("https://moved.example.org/gone.pth")
    except OSError:
        pass
    return torch.nn.ModuleList([
        *_two_files(size),
        _retrieved(),
        _filled(torch.load(HERE + "/in-tree.weights16")),
        _into_its_own_tree(),
        _as_the_api_says(),
        torch.hub.load("old/left", "net", trust_repo=True),
        torch.hub.load("someone/right:v1", "net"),
    ])
"""
TWIN = """\
dependencies = ["torch"]
import os, torch
from net import Net


def net():
    model = Net()
    model.load_state_dict(torch.hub.load_state_dict_from_url("https://example.org/SIDE/net.pth"))
    with open(os.path.join(os.path.dirname(__file__), "kept"), "w") as file:
        file.write("SIDE")
    return model
"""
SUMS = """\
import hublock, os
os.chdir(os.path.dirname(os.path.abspath(__file__)))
model = hublock.load("kinds", verify="state")
print([int(part.layer.weight.sum()) for part in model])
"""


def weights(value: int, *, below: str | None = None) -> bytes:
    """Return a checkpoint of Net whose eight weights sum up to ``8 * value``."""
    import torch

    buffer = io.BytesIO()
    state = {"layer.weight": torch.full((2, 4), float(value)), "layer.bias": torch.zeros(2)}
    torch.save({below: state} if below else state, buffer)
    return buffer.getvalue()


@pytest.fixture
def kinds(forge: Forge) -> Forge:
    forge.repo("someone/kinds", {"hubconf.py": KINDS, "net.py": NET, "in-tree.weights16": weights(4)})
    for side, owner in (("left", "old"), ("right", "someone")):
        forge.repo(f"someone/{side}", {"hubconf.py": TWIN.replace("SIDE", side), "net.py": NET}).tag("v1")
        if owner == "old":
            forge.repo("old/left").renamed_to = "someone/left"
    for value, path in enumerate(("small-body.pth", "small-head.pth"), start=1):
        forge.serve(f"https://example.org/{path}", weights(value))
    forge.serve("https://example.org/retrieved", weights(3, below="state_dict"))
    forge.asset("https://example.org/own.pt", weights(5))
    forge.serve("https://api.example.org/latest", b'{"url": "https://example.org/latest.pth"}', headers=JSON)
    forge.serve("https://example.org/latest.pth", weights(6))
    forge.serve("https://example.org/left/net.pth", weights(7))
    forge.serve("https://example.org/right/net.pth", weights(8))
    return forge


JSON = {"Content-Type": "application/json"}


def test_every_kind_of_file_is_found_and_loads_on_another_machine(
    kinds: Forge, run: Run, python: Run, project: Path, tmp_path: Path
) -> None:
    done = run("add", "someone/kinds", "kinds", "--kwarg", "size=small")

    assert done.code == 0, done
    assert done.err.endswith(
        "          7 files, 12.6 KiB; traced within <isolation>, confirmed\n"
        "          loads old/left, locked with it\n"
        "          loads someone/right:v1, locked with it\n"
    ), done
    lock = (project / "hub.lock").read_text()
    files = [line.partition('"')[2].partition('"')[0] for line in lock.splitlines() if line.startswith("    { url =")]
    assert files == [
        "https://example.org/latest.pth",
        "https://example.org/left/net.pth",
        "https://example.org/own.pt",
        "https://example.org/retrieved",
        "https://example.org/right/net.pth",
        "https://example.org/small-body.pth",
        "https://example.org/small-head.pth",
    ]
    assert '    { path = "in-tree.weights16", pickle = "tensors" },' in lock
    assert "writes-tree = true" in lock
    assert 'tolerated = ["https://moved.example.org"]' in lock
    assert "kinds(size='small') was refused https://moved.example.org and loads without\n" in done.err
    assert 'dependencies = ["torch", "math"]' in lock
    assert '"torch==' in lock.partition("traced-with = [")[2].partition("]")[0]

    kinds.serve("https://api.example.org/latest", b'{"url": "https://example.org/other.pth"}', headers=JSON)
    before = len(kinds.requests)
    assert run("lock", "--retrace", "kinds").err.endswith("hub.lock is current\n")
    assert {request.host for request in kinds.requests[before:]} == {"moved.example.org"}
    elsewhere = {"HUBLOCK_CACHE_DIR": str(tmp_path / "elsewhere")}
    assert run("sync", **elsewhere).code == 0
    loaded = python(SUMS, HUBLOCK_MIRRORS="", **elsewhere)
    assert loaded.out == "[8, 16, 24, 32, 40, 48, 56, 64]\n", loaded
    # whoever wrote beside its code wrote into a copy
    checked = run("verify", "--deep", HUBLOCK_MIRRORS="", **elsewhere)
    assert checked.code == 0, checked


TRAVELLING = """\
dependencies = ["torch"]
import os, torch
from net import Net
def net():
    model = Net()
    # only what a trace keeps of the environment can stand for another machine here
    model.load_state_dict(torch.hub.load_state_dict_from_url(f"https://example.org/{os.environ['LANG']}.pth"))
    return model
"""


def test_tracing_again_on_another_machine_adds_its_files_and_removes_none(
    forge: Forge, run: Run, project: Path
) -> None:
    forge.repo("someone/travels", {"hubconf.py": TRAVELLING, "net.py": NET})
    forge.serve("https://example.org/C.pth", weights(1))
    forge.serve("https://example.org/C.UTF-8.pth", weights(1))
    first = run("add", "someone/travels", "net", "--no-confirm", LANG="C")
    assert first.err.endswith("1 file, 1.8 KiB; traced within <isolation>, unconfirmed\n"), first
    before = (project / "hub.lock").read_text()
    assert "state = " not in before

    again = run("lock", "--retrace", "net", LANG="C.UTF-8")

    assert again.err.endswith("2 files, 3.6 KiB; traced within <isolation>, confirmed\nhub.lock was updated\n"), again
    after = (project / "hub.lock").read_text()
    gone = set(before.splitlines()) - set(after.splitlines())
    assert gone == {'traced = "unconfirmed"'}
    assert "https://example.org/C.UTF-8.pth" in after
    assert "state = " in after


CRASHING = """\
dependencies = ["torch"]
import os, torch
def net():
    torch.hub.load_state_dict_from_url("https://example.org/net.pth")
    os._exit(3)
"""


def test_a_trace_that_breaks_off_locks_nothing_and_shows_what_it_had_fetched(
    served: Forge, run: Run, project: Path
) -> None:
    served.repo("someone/crashes", {"hubconf.py": CRASHING})

    done = run("add", "someone/crashes", "net")

    assert str(done) == (
        "exit 6\n--- stdout\n--- stderr\n"
        "net() had fetched https://example.org/net.pth\n"
        "error: someone/crashes net ended the process with status 3\n"
        "   hint: run the command again with -v to see all that it printed\n"
    )
    assert list(project.iterdir()) == []


CURLING = """\
dependencies = ["torch"]
import os, torch
def net():
    torch.hub.download_url_to_file("https://example.org/net.pth", "net.pth")
    os.system("curl --location --output other.pth https://example.org/other.pth")
    return torch.load("other.pth")
"""


def test_a_fetch_that_cannot_be_recorded_is_an_incomplete_trace(served: Forge, run: Run, project: Path) -> None:
    served.repo("someone/curls", {"hubconf.py": CURLING})

    done = run("add", "someone/curls", "net")

    assert str(done) == (
        "exit 6\n--- stdout\n--- stderr\n"
        "net() had fetched https://example.org/net.pth\n"
        "error: someone/curls net raised FileNotFoundError: [Errno 2] No such file or directory: 'other.pth' "
        "(it was refused subprocess:curl) (hubconf.py:6)\n"
        "   hint: run the command again with -v to see all that it printed\n"
    )
    assert list(project.iterdir()) == []


def test_what_is_declared_may_be_consented_to(forge: Forge, run: Run, project: Path) -> None:
    import pickle

    forge.repo("someone/net", {"hubconf.py": "dependencies = ['no_such_thing']\ndef net():\n    pass\n"})
    forge.serve("https://example.org/net.pkl", pickle.dumps(Path("x")))
    declare = ("add", "someone/net", "net", "--no-trace", "--url", "https://example.org/net.pkl")

    refused = run(*declare)
    assert refused.code == 6
    assert "hint: hublock add someone/net net … --allow-pickle, if you trust its author" in refused.err
    agreed = run(*declare, "--allow-pickle")

    assert agreed.code == 0, agreed
    assert 'allow-pickle = ["pathlib' in (project / "hub.toml").read_text()
    assert 'traced = "declared"' in (project / "hub.lock").read_text()
    assert run("lock", "--check").code == 0
