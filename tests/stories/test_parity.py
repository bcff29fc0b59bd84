"""torch.hub and hublock side by side in one process: the same calls, the same results."""

import functools
import hashlib
import os
import shutil
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.hub

import hublock
from hublock.cli.main import main
from hublock.core.lockreader import parse_lock
from hublock.errors import EntrypointNotFound, NotLocked
from tests.forge import Forge
from tests.runtime.answering import legacy_tar, legacy_zip, saved
from tests.stories.conftest import Run

STOCK: Any = torch.hub
REF = "someone/both:v1"
FILES = {
    "hubconf.py": '''\
dependencies = ["torch"]
import os
import torch
from both_parts import Block, count as counted, twice


def net(url, **options):
    """A small net.

    Args:
        url: where its weights are
    """
    return torch.hub.load_state_dict_from_url(url, **options)["w"]


def echo(*args, **kwargs):
    return args, kwargs


def nested(*args, **kwargs):
    return torch.hub.load(os.path.dirname(__file__), "echo", *args, source="local", verbose=False, **kwargs)


def _helper(value=1):
    """Not listed."""
    return value


class Holder:
    """Holds a value."""

    def __init__(self, value):
        self.value = value


other = echo
''',
    "both_parts.py": '''\
"""Parts."""
from both_deep import twice


class Block:
    """
    A block.
      Indented.
    """


def count(model, /):
    """Count."""
''',
    "both_deep.py": 'def twice(x: int = 2) -> int:\n    "Twice."\n    return 2 * x\n',
}
NAMES = ["Block", "Holder", "counted", "echo", "nested", "net", "other", "twice"]
STATE = {"w": torch.arange(3.0)}
OLD = {"_use_new_zipfile_serialization": False}


@dataclass(frozen=True)
class Side:
    """torch.hub, or hublock in its place."""

    hub: Any
    folder: Path
    """Where this side may write."""


@dataclass(frozen=True)
class Both:
    """The two sides, and files that both can fetch by the same URL."""

    stock: Side
    ours: Side
    urls: dict[str, str]

    def agree(self, call: Callable[[Side], Any]) -> Any:
        """Make one call on both sides and return what came of it, which must be the same."""
        theirs, ours = outcome(call, self.stock), outcome(call, self.ours)
        assert ours == theirs
        return ours


@dataclass(frozen=True)
class Published:
    """What both sides fetch from, and what hublock locked of it."""

    forge: Forge
    folder: Path
    """Holds ``project`` and ``store``."""
    urls: dict[str, str]


def outcome(call: Callable[[Side], Any], side: Side) -> Any:
    """Return what a call returned, or which kinds of error a script could catch it as, and which files it left."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            came: Any = plain(call(side))
        except Exception as error:
            came = [kind.__name__ for kind in (ValueError, RuntimeError, OSError, TypeError) if isinstance(error, kind)]
    left = {str(path.relative_to(side.folder)): path.read_bytes() for path in side.folder.rglob("*") if path.is_file()}
    return came, left, sorted({warning.category.__name__ for warning in caught})


def plain(value: Any) -> Any:
    """Return something that can be compared."""
    if isinstance(value, torch.Tensor):
        return value.device.type, value.dtype, None if value.is_meta else value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """A host with a repository and files, and a project that locks them; made once, its URLs hold the host's port."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "project").mkdir()
    new = saved(STATE)
    digest = hashlib.sha256(new).hexdigest()
    files = {
        "new.pth": new,
        "parameter.pth;v=2": new,
        "old.pth": saved(STATE, **OLD),
        f"right-{digest[:8]}.pth": new,
        "wrong-00000000.pth": new,
        "zipped.zip": legacy_zip(saved(STATE, **OLD)),
        "zipped_1_6.zip": saved(STATE),
    }
    with Forge() as forge:
        urls = {name.partition("-")[0].partition(".")[0]: serve(forge, name, data) for name, data in files.items()}
        forge.repo("someone/both", FILES).tag("v1")
        declared = [word for url in urls.values() for word in ("--url", url)]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder / "project")
            patch.setenv("HOME", str(folder))
            patch.setenv("HUBLOCK_CACHE_DIR", str(folder / "store"))
            patch.setenv("HUBLOCK_MIRRORS", forge.mirrors)
            assert main(["add", "-q", REF, *NAMES, "--no-trace", *declared]) == 0
        yield Published(forge, folder, urls)


