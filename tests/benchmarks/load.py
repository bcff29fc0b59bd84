"""What strict loading costs, beside torch.hub, which verifies nothing.

Run it as ``python tests/benchmarks/load.py [--case FOLDER ENTRYPOINT [KEY=VALUE ...]] ... [--rounds 9]``. A folder is
a checked-out hub repository; its checkpoint is made up here, from the untrained model. Without cases it takes
``examples/publish``, and models of 45 MB and 350 MB that this script makes itself.

It compares ``hublock.load`` with ``torch.hub.load(source="local")`` on the same files:

- whole process: Python starts, imports what it needs, loads once, ends. ``hublock`` leaves it to the load to import
  torch, so that the checkpoint is hashed meanwhile; ``after import torch`` is the script that has imported it before.
- first call: the load alone, in a script that has imported torch (and nothing else of hublock than ``hublock``).
- later calls: the load alone, in a process that has loaded the model before.

hublock hashes the tree and every weight again in each of these loads; "stamps" is a later call that trusts files that
look as when this process hashed them: what a later call does unless it says ``force_reload``. "cold" drops tree and
checkpoint from the page cache before each load (posix_fadvise; torch itself stays there). Times are medians of all
rounds, in which the ways take turns; ratios below 1 say that hublock is faster.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from hublock.core.arguments import parse_keywords  # noqa: E402 - found only now
from hublock.core.canonical import dump_lock  # noqa: E402
from hublock.core.digest import Digest  # noqa: E402
from hublock.core.lockfile import Lock, Model, Repo, Weights  # noqa: E402
from hublock.core.pickles.scanning import scan  # noqa: E402
from hublock.core.tree import EXECUTABLE, FILE, SourceFile  # noqa: E402
from hublock.store.store import Store  # noqa: E402

SYNTHETIC = """
dependencies = ["torch"]
import torch
URL = "https://example.org/{name}.pth"

def model(layers={layers}):
    with torch.device("meta"):
        made = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024, bias=False) for _ in range(layers)))
    made.load_state_dict(torch.hub.load_state_dict_from_url(URL, progress=False), assign=True)
    return made

def module(layers={layers}):
    made = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024, bias=False) for _ in range(layers)))
    made.load_state_dict(torch.hub.load_state_dict_from_url(URL, progress=False))
    return made
"""
MADE = {"synthetic 45 MB": 11, "synthetic 350 MB": 87}
"""How many layers of 4 MiB."""

PROBE = """
import json, sys, torch, torch.hub, torch.utils.model_zoo
from pathlib import Path
folder, entrypoint, kwargs, out = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), Path(sys.argv[4])
made = []

class Probe(dict):
    def __init__(self, url, keys=()):
        self.url, self.keys_ = url, keys
    def __getitem__(self, key):
        return Probe(self.url, (*self.keys_, key))
    def __contains__(self, key):
        return False

def answer(url, *args, **options):
    return Probe(url)

def full(tensor):
    return torch.ones(tensor.shape, dtype=tensor.dtype) if tensor.is_meta else tensor.clone()

def put(module, state, *args, **options):
    if isinstance(state, Probe):
        value = {key: full(tensor) for key, tensor in module.state_dict().items()}
        for key in reversed(state.keys_):
            value = {key: value}
        path = out / str(len(made))
        torch.save(value, path)
        made.append((state.url, str(path)))
    return torch.nn.modules.module._IncompatibleKeys([], [])

torch.hub.load_state_dict_from_url = torch.utils.model_zoo.load_url = answer
torch.nn.Module.load_state_dict = put
torch.hub.load(folder, entrypoint, source="local", **kwargs)
print(json.dumps(made))
"""

LOAD = """
import json, sys, time
import {modules}
began = time.perf_counter()
model = {load}(sys.argv[{first}], sys.argv[2], {options}**json.loads(sys.argv[3]))
print(time.perf_counter() - began)
"""
TORCH = LOAD.format(modules="torch.hub", load="torch.hub.load", first=1, options='source="local", ')
HUBLOCK = LOAD.format(modules="hublock", load="hublock.load", first=4, options="")
AFTER_TORCH = LOAD.format(modules="torch, hublock", load="hublock.load", first=4, options="")
WAYS = {"torch.hub": TORCH, "hublock": HUBLOCK, "hublock after import torch": AFTER_TORCH}
ID = "someone/else:v1"
TELL = """
import hashlib
engine = hashlib.sha256()
for name, tensor in sorted(model.state_dict().items()):
    engine.update(name.encode() + tensor.numpy(force=True).tobytes() if tensor.numel() else name.encode())
