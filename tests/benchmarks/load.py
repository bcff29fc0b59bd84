"""What strict loading costs, beside torch.hub, which verifies nothing.

Run it as ``python tests/benchmarks/load.py [--case FOLDER ENTRYPOINT [KEY=VALUE ...]] ... [--rounds 5]``. A folder is
a checked-out hub repository; its checkpoint is made up here, from the untrained model. Without cases it takes
``examples/publish``. To these come models of 45 MB and 350 MB that this script makes itself.

It compares ``hublock.load`` with ``torch.hub.load(source="local")`` on the same files, once as whole processes and
once inside a process that has loaded the model before. hublock hashes the tree and every weight again in each of these
loads; "stamps" is the second load of one process, which trusts files that look as when it hashed them. "cold" drops
tree and checkpoint from the page cache before each load (posix_fadvise; torch itself stays there). Times are the
fastest of all rounds, which take turns; ratios below 1 say that hublock is faster.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from hublock.core.arguments import parse_keyword  # noqa: E402 - found only now
from hublock.core.canonical import dump_lock  # noqa: E402
from hublock.core.digest import Digest  # noqa: E402
from hublock.core.lockfile import Lock, Model, Repo, Weights  # noqa: E402
from hublock.core.pickles import scan  # noqa: E402
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

torch.hub.load_state_dict_from_url = torch.utils.model_zoo.load_url = answer
torch.nn.Module.load_state_dict = put
torch.hub.load(folder, entrypoint, source="local", **kwargs)
print(json.dumps(made))
"""

HUBLOCK = """
import hublock, json, sys
model = hublock.load("someone/else:v1", sys.argv[2], **json.loads(sys.argv[3]))
"""
TORCH = """
import json, sys, torch.hub
model = torch.hub.load(sys.argv[1], sys.argv[2], source="local", **json.loads(sys.argv[3]))
"""
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
rounds, files = int(sys.argv[4]), json.loads(sys.argv[5])

def stock():
    return torch.hub.load(folder, entrypoint, source="local", **kwargs)

def ours(mmap, again):
    os.environ["HUBLOCK_MMAP"] = mmap
    return hublock.load("someone/else:v1", entrypoint, force_reload=again, **kwargs)

ways = {
    "torch.hub": stock,
    "hublock": lambda: ours("1", True),
    "hublock, mmap off": lambda: ours("0", True),
    "hublock, stamps": lambda: ours("1", False),
}
times = {name: [] for name in ways}
for number in range(rounds + 1):
    for name, way in ways.items():
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


@dataclass(frozen=True, slots=True, order=True)
class Cost:
    """Seconds."""

    wall: float
    cpu: float


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
        id="someone/else:v1",
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


def child(case: Case, program: str, *words: str, **environment: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", program, str(case.folder), case.entrypoint]
    command += [json.dumps(case.kwargs), *words]
    return subprocess.check_output(command, env=case.environment | environment, text=True)


def timed(case: Case, program: str, *, cold: bool, **environment: str) -> Cost:
    if cold:
        forget(case.files)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    child(case, program, **environment)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall=wall, cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def whole_processes(case: Case, rounds: int, *, cold: bool) -> dict[str, Cost]:
    """Return the fastest of ``rounds`` processes of each kind; the kinds take turns."""
    ways: dict[str, Callable[[], Cost]] = {
        "torch.hub": lambda: timed(case, TORCH, cold=cold),
        "hublock": lambda: timed(case, HUBLOCK, cold=cold),
        "hublock, mmap off": lambda: timed(case, HUBLOCK, cold=cold, HUBLOCK_MMAP="0"),
    }
    times: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(way())
    return {name: min(taken) for name, taken in times.items()}


def inside_one_process(case: Case, rounds: int, *, cold: bool) -> dict[str, Cost]:
    """Return the fastest of ``rounds`` loads in a process that has loaded the model before."""
    files = json.dumps([str(file) for file in case.files if cold])
    times = json.loads(child(case, INSIDE, str(rounds), files).splitlines()[-1])
    return {name: Cost(*min(taken)) for name, taken in times.items()}


def show(kind: str, times: dict[str, Cost]) -> None:
    stock = times.pop("torch.hub")
    told = [
        f"{name} {cost.wall:.3f} s = {cost.wall / stock.wall:.2f}x wall, {cost.cpu / stock.cpu:.2f}x CPU"
        for name, cost in times.items()
    ]
    print(f"  {kind:20} torch.hub {stock.wall:.3f} s; {'; '.join(told)}", flush=True)


def measure(case: Case, rounds: int) -> None:
    print(f"\n{case.name}: {len(case.files)} files, {case.size / 1e6:.1f} MB of weights", flush=True)
    states = {hashlib.sha256(child(case, program + TELL).encode()).hexdigest() for program in (TORCH, HUBLOCK)}
    if case.size and len(states) != 1:
        raise SystemExit(f"{case.name}: hublock and torch.hub loaded different weights")
    for cold in (False, True) if hasattr(os, "posix_fadvise") else (False,):
        name = "cold" if cold else "hot"
        show(f"whole process, {name}", whole_processes(case, rounds, cold=cold))
        show(f"inside one, {name}", inside_one_process(case, rounds, cold=cold))


def synthetic(work: Path) -> Iterable[tuple[str, Path, str, dict[str, object]]]:
    for number, (name, layers) in enumerate(MADE.items()):
        folder = work / f"synthetic{number}"
        folder.mkdir()
        (folder / "hubconf.py").write_text(SYNTHETIC.format(name=f"made{number}", layers=layers))
        yield f"{name}, copied into the model", folder, "module", {}
        yield f"{name}, taken as it is", folder, "model", {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", nargs="+", default=[], metavar="WORD")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where stores and caches are made")
    given = parser.parse_args()
    chosen = given.case or [[str(ROOT / "examples" / "publish"), "tiny", "pretrained=True"]]
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="hublock-bench-") as scratch:
        work = Path(scratch)
        cases: list[tuple[str, Path, str, dict[str, object]]] = []
        for folder, entrypoint, *words in chosen:
            kwargs: dict[str, object] = dict(map(parse_keyword, words))
            cases.append((f"{Path(folder).name} {entrypoint}", Path(folder), entrypoint, kwargs))
        for number, (name, folder, entrypoint, kwargs) in enumerate([*cases, *synthetic(work)]):
            place = work / str(number)
            place.mkdir()
            measure(prepare(name, folder, entrypoint, kwargs, place), given.rounds)
            shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
