"""Whole commands, as a user types them, with their whole output."""

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from hublock.cli.main import main
from tests.forge import Forge, Link

NET = """\
import torch


class Net(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layer = torch.nn.Linear(width, 2)
"""

HUBCONF = """\
dependencies = ["torch"]
import torch
from net import Net


def net(pretrained=False, width=4):
    \"\"\"A small network.

    pretrained (bool): load the weights.
    \"\"\"
    model = Net(width)
    if pretrained:
        url = "https://example.org/net.pth"
        model.load_state_dict(torch.hub.load_state_dict_from_url(url, progress=False))
    return model


def _helper():
    pass
"""


@dataclass(frozen=True)
class Done:
    out: str
    err: str
    code: int

    def __str__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out}--- stderr\n{self.err}"


Run = Callable[..., Done]


@dataclass(frozen=True)
class Traced:
    """A project with one traced model, made once: a process that imports torch costs seconds."""

    project: Path
    store: Path
    done: Done


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def served(forge: Forge) -> Forge:
    """A forge with one hub repository and its checkpoint."""
    publish(forge)
    return forge


@pytest.fixture(scope="session")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    folder = tmp_path_factory.mktemp("traced")
    project = folder / "project"
    project.mkdir()
    with Forge() as forge:
        publish(forge)
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "HUBLOCK_MIRRORS": forge.mirrors,
            "HUBLOCK_CACHE_DIR": str(folder / "store"),
        }
        done = hublock("add", "someone/net:v1", "net", "--kwarg", "pretrained=True", cwd=project, environ=environ)
    assert done.code == 0, done
    return Traced(project, folder / "store", done)


@pytest.fixture
def added(traced: Traced, served: Forge, project: Path, store: Path) -> Done:
    """The project after ``hublock add someone/net:v1 net --kwarg pretrained=True``, and what that said."""
    shutil.copytree(traced.project, project, dirs_exist_ok=True)
    shutil.copytree(traced.store, store, symlinks=True)
    return traced.done


