"""What a locked call may do, and what is proven of its result."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from hublock.actions.context import Context
from hublock.actions.load import load
from hublock.actions.project import Project
from hublock.actions.verify import Checks, verify
from hublock.core.digest import Digest
from hublock.core.lockfile import Lock, Model, Repo, Weights
from hublock.core.matching import Call, match
from hublock.core.progress import Progress
from hublock.core.tree import SourceFile
from hublock.errors import EnvironmentMismatch, MissingDependency, UnlockedDownload
from hublock.runtime.fingerprint import fingerprint
from hublock.settings import Settings
from hublock.store.store import Store
from tests.runtime.test_tracing import wait_until, wait_until_gone

HUBCONF = b"""
import torch
def net(url=None):
    try:
        return url and torch.hub.load_state_dict_from_url(url)
    except OSError:
        return "random"
"""


def stored(store: Store, name: str, hubconf: str, *models: Model, **more: str) -> Repo:
    """Put a tree of two files, and ``more``, into the store and return its entry in a lock."""
    files = {"hubconf.py": hubconf, "own.py": "", **more}
    tree = store.add_tree([SourceFile(path=path, mode="100644", data=text.encode()) for path, text in files.items()])
    return Repo(
        id=name, ref="HEAD", commit="0" * 40, tree=Digest("git-sha1", "0" * 40), digest=tree.digest, models=models
    )


WRITES = """
import os
here = os.path.dirname(__file__)
def reads():
    return here
def writes():
    # a file of the tree is as locked at the beginning of each load, whatever an earlier one did to it
    assert os.path.getsize(os.path.join(here, "own.py")) == 0
    with open(os.path.join(here, "own.py"), "w") as file:
        file.write("changed")
    with open(os.path.join(here, "written"), "a") as file:
        file.write("x")
    return os.path.getsize(os.path.join(here, "written"))
"""


@pytest.mark.parametrize("order", ["reads writes writes", "writes writes reads", "writes reads writes"])
def test_all_entry_points_of_a_repository_that_writes_beside_its_code_run_on_one_copy(
    tmp_path: Path, order: str
) -> None:
    store = Store(tmp_path)
    models = (Model(name="r", entrypoint="reads"), Model(name="w", entrypoint="writes", writes_tree=True))
    repo = stored(store, "a/writes", WRITES + f"# {tmp_path}", *models)
    lock = Lock(repos=(repo,))
    got = [load(Call(match=match(lock, "a/writes", name, file="hub.lock")), lock, store) for name in order.split()]

    assert [item for item in got if isinstance(item, int)] == [1, 2]
    assert [item for item in got if isinstance(item, str) and item.startswith(str(tmp_path))] == []
    store.check_tree(repo.digest)


def test_what_a_call_needs_is_what_models_with_its_arguments_need(tmp_path: Path) -> None:
    store = Store(tmp_path)
    inner = replace(stored(store, "a/inner", "def net(): ..."), dependencies=("own", "not_here_1"))
    plain = Model(name="plain", entrypoint="net", traced_with=(f"torch=={torch.__version__.partition('+')[0]}",))
    old = Model(name="old", entrypoint="net", kwargs={"n": 1}, requires=("torch<1",), traced_with=("torch==1.0",))
    nests = Model(name="nests", entrypoint="net", kwargs={"n": 2}, repos=("a/inner",))
    outer = replace(
        stored(store, "a/outer", "def net(n=0): return n", plain, old, nests),
        dependencies=("not_here_2",),
    )
    ran = Lock(repos=(inner, replace(outer, dependencies=())), environment="exact")

    def call(lock: Lock, **kwargs: object) -> object:
        return load(Call(match=match(lock, "a/outer", "net", file="hub.lock"), kwargs=kwargs), lock, store)

    assert call(ran) == 0
    with pytest.raises(EnvironmentMismatch, match="torch<1 is required"):
        call(ran, n=1)
    with pytest.raises(MissingDependency) as caught:
        call(Lock(repos=(inner, outer)), n=2)
    assert caught.value.hint == "pip install not_here_2 not_here_1"


def test_a_model_of_a_folder_that_a_repository_loads_is_unpickled_in_a_new_process(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    hubconf = """
import os, torch
def net():
    return torch.hub.load(os.path.join(os.path.dirname(__file__), "upstream"), "inner", source="local")
