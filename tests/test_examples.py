"""The examples do what their texts say."""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from examples.loopback import RELEASE, Loopback, git, publish
from hublock.core.hubconf import read_hubconf
from hublock.core.lockreader import parse_lock
from hublock.core.pickles.scanning import scan

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
PUBLISH, PAPER = EXAMPLES / "publish", EXAMPLES / "paper"


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this Python, with the checkout importable."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        text=True,
        capture_output=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def loopback() -> Iterator[Loopback]:
    with Loopback() as loopback:
        yield loopback


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    """A clone of the paper's project."""
    return shutil.copytree(PAPER, tmp_path / "paper")


def test_the_quickstart_ends_as_it_says(tmp_path: Path) -> None:
    done = run(EXAMPLES / "quickstart.py", cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "9 checks, all as they should be"
    assert re.search(
        r"Locked tiny: tiny\(pretrained=True\) of hublock-examples/tiny:v1\.0 at [0-9a-f]{12}", done.stdout
    )
    assert "loaded Tiny of 321 parameters from hublock.repos." in done.stdout
    assert "the model says 0.99" in done.stdout
    assert done.stdout.count("[exit code 3]") == 2
    assert "[…]\nhublock.errors.DigestMismatch: the stored bytes of https://" in done.stdout
    assert "Warning" not in done.stdout


def test_the_published_repository_is_the_same_on_every_machine(tmp_path: Path) -> None:
    bare = publish(tmp_path)

    [repo] = parse_lock((PAPER / "hub.lock").read_text(), file="hub.lock").repos
    assert git("rev-parse", "refs/tags/v1.0", cwd=bare) == repo.commit
    assert git("rev-parse", "v1.0^{tree}", cwd=bare) == repo.tree.hex
    assert git("ls-tree", "-r", "--name-only", "v1.0", cwd=bare).split() == [
        "README.md", "hubconf.py", "tiny.py", "train.py", "weights/tiny-in-tree.pt",
    ]  # fmt: skip


def test_the_published_files_are_small_and_hold_tensors_only() -> None:
    files = [*(PUBLISH / "weights").iterdir(), *(PUBLISH / "release").iterdir()]

    assert len(files) == 3
    for path in files:
        assert path.stat().st_size < 10_000
        with path.open("rb") as file:
            assert scan(file) == "tensors", path


def test_a_release_asset_is_named_after_its_bytes() -> None:
    for path in (PUBLISH / "release").iterdir():
        assert path.stem.endswith("-" + hashlib.sha256(path.read_bytes()).hexdigest()[:8])


def test_the_hubconf_follows_the_publishing_rules() -> None:
    source = (PUBLISH / "hubconf.py").read_bytes()
    hubconf = read_hubconf(source, file="hubconf.py")

    assert [entry.name for entry in hubconf.entrypoints] == ["tiny", "tiny_in_tree"]
    assert all(entry.doc and "Returns:" in entry.doc for entry in hubconf.entrypoints)
    assert hubconf.dependencies == ("torch",)
    assert not hubconf.dynamic
    named = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    assert {path.name for path in (PUBLISH / "weights").iterdir()} <= named


def test_every_url_of_the_paper_is_a_release_asset(loopback: Loopback) -> None:
    lock = parse_lock((PAPER / "hub.lock").read_text(), file="hub.lock")
    locked = {file.url: (file.digest.hex, file.size) for repo in lock.repos for m in repo.models for file in m.weights}
    locked |= {file.url: (file.digest.hex, file.size) for file in lock.weights}

    assert locked == {
        f"https://github.com{path}": (hashlib.sha256(data).hexdigest(), len(data))
        for path, data in loopback.assets.items()
    }
    assert RELEASE in (PAPER / "reproduce.py").read_text()


def test_list_and_help_read_the_authors_folder(tmp_path: Path) -> None:
    listed = run("-m", "hublock", "list", PUBLISH, cwd=tmp_path)
    helped = run("-m", "hublock", "help", ".", "tiny", cwd=PUBLISH)

    assert (listed.returncode, helped.returncode) == (0, 0), listed.stderr + helped.stderr
    assert [line.partition("(")[0] for line in listed.stdout.splitlines()] == ["tiny", "tiny_in_tree"]
    assert helped.stdout.startswith("tiny(pretrained: bool=False")
    assert "fetch the trained weights" in helped.stdout


def test_the_paper_is_replicated_from_its_committed_lock(loopback: Loopback, paper: Path) -> None:
    before = (paper / "hub.lock").read_bytes()
    mirrors = {"HUBLOCK_MIRRORS": loopback.mirrors}

    for command in (["sync", "--locked"], ["verify"], ["lock", "--check"], ["lock"], ["verify", "--deep"]):
        done = run("-m", "hublock", *command, cwd=paper, **mirrors)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    assert (paper / "hub.lock").read_bytes() == before
    done = run("reproduce.py", cwd=paper)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["same", "same"]


def test_the_paper_reports_a_number_that_differs(loopback: Loopback, paper: Path) -> None:
    script = paper / "reproduce.py"
    script.write_text(script.read_text().replace("0.004828", "0.004838"))
    assert run("-m", "hublock", "sync", cwd=paper, HUBLOCK_MIRRORS=loopback.mirrors).returncode == 0

    done = run("reproduce.py", cwd=paper)

    assert done.returncode == 1, done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["same", "DIFFERENT"]


def test_locking_the_paper_anew_gives_the_committed_lock(loopback: Loopback, paper: Path) -> None:
    committed = tomllib.loads((paper / "hub.lock").read_text())
    (paper / "hub.lock").unlink()

    done = run("-m", "hublock", "lock", cwd=paper, HUBLOCK_MIRRORS=loopback.mirrors)

    assert done.returncode == 0, done.stdout + done.stderr
    fresh = tomllib.loads((paper / "hub.lock").read_text())
    for lock, torch in ((committed, "2.13.0"), (fresh, version("torch").partition("+")[0])):
        for model in (model for repo in lock["repo"] for model in repo["model"]):
            # these two are facts of the machine that locks
            assert f"torch=={torch}" in model.pop("traced-with")
            assert model.pop("isolation")
    assert fresh == committed


def test_the_loopback_runs_a_command_and_returns_its_exit_code(tmp_path: Path) -> None:
    command = (
        "import os, sys; sys.exit(7 if os.environ['HUBLOCK_MIRRORS'].startswith('https://=http://127.0.0.1:') else 1)"
    )

    assert run(EXAMPLES / "loopback.py", sys.executable, "-c", command, cwd=tmp_path).returncode == 7
    assert "COMMAND" in run(EXAMPLES / "loopback.py", cwd=tmp_path).stderr