print(engine.hexdigest())
"""
INSIDE = """
import json, os, sys, time, torch.hub, hublock
folder, entrypoint, kwargs = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
rounds, files = int(sys.argv[5]), json.loads(sys.argv[6])

def stock():
    return torch.hub.load(folder, entrypoint, source="local", **kwargs)

def ours(mmap, again):
    os.environ["HUBLOCK_MMAP"] = mmap
    return hublock.load(sys.argv[4], entrypoint, force_reload=again, **kwargs)

ways = {
    "torch.hub": stock,
    "hublock": lambda: ours("1", True),
    "hublock, mmap off": lambda: ours("0", True),
    "hublock, stamps": lambda: ours("1", False),
}
times = {name: [] for name in ways}
for number in range(rounds + 1):
    for name, way in list(ways.items())[:: 1 if number % 2 else -1]:
        for file in files:
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
        began, used = time.perf_counter(), time.process_time()
        model = way()
        if number:
            times[name].append((time.perf_counter() - began, time.process_time() - used))
        del model
print(json.dumps(times))
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds: medians of several rounds."""

    wall: float
    cpu: float

    @classmethod
    def of(cls, rounds: Iterable[tuple[float, float]]) -> "Cost":
        """Take the medians of wall and CPU times."""
        walls, cpus = zip(*rounds, strict=True)
        return cls(statistics.median(walls), statistics.median(cpus))


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One model, ready to be loaded in both ways."""

    name: str
    folder: Path
    """A working tree of the repository, as torch.hub would have it."""
    entrypoint: str
    kwargs: dict[str, object]
    files: list[Path]
    """Everything that is read from disk."""
    size: int
    """Of the checkpoints, in bytes."""
    environment: dict[str, str] = field(default_factory=dict)


def tracked(folder: Path) -> list[SourceFile]:
    """Return the files of a working tree; bytecode and git's own folder are no part of it."""
    files = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not path.is_symlink() and not {".git", "__pycache__"} & set(parts):
            mode = EXECUTABLE if os.access(path, os.X_OK) and path.stat().st_mode & 0o100 else FILE
            files.append(SourceFile(path="/".join(parts), mode=mode, data=path.read_bytes()))
    return files


def made_up(folder: Path, entrypoint: str, kwargs: dict[str, object], out: Path) -> list[tuple[str, Path]]:
    """Return the URLs that a model asks for, with checkpoints made of its untrained weights."""
    out.mkdir()
    words = [sys.executable, "-c", PROBE, str(folder), entrypoint, json.dumps(kwargs), str(out)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    made = [(url, Path(path)) for url, path in json.loads(done.stdout.splitlines()[-1])]
    for url, path in made:
        # what the repository itself holds is the real one, whose name may claim its hash
        for real in folder.rglob(url.rpartition("/")[2]):
            shutil.copyfile(real, path)
    return made


def prepare(name: str, folder: Path, entrypoint: str, kwargs: dict[str, object], work: Path) -> Case:
    """Make project, store and torch.hub's own cache for one model."""
    source, store = work / "tree", Store(work / "store")
    shutil.copytree(folder, source, ignore=shutil.ignore_patterns(".git", "__pycache__"))
    stored = store.add_tree(tracked(source))
    checkpoints = work / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    weights, files = [], [path for place in (source, stored.root) for path in place.rglob("*") if path.is_file()]
    for url, path in made_up(source, entrypoint, kwargs, work / "made"):
        digest = store.add_blob(path)
        with path.open("rb") as opened:
            weights.append(Weights(url=url, digest=digest, size=path.stat().st_size, pickle=scan(opened)))
        shutil.move(path, checkpoints / url.rpartition("/")[2])
        blob = store.blob(digest)
        files += [checkpoints / url.rpartition("/")[2], *([blob] if blob else [])]
    model = Model(name="bench", entrypoint=entrypoint, weights=tuple(weights))
    repo = Repo(
        id=ID,
        ref="refs/tags/v1",
        commit="0" * 40,
        tree=Digest("git-sha1", "0" * 40),
        digest=stored.digest,
        models=(model,),
    )
    (work / "hub.lock").write_text(dump_lock(Lock(repos=(repo,))))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HUBLOCK_PROJECT": str(work),
        "HUBLOCK_CACHE_DIR": str(work / "store"),
        "TORCH_HOME": str(work / "torch"),
    }
    # a Python that writes no bytecode would compile hublock, and the repository, in every round
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    size = sum(item.size for item in weights)
    return Case(
        name=name, folder=source, entrypoint=entrypoint, kwargs=kwargs, files=files, size=size, environment=environment
    )