def serve(forge: Forge, name: str, data: bytes) -> str:
    """Serve a file at a URL that both sides can fetch, torch.hub without mirrors too: plain http; return it."""
    forge.serve(f"https://files.example.org/{name}", data)
    return f"{forge.url}/files.example.org/{name}"


@pytest.fixture
def both(
    published: Published, project: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Both]:
    """A project that locks a repository and files; and torch.hub with that repository in its cache."""
    shutil.copytree(published.folder / "project", project, dirs_exist_ok=True)
    shutil.copytree(published.folder / "store", store, symlinks=True)
    monkeypatch.chdir(project)
    monkeypatch.setenv("HUBLOCK_PROJECT", str(project))
    monkeypatch.setenv("HUBLOCK_CACHE_DIR", str(store))
    monkeypatch.setenv("HUBLOCK_MIRRORS", published.forge.mirrors)
    cache = tmp_path / "torch"
    for name, text in FILES.items():
        (cache / "someone_both_v1").mkdir(parents=True, exist_ok=True)
        (cache / "someone_both_v1" / name).write_text(text)
    (cache / "trusted_list").write_text("someone_both\n")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(cache))
    for side in ("theirs", "ours"):
        (tmp_path / side).mkdir()
    yield Both(Side(torch.hub, tmp_path / "theirs"), Side(hublock, tmp_path / "ours"), published.urls)
    for name in ("both_parts", "both_deep"):
        sys.modules.pop(name, None)


def test_lists_the_same_names(both: Both) -> None:
    (names, _, _) = both.agree(lambda side: side.hub.list(REF))

    assert names == NAMES
    # even as the very same strings
    assert [id(name) for name in hublock.list(REF)] == [id(name) for name in STOCK.list(REF)]
    assert "_helper" not in names


@pytest.mark.parametrize("name", NAMES)
def test_gives_the_same_docstrings(both: Both, name: str) -> None:
    both.agree(lambda side: side.hub.help(REF, name))


def test_a_name_with_an_underscore_is_nobodys_business_but_the_repositorys(both: Both) -> None:
    # torch.hub hides it from list only; a lock cannot name it
    assert STOCK.help(REF, "_helper") == "Not listed."
    with pytest.raises(EntrypointNotFound):
        hublock.help(REF, "_helper")

    folder = str(Path(torch.hub.get_dir()) / "someone_both_v1")
    assert both.agree(lambda side: side.hub.load(folder, "_helper", 3, source="local"))[0] == 3


def test_arguments_reach_the_entry_point(both: Both) -> None:
    options = {"scope": 1, "_original": 2, "allow_local": 3, "hub_dir": 4, "answers": 5, "entrypoint": 6, "name": 7}
    folder = str(Path(torch.hub.get_dir()) / "someone_both_v1")

    for name in ("echo", "nested"):
        (came, _, _) = both.agree(
            functools.partial(load, name, 1, None, trust_repo=True, skip_validation=True, **options)
        )
        assert came == ((1, None), options)
        both.agree(functools.partial(load, name, 1, source="Local", repo=folder, force_reload=True, **options))
    with hublock.activated():
        # the name of an option that only hublock.load has
        came = STOCK.load(REF, "nested", 1, verify="x", trust_repo=None, verbose=False, **options)
        assert came == ((1,), {"verify": "x", **options})
    assert both.agree(lambda side: side.hub.load(REF, "Holder", value=5).value)[0] == 5


