"""What a load may have got in place of what is locked, and what proves that it has not."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from hublock.actions.load import answers_of_project, load, load_folder
from hublock.actions.proof import check_state
from hublock.core.lockfile import HuggingFaceFile, Lock, Model, Traced, Weights
from hublock.core.matching import Call, match
from hublock.errors import NotLocked, OfflineError, UnlockedDownload
from hublock.runtime import torchhub
from hublock.runtime.fingerprint import fingerprint
from hublock.runtime.strict import frames, refusals
from hublock.store.store import Store
from tests.actions.test_load import stored
from tests.runtime.answering import saved

URL = "https://example.org/net.pth"
OTHER = "https://example.org/other.pth"
RIGHT = torch.nn.Linear(2, 2)
STATE = fingerprint(RIGHT)
FETCH = f"""
import torch
def fetched(url={URL!r}):
    model = torch.nn.Linear(2, 2)
    try:
        model.load_state_dict(torch.hub.load_state_dict_from_url(url))
    except Exception:
        pass
    return model
"""


class Shelf:
    """A store, locks of what lies in it, and files that are not there for a while."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        data = saved(RIGHT.state_dict())
        self.digest = self.store.add_blob(data)
        self.weights = Weights(url=URL, digest=self.digest, size=len(data), pickle="tensors")
        self.lock = Lock()

    def add(self, name: str, hubconf: str, *models: Model, **files: str) -> None:
        # the modules of a tree live as long as the process
        hubconf = f"{files.pop('hubconf.py', hubconf)}\n# {self.store.root}"
        self.lock = Lock(repos=(*self.lock.repos, stored(self.store, name, hubconf, *models, **files)))

    def load(self, repo: str, entrypoint: str = "net", *args: object) -> Any:
        found = match(self.lock, repo, entrypoint, file="hub.lock")
        return load(Call(match=found, args=args), self.lock, self.store)

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Be without the file while the block runs."""
        blob = self.store.blob(self.digest)
        assert blob is not None
        away = blob.rename(blob.with_suffix(".away"))
        yield
        away.rename(blob)

    def refuse(self, repo: str) -> None:
        with self.emptied(), pytest.raises(OfflineError):
            self.load(repo)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    """A store, in a process where no library was refused anything yet."""
    with pytest.MonkeyPatch.context() as patch:
        for known in (refusals.by_library, refusals.left_behind):
            for name in list(known):
                patch.delitem(known, name)
        yield Shelf(tmp_path / "store")
        refusals.by_library.clear()
        refusals.left_behind.clear()


ZOO = f"""
import functools
{FETCH}
make = functools.cache(fetched)
def call(function):
    return function()
"""


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An installed library that keeps what it has made."""
    known = frames.is_others
    monkeypatch.setattr(frames, "is_others", lambda file: file == "/installed/zoo.py" or known(file))
    module = ModuleType("zoo")
    exec(compile(ZOO, "/installed/zoo.py", "exec"), vars(module))
    monkeypatch.setitem(sys.modules, "zoo", module)
    return module


def fetching(name: str = "net", **changes: Any) -> Model:
    return Model(**{"name": name, "entrypoint": "net", **changes})


