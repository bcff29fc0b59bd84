"""Only bytes that are in the listing run: nothing planted beside them, nothing swapped under them."""

import importlib.util
import marshal
import os
import py_compile
import shutil
import struct
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from hublock.core.tree import Listing
from hublock.errors import TreeMismatch
from hublock.runtime.isolation import import_hubconf, stock_names
from hublock.runtime.repository import Repository, namespace
from tests.runtime.trees import make_repository

EVIL = "raise SystemExit('a planted file ran')"


@pytest.fixture(autouse=True)
def bytecode_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that forbids bytecode would hide that we write some."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(
        tmp_path / "tree",
        {
            "hubconf.py": "import models.net\ndef lazy():\n    from models import late\n    return late",
            "models/__init__.py": "",
            "models/net.py": "value = 1",
            "models/late.py": "value = 2",
        },
        identity=f"owner/{tmp_path.name}",
    )


@pytest.mark.parametrize("path", ["hubconf.py", "models/__init__.py", "models/net.py"])
def test_refuses_a_changed_file_before_any_of_it_runs(repository: Repository, path: str) -> None:
    file = repository.root / path
    file.write_text(EVIL)
    with pytest.raises(TreeMismatch, match=rf"{path} of owner/test_.* is not the locked file"):
        import_hubconf(repository)


def test_refuses_a_file_of_the_same_size_and_time_with_other_bytes(repository: Repository) -> None:
    file = repository.root / "models" / "net.py"
    before = file.stat()
    file.write_text("value = 3")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(TreeMismatch):
        import_hubconf(repository)


def test_refuses_a_file_that_is_missing(repository: Repository) -> None:
    (repository.root / "models" / "net.py").unlink()
    with pytest.raises(TreeMismatch, match=r"models/net\.py of owner/\S+ cannot be read"):
        import_hubconf(repository)


def test_refuses_a_file_that_was_swapped_after_the_load(repository: Repository) -> None:
    hubconf = import_hubconf(repository)
    late = repository.root / "models" / "late.py"
    late.write_text(EVIL)
    with pytest.raises(TreeMismatch, match=r"models/late\.py"):
        hubconf.lazy()
    late.write_text("value = 2")
    assert hubconf.lazy().value == 2


def test_refuses_a_listing_edited_to_match(repository: Repository) -> None:
    (repository.root / "models" / "net.py").write_text(EVIL)
    edited = make_repository(
        repository.root,
        {entry.path: (repository.root / entry.path).read_bytes() for entry in repository.listing.entries},
    )
    with pytest.raises(TreeMismatch, match="the listing of"):
        import_hubconf(replace(repository, listing=edited.listing))


def test_refuses_two_trees_whose_digests_begin_alike(repository: Repository) -> None:
    import_hubconf(repository)
    like = replace(repository.digest, hex=repository.digest.hex[:16] + "0" * 48)
    forged = replace(repository, digest=like, listing=_Claims(entries=repository.listing.entries, claimed=like))
    assert namespace(forged) == namespace(repository)
    with pytest.raises(TreeMismatch, match="two trees share the name"):
        import_hubconf(forged)


class _Claims(Listing):
    """A listing that claims a digest, since no two real ones collide."""

    def __init__(self, *, entries: tuple[object, ...], claimed: object) -> None:
        self.__dict__.update(entries=entries, digest=claimed)


def plant_timestamp_bytecode(source: Path, evil: Path) -> None:
    facts = source.stat()
    evil.write_text(EVIL)
    code = marshal.dumps(compile(EVIL, str(source), "exec"))
    header = importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, int(facts.st_mtime), facts.st_size)
    _cached(source).write_bytes(header + code)


def plant_unchecked_bytecode(source: Path, evil: Path) -> None:
    evil.write_text(EVIL)
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(evil), cfile=str(_cached(source)), invalidation_mode=mode)


def plant_checked_bytecode(source: Path, evil: Path) -> None:
    code = marshal.dumps(compile(EVIL, str(source), "exec"))
    header = importlib.util.MAGIC_NUMBER + struct.pack("<I", 3) + importlib.util.source_hash(source.read_bytes())
    _cached(source).write_bytes(header + code)


def plant_legacy_bytecode(source: Path, evil: Path) -> None:
    plant_unchecked_bytecode(source, evil)
    shutil.copy(_cached(source), source.with_suffix(".pyc"))


def plant_a_compiled_module(source: Path, evil: Path) -> None:
    source.with_name(source.stem + sysconfig.get_config_var("EXT_SUFFIX")).write_bytes(b"\x7fELF not a library")


def plant_a_package(source: Path, evil: Path) -> None:
    package = source.with_suffix("")
    if not package.exists():
        package.mkdir()
        (package / "__init__.py").write_text(EVIL)