def test_blocks_that_overlap_as_those_of_two_tasks_end_each_for_itself(both: Both) -> None:
    folder, environ = str(Path(torch.hub.get_dir()) / "someone_both_v1"), dict(os.environ)
    first, second, third = hublock.activated(), hublock.activated(allow_local=True), hublock.activated()

    def is_answered() -> bool:
        try:
            STOCK.load(folder, "echo", source="local")
        except NotLocked:
            return True
        return False

    with ExitStack() as one, ExitStack() as two:
        one.enter_context(first)
        two.enter_context(second)
        assert not is_answered()
        two.enter_context(third)
        one.close()
        assert is_answered()
        assert "startup" in os.environ["PYTHONPATH"]
    assert not is_answered()
    assert dict(os.environ) == environ


def test_the_same_code_in_two_folders_has_the_data_of_its_own_folder(both: Both, tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place / "net").mkdir(parents=True)
        (tmp_path / place / "net" / "hubconf.py").write_text(
            "from pathlib import Path\ndef read():\n    return Path(__file__).with_name('data').read_text()\n"
        )
        (tmp_path / place / "net" / "data").write_text(place)

    for place in ("a", "b", "a"):
        folder = str(tmp_path / place / "net")
        assert both.agree(functools.partial(load, "read", source="local", repo=folder))[0] == place


def load(name: str, /, *args: Any, **options: Any) -> Any:
    side: Side = args[-1]
    return side.hub.load(options.pop("repo", REF), name, *args[:-1], **options)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda side: side.hub.load(REF, "nothing"), None),
        (lambda side: side.hub.load(REF, "net", source="elsewhere"), ["ValueError"]),
        (lambda side: side.hub.load(REF, 3), ["ValueError"]),
        (lambda side: side.hub.help(REF, None), ["ValueError"]),
        (lambda side: side.hub.help(REF, "nothing"), ["RuntimeError"]),
        (lambda side: side.hub.load(REF, "net"), ["TypeError"]),
    ],
)
def test_errors_can_be_caught_alike(both: Both, call: Callable[[Side], Any], kind: list[str] | None) -> None:
    if kind is None:
        # what is not locked is not looked for
        assert outcome(call, both.stock)[0] == ["RuntimeError"]
        with pytest.raises(hublock.HublockError, match="does not lock the entry point nothing"):
            call(both.ours)
    else:
        assert both.agree(call)[0] == kind


def test_missing_dependencies_are_a_runtime_error(both: Both, tmp_path: Path) -> None:
    (tmp_path / "hubconf.py").write_text("dependencies = ['not_installed_1', 'not_installed_2']\ndef net(): ...\n")

    assert both.agree(lambda side: side.hub.load(str(tmp_path), "net", source="local"))[0] == ["RuntimeError"]


