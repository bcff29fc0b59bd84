"""Whole commands, as a user types them, with their whole output."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.forge import Forge

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


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def run(forge: Forge, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``hublock …`` in the project; what differs from run to run is written as <words>."""
    monkeypatch.setenv("HUBLOCK_MIRRORS", forge.mirrors)
    monkeypatch.setenv("HUBLOCK_CACHE_DIR", str(tmp_path / "store"))

    def call(*args: str, cwd: Path = project, **environ: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "hublock", *args],
            cwd=cwd,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=240,
            stdin=subprocess.DEVNULL,
        )
        return Done(told(done.stdout, project), told(done.stderr, project), done.returncode)

    return call


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


def told(text: str, project: Path) -> str:
    """Replace what differs from run to run."""
    text = text.replace(str(project.parent / "store"), "<store>").replace(str(project), "<project>")
    text = re.sub(r"\b[0-9a-f]{40,64}\b", "<hex>", text)
    text = re.sub(r"at [0-9a-f]{12}\b", "at <commit>", text)
    return re.sub(r"within (netns\+landlock|netns|landlock|guard)", "within <isolation>", text)
