"""Whatever was done to the store or does not suit the lock is refused before the first line of a repository runs.

One process tries everything, as a process that imports torch costs seconds; a module that was imported once would not
be looked at again, so a good load at its end shows that nothing before it got as far as an import.
"""

import subprocess
import sys
from pathlib import Path

from tests.stories.conftest import Done, Run

PRELUDE = """\
import importlib.metadata, importlib.util, os, py_compile, shutil, sys, warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import hublock
from hublock.actions import load as loading
from hublock.core.canonical import dump_lock
from hublock.core.lockreader import parse_lock

assert not sys.dont_write_bytecode
store = Path(os.environ["HUBLOCK_CACHE_DIR"]) / "v1"
[listing] = store.glob("trees/git-sha256/*/*/listing")
[blob] = [path for path in store.glob("blobs/sha256/*/*") if not path.suffix and path.stat().st_size > 1000]
tree = listing.parent / "tree"
evil = Path(__file__).with_name("evil.py")
lock_file = Path(__file__).with_name("hub.lock")
lock = parse_lock(lock_file.read_text(), file="hub.lock")
EVIL = "import builtins; builtins.ran = True"

def attempt(what, **options):
    try:
        hublock.load("net", **options)
        said = "loaded"
    except Exception as error:
        said = f"{type(error).__name__} {getattr(error, 'hint', '')}"
    ran = hasattr(__import__("builtins"), "ran") or any(name.startswith("hublock.repos.") for name in sys.modules)
    print(f"{what}: {said}{', after it ran' if ran else ''}")

def write(path, data):
    path.parent.chmod(0o755)
    if path.exists():
        path.chmod(0o644)
    path.write_bytes(data)

@contextmanager
def as_before():
    kept = Path(__file__).with_name("kept")
    shutil.copytree(store, kept, symlinks=True)
    try:
        yield
    finally:
        for path in store.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(store)
        kept.rename(store)

def locked(**options):
    repo = lock.repos[0]
    model = replace(repo.models[0], **{key: options.pop(key) for key in ("requires", "traced_with") if key in options})
    whole = {"environment": options.pop("environment")} if "environment" in options else {}
    lock_file.write_text(dump_lock(replace(lock, repos=(replace(repo, models=(model,), **options),), **whole)))
"""

TAMPERING = """
def changed():
    facts = (tree / "net.py").stat()
    text = (tree / "net.py").read_bytes()
    write(tree / "net.py", EVIL.encode().ljust(len(text), b"\\n")[: len(text)])
    os.utime(tree / "net.py", ns=(facts.st_atime_ns, facts.st_mtime_ns))

def listed():
    from hublock.core.tree import blob_id
    before = (tree / "net.py").read_bytes()
    changed()
    text = listing.read_bytes().replace(blob_id(before).encode(), blob_id((tree / "net.py").read_bytes()).encode())
    assert text != listing.read_bytes()
    write(listing, text)

def bytecode(target, mode):
    evil.write_text(EVIL)
    tree.chmod(0o755)
    target.parent.mkdir(exist_ok=True)
    py_compile.compile(str(evil), cfile=str(target), invalidation_mode=mode)

def elsewhere():
    tree.chmod(0o755)
    evil.write_text(EVIL)
    (tree / "net.py").unlink()
    (tree / "net.py").symlink_to(evil)

modes = py_compile.PycInvalidationMode
cached = Path(importlib.util.cache_from_source(str(tree / "hubconf.py")))
cases = {
    "changed, same size and time": changed,
    "listing edited to match": listed,
    "removed": lambda: (tree.chmod(0o755), (tree / "net.py").unlink()),
    "a stray torch.py": lambda: write(tree / "torch.py", EVIL.encode()),
    "a stray folder": lambda: (tree.chmod(0o755), (tree / "utils").mkdir()),
    "bytecode by time": lambda: bytecode(cached, modes.TIMESTAMP),
    "bytecode by hash": lambda: bytecode(cached, modes.CHECKED_HASH),
    "unchecked bytecode": lambda: bytecode(cached, modes.UNCHECKED_HASH),
    "bytecode in place of source": lambda: bytecode(tree / "net.pyc", modes.UNCHECKED_HASH),
    "a compiled module": lambda: write(tree / "net.abi3.so", b"ELF"),
    "a link in place of a file": elsewhere,
    "a truncated weight": lambda: write(blob, blob.read_bytes()[:-1]),
}
for name, tamper in cases.items():
    with as_before():
        tamper()
        attempt(name)

real = loading._check_environment
with as_before():
    loading._check_environment = lambda *args: (changed(), real(*args))
    attempt("swapped between check and import")
loading._check_environment = real

with as_before():
    data = bytearray(blob.read_bytes())
    data[-100] ^= 1
    write(blob, bytes(data))
    try:
        hublock.load("net")
    except hublock.HublockError as error:
        print("other bytes in a weight:", type(error).__name__)
print(type(hublock.load("net", verify="state", force_reload=True)).__name__)
"""