WAYS: dict[str, dict[str, Any]] = {
    "plainly": {},
    "without progress": {"progress": False},
    "to a device by name": {"map_location": "meta"},
    "to a device": {"map_location": torch.device("meta")},
    "by a dict": {"map_location": {"cpu": "meta"}},
    "by a function": {"map_location": lambda storage, location: storage},
    "weights only": {"weights_only": True},
    "not weights only": {"weights_only": False},
    "under a name": {"file_name": "mine.pth"},
    "with a check that finds nothing to check": {"check_hash": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["new", "old", "zipped", "zipped_1_6"])
def test_a_state_dict_is_read_alike(both: Both, name: str, way: str) -> None:
    def call(side: Side) -> Any:
        return side.hub.load_state_dict_from_url(both.urls[name], str(side.folder / "models"), **WAYS[way])

    came, left, warned = both.agree(call)

    if way == "by a dict" and came:
        assert came["w"][0] == "meta"
    assert len(left) == (2 if name == "zipped" else 1), left
    assert ("FutureWarning" in warned) == (name == "zipped")
    again = both.agree(lambda side: side.hub.load(REF, "net", both.urls[name], model_dir=str(side.folder), **WAYS[way]))
    assert again[0] == (came["w"] if isinstance(came, dict) else came)


@pytest.mark.parametrize(("name", "right"), [("right", True), ("wrong", False), ("new", True)])
def test_check_hash_refuses_the_same_files(both: Both, name: str, right: bool) -> None:
    (came, left, _) = both.agree(
        lambda side: side.hub.load_state_dict_from_url(both.urls[name], str(side.folder), check_hash=True)
    )

    assert came == (plain(STATE) if right else ["RuntimeError"])
    assert len(left) == (1 if right else 0)
    assert both.agree(lambda side: side.hub.load_state_dict_from_url(both.urls[name], str(side.folder)))[0] == plain(
        STATE
    )


def test_a_file_is_named_after_its_url_without_parameters(both: Both) -> None:
    assert list(both.agree(functools.partial(read, both.urls["parameter"]))[1]) == ["parameter.pth"]


def test_a_file_that_is_there_already_is_not_replaced(both: Both) -> None:
    for side in (both.stock, both.ours):
        (side.folder / "new.pth").write_bytes(saved({"w": torch.zeros(1)}))
    before = (both.ours.folder / "new.pth").read_bytes()

    theirs, ours = (
        side.hub.load_state_dict_from_url(both.urls["new"], str(side.folder)) for side in (both.stock, both.ours)
    )

    # torch.hub takes whatever lies there; hublock returns the locked bytes and leaves the file alone
    assert (theirs["w"].tolist(), ours["w"].tolist()) == ([0.0], [0.0, 1.0, 2.0])
    assert (both.ours.folder / "new.pth").read_bytes() == before


SHA = hashlib.sha256(saved(STATE)).hexdigest()


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("copy.pth", {}),
        ("copy.pth", {"progress": False}),
        ("copy.pth", {"hash_prefix": SHA[:8]}),
        ("copy.pth", {"hash_prefix": SHA}),
        ("copy.pth", {"hash_prefix": ""}),
        ("copy.pth", {"hash_prefix": "00000000"}),
        ("there.pth", {}),
        ("no/folder/copy.pth", {}),
    ],
)
def test_a_download_leaves_the_same_file(both: Both, target: str, options: dict[str, Any]) -> None:
    for side in (both.stock, both.ours):
        (side.folder / "there.pth").write_bytes(b"before")

    (came, left, _) = both.agree(
        lambda side: side.hub.download_url_to_file(both.urls["new"], str(side.folder / target), **options)
    )

    if came is None:
        assert left[target] == saved(STATE)
        modes = {stat.S_IMODE((side.folder / target).stat().st_mode) for side in (both.stock, both.ours)}
        assert len(modes) == 1, modes
    assert sorted(left) == sorted({"there.pth", *([target] if came is None else [])})