"""
    inner = """
import torch
from own import Net
def inner():
    return Net()
"""
    own = """
class Net:
    def late(self):
        import torch
        return torch.hub.load_state_dict_from_url("https://example.org/large.pth")
"""
    folder = {"upstream/hubconf.py": inner, "upstream/own.py": own}
    repo = stored(store, "a/one:v1", hubconf, Model(name="net", entrypoint="net"), **folder)
    lock = Lock(repos=(stored(store, "a/one", "def other(): ..."), repo))
    net = load(Call(match=match(lock, "a/one:v1", "net", file="hub.lock")), lock, store)
    (tmp_path / "net.pickle").write_bytes(pickle.dumps(net))
    (tmp_path / "lock.pickle").write_bytes(pickle.dumps(lock))
    code = """
import pathlib, pickle, sys
from hublock.actions import load
from hublock.errors import UnlockedDownload
from hublock.runtime import isolation
from hublock.store.store import Store
folder = pathlib.Path(sys.argv[1])
import hublock.repos
lock, store = pickle.loads((folder / "lock.pickle").read_bytes()), Store(folder / "store")
isolation.install(lambda name: load.repository_of(name, lock, store))
net = pickle.loads((folder / "net.pickle").read_bytes())
try:
    net.late()
except UnlockedDownload as error:
    print(type(net).__module__, error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, timeout=200
    )
    module, _, message = done.stdout.partition(" ")
    assert module == type(net).__module__, done.stderr
    assert message == "a/one:v1 asks for https://example.org/large.pth, which the lock does not list for net\n"