def test_what_repositories_put_elsewhere_is_held_against_the_locked_state(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeps = f"""
{FETCH}
def net():
    if not hasattr(torch, "kept_by_a_test"):
        torch.kept_by_a_test = fetched()
    return torch.kept_by_a_test
"""
    monkeypatch.setattr(torch, "kept_by_a_test", None, raising=False)
    del torch.kept_by_a_test  # type: ignore[attr-defined]
    shelf.add("a/net", keeps, fetching(weights=(shelf.weights,), state=STATE))

    shelf.refuse("a/net")
    with pytest.raises(
        UnlockedDownload, match=f"did not ask for {URL}.*had kept from before, which has not the locked state"
    ) as caught:
        shelf.load("a/net")
    assert caught.value.hint == "load it in a new process"
    torch.kept_by_a_test.load_state_dict(RIGHT.state_dict())  # type: ignore[attr-defined]
    assert fingerprint(shelf.load("a/net")) == STATE


def test_what_code_kept_when_it_was_refused_after_the_load_is_no_part_of_later_ones(shelf: Shelf) -> None:
    late = f"""
import functools
{FETCH}
cached = functools.cache(fetched)
class Late(torch.nn.Module):
    def forward(self):
        return cached()
def net():
    return Late()
def full():
    return cached()
"""
    full = Model(name="full", entrypoint="full", weights=(shelf.weights,))
    shelf.add("a/late", late, fetching(), full)
    model = shelf.load("a/late")
    with shelf.emptied(), pytest.warns(UserWarning, match="what the model returns now may be wrong"):
        model()

    # code may not bear to be imported twice, and this entry point does not need that file
    package = type(model).__module__.removesuffix("hubconf")
    assert type(shelf.load("a/late")).__module__ == f"{package}hubconf__2"
    assert fingerprint(shelf.load("a/late", "full")) == STATE


ASKS_ZOO = "import zoo\ndef net(*given):\n    return zoo.make()\n"
HIDES_ZOO = "import sys\ndef net(*given):\n    return sys.modules['z' + 'oo'].make()\n"
KEPT = f"zoo was refused {URL} before and may have kept what it took instead"


@pytest.mark.parametrize(
    ("files", "given"),
    [
        ({"hubconf.py": f"import os, \\\n    zoo\n{HIDES_ZOO}"}, "5"),
        ({"config.yaml": "model:\n  _target_: zoo.make\n"}, "5"),
        ({"setup.cfg": "[model]\nfactory = zoo:make\n"}, "5"),
        ({"model.gin": "zoo.make.seed = 1\n"}, "5"),
        ({}, "zoo.make"),
        ({}, type("Maker", (), {"__module__": "zoo.makers"})),
    ],
    ids=["continued line", "yaml", "cfg", "gin", "name", "class"],
)
def test_a_library_is_named_in_code_in_configuration_and_by_arguments(
    shelf: Shelf, zoo: ModuleType, files: dict[str, str], given: object
) -> None:
    shelf.add("a/zoo", ASKS_ZOO, fetching(weights=(shelf.weights,)))
    shelf.add("a/hides", HIDES_ZOO, fetching("hides", weights=(shelf.weights,)))
    shelf.add("a/names", HIDES_ZOO, fetching("names", weights=(shelf.weights,)), **files)
    shelf.refuse("a/zoo")

    # of what nothing names nobody knows
    assert isinstance(shelf.load("a/hides", "net", 5), torch.nn.Module)
    with pytest.raises(UnlockedDownload, match=KEPT):
        shelf.load("a/names", "net", given)


def test_a_library_may_be_found_by_its_entry_points(
    shelf: Shelf, zoo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = tmp_path / "site" / "zoo-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[anyones.models]\nnet = zoo:make\n")
    monkeypatch.syspath_prepend(facts.parent)
    finds = """
from importlib.metadata import entry_points
def net(*given):
    return next(iter(entry_points(group="anyones.models"))).load()()
"""
    shelf.add("a/zoo", ASKS_ZOO, fetching(weights=(shelf.weights,)))
    shelf.add("a/finds", finds, fetching("finds", weights=(shelf.weights,)))
    shelf.refuse("a/zoo")

    with pytest.raises(UnlockedDownload, match=KEPT):
        shelf.load("a/finds", "net", 5)


def test_a_call_like_several_models_may_need_what_any_of_them_fetches(shelf: Shelf, zoo: ModuleType) -> None:
    more = saved(RIGHT.state_dict(), _use_new_zipfile_serialization=False)
    extra = Weights(url=OTHER, digest=shelf.store.add_blob(more), size=len(more), pickle="tensors")
    both = f"{FETCH}\nimport zoo\ndef net(*given):\n    return fetched({OTHER!r}), zoo.make()\n"
    shelf.add("a/zoo", ASKS_ZOO, fetching(weights=(shelf.weights,)))
    shelf.add(
        "a/both", both, fetching("most", weights=(shelf.weights, extra)), fetching("few", args=(0,), weights=(extra,))
    )
    shelf.refuse("a/zoo")

    with pytest.raises(UnlockedDownload, match=KEPT):
        shelf.load("a/both", "net", 5)
    # which is locked to fetch no other file
    assert len(shelf.load("a/both", "net", 0)) == 2


def test_an_entry_point_that_was_refused_anything_is_refused_with_other_arguments(
    shelf: Shelf, zoo: ModuleType
) -> None:
    shelf.add("a/zoo", ASKS_ZOO, fetching(weights=(shelf.weights,)))
    shelf.add("a/other", ASKS_ZOO, fetching("other", weights=(shelf.weights,)))
    error = OfflineError("the tree of a/inner is not in the store")
    refusals.keep(refusals.Refusal(what="https://github.com", error=error, owner="a/zoo net", libraries=("zoo",)))

    with pytest.raises(UnlockedDownload, match="zoo was refused something before"):
        shelf.load("a/zoo", "net", 5)
    assert isinstance(shelf.load("a/other", "net", 5), torch.nn.Module)


def test_bytes_of_a_locked_file_are_as_good_from_a_file_of_the_users(
    shelf: Shelf, zoo: ModuleType, tmp_path: Path
) -> None:
    own = tmp_path / "labels.txt"
    own.write_bytes(b"labels")
    labels = Weights(url=OTHER, digest=shelf.store.add_blob(b"labels"), size=6, pickle="none")
    reads = f"{FETCH}\ndef net():\n    with open({str(own)!r}) as file:\n        file.read()\n    return fetched()\n"
    away = "https://example.org/away.pth"
    shelf.add(
        "a/zoo", ASKS_ZOO.replace("make()", f"make({away!r})"), fetching(weights=(replace(shelf.weights, url=away),))
    )
    shelf.add("a/reads", reads, fetching("reads", weights=(shelf.weights, labels), state=STATE))
    shelf.refuse("a/zoo")

    assert fingerprint(shelf.load("a/reads")) == STATE
    own.write_bytes(b"others")
    with pytest.raises(UnlockedDownload, match=f"did not ask for {OTHER}, which is locked: zoo was refused {away}"):
        shelf.load("a/reads")


@pytest.mark.parametrize("at", ["url", "url with a query", "hugging face"])
def test_a_file_is_like_a_locked_one_by_the_end_of_its_name_wherever_that_stands(
    shelf: Shelf, tmp_path: Path, at: str
) -> None:
    own = tmp_path / "model.npz"
    own.write_bytes(b"zeros")
    digest = shelf.store.add_blob(b"numbers")
    url = "https://example.org/model.npz" + ("?download=1" if at == "url with a query" else "")
    file = Weights(url=url, digest=digest, size=7, pickle="none")
    hf = HuggingFaceFile(
        repo="org/model", type="model", revision="main", commit="0" * 40, file="model.npz",
        digest=digest, size=7, pickle="none",
    )  # fmt: skip
    model = fetching(**({"hf": (hf,)} if at == "hugging face" else {"weights": (file,)}))
    reads = f"def net(classes):\n    with open({str(own)!r}, 'rb') as file:\n        return file.read()\n"
    shelf.add("a/reads", reads + f"# {at}", model)

    with pytest.warns(
        UserWarning, match=r"did not ask for https://.*model\.npz.*, which is locked, but read .*model\.npz"
    ):
        assert shelf.load("a/reads", "net", 2) == b"zeros"


def test_a_folder_of_the_users_own_gets_nothing_that_was_kept_when_it_was_refused(
    shelf: Shelf, zoo: ModuleType, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "hubconf.py").write_text(ASKS_ZOO)

    with pytest.raises(UnlockedDownload, match=f"the project asks for {URL}, which the lock does not list\n") as caught:
        load_folder(folder, "net", (), {}, shelf.lock, shelf.store)
    assert caught.value.hint == f"hublock add --url {URL} --name NAME"
    for _ in range(2):
        with pytest.raises(UnlockedDownload, match=f"mine net may have taken a fallback: {KEPT}"):
            load_folder(folder, "net", (), {}, shelf.lock, shelf.store)


def test_what_the_users_own_call_was_refused_by_way_of_a_library_is_told_and_remembered(
    shelf: Shelf, zoo: ModuleType, tmp_path: Path
) -> None:
    answers = answers_of_project(shelf.lock, shelf.store)
    fetch = partial(torchhub.download_url_to_file, answers, URL, str(tmp_path / "net.pth"))
    with pytest.raises(UnlockedDownload), warnings.catch_warnings():
        warnings.simplefilter("error")
        fetch()
    assert refusals.by_library == {}

    with pytest.raises(UnlockedDownload), pytest.warns(UserWarning, match="the project asks for"):
        zoo.call(fetch)
    assert list(refusals.by_library) == ["zoo"]


@pytest.mark.parametrize(
    ("traced", "hint"),
    [
        ("confirmed", "hublock remove net, then hublock add, if it does not"),
        ("unconfirmed", "hublock lock --retrace net"),
        ("declared", 'leave out --load, or verify="state"'),
    ],
)
def test_of_a_model_without_a_state_the_hint_is_what_can_bring_one(shelf: Shelf, traced: Traced, hint: str) -> None:
    repo = stored(shelf.store, "a/net", "", Model(name="net", entrypoint="net", traced=traced))
    call = Call(match=match(Lock(repos=(repo,)), "net", None, file="hub.lock"))

    with pytest.raises(NotLocked, match="a/net net is locked without a state: ") as caught:
        check_state(RIGHT, call)
    assert caught.value.hint == hint
