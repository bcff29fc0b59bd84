"""A tree that holds the Python half of an installed package: a look-alike of pytorch/vision."""

import importlib
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import pytest
import torch

from hublock.errors import InputError, MissingDependency
from hublock.runtime.isolation import explained, import_hubconf
from hublock.runtime.nested import call_entrypoint
from hublock.runtime.repository import namespace
from tests.runtime.trees import make_repository

EXTENSION = """
    import importlib.machinery
    import os
    import torch

    def load(name):
        details = (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
        spec = importlib.machinery.FileFinder(os.path.dirname(__file__), details).find_spec(name)
        if spec is None:
            raise ImportError(name)
        torch.ops.load_library(spec.origin)
        return spec.origin

    try:
        LOADED = load("_C")
    except (ImportError, OSError):
        LOADED = None
"""
INSTALLED = {
    "__init__.py": "from . import extension, kernels",
    "extension.py": EXTENSION,
    "kernels.py": """
        import torch
        library = torch.library.Library("NAME", "DEF")
        library.define("double(Tensor x) -> Tensor")
        library.define("both(Tensor x) -> Tensor")
        library.impl("double", lambda x: x * 2, "CPU")
        library.impl("both", lambda x: x + 1, "CompositeExplicitAutograd")

        @torch.library.register_fake("NAME::double")
        def fake(x):
            return torch.empty_like(x)
    """,
}
TREE = {
    "hubconf.py": "import NAME, NAME.extension as extension\ndef entry(x):\n    return NAME.double(x)",
    "NAME/__init__.py": """
        import torch
        from . import extension, fakes
        WHO = "the tree"
        def double(x):
            return torch.ops.NAME.double(x)
    """,
    "NAME/extension.py": EXTENSION,
    "NAME/fakes.py": """
        import torch

        @torch.library.register_fake("NAME::double")
        def fake(x):
            return x.new_empty(7)

        library = torch.library.Library("NAME", "IMPL")
        library.impl("both", lambda x: x + 1000, "CompositeExplicitAutograd")
        library.impl("both", lambda x: x.new_empty(5), "Meta")
    """,
}


class Own(Enum):
    A = "a"


def named(files: dict[str, str], name: str) -> dict[str, str | bytes]:
    return {path.replace("NAME", name): text.replace("NAME", name) for path, text in files.items()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    sys.path.insert(0, str(tmp_path / "site"))
    yield tmp_path / "site"
    sys.path.remove(str(tmp_path / "site"))


def compiled(folder: Path, name: str = "_C") -> Path:
    """Put a library that can be loaded where a compiled module would be."""
    target = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    shutil.copy(str(torch._C.__file__), target)
    return target


# a newer torchvision has renamed what an older tree asks for
@pytest.mark.parametrize(("name", "file"), [("lookalike", "_C"), ("lookalike4", "_C_stable")])
def test_the_installed_half_gives_its_operators_and_the_tree_its_python(
    tmp_path: Path, site: Path, name: str, file: str
) -> None:
    make_repository(site / name, named(INSTALLED, name))
    library = compiled(site / name, file)
    repository = make_repository(tmp_path / "tree", named(TREE, name))
    hubconf = import_hubconf(repository)
    tree = getattr(hubconf, name)
    assert tree.WHO == "the tree"
    assert tree.__name__ == f"{namespace(repository)}.{name}"
    assert not hasattr(sys.modules[name], "WHO")
    assert Path(hubconf.extension.LOADED) == library
    assert hubconf.entry(torch.ones(2)).tolist() == [2, 2]


def test_the_registrations_of_the_installed_half_stay(tmp_path: Path, site: Path) -> None:
    make_repository(site / "lookalike2", named(INSTALLED, "lookalike2"))
    compiled(site / "lookalike2")
    import_hubconf(make_repository(tmp_path / "tree", named(TREE, "lookalike2")))
    operators = torch.ops.lookalike2
    assert operators.double(torch.empty(2, device="meta")).shape == (2,)
    assert operators.both(torch.ones(2)).tolist() == [2, 2]
    assert operators.both(torch.empty(2, device="meta")).shape == (5,)


def test_a_member_of_the_installed_enumeration_becomes_the_trees_own(tmp_path: Path, site: Path) -> None:
    kinds = "from enum import Enum\nclass Kind(Enum):\n    A = 'a'\n    B = WHERE"
    installed = {"__init__.py": "", "kinds.py": kinds.replace("WHERE", "'installed'\n    C = 'c'")}
    make_repository(site / "kindalike", dict(installed))
    files = {
        "hubconf.py": "from kindalike.kinds import Kind\ndef entry(kind, **kinds):\n    return Kind(kind), kinds",
        "kindalike/__init__.py": "",
        "kindalike/kinds.py": kinds.replace("WHERE", "'the tree'"),
    }
    repository = make_repository(tmp_path / "tree", files)
    hubconf = import_hubconf(repository)
    theirs = importlib.import_module("kindalike.kinds").Kind

    kind, others = call_entrypoint(repository, hubconf, "entry", [theirs.B], {"a": [theirs.A], "own": Own.A})

    assert kind is hubconf.Kind.B
    assert others == {"a": [hubconf.Kind.A], "own": Own.A}
    with pytest.raises(InputError, match=r"there is no kindalike\.kinds\.Kind\.C"):
        call_entrypoint(repository, hubconf, "entry", [theirs.C], {})


def test_an_installed_namesake_without_compiled_modules_is_not_imported(tmp_path: Path, site: Path) -> None:
    make_repository(site / "plainalike", {"__init__.py": "raise SystemExit('imported')"})
    files = {"hubconf.py": "import plainalike", "plainalike/__init__.py": "WHO = 'the tree'"}
    assert import_hubconf(make_repository(tmp_path / "tree", files)).plainalike.WHO == "the tree"
    assert "plainalike" not in sys.modules


def test_names_the_installation_that_is_missing(tmp_path: Path) -> None:
    repository = make_repository(tmp_path, named(TREE, "lookalike3"), identity="owner/lookalike")
    with pytest.raises(MissingDependency) as caught:
        import_hubconf(repository)
    assert caught.value.message == (
        "owner/lookalike holds only the Python half of lookalike3; "
        "its operators come from an installed lookalike3, which is not installed"
    )
    assert caught.value.hint == "pip install lookalike3"


def test_names_a_package_that_the_hubconf_does_not_declare(tmp_path: Path) -> None:
    files = {"hubconf.py": "def entry():\n    import no_such_package.x\n", "late.py": "import models.none"}
    repository = make_repository(tmp_path, files, identity="owner/repo")
    with pytest.raises(ModuleNotFoundError) as raised:
        import_hubconf(repository).entry()
    said = explained(repository, raised.value)
    assert said is not None and said.hint == "pip install no_such_package"
    assert explained(repository, ValueError("no")) is None
    assert explained(repository, ModuleNotFoundError("…", name="late")) is None