REFUSED = """\
changed, same size and time: TreeMismatch hublock sync
listing edited to match: TreeMismatch hublock sync
removed: TreeMismatch hublock sync
a stray torch.py: TreeMismatch hublock sync
a stray folder: TreeMismatch hublock sync
bytecode by time: TreeMismatch hublock sync
bytecode by hash: TreeMismatch hublock sync
unchecked bytecode: TreeMismatch hublock sync
bytecode in place of source: TreeMismatch hublock sync
a compiled module: TreeMismatch hublock sync
a link in place of a file: TreeMismatch hublock sync
a truncated weight: DigestMismatch hublock sync
swapped between check and import: TreeMismatch hublock sync
other bytes in a weight: DigestMismatch
Net
"""

ENVIRONMENT = """
locked(dependencies=("torch", "no_such_a", "no_such_b"), requires=("no-such-c>=1", "torch>=99"))
attempt("missing")
locked(requires=("torch>=99,<100",))
attempt("requires")
locked(environment="exact", traced_with=("torch==1.0.0",))
attempt("exact")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    locked(traced_with=("torch==1.0.0", "numpy==0.1"))
    hublock.load("net")
    hublock.load("net")
said = str(caught[0].message).replace(importlib.metadata.version("torch"), "<here>")
print(caught[0].filename == __file__, len(caught), said)
"""


def test_a_tampered_store_is_refused_before_any_of_it_runs(added: Done, python: Run) -> None:
    done = python(PRELUDE + TAMPERING)
    assert done.out == REFUSED, done


def test_what_does_not_suit_the_lock_is_said_before_any_import_and_drift_once(added: Done, python: Run) -> None:
    done = python(PRELUDE + ENVIRONMENT)
    assert done.out.splitlines() == [
        'missing: MissingDependency pip install no_such_a no_such_b "no-such-c>=1" "torch>=99"',
        'requires: EnvironmentMismatch pip install "torch>=99,<100"',
        "exact: EnvironmentMismatch pip install torch==1.0.0",
        "True 1 someone/net:v1: torch <here> is installed, the lock was traced with 1.0.0",
    ], done


NOTEBOOK = """
import sys
assert not hasattr(sys.modules["__main__"], "__file__")
import torch, hublock
hublock.activate()
print(type(torch.hub.load("someone/net:v1", "net", pretrained=True)).__name__, sys.argv)
import threading
def bystander():
    before = torch.hub.get_dir()
    while not done:
        assert torch.hub.get_dir() == before
    seen.append("undisturbed")
def load():
    seen.append(type(hublock.load("net", verify="state", force_reload=True)).__name__)
done, seen = [], []
watcher = threading.Thread(target=bystander)
threads = [threading.Thread(target=load) for _ in range(6)]
for thread in [watcher, *threads]:
    thread.start()
for thread in threads:
    thread.join()
done.append(True)
watcher.join()
print(sorted(seen))
"""

PACKAGE = """\
import sys, torch
from torch.hub import load

class Rows(torch.utils.data.Dataset):
    def __init__(self, model):
        self.model = model
    def __len__(self):
        return 2
    def __getitem__(self, index):
        with torch.no_grad():
            return self.model.layer(torch.ones(4)) + index

if __name__ == "__main__":
    rows = Rows(load("someone/net:v1", "net", pretrained=True))
    loader = torch.utils.data.DataLoader(rows, num_workers=1, multiprocessing_context="spawn")
    print([row.flatten().tolist() for row in loader], sys.argv[1:], type(rows.model).__module__.split("_")[0])
"""


def test_a_notebook_finds_the_lock_of_its_folder_and_its_threads_load_at_once(
    added: Done, run: Run, project: Path
) -> None:
    done = subprocess.run([sys.executable, "-c", NOTEBOOK], cwd=project, capture_output=True, text=True)

    assert done.stdout == f"Net ['-c']\n{['Net'] * 6 + ['undisturbed']}\n", done.stderr


def test_a_package_runs_unmodified_and_its_spawned_workers_get_the_model(added: Done, run: Run, project: Path) -> None:
    (project / "package").mkdir()
    (project / "package" / "__main__.py").write_text("")
    (project / "package" / "train.py").write_text(PACKAGE)

    done = run("run", "-m", "package.train", "--epochs", "3")

    assert done.out == "[[7.0, 24.0], [8.0, 25.0]] ['--epochs', '3'] hublock.repos.someone\n", done