def forget(files: Iterable[Path]) -> None:
    """Drop files from the page cache."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def child(case: Case, program: str, *words: str) -> str:
    """Run a program and return the last line it prints."""
    command = [sys.executable, "-W", "ignore", "-c", program, str(case.folder), case.entrypoint]
    command += [json.dumps(case.kwargs), ID, *words]
    return subprocess.check_output(command, env=case.environment, text=True).splitlines()[-1]


def timed(case: Case, program: str, *, cold: bool) -> tuple[float, float, float]:
    """Return wall and CPU time of a process, and wall time of the load in it."""
    if cold:
        forget(case.files)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    call = float(child(case, program))
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, call


def in_new_processes(case: Case, rounds: int, *, cold: bool) -> tuple[dict[str, Cost], dict[str, Cost]]:
    """Return what whole processes cost, and the load alone in those that have imported torch before."""
    times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in WAYS}
    for number in range(rounds):
        for name in list(WAYS)[:: 1 if number % 2 else -1]:
            times[name].append(timed(case, WAYS[name], cold=cold))
    whole = {name: Cost.of((wall, cpu) for wall, cpu, _ in taken) for name, taken in times.items()}
    calls = {name: Cost.of((call, call) for _, _, call in taken) for name, taken in times.items()}
    del calls["hublock"]
    return whole, calls


def inside_one_process(case: Case, rounds: int, *, cold: bool) -> dict[str, Cost]:
    """Return what loads cost in a process that has loaded the model before."""
    files = json.dumps([str(file) for file in case.files if cold])
    times = json.loads(child(case, INSIDE, str(rounds), files))
    return {name: Cost.of(taken) for name, taken in times.items()}


def show(kind: str, times: dict[str, Cost], *, cpu: bool = True) -> None:
    stock = times.pop("torch.hub")
    told = [
        f"{name} {cost.wall:.3f} s = {cost.wall / stock.wall:.2f}x" + f" ({cost.cpu / stock.cpu:.2f}x CPU)" * cpu
        for name, cost in times.items()
    ]
    print(f"  {kind:20} torch.hub {stock.wall:.3f} s; {'; '.join(told)}", flush=True)


def measure(case: Case, rounds: int) -> None:
    print(f"\n{case.name}: {len(case.files)} files, {case.size / 1e6:.1f} MB of weights", flush=True)
    states = {child(case, program + TELL) for program in WAYS.values()}
    if case.size and len(states) != 1:
        raise SystemExit(f"{case.name}: hublock and torch.hub loaded different weights")
    for cold in (False, True) if hasattr(os, "posix_fadvise") else (False,):
        name = "cold" if cold else "hot"
        whole, calls = in_new_processes(case, rounds, cold=cold)
        show(f"whole process, {name}", whole)
        show(f"first call, {name}", calls, cpu=False)
        show(f"later calls, {name}", inside_one_process(case, rounds, cold=cold))


Chosen = tuple[str, Path, str, dict[str, object]]
"""Name, folder, entry point and its arguments."""


def chosen(cases: Iterable[list[str]]) -> list[Chosen]:
    return [
        (f"{Path(folder).name} {entrypoint}", Path(folder), entrypoint, {**parse_keywords(words)})
        for folder, entrypoint, *words in cases
    ]


def own(work: Path) -> Iterable[Chosen]:
    yield from chosen([[str(ROOT / "examples" / "publish"), "tiny", "pretrained=True"]])
    for number, (name, layers) in enumerate(MADE.items()):
        folder = work / f"synthetic{number}"
        folder.mkdir()
        (folder / "hubconf.py").write_text(SYNTHETIC.format(name=f"made{number}", layers=layers))
        yield f"{name}, copied into the model", folder, "module", {}
        yield f"{name}, taken as it is", folder, "model", {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", nargs="+", default=[], metavar="WORD")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="where stores and caches are made")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="hublock-bench-") as scratch:
        work = Path(scratch)
        for number, (name, folder, entrypoint, kwargs) in enumerate(chosen(given.case) or own(work)):
            place = work / str(number)
            place.mkdir()
            measure(prepare(name, folder, entrypoint, kwargs, place), given.rounds)
            shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