def test_what_the_locked_call_tolerates_excuses_no_file_of_another_call(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tree = store.add_tree([SourceFile(path="hubconf.py", mode="100644", data=HUBCONF)])
    url = "https://example.org/large.pth"
    locked = Model(name="net", entrypoint="net", kwargs={"url": url}, tolerated=("https://example.org",))
    repo = Repo(
        id="a/one:v1",
        ref="refs/tags/v1",
        commit="0" * 40,
        tree=Digest("git-sha1", "0" * 40),
        digest=tree.digest,
        models=(locked,),
    )
    lock = Lock(repos=(repo,))

    def call(name: str, entrypoint: str | None, **kwargs: object) -> object:
        return load(Call(match=match(lock, name, entrypoint, file="hub.lock"), kwargs=kwargs), lock, store)

    assert call("net", None) == "random"
    assert call("a/one:v1", "net", url=url) == "random"
    assert call("a/one:v1", "net") is None
    with pytest.raises(UnlockedDownload, match=r"other\.pth"):
        call("net", None, url="https://example.org/other.pth")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_verify_loads_where_the_inputs_of_the_project_are_and_warns_as_other_commands(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    warned: list[str] = []

    class Listening(Progress):
        def warn(self, message: str) -> None:
            warned.append(message)

    settings = Settings(cache=tmp_path / "store")
    project, context = Project.at(tmp_path / "project"), Context(settings=settings, progress=Listening())
    project.folder.mkdir()
    (project.folder / "best.txt").touch()
    model = Model(name="reads", entrypoint="reads", traced_with=("torch==1.0",))
    repo = stored(context.store, "a/reads", "def reads():\n    with open('best.txt') as file:\n        ...\n", model)
    project.write_lock(Lock(repos=(repo,)))
    before = Path.cwd()

    found = verify(project, context, Checks(load=["reads"])).findings

    assert [(finding.rule, finding.message) for finding in found] == [
        ("state-missing", "a/reads reads has no state to compare: what it returns holds no parameters")
    ]
    assert Path.cwd() == before
    unlooked, drift = warned
    assert unlooked == f"{project.folder} holds no hub.toml: whether hub.lock answers it was not checked"
    assert drift.partition(" is installed")[2] == ", the lock was traced with 1.0"
    # Python 3.12 and later warn of threads beside a fork
    assert not [warning for warning in recwarn if warning.category is not DeprecationWarning]


APART = """
import multiprocessing, os, threading, torch, warnings
from os import _exit
class Nameless(Exception):
    def __str__(self):
        raise RuntimeError
def ends():
    _exit(5)
class Late(torch.nn.Module):
    def named_parameters(self, **_):
        # in a thread, and once the load has ended
        threading.Thread(target=_exit, args=(3,)).start()
        threading.Event().wait()
def late():
    threading.Thread(target=threading.Event().wait).start()
    return Late()
def lives_on():
    os.setsid()
    threading.Event().wait()
def crashes():
    # which holds open all that its parent had, and would live on
    child = multiprocessing.get_context("fork").Process(target=lives_on)
    child.start()
    with open("child", "w") as file:
        file.write(str(child.pid))
    os.kill(os.getpid(), 11)
def raises():
    raise Nameless
def typed(dtype):
    ...
def wide():
    warnings.simplefilter("error", BytesWarning)
    torch.set_default_dtype(torch.float64)
    return torch.ones(2)
def forks():
    child = os.fork()
    if not child:
        raise SystemExit(3)
    os.waitpid(child, 0)
    return torch.ones(2)
def plain():
    assert BytesWarning not in [filter[2] for filter in warnings.filters]
    return torch.ones(2)
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_verify_loads_each_model_as_if_it_were_the_only_one(tmp_path: Path) -> None:
    context = Context(settings=Settings(cache=tmp_path / "store"), progress=Progress())
    project = Project.at(tmp_path / "project")
    project.folder.mkdir()
    models = [Model(name=name, entrypoint=name) for name in ("ends", "late", "crashes", "raises")]
    models.append(Model(name="typed", entrypoint="typed", kwargs={"dtype": {"object": "torch.float99"}}))
    for name, dtype in (("wide", torch.float64), ("forks", torch.float32), ("plain", torch.float32)):
        models.append(Model(name=name, entrypoint=name, state=fingerprint(torch.ones(2, dtype=dtype))))
    project.write_lock(Lock(repos=(stored(context.store, "a/unrelated", APART, *models),)))

    found = verify(
        project, context, Checks(load=["ends", "late", "crashes", "raises", "typed", "wide", "forks", "plain"])
    ).findings

    assert {finding.rule for finding in found} == {"load-failed"}
    assert [finding.message for finding in found] == [
        "ends could not be loaded: its own code ended the process with status 5",
        "late could not be loaded: its own code ended the process with status 3",
        "crashes could not be loaded: its own code crashed with SIGSEGV",
        "raises could not be loaded: its own code raised Nameless",
        "there is no torch.float99",
    ]
    assert wait_until_gone([int((project.folder / "child").read_text())]), "what a model started lives on"


WAITS = """
import os, subprocess, sys, time
def waits():
    words = ["sleep", "600"]
    with open("child.part", "w") as file:
        file.write(str(subprocess.Popen(words, start_new_session=True).pid))
    os.rename("child.part", "child")
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_verification_that_was_stopped(tmp_path: Path, number: signal.Signals) -> None:
    context = Context(settings=Settings(cache=tmp_path / "store"), progress=Progress())
    project = Project.at(tmp_path / "project")
    project.folder.mkdir()
    repo = stored(context.store, "a/waits", WAITS, Model(name="waits", entrypoint="waits"))
    project.write_lock(Lock(repos=(repo,)))
    (tmp_path / "tmp").mkdir()
    environ = {**os.environ, "HUBLOCK_CACHE_DIR": str(tmp_path / "store"), "TMPDIR": str(tmp_path / "tmp")}
    words = [sys.executable, "-m", "hublock", "verify", "--load", "waits"]
    process = subprocess.Popen(
        words, cwd=project.folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert wait_until((project.folder / "child").exists)
    (scratch,) = (tmp_path / "tmp").glob("hublock-*")

    process.send_signal(number)

    process.wait(30)
    assert wait_until(lambda: not scratch.exists())
    assert wait_until_gone([int((project.folder / "child").read_text())])


ENDS = """
import os, signal, torch
def ends():
    # as multiprocessing ends a pool
    process = os.fork()
    if not process:
        signal.pause()
    os.kill(process, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGTERM
    return torch.nn.Identity()
"""


def said_of(name: str, source: str, tmp_path: Path, *through: str) -> str:
    """Return what ``verify --load`` says of the entry point ``name`` of ``source``, run by the command ``through``."""
    store, project = Store(tmp_path / "store"), Project.at(tmp_path / "project")
    project.folder.mkdir()
    repo = stored(store, f"a/{name}", source, Model(name=name, entrypoint=name))
    project.write_lock(Lock(repos=(repo,)))
    environ = {**os.environ, "HUBLOCK_CACHE_DIR": str(tmp_path / "store")}
    words = [*through, sys.executable, "-m", "hublock", "verify", "--load", name]
    done = subprocess.run(
        words, cwd=project.folder, env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stderr


def test_what_a_model_ends_ends_as_under_any_program(tmp_path: Path) -> None:
    assert "a/ends ends is locked without a state" in said_of("ends", ENDS, tmp_path)


IGNORES = """
import signal, torch
def ignores():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    return torch.nn.Identity()
"""


def test_what_is_ignored_is_ignored_by_a_model_that_is_verified(tmp_path: Path) -> None:
    ignoring = "sh", "-c", 'trap "" TERM; exec "$@"', "sh"
    assert "a/ignores ignores is locked without a state" in said_of("ignores", IGNORES, tmp_path, *ignoring)


CACHES = """
import os, torch
def net(cache, config):
    with open(config) as file:
        file.read()
    if not os.path.exists(cache):
        torch.hub.download_url_to_file("https://example.org/cached.npz", cache)
    with open(cache, "r+b") as file:
        return file.read()
"""


def test_a_file_of_the_users_own_in_place_of_a_locked_one_is_told(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    store, cache, config = Store(tmp_path / "store"), tmp_path / "cached.npz", tmp_path / "config"
    config.touch()

    def caching(number: int) -> tuple[bytes, Callable[[], object]]:
        data = f"the locked bytes {number}".encode()
        digest = store.add_blob(data)
        weights = Weights(url="https://example.org/cached.npz", digest=digest, size=len(data), pickle="none")
        model = Model(name="net", entrypoint="net", args=(str(cache), str(config)), weights=(weights,))
        lock = Lock(repos=(stored(store, "a/caches", f"{CACHES}# {number}", model),))
        return data, lambda: load(Call(match=match(lock, "net", None, file="hub.lock")), lock, store)

    for number, present in enumerate([b"other", "the same", None]):
        data, call = caching(number)
        cache.unlink(missing_ok=True)
        if present is not None:
            cache.write_bytes(present if isinstance(present, bytes) else data)
        for _ in range(2):
            assert call() == (present if isinstance(present, bytes) else data)
        if present == b"other":
            assert str(recwarn.pop(UserWarning).message) == (
                "a/caches net did not ask for https://example.org/cached.npz, which is locked, "
                f"but read {cache}, {config}, which nobody has checked"
            )
        # Python 3.12 and later warn of threads beside a fork
    assert not [warning for warning in recwarn if warning.category is not DeprecationWarning]


VARIANTS = """
import os, torch
def net(cache, way):
    if way == "append":
        open(cache, "ab").close()
    if way == "link":
        link = os.path.join(torch.hub.get_dir(), "link")
        os.symlink(cache, link)
        cache = link
    if not os.path.exists(cache):
        try:
            torch.hub.download_url_to_file(f"https://example.org/{way}", cache)
        except OSError:
            folder, name = os.path.split(cache)
            new = f"{folder}-new"
            os.makedirs(new, exist_ok=True)
            made = cache if way == "b" else os.path.join(new, name)
            with open(made, "wb") as file:
                file.write(b"random")
            if way == "folder":
                os.rename(new, folder)
            elif way == "linked":
                os.link(made, cache)
            else:
                os.replace(made, cache)
    with open(cache, "rb") as file:
        return file.read()
"""


@pytest.fixture
def variants(tmp_path: Path) -> Callable[[Path, str], object]:
    store, data = Store(tmp_path / "store"), f"{tmp_path}".encode()
    weights = Weights(url="https://example.org/a", digest=store.add_blob(data), size=len(data), pickle="none")
    model = Model(name="net", entrypoint="net", weights=(weights,))
    lock = Lock(repos=(stored(store, "a/variants", f"{VARIANTS}# {tmp_path}", model),))
    return lambda *args: load(Call(match=match(lock, "a/variants", "net", file="hub.lock"), args=args), lock, store)


@pytest.mark.parametrize("way", ["read", "append", "link"])
def test_a_file_of_the_users_own_is_told_however_it_is_opened_and_whatever_the_arguments(
    tmp_path: Path, variants: Callable[..., object], way: str
) -> None:
    cache = tmp_path / "cache"
    cache.write_bytes(b"the user's")
    with pytest.warns(UserWarning, match=f"but read {cache}, which nobody has checked"):
        assert variants(str(cache), way) == b"the user's"


def test_a_file_of_another_kind_than_what_is_locked_is_no_matter_where_none_of_it_may_be_needed(
    tmp_path: Path, variants: Callable[..., object], recwarn: pytest.WarningsRecorder
) -> None:
    settings = tmp_path / "settings.json"
    with pytest.raises(UnlockedDownload, match="which the lock does not list"):
        variants(str(settings), "b")
    assert variants(str(settings), "b") == b"random"
    # Python 3.12 and later warn of threads beside a fork
    assert not [warning for warning in recwarn if warning.category is not DeprecationWarning]


@pytest.mark.parametrize(
    ("way", "base"), [("b", None), ("moved", None), ("folder", None), ("linked", None), ("b", "/dev/shm")]
)
def test_what_a_refused_load_has_saved_is_not_returned_by_a_later_one(
    tmp_path: Path, request: pytest.FixtureRequest, variants: Callable[..., object], way: str, base: str | None
) -> None:
    folder = Path(tempfile.mkdtemp(dir=base or tmp_path))
    request.addfinalizer(partial(shutil.rmtree, folder))
    cache = folder / "cache"
    with pytest.raises(UnlockedDownload, match="which the lock does not list"):
        variants(str(cache), way)
    for _ in range(2):
        with pytest.raises(UnlockedDownload, match="which a load that was refused has written") as caught:
            variants(str(cache), way)
    assert caught.value.hint == f"rm {cache}"
    cache.unlink()
    assert variants(str(cache), "a") == f"{tmp_path}".encode()


SAFETENSORS = """
import ctypes, os
c = ctypes.CDLL(None)
def load_file(filename, device="cpu"):
    found, descriptor = ctypes.create_string_buffer(99), c.open(os.fsencode(filename), os.O_RDONLY)
    size = c.read(descriptor, found, 99)
    c.close(descriptor)
    return found.raw[:size]
def save_file(tensors, filename, metadata=None):
    descriptor = c.open(os.fsencode(filename), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    c.write(descriptor, tensors, len(tensors))
    c.close(descriptor)
"""
CONVERTS = """
import os, torch
from safetensors.torch import load_file, save_file
def net(cache, name):
    if not os.path.exists(cache):
        try:
            torch.hub.download_url_to_file(f"https://example.org/{name}.safetensors", cache)
        except OSError:
            save_file(b"random", filename=cache)
    return load_file(cache)
"""


def test_what_safetensors_opens_without_an_event_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "site" / "safetensors"
    library.mkdir(parents=True)
    (library / "__init__.py").touch()
    (library / "torch.py").write_text(SAFETENSORS)
    monkeypatch.syspath_prepend(str(library.parent))
    store, cache = Store(tmp_path / "store"), tmp_path / "net.safetensors"
    weights = Weights(url="https://example.org/a.safetensors", digest=store.add_blob(b"locked"), size=6, pickle="none")
    model = Model(name="net", entrypoint="net", weights=(weights,))
    lock = Lock(repos=(stored(store, "a/converts", CONVERTS, model),))

    def call(name: str) -> object:
        found = match(lock, "a/converts", "net", file="hub.lock")
        return load(Call(match=found, args=(str(cache), name)), lock, store)

    try:
        cache.write_bytes(b"the user's")
        with pytest.warns(UserWarning, match=f"but read {cache}, which nobody has checked"):
            assert call("a") == b"the user's"
        cache.unlink()
        with pytest.raises(UnlockedDownload, match="which the lock does not list"):
            call("b")
        with pytest.raises(UnlockedDownload, match="which a load that was refused has written"):
            call("b")
        cache.unlink()
        assert call("a") == b"locked"
    finally:
        for name in ("safetensors", "safetensors.torch"):
            sys.modules.pop(name, None)


ZOO = """
import concurrent.futures, functools, multiprocessing, torch
pool = concurrent.futures.ThreadPoolExecutor()
@functools.lru_cache
def make(url, seed):
    if seed == "plain":
        return None
    torch.manual_seed(seed)
    model = torch.nn.Linear(2, 2)
    fetch = torch.hub.load_state_dict_from_url if "://" in url else torch.load
    try:
        if "://" in url:
            model.load_state_dict(pool.submit(fetch, url).result())
        else:
            with multiprocessing.get_context("fork").Pool(1) as workers:
                model.load_state_dict(workers.apply(fetch, [url]))
    except Exception:
        pass
    return model
"""
KEEPS = '''
import sys
from dataclasses import replace
from pathlib import Path
import torch
from hublock.actions.load import load
from hublock.core.lockfile import Input, Lock, Model, Weights
from hublock.core.matching import Call, match
from hublock.errors import HublockError
from hublock.runtime.fingerprint import fingerprint
from hublock.runtime.strict import refusals
from hublock.store.store import Store
from tests.actions.test_load import stored

work, late = Path(sys.argv[1]), torch.nn.Linear(2, 2)
store, url = Store(work / "store"), "https://example.org/late.pth"
torch.save(late.state_dict(), work / "late.pth")
digest = store.add_blob((work / "late.pth").read_bytes())
weights = Weights(url=url, digest=digest, size=(work / "late.pth").stat().st_size, pickle="tensors")
state = fingerprint(late)
torch.manual_seed(3)
other = fingerprint(torch.nn.Linear(2, 2))
models = [
    Model(name=f"net{seed}", entrypoint="net", args=(seed,), weights=(weights,), state=proof)
    for seed, proof in enumerate([None, state, state, other])
]
def net(name, *models, uses="zoo", at=url):
    return stored(store, name, f"import {uses} as library\\ndef net(seed): return library.make({at!r}, seed)", *models)
plain = Model(name="plain", entrypoint="net", args=("plain",))
through, unrelated = (
    net(f"a/{uses}", replace(models[1], name=uses), uses=uses) for uses in ("through", "unrelated")
)
best = Input(name="best.pt", digest=digest, size=weights.size, pickle="tensors")
handed = [
    Model(name=f"best{seed}", entrypoint="net", args=(seed,), inputs=(best,), state=proof)
    for seed, proof in [(4, None), (5, state), (6, state)]
]
handed_in = net("a/best", *handed, at=str(work / "best.pt"))
beside = net("a/other", replace(models[0], name="other"), uses="other as zoology, other")
repos = net("a/net", *models), net("a/plain", plain), beside, through
LABELS = f"""
import torch, zoo
def net(seed):
    torch.hub.load_state_dict_from_url({url!r})
    return seed and zoo.make('https://example.org/labels', seed)
"""
labels = stored(store, "a/labels", LABELS, replace(models[0], name="labels"))
repos = *repos, handed_in, labels, unrelated
lock, blob = Lock(repos=repos), store.blob(digest)
blob.rename(work / "away")

def told(seed, name=None, repo="a/net"):
    found = match(lock, name or repo, None if name else "net", file="hub.lock")
    try:
        return fingerprint(load(Call(match=found, args=() if name else (seed,)), lock, store))
    except HublockError as error:
        return f"{type(error).__name__}: {error.message}, {error.hint}"

torch.save(torch.nn.Linear(2, 2).state_dict(), work / "best.pt")
for seed in (4, 5):
    print(told(seed, repo="a/best").partition(":")[0])
(work / "best.pt").write_bytes((work / "late.pth").read_bytes())
print(told(5, repo="a/best").partition(": zoo was refused something before")[0])
print(told(6, repo="a/best") == state)
# there is nothing that it could be held against
print(told(4, repo="a/best").scheme)

for seed in (0, 1, 3, 8):
    print(told(seed).partition(":")[0])
print(told(7, repo="a/plain").partition(":")[0])
(work / "away").rename(blob)
print(told(11, repo="a/labels").partition(" asks")[0])
print(told(11, repo="a/labels").partition(": zoo")[0])
print(told(0, repo="a/labels"))
refusals.ever_given.clear()
print(told(0))
print(told(1, "net1").partition(" did not ask")[0])
print(told(3).partition(" did not ask")[0])
print(told(2) == state)
# whether it is what a library kept when it was refused the file nobody knows, but its state is right
print(told(3) == other)
print(told(9) == state)
print(told(0).partition(" did not ask")[0])
print(told(8).partition(" did not ask")[0])
print(told(7, repo="a/plain").partition(": zoo")[0])
print(told("plain", repo="a/plain") is None)
print(told("other", repo="a/other") is None)
print(told(1, repo="a/through").partition(" did not ask")[0])
print(told("plain", repo="a/through").partition(" did not ask")[0])
print(told("plain", repo="a/unrelated") is None)
'''


def test_what_an_installed_library_kept_when_it_was_refused_is_not_returned_by_a_later_load(tmp_path: Path) -> None:
    library, known = tmp_path / "zoo-1", tmp_path / "site" / "zoo-1.dist-info"
    library.mkdir()
    (library / "zoo.py").write_text(ZOO)
    (library / "other.py").write_text("def make(url, seed): ...\n")
    (library / "through.py").write_text("from inner import make\n")
    (library / "inner.py").write_text("def make(*given):\n    import zoo\n    return zoo.make(*given)\n")
    (library / "unrelated.py").write_text("def make(url, seed): ...\n")
    known.mkdir(parents=True)
    (known / "METADATA").write_text("Name: zoo\nVersion: 1\n")
    (known / "direct_url.json").write_text(json.dumps({"url": library.as_uri(), "dir_info": {"editable": True}}))
    root = Path(__file__).parents[2]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [library, tmp_path / "site", root]))}

    words = [sys.executable, "-W", "ignore", "-c", KEEPS, str(tmp_path)]
    done = subprocess.run(words, cwd=root, env=environ, capture_output=True, text=True, check=False)

    assert done.stderr == ""
    kept = (
        "UnlockedDownload: a/net net did not ask for https://example.org/late.pth, which is locked: zoo was refused "
        "https://example.org/late.pth before and may have kept what it took instead, load it in a new process"
    )
    assert done.stdout.splitlines() == [
        *["UnlockedDownload"] * 2,
        "UnlockedDownload: a/best net may have taken a fallback",
        "True",
        "sha256",
        *["OfflineError"] * 4,
        "UnlockedDownload",
        "UnlockedDownload: a/labels",
        "UnlockedDownload: a/labels net may have taken a fallback",
        "None",
        kept,
        "UnlockedDownload: a/net net",
        "UnlockedDownload: a/net net",
        *["True"] * 3,
        "UnlockedDownload: a/net net",
        "UnlockedDownload: a/net net",
        "UnlockedDownload: a/plain net may have taken a fallback",
        "True",
        "True",
        *["UnlockedDownload: a/through net"] * 2,
        "True",
    ]
