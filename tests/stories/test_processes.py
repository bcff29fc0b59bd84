"""Many processes of one job: they load the same model from one store, and fetch it once."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.forge import Forge
from tests.stories.conftest import Done, Run, without_privileges

TRAIN = """\
import os, subprocess, sys, torch, torch.distributed as dist, hublock
if "--sync" in sys.argv:
    subprocess.run([sys.executable, "-m", "hublock", "sync", "--project", sys.argv[1]], check=True)
dist.init_process_group("gloo")
model = hublock.load("someone/net:v1", "net", pretrained=True, verify="state")
layer = torch.nn.parallel.DistributedDataParallel(model.layer)
layer(torch.ones(1, 4)).sum().backward()
total = layer.module.bias.detach().sum()
dist.all_reduce(total)
open(f"{sys.argv[1]}/rank{dist.get_rank()}", "w").write(f"{total.item()}")
dist.destroy_process_group()
"""
PLAIN = """\
import hublock, sys
print(hublock.load("net", verify="state").layer.bias.tolist())
"""
LOADED = 3.0
"""The sum of the biases of one model."""


def make_read_only(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o555)


def torchrun(project: Path, size: int, *words: str, before: Sequence[str] = ()) -> list[float]:
    """Run the training script as a job of ``size`` processes; return what each of them found."""
    script = project / "train.py"
    script.write_text(TRAIN)
    command = [*before, sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
    done = subprocess.run(
        [*command, str(script), str(project), *words],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HUBLOCK_PROJECT": str(project)},
    )
    assert done.returncode == 0, done.stderr
    return [float((project / f"rank{rank}").read_text()) for rank in range(size)]


def downloads(forge: Forge) -> int:
    return sum(request.method == "GET" for request in forge.seen("example.org"))


def together(commands: Sequence[Sequence[str]], cwd: Path) -> list[tuple[int, str, str]]:
    started = [
        subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    return [(process.returncode, out, err) for process in started for out, err in [process.communicate(timeout=400)]]


def test_a_cold_store_is_filled_once_by_eight_syncs(
    added: Done, run: Run, served: Forge, project: Path, store: Path
) -> None:
    shutil.rmtree(store)
    served.requests.clear()

    ended = together([[sys.executable, "-m", "hublock", "sync"]] * 8, project)

    assert [code for code, _, _ in ended] == [0] * 8, ended
    assert downloads(served) == 1
    assert sum("/info/refs" in request.path for request in served.requests) == 1
    assert run("verify", "--deep", HUBLOCK_MIRRORS="").code == 0


def test_a_job_loads_from_a_read_only_store(added: Done, run: Run, project: Path, store: Path) -> None:
    make_read_only(store)
    try:
        probe = subprocess.run([*without_privileges(), "touch", str(store / "v1" / "probe")], capture_output=True)
        assert probe.returncode != 0, "the store can be written: this test would prove nothing"
        assert torchrun(project, 2, before=without_privileges()) == [2 * LOADED] * 2
    finally:
        for path in (store, *store.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)


@pytest.mark.nightly
@pytest.mark.parametrize("cold", [True, False], ids=["cold", "warm"])
def test_eight_processes_of_torchrun_load_the_same(
    added: Done, run: Run, served: Forge, project: Path, store: Path, cold: bool
) -> None:
    if cold:
        shutil.rmtree(store)

    assert torchrun(project, 8, *(["--sync"] if cold else [])) == [8 * LOADED] * 8
    assert downloads(served) == (1 if cold else 0)


@pytest.mark.nightly
def test_eight_plain_processes_load_the_same_from_a_read_only_store(
    added: Done, run: Run, project: Path, store: Path
) -> None:
    make_read_only(store)
    (project / "plain.py").write_text(PLAIN)

    ended = together([[*without_privileges(), sys.executable, str(project / "plain.py")]] * 8, project)

    assert [(code, out) for code, out, _ in ended] == [(0, "[1.0, 2.0]\n")] * 8, ended