@pytest.fixture
def run(forge: Forge, project: Path, store: Path, inside: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``hublock …`` in the project; what differs from run to run is written as <words>."""
    monkeypatch.setenv("HUBLOCK_MIRRORS", forge.mirrors)
    monkeypatch.setenv("HUBLOCK_CACHE_DIR", str(store))

    def call(*args: str, cwd: Path = project, **environ: str) -> Done:
        if args[0] == "run" or "--" in args:
            return hublock(*args, cwd=cwd, environ={**os.environ, **environ})
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(cwd)
            for name, value in environ.items():
                patch.setenv(name, value)
            done = inside(*args)
        return Done(told(done.out, cwd), told(done.err, cwd), done.code)

    return call


@pytest.fixture(scope="session")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a project that was locked without running anything, and its store; made once per session."""
    folder = tmp_path_factory.mktemp("declared")
    (folder / "project").mkdir()
    (folder / "project" / "best.pt").write_bytes(b"handed in")
    words = ["--no-trace", "--url"]
    with Forge() as forge, pytest.MonkeyPatch.context() as patch:
        publish_plain(forge)
        patch.chdir(folder / "project")
        for name, value in {
            "HOME": folder,
            "HUBLOCK_CACHE_DIR": folder / "store",
            "HUBLOCK_MIRRORS": forge.mirrors,
        }.items():
            patch.setenv(name, str(value))
        assert (
            main(["add", "-q", "a/tagged:v1", "net", *words, "https://example.org/net.pth", "--input", "best.pt"]) == 0
        )
        assert main(["add", "-q", "b/branch", "big", *words, "https://example.org/big.pth"]) == 0
        assert main(["add", "-q", "--url", "https://example.org/backbone.bin", "--name", "backbone"]) == 0
    return folder


@pytest.fixture
def pinned(declared: Path, forge: Forge, project: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Forge:
    """The forge of a project that pins a tag, a branch, their files and one of its own; the current folder is there."""
    shutil.copytree(declared / "project", project, dirs_exist_ok=True)
    shutil.copytree(declared / "store", store, symlinks=True)
    publish_plain(forge)
    monkeypatch.chdir(project)
    monkeypatch.setenv("HUBLOCK_CACHE_DIR", str(store))
    return forge


@pytest.fixture
def inside(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``hublock …`` in this process, and return what it says as it stands."""

    def call(*args: str) -> Done:
        capsys.readouterr()
        try:
            code = main(list(args))
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            code = stop.code
        seen = capsys.readouterr()
        return Done(seen.out, seen.err, code)

    return call


@pytest.fixture
def hub(project: Path, inside: Run) -> Run:
    """Run ``hublock …`` in this process; what differs from run to run is written as <words>."""

    def call(*args: str) -> Done:
        done = inside(*args)
        return Done(told(done.out, project), told(done.err, project), done.code)

    return call


PLAIN = """\
dependencies = ["torch"]


def NAME(pretrained=False):
    return "https://example.org/NAME.pth"
"""


def publish_plain(forge: Forge) -> None:
    """Put two hub repositories on a forge that need no torch; their commits are the same every time."""
    forge.repo("a/tagged", {"hubconf.py": PLAIN.replace("NAME", "net"), "readme.md": "read me"}).tag("v1")
    forge.repo("b/branch", {"hubconf.py": PLAIN.replace("NAME", "big"), "link": Link("hubconf.py")})
    forge.serve("https://example.org/net.pth", b"the weights of net")
    forge.serve("https://example.org/big.pth", b"the weights of big")
    forge.serve("https://example.org/backbone.bin", b"a backbone")


def publish(forge: Forge) -> None:
    """Put the hub repository of these stories on a forge; its commit is the same every time."""
    forge.repo("someone/net", {"hubconf.py": HUBCONF, "net.py": NET}).tag("v1")
    forge.serve("https://example.org/net.pth", state_dict(4))


def hublock(*args: str, cwd: Path, environ: Mapping[str, str]) -> Done:
    """Run ``hublock …`` as its own process."""
    done = subprocess.run(
        [sys.executable, "-m", "hublock", *args],
        cwd=cwd,
        env=dict(environ),
        capture_output=True,
        text=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
    )
    return Done(told(done.stdout, cwd), told(done.stderr, cwd), done.returncode)


@pytest.fixture
def python(run: Run, project: Path) -> Run:
    """Run a script that lies in the project."""

    def call(script: str, **environ: str) -> Done:
        (project / "script.py").write_text(script)
        done = subprocess.run(
            [sys.executable, str(project / "script.py")],
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=240,
        )
        return Done(told(done.stdout, project), told(done.stderr, project), done.returncode)

    return call


def without_privileges() -> list[str]:
    """Return the command that makes mode bits count for root as well."""
    if os.name != "posix" or os.geteuid() != 0:
        return []
    dropped = "-dac_override,-dac_read_search"
    return ["setpriv", "--bounding-set", dropped, "--inh-caps", dropped]


def told(text: str, project: Path) -> str:
    """Replace what differs from run to run."""
    text = text.replace(str(project.parent / "store"), "<store>").replace(str(project), "<project>")
    text = re.sub(r"\b[0-9a-f]{40,64}\b", "<hex>", text)
    text = re.sub(r"at [0-9a-f]{12}\b", "at <commit>", text)
    return re.sub(r"within (netns\+landlock|netns|landlock|guard)", "within <isolation>", text)


def state_dict(width: int) -> bytes:
    """Return a real checkpoint of Net, the same bytes every time."""
    import torch

    buffer = io.BytesIO()
    weight = torch.arange(2.0 * width).reshape(2, width)
    torch.save({"layer.weight": weight, "layer.bias": torch.tensor([1.0, 2.0])}, buffer)
    return buffer.getvalue()