def test_home_is_expanded_where_torch_hub_does(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(side: Side) -> Any:
        monkeypatch.setenv("HOME", str(side.folder))
        return side.hub.download_url_to_file(both.urls["new"], "~/copy.pth")

    assert list(both.agree(call)[1]) == ["copy.pth"]


def set_and_get(folder: str | Path, side: Side) -> Any:
    return side.hub.set_dir(folder), side.hub.get_dir()


def test_the_folder_is_what_was_set(both: Both) -> None:
    for given in ("/some/folder", Path("/some/folder"), "~/hub", Path("~/hub")):
        (came, _, _) = both.agree(functools.partial(set_and_get, given))
        assert came == (None, str(Path(given).expanduser()))
        assert isinstance(hublock.get_dir(), str)


FIRST = """\
dependencies = ["torch"]
import torch


def net():
    return torch.hub.load_state_dict_from_url("https://example.org/first.pth")
"""
TAR = legacy_tar([1.0, 2.0, 3.0])
ZIPPED_TAR = legacy_zip(TAR)


@pytest.mark.parametrize("data", [TAR, ZIPPED_TAR], ids=["tar", "tar in a zip"])
def test_a_tar_of_the_first_days_needs_consent_and_is_then_read_as_torch_hub_reads_it(
    both: Both, published: Published, hub: Run, project: Path, data: bytes
) -> None:
    url = serve(published.forge, "first.pth", data)
    locked = (project / "hub.lock").read_bytes()
    add = ("add", "someone/both", "net", "--name", "first", "--no-trace", "--url", url)

    refused = hub(*add)
    assert refused.code == 6
    assert f"{url} would run <legacy tar>" in refused.err
    assert (project / "hub.lock").read_bytes() == locked
    agreed = hub(*add, "--allow-pickle")
    assert agreed.code == 0, agreed
    assert 'allow-pickle = ["<legacy tar>"]' in (project / "hub.toml").read_text()

    def load(side: Side, **options: Any) -> Any:
        repo = REF if side is both.stock else "someone/both"
        return side.hub.load(repo, "net", url, model_dir=str(side.folder), **options)

    (came, _, _) = both.agree(load)
    assert came == ("cpu", torch.float32, [1.0, 2.0, 3.0])
    for where in ("cpu", {"cpu": "cpu"}, lambda storage, location: storage):
        assert both.agree(functools.partial(load, map_location=where))[0] == came
    # torch refuses to force weights_only upon this format
    assert both.agree(functools.partial(load, weights_only=True))[0] == ["RuntimeError"]


def test_a_tar_is_traced_and_loaded_offline(forge: Forge, run: Run, python: Run, project: Path) -> None:
    forge.repo("someone/first", {"hubconf.py": FIRST})
    forge.serve("https://example.org/first.pth", TAR)

    agreed = run("add", "someone/first", "net", "--allow-pickle")
    assert agreed.code == 0, agreed
    assert 'pickle = ["<legacy tar>"]' in (project / "hub.lock").read_text()

    script = "import hublock\nprint(hublock.load('someone/first', 'net', verify='state')['w'].tolist())\n"
    assert python(script, HUBLOCK_MIRRORS="https://=http://127.0.0.1:9/").out == "[1.0, 2.0, 3.0]\n"


# of torch's own reader, from Python 3.12 on
@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")
def test_a_tar_is_never_read_as_tensors(both: Both, published: Published, hub: Run, project: Path) -> None:
    url = serve(published.forge, "first.pth", TAR)
    assert hub("add", "--url", url, "--name", "first", "--allow-pickle").code == 0
    assert hublock.load_state_dict_from_url(url)["w"].tolist() == [1.0, 2.0, 3.0]

    lock = project / "hub.lock"
    lied = lock.read_text().replace('pickle = ["<legacy tar>"]', 'pickle = "tensors"')
    assert parse_lock(lied, file="hub.lock").weights[0].pickle == "tensors"
    lock.write_text(lied)

    with pytest.raises(RuntimeError, match=r"weights_only=True.*legacy \.tar format"):
        hublock.load_state_dict_from_url(url)


def test_classes_of_the_program_itself_are_found_in_its_own_files(both: Both, published: Published, hub: Run) -> None:
    url = serve(published.forge, "own.pth", saved({"made": Side(None, Path("x"))}))
    assert hub("add", "--url", url, "--name", "own", "--allow-pickle").code == 0

    ways: list[dict[str, Any]] = [{}, {"weights_only": False}]
    for options in ways:
        made = both.agree(functools.partial(read, url, **options))
        assert made[0] == {"made": Side(None, Path("x"))}
    both.agree(functools.partial(read, url, weights_only=True))


def read(url: str, side: Side, **options: Any) -> Any:
    return side.hub.load_state_dict_from_url(url, str(side.folder), **options)