def _cached(source: Path) -> Path:
    cached = Path(importlib.util.cache_from_source(str(source)))
    cached.parent.mkdir(exist_ok=True)
    return cached


@pytest.mark.parametrize(
    "plant",
    [plant_timestamp_bytecode, plant_unchecked_bytecode, plant_checked_bytecode, plant_legacy_bytecode,
     plant_a_compiled_module, plant_a_package],
)  # fmt: skip
def test_nothing_planted_beside_a_source_file_runs(repository: Repository, tmp_path: Path, plant: object) -> None:
    assert callable(plant)
    for path in ("hubconf.py", "models/__init__.py", "models/net.py", "models/late.py"):
        plant(repository.root / path, tmp_path / "evil.py")
    hubconf = import_hubconf(repository)
    assert (hubconf.models.net.value, hubconf.lazy().value) == (1, 2)


def test_the_planted_bytecode_would_run_under_the_stock_importer(repository: Repository, tmp_path: Path) -> None:
    for plant in (plant_timestamp_bytecode, plant_unchecked_bytecode, plant_checked_bytecode):
        plant(repository.root / "models" / "net.py", tmp_path / "evil.py")
        command = [sys.executable, "-c", "import models.net"]
        done = subprocess.run(command, cwd=repository.root, capture_output=True, text=True, check=False)
        assert "a planted file ran" in done.stderr


def test_unlisted_files_are_not_there(tmp_path: Path) -> None:
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": """
                import importlib, os, sys
                sys.path.insert(0, os.path.dirname(__file__))
                found = []
                for name in ["stray", "models.stray", "package", "strays.one"]:
                    try:
                        importlib.import_module(name)
                    except ImportError:
                        continue
                    found.append(name)
                try:
                    from . import stray
                    found.append("relative")
                except ImportError:
                    pass
            """,
            "models/__init__.py": "",
        },
    )
    for path in ("stray.py", "models/stray.py", "package/__init__.py", "strays/one.py", "torch.py", "packaging.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(EVIL)
    assert import_hubconf(repository).found == []
    with stock_names(repository), pytest.raises(ModuleNotFoundError):
        importlib.import_module("models.stray")


@pytest.mark.parametrize("how", ["spec", "loader", "torch", "pkgutil", "path finder"])
def test_a_file_imported_by_its_path_is_held_to_the_listing(tmp_path: Path, how: str) -> None:
    spec = "importlib.util.spec_from_file_location('p', file)"
    run = {
        "spec": f"s = {spec}; s.loader.exec_module(importlib.util.module_from_spec(s))",
        "loader": "importlib.machinery.SourceFileLoader('p', file).load_module()",
        "torch": "torch.hub._import_module('p', file)",
        "pkgutil": "[s] = [m.module_finder.find_spec(m.name) for m in pkgutil.iter_modules([os.path.dirname(file)])"
        " if m.name + '.py' == name]; s.loader.exec_module(importlib.util.module_from_spec(s))",
        "path finder": "s = importlib.machinery.PathFinder.find_spec(name[:-3], [os.path.dirname(file)]); "
        "s.loader.exec_module(importlib.util.module_from_spec(s))",
    }[how]
    source = (
        "import importlib.util, importlib.machinery, os, pkgutil, torch.hub\n"
        "def entry(name):\n"
        "    file = os.path.join(os.path.dirname(__file__), name)\n"
        f"    {run}\n"
    )
    repository = make_repository(tmp_path, {"hubconf.py": source, "plugin.py": "pass"})
    hubconf = import_hubconf(repository)
    before = set(repository.root.rglob("*"))
    hubconf.entry("plugin.py")
    assert set(repository.root.rglob("*")) == before
    (tmp_path / "stray.py").write_text(EVIL)
    (tmp_path / "plugin.py").write_text(EVIL)
    for name in ("plugin.py", "stray.py"):
        with pytest.raises(TreeMismatch, match=name):
            hubconf.entry(name)


def test_no_bytecode_is_written(repository: Repository) -> None:
    before = set(repository.root.rglob("*"))
    import_hubconf(repository).lazy()
    assert set(repository.root.rglob("*")) == before


def test_a_listed_compiled_module_is_an_import_error(tmp_path: Path) -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": "try:\n    import fast\nexcept ImportError as error:\n    message = str(error)",
            f"fast{suffix}": b"\x7fELF",
        },
        identity="owner/compiled",
    )
    assert import_hubconf(repository).message == (
        f"fast{suffix} of owner/compiled is a compiled module; only source files are imported"
    )


def test_a_compiled_module_does_not_hide_its_source(tmp_path: Path) -> None:
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    files: dict[str, str | bytes] = {"hubconf.py": "import fast", "fast.py": "value = 4", f"fast{suffix}": b"\x7fELF"}
    assert import_hubconf(make_repository(tmp_path, files)).fast.value == 4
