"""Repositories are imported side by side, under names of their own, and leave the process as it was."""

import dataclasses
import importlib
import inspect
import linecache
import os
import pickle
import random
import site
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from hublock.errors import InputError, MissingDependency, TreeMismatch
from hublock.runtime import isolation
from hublock.runtime.isolation import find_class, import_hubconf, stock_names
from hublock.runtime.modules.finder import FINDER
from hublock.runtime.repository import Repository, namespace
from tests.runtime.carrying import in_a_fresh_process
from tests.runtime.trees import make_repository, with_link


@pytest.fixture(autouse=True)
def process_is_left_as_it_was() -> Iterator[None]:
    """Whatever a repository does, ``sys.path`` and the stock names of the process stay."""
    path, names = list(sys.path), set(sys.modules)
    yield
    assert sys.path == path
    new = {name for name in set(sys.modules) - names if not name.startswith(("hublock.", "importlib", "tests."))}
    assert not {name.partition(".")[0] for name in new} & {"models", "utils", "lib", "hubconf", "late", "made_up"}


def test_names_are_made_of_the_reference_and_sixteen_digits_of_the_digest(tmp_path: Path) -> None:
    for identity, slug in [
        ("ultralytics/yolov5:v7.0", "ultralytics_yolov5_v7_0"),
        ("git+https://host.org/some/repo.git@main", "host_org_some_repo_git_main"),
        ("3d/models", "r3d_models"),
    ]:
        repository = make_repository(tmp_path / slug, {"hubconf.py": ""}, identity=identity)
        assert namespace(repository) == f"hublock.repos.{slug}_{repository.digest.hex[:16]}"
        assert import_hubconf(repository).__name__ == f"{namespace(repository)}.hubconf"


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("import models", "models.NAME"),
        ("import models.yolo", "models.yolo.NAME"),
        ("import models.yolo", "models.NAME"),
        ("import models.deep.leaf", "models.deep.leaf.NAME"),
        ("import models.yolo as m", "m.NAME"),
        ("import models.yolo, utils, os.path as p", "(models.yolo.NAME, utils.NAME, p.sep)"),
        ("import models.late as late", "late"),
        ("from models import yolo", "yolo.NAME"),
        ("from models import yolo as y, NAME", "(y.NAME, NAME)"),
        ("from models.deep.leaf import NAME", "NAME"),
        ("from models.deep import *", "NAME"),
        ("m = __import__('models.yolo')", "m.yolo.NAME"),
        ("m = __import__('models.yolo', fromlist=['NAME'])", "m.NAME"),
        ("m = __import__('models.yolo', globals(), locals(), [], 0)", "m.yolo.NAME"),
        ("import models; m = __import__(models.__name__ + '.yolo')", "m.yolo.NAME"),
        ("import models.deep; m = __import__(models.deep.__name__ + '.leaf')", "m.deep.leaf.NAME"),
        ("import builtins; m = builtins.__import__('models.yolo')", "m.yolo.NAME"),
        ("import importlib; m = importlib.__import__('models.yolo')", "m.yolo.NAME"),
        ("import importlib; m = importlib.import_module('models.yolo')", "m.NAME"),
        ("from importlib import import_module as i; m = i('.yolo', 'models')", "m.NAME"),
        ("from importlib import import_module as i; m = i('.yolo', __package__ + '.models')", "m.NAME"),
        ("import models.yolo, sys; m = sys.modules['models.yolo']", "m.NAME"),
        ("import sys; import models.yolo", "('models.yolo' in sys.modules, sys.modules['models'].NAME)"),
        ("from sys import modules; from models import yolo", "modules[yolo.__name__].NAME"),
        ("import importlib.util as u", "(u.find_spec('models.none'), u.find_spec('models.yolo').name[-11:])"),
        ("import pydoc; m = pydoc.locate('models.yolo')", "m.NAME"),
        ("import logging.config as c; m = c.DictConfigurator({}).resolve('models.yolo')", "m.NAME"),
        ("import logging.config as c; m = c._resolve('models.yolo')", "m.NAME"),
        ("import pkgutil, models", "sorted(m.name for m in pkgutil.iter_modules(models.__path__))"),
        ("import pkgutil as p, models", "sorted(m.name for m in p.walk_packages(models.__path__, 'models.'))"),
        ("import pkgutil", "pkgutil.get_data('models', 'data.txt')"),
        ("import pkgutil", "pkgutil.resolve_name('models:NAME')"),
        ("import importlib.resources as r", "r.files('models').joinpath('data.txt').read_text()"),
        ("import importlib.resources", "importlib.resources.files('bare').joinpath('data.txt').read_text()"),
        ("import importlib.resources as r", "r.files('data').joinpath('data.txt').read_text()"),
        ("import importlib.resources as r", "r.files('models.more').joinpath('data.txt').read_text()"),
        ("import bare.inner", "bare.inner.NAME"),
        ("exec('from models import yolo')", "yolo.NAME"),
        ("import importlib, models.yolo; m = importlib.reload(models.yolo)", "m.NAME"),
    ],
)
@pytest.mark.parametrize("where", ["module", "function"])
def test_every_way_to_import_finds_the_tree(tmp_path: Path, statement: str, value: str, where: str) -> None:
    files = {
        "models/__init__.py": "NAME = 'models'\nfrom .late import late",
        "models/late.py": "late = 'the attribute'",
        "models/yolo.py": "NAME = 'models.yolo'",
        "models/data.txt": "data",
        "models/deep/__init__.py": "from .leaf import NAME",
        "models/deep/leaf.py": "from ..yolo import NAME as above\nNAME = above + '.leaf'",
        "utils.py": "NAME = 'utils'",
        "bare/inner.py": "NAME = 'bare.inner'",
        "bare/data.txt": "bare data",
        "data/data.txt": "only data",
        "models/more/data.txt": "more data",
    }
    if where == "function" and ("*" in statement or "exec" in statement):
        statement = f"g = globals(); exec({statement!r}, g); NAME = g.get('NAME'); yolo = g.get('yolo')"
    hubconf = f"{statement}\nresult = {value}\n"
    if where == "function":
        hubconf = f"def entry():\n    {statement}\n    return {value}\nresult = entry()\n"
    expected = {
        "models.NAME": "models", "models.yolo.NAME": "models.yolo", "models.deep.leaf.NAME": "models.yolo.leaf",
        "m.deep.leaf.NAME": "models.yolo.leaf",
        "(models.yolo.NAME, utils.NAME, p.sep)": ("models.yolo", "utils", os.sep), "y.NAME": "models.yolo",
        "(y.NAME, NAME)": ("models.yolo", "models"), "m.yolo.NAME": "models.yolo", "m.NAME": "models.yolo",
        "yolo.NAME": "models.yolo", "('models.yolo' in sys.modules, sys.modules['models'].NAME)": (True, "models"),
        "modules[yolo.__name__].NAME": "models.yolo", "bare.inner.NAME": "bare.inner",
        "(u.find_spec('models.none'), u.find_spec('models.yolo').name[-11:])": (None, "models.yolo"),
        "sorted(m.name for m in pkgutil.iter_modules(models.__path__))": ["deep", "late", "yolo"],
        "sorted(m.name for m in p.walk_packages(models.__path__, 'models.'))": [
            "models.deep", "models.deep.leaf", "models.late", "models.yolo",
        ],
        "pkgutil.get_data('models', 'data.txt')": b"data",
        "pkgutil.resolve_name('models:NAME')": "models",
        "r.files('models').joinpath('data.txt').read_text()": "data",
        "importlib.resources.files('bare').joinpath('data.txt').read_text()": "bare data",
        "r.files('data').joinpath('data.txt').read_text()": "only data",
        "r.files('models.more').joinpath('data.txt').read_text()": "more data",
        "NAME": "models.yolo.leaf",
        "late": "the attribute",
    }  # fmt: skip
    assert import_hubconf(make_repository(tmp_path, {**files, "hubconf.py": hubconf})).result == expected[value]


def test_a_module_sees_its_own_facts(tmp_path: Path) -> None:
    repository = make_repository(
        tmp_path,
        {"hubconf.py": "import models\nmain = __name__ == '__main__'", "models/__init__.py": "where = __file__"},
    )
    hubconf = import_hubconf(repository)
    models = hubconf.models
    assert hubconf.__file__ == str(tmp_path / "hubconf.py")
    assert models.where == str(tmp_path / "models" / "__init__.py")
    assert models.__path__ == [str(tmp_path / "models")]
    assert models.__package__ == models.__name__ == f"{namespace(repository)}.models"
    assert models.__hublock_repo__ == hubconf.__hublock_repo__ == namespace(repository)
    assert sys.modules[namespace(repository)].__hublock_repo__ == namespace(repository)
    assert models.__spec__.cached is None
    assert not hasattr(models, "__cached__")
    assert not hubconf.main


def test_repositories_with_the_same_names_get_their_own_code_in_any_order(tmp_path: Path) -> None:
    def files(word: str) -> dict[str, str]:
        return {
            "hubconf.py": "from utils import word\ndef lazy():\n    import models.late\n    return models.late.word",
            "utils.py": f"word = {word!r}",
            "models/__init__.py": "",
            "models/late.py": "from utils import word",
        }

    words = [f"word{number}" for number in range(8)]
    made = {word: make_repository(tmp_path / word, files(word), identity="same/name") for word in words}
    order = words * 2
    random.Random(7).shuffle(order)
    hubconfs = {word: import_hubconf(made[word]) for word in order}
    random.Random(8).shuffle(order)
    for word in order:
        assert hubconfs[word].word == word
        assert hubconfs[word].lazy() == word


def test_the_hubconf_is_imported_once(tmp_path: Path) -> None:
    repository = make_repository(tmp_path, {"hubconf.py": "things = []"})
    assert import_hubconf(repository) is import_hubconf(repository)


def test_a_copy_serves_a_tree_that_was_not_imported_yet(tmp_path: Path) -> None:
    files = {"hubconf.py": "", "models.py": ""}
    first, copy, late = (make_repository(tmp_path / word, files, identity="owner/copied") for word in "abc")
    FINDER.register(first)
    assert import_hubconf(copy).__file__ == str(tmp_path / "b" / "hubconf.py")
    assert import_hubconf(late).__file__ == str(tmp_path / "b" / "hubconf.py")


def test_a_tree_without_hubconf_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"owner/repo has no hubconf\.py"):
        import_hubconf(make_repository(tmp_path, {"model.py": ""}, identity="owner/repo"))


def test_the_trees_modules_win_over_installed_ones_and_leave_them_to_everybody_else(tmp_path: Path) -> None:
    repository = make_repository(
        tmp_path,
        {"hubconf.py": "import packaging.version as v, pluggy", "packaging/__init__.py": "", "packaging/version.py": "",
         "pluggy.py": "mine = True"},
    )  # fmt: skip
    hubconf = import_hubconf(repository)
    assert hubconf.v.__file__ == str(tmp_path / "packaging" / "version.py")
    assert hubconf.pluggy.mine
    import packaging.version
    import pluggy

    assert packaging.version.Version("1").major == 1
    assert not hasattr(pluggy, "mine")


def test_the_standard_library_and_torch_are_never_the_trees(tmp_path: Path) -> None:
    names = ["sys", "time", "logging", "random", "types", "torch"]
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": "import time, logging, random, types\nimport sys as s\nfrom logging import getLogger",
            **{f"{name}.py": "raise RuntimeError('the tree hid an installed module')" for name in names},
        },
    )
    hubconf = import_hubconf(repository)
    assert hubconf.logging is importlib.import_module("logging")
    assert hubconf.random is random


def test_names_of_the_standard_library_that_torch_leaves_alone_are_the_trees(tmp_path: Path) -> None:
    files = {"hubconf.py": "import test, profile", "test.py": "mine = 1", "profile/__init__.py": "mine = 2"}
    hubconf = import_hubconf(make_repository(tmp_path, files))
    assert (hubconf.test.mine, hubconf.profile.mine) == (1, 2)


def test_code_in_c_that_a_repository_calls_finds_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "sched", raising=False)
    hubconf = "import _pickle\nfound = _pickle.loads(b'csched\\nscheduler\\n.')"
    found = import_hubconf(make_repository(tmp_path, {"hubconf.py": hubconf, "sched.py": ""})).found
    assert found is importlib.import_module("sched").scheduler


def test_a_bare_folder_never_hides_an_installed_package(tmp_path: Path) -> None:
    repository = make_repository(
        tmp_path, {"hubconf.py": "import packaging.version, bare.x", "packaging/version.py": "", "bare/x.py": ""}
    )
    hubconf = import_hubconf(repository)
    assert hubconf.packaging.version.Version("1.0")
    assert hubconf.bare.x.__name__ == f"{namespace(repository)}.bare.x"


def test_a_package_of_the_users_own_does_not_take_the_trees_bare_folder(tmp_path: Path) -> None:
    # wherever it is: in the working directory, beside the script, or on PYTHONPATH
    (tmp_path / "src" / "models").mkdir(parents=True)
    (tmp_path / "src" / "models" / "__init__.py").write_text("raise RuntimeError('that of the user was imported')")
    repository = make_repository(tmp_path / "tree", {"hubconf.py": "from models.x import v", "models/x.py": "v = 1"})
    sys.path.insert(0, str(tmp_path / "src"))
    try:
        assert import_hubconf(repository).v == 1
    finally:
        sys.path.pop(0)


def test_folders_put_on_sys_path_are_roots_of_this_repository_alone(tmp_path: Path) -> None:
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": """
                import os, sys
                sys.path.insert(0, os.path.join(os.path.dirname(__file__), "src"))
                sys.path += [os.path.join(os.path.dirname(os.path.abspath(__file__)), "more")]
                from lib.core import value, late
                import helper
                path = list(sys.path)
            """,
            "src/lib/__init__.py": "",
            "src/lib/core.py": "value = 5\ndef late():\n    from lib.other import value\n    return value",
            "src/lib/other.py": "import lib.core\nvalue = lib.core.value + 1",
            "more/helper.py": "from lib import core",
        },
    )
    hubconf = import_hubconf(repository)
    assert hubconf.value == 5
    assert hubconf.late() == 6
    assert hubconf.path[0] == str(tmp_path / "src")
    assert hubconf.path[1] == str(tmp_path)
    assert hubconf.helper.core.__name__ == f"{namespace(repository)}.lib.core"


def test_entries_of_sys_path_that_are_no_strings_lead_nowhere(tmp_path: Path) -> None:
    files = {
        "hubconf.py": "import pathlib, sys\nsys.path.insert(0, pathlib.Path(__file__).parent / 'old')\nimport layers",
        "layers.py": "number = 1",
        "old/layers.py": "number = 2",
    }
    assert import_hubconf(make_repository(tmp_path, files)).layers.number == 1


def test_an_empty_entry_of_sys_path_is_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = {
        "hubconf.py": "import os, sys\nos.chdir(os.path.dirname(__file__) + '/old')\nsys.path.insert(0, '')\n"
        "import layers\nos.chdir('..')\nos.mkdir('gone')\nos.chdir('gone')\nos.rmdir('../gone')\nimport other",
        "layers.py": "number = 1",
        "other.py": "number = 3",
        "old/layers.py": "number = 2",
    }
    hubconf = import_hubconf(make_repository(tmp_path, files))
    assert (hubconf.layers.number, hubconf.other.number) == (2, 3)


def test_a_folder_reached_through_a_link_elsewhere_is_the_trees(tmp_path: Path) -> None:
    repository = make_repository(
        tmp_path / "tree",
        {
            "hubconf.py": """
                import importlib.util, sys
                def model(link):
                    sys.path.insert(0, link + "/src")
                    import inner
                    spec = importlib.util.spec_from_file_location("byname", link + "/src/inner.py")
                    return inner.__name__, type(spec.loader).__name__
            """,
            "src/inner.py": "",
        },
    )
    link = tmp_path / "owner_repo_main"
    link.symlink_to(tmp_path / "tree")

    hubconf = import_hubconf(repository)

    assert hubconf.model(str(link)) == (hubconf.__name__.replace("hubconf", "__root_src__.inner"), "TreeLoader")


def test_assignments_to_sys_path_stay_with_the_repository_and_other_ones_reach_sys(tmp_path: Path) -> None:
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": """
                import sys, os.path
                sys.path = [os.path.join(os.path.dirname(__file__), "src")] + sys.path
                import inner
                sys.argv_of_repository = 1
                made = type(sys)("made")
                made.x = 1
            """,
            "src/inner.py": "",
        },
    )
    hubconf = import_hubconf(repository)
    try:
        assert sys.argv_of_repository == 1  # type: ignore[attr-defined]
    finally:
        del sys.argv_of_repository  # type: ignore[attr-defined]
    assert isinstance(hubconf.made, ModuleType) and hubconf.made.x == 1
    assert hubconf.sys.platform == sys.platform
    assert "path" in dir(hubconf.sys)


def test_what_a_repository_puts_into_sys_modules_is_seen_by_it_alone(tmp_path: Path) -> None:
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": """
                import sys, types
                module = types.ModuleType("made_up"); module.x = 3
                sys.modules["made_up"] = module
                import made_up
                from made_up import x
                sys.modules["models.alias"] = module
                import models.alias
                names = [name for name in sys.modules if name.startswith("models")]
                for name in list(names): del sys.modules[name]
                gone = "models" not in sys.modules
                import models
                kept = sys.modules.pop("made_up", None)
                copied = sys.modules.copy()
                sys.modules["no_module"] = None
                try:
                    import no_module.inner
                except ImportError as error:
                    said = str(error)
            """,
            "models/__init__.py": "",
        },
    )
    hubconf = import_hubconf(repository)
    assert hubconf.x == 3
    assert sorted(hubconf.names) == ["models", "models.alias"]
    assert hubconf.gone and hubconf.kept.x == 3
    assert hubconf.copied["os"] is os
    assert "made_up" not in sys.modules
    assert "no_module" in hubconf.said


def test_a_file_imported_by_its_path_is_the_trees(tmp_path: Path) -> None:
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": """
                import importlib.util, importlib.machinery, os
                file = os.path.join(os.path.dirname(__file__), "plugins", "one.py")
                spec = importlib.util.spec_from_file_location("plugin", file)
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                other = importlib.machinery.SourceFileLoader("other", file).load_module()
            """,
            "plugins/one.py": "from models import value",
            "models.py": "value = 9",
        },
    )
    hubconf = import_hubconf(repository)
    assert hubconf.module.value == hubconf.other.value == 9
    assert hubconf.module.__hublock_repo__ == namespace(repository)
    assert "other" not in sys.modules


@pytest.mark.parametrize("more", [{}, {"config/other.py": ""}])
def test_of_files_that_code_gives_one_name_the_last_is_imported(tmp_path: Path, more: dict[str, str]) -> None:
    files = more | {
        "hubconf.py": """
            import importlib.machinery, importlib.util, os, pickle, sys
            here = os.path.dirname(__file__)
            def plain(file):
                spec = importlib.util.spec_from_file_location("config", os.path.join(here, file))
                sys.modules["config"] = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(sys.modules["config"])
            def old(file):
                importlib.machinery.SourceFileLoader("config", os.path.join(here, file)).load_module()
            def values(load):
                found = []
                for file in ("a/__init__.py", "b/__init__.py", "a/__init__.py"):
                    load(file)
                    import config
                    from config import inner
                    assert sys.modules["config"] is config
                    # which is compiled when there is a module of that name already
                    import late
                    own = sys.modules["config"].Own
                    same = pickle.loads(pickle.dumps(own)) is own
                    name, again = importlib.import_module("config").value, late.get()
                    found.append((config.value, inner.value, name, again, own.value, same))
                return found
        """,
        "late.py": "def get():\n    import config\n    return config.value\n",
        "a/__init__.py": "value = 'a'\nclass Own:\n    value = 'a'\n",
        "a/inner.py": "value = 'a'",
        "b/__init__.py": "value = 'b'\nclass Own:\n    value = 'b'\n",
        "b/inner.py": "value = 'b'",
    }
    expected = [(value, value, value, value, value, True) for value in "aba"]
    for name in ("plain", "old"):
        hubconf = import_hubconf(make_repository(tmp_path / name, files))
        assert hubconf.values(getattr(hubconf, name)) == expected
    assert "config" not in sys.modules


def test_a_package_under_another_name_gives_its_modules(tmp_path: Path) -> None:
    files = {
        "hubconf.py": """
            import importlib.machinery, new, os, sys
            sys.modules["old"] = new
            from old import inner
            file = os.path.join(os.path.dirname(__file__), "one.py")
            first, again = (importlib.machinery.SourceFileLoader(name, file).load_module() for name in ("a", "b"))
            first.value = 1
            from a import value
        """,
        "new/__init__.py": "",
        "new/inner.py": "value = 3",
        "one.py": "value = 2",
    }
    hubconf = import_hubconf(make_repository(tmp_path, files))
    assert (hubconf.inner.value, hubconf.value, hubconf.again.value) == (3, 1, 2)


def test_a_module_that_code_puts_below_a_package_of_its_own_is_found_before_that_is_imported(tmp_path: Path) -> None:
    files = {
        "hubconf.py": """
            import importlib.util, os, sys
            file = os.path.join(os.path.dirname(__file__), "extras", "one.py")
            for name in ("models.one", "layers.one", "blocks.one"):
                spec = importlib.util.spec_from_file_location(name, file)
                sys.modules[name] = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(sys.modules[name])
            import models.one as first
            def late():
                import layers.one as second
                import blocks.one
                from models import one
                return second.value, blocks.one.value, one.value
        """,
        "extras/one.py": "value = 9",
        "models/__init__.py": "",
        "layers/__init__.py": "",
        "blocks/__init__.py": "from . import one",
    }
    hubconf = import_hubconf(make_repository(tmp_path, files))
    assert hubconf.first.value == 9
    assert hubconf.late() == (9, 9, 9)


def test_a_missing_module_is_an_import_error_that_names_it_as_the_author_does(tmp_path: Path) -> None:
    files = {
        "hubconf.py": """
            try:
                import models.none
            except ImportError as error:
                first = str(error)
            try:
                from models import none
            except ImportError as error:
                second = str(error)
        """,
        "models/__init__.py": "",
    }
    hubconf = import_hubconf(make_repository(tmp_path, files, identity="owner/repo"))
    assert hubconf.first == "No module named 'models.none' in owner/repo"
    assert "cannot import name 'none'" in hubconf.second


def test_a_relative_import_does_not_leave_a_top_level_package(tmp_path: Path) -> None:
    files = {
        "hubconf.py": "try:\n    from .layers import NAME\nexcept ModuleNotFoundError as error:\n"
        "    said = str(error)\nimport models.deep.net as net",
        "models/__init__.py": "",
        "models/deep/net.py": """
            import importlib
            from ..own import NAME as own
            try:
                from ...layers import NAME
            except ImportError as error:
                from fallback import NAME
                said = str(error)
            try:
                importlib.import_module("...layers", __package__)
            except ImportError as error:
                again = str(error)
        """,
        "models/own.py": "NAME = 'own'",
        "layers.py": "NAME = 'layers'",
        "fallback.py": "NAME = 'fallback'",
    }
    hubconf = import_hubconf(make_repository(tmp_path, files))
    assert hubconf.said == "attempted relative import with no known parent package"
    assert (hubconf.net.own, hubconf.net.NAME) == ("own", "fallback")
    assert hubconf.net.said == hubconf.net.again == "attempted relative import beyond top-level package"


@pytest.mark.parametrize("folder", ["", "src/"])
@pytest.mark.filterwarnings("error")
def test_a_top_level_module_has_no_package_as_it_has_none_under_torch_hub(tmp_path: Path, folder: str) -> None:
    files = {
        "hubconf.py": f"""
            import os, sys
            sys.path.insert(0, os.path.join(os.path.dirname(__file__), "{folder}"))
            import model
        """,
        f"{folder}model.py": """
            if __package__:
                from .layers import NAME
            else:
                from layers import NAME
            try:
                from .layers import NAME as near
            except ImportError as error:
                near = str(error)
            import part
        """,
        f"{folder}layers.py": "NAME = 'layers'",
        f"{folder}part/__init__.py": "from . import leaf",
        f"{folder}part/leaf.py": "package = __package__",
    }
    repository = make_repository(tmp_path, files)
    model = import_hubconf(repository).model
    assert (model.__package__, model.NAME) == ("", "layers")
    assert model.near == "attempted relative import with no known parent package"
    assert model.part.leaf.package == model.part.__name__
    assert importlib.reload(model) is model


def test_new_builtins_are_known_to_every_module_of_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("made_here", "_"):
        monkeypatch.setattr(f"builtins.{name}", None, raising=False)
    files = {
        "hubconf.py": "import gettext, builtins, early\ngettext.install('nowhere')\nimport late\n"
        "builtins.made_here = 1",
        "early.py": "def late(): return made_here",
        "late.py": "text = _('as it is')",
    }
    hubconf = import_hubconf(make_repository(tmp_path, files))
    assert (hubconf.early.late(), hubconf.late.text) == (1, "as it is")


def test_source_encodings_and_line_ends_are_honoured(tmp_path: Path) -> None:
    hubconf = import_hubconf(
        make_repository(
            tmp_path,
            {
                "hubconf.py": "# coding: latin-1\nimport bom, ends\ntext = 'é'\n".encode("latin-1"),
                "bom.py": "\ufefftext = 'ü'\n".encode(),
                "ends.py": b"from __future__ import annotations\r\ntext = '''a\r\nb'''\r\n",
            },
        )
    )
    assert (hubconf.text, hubconf.bom.text, hubconf.ends.text) == ("é", "ü", "a\nb")
    assert inspect.getsource(hubconf).splitlines()[2] == "text = 'é'"


def test_tracebacks_and_inspect_show_the_authors_lines(tmp_path: Path) -> None:
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": "import models.net, os; from models.net import Net\ndef entry():\n    return Net().fail()\n",
            "models/net.py": "import utils.a, utils.b\nclass Net:\n    def fail(self):\n        return 1 / 0\n",
            "utils/a.py": "",
            "utils/b.py": "",
        },
    )
    hubconf = import_hubconf(repository)
    with pytest.raises(ZeroDivisionError) as caught:
        hubconf.entry()
    frames = traceback.extract_tb(caught.value.__traceback__)[1:]
    assert [(Path(frame.filename).name, frame.lineno, frame.line) for frame in frames] == [
        ("hubconf.py", 3, "return Net().fail()"),
        ("net.py", 4, "return 1 / 0"),
    ]
    assert inspect.getsource(hubconf.Net).startswith("class Net:\n    def fail")
    assert inspect.getmodule(hubconf.Net) is hubconf.models.net
    assert inspect.getsourcefile(hubconf.Net) == str(tmp_path / "models" / "net.py")


def test_inspect_counts_lines_as_python_does(tmp_path: Path) -> None:
    source = "text = '\u2028'\n\x0c\ndef first():\n    return 1\ndef second():\n    return 2"
    hubconf = import_hubconf(make_repository(tmp_path, {"hubconf.py": source}))
    assert inspect.getsource(hubconf.first) == "def first():\n    return 1\n"
    assert inspect.getsource(hubconf.second) == "def second():\n    return 2\n"


def test_what_inspect_shows_is_what_runs_even_if_the_file_was_swapped(tmp_path: Path) -> None:
    repository = make_repository(tmp_path, {"hubconf.py": "def entry():\n    return 'mine'\n"})
    hubconf = import_hubconf(repository)
    (tmp_path / "hubconf.py").write_text("def entry():\n    return 'evil'\n")
    linecache.checkcache()
    assert "mine" in inspect.getsource(hubconf.entry)


def test_classes_survive_pickle_and_their_annotations_resolve(tmp_path: Path) -> None:
    hubconf = import_hubconf(
        make_repository(
            tmp_path,
            {
                "hubconf.py": "from models.kinds import *",
                "models/kinds.py": """
                    from __future__ import annotations
                    import dataclasses, enum, typing
                    class Color(enum.Enum):
                        RED = 1
                    class Point(typing.NamedTuple):
                        x: int
                        c: Color
                    @dataclasses.dataclass
                    class Box:
                        corner: Point
                        color: typing.Optional[Color] = None
                """,
            },
        )
    )
    box = hubconf.Box(hubconf.Point(1, hubconf.Color.RED))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(box, protocol)) == box
    import copy
    import typing

    assert copy.deepcopy(box) == box
    assert typing.get_type_hints(hubconf.Box)["corner"] is hubconf.Point
    assert dataclasses.asdict(box)["corner"] == (1, hubconf.Color.RED)


def test_stock_names_reach_pickles_inside_the_repository(tmp_path: Path) -> None:
    stock = b"\x80\x04cmodels.net\nNet\n."
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": f"import pickle, io\nsaved = {stock!r}\none = pickle.loads(saved)\n"
            "two = pickle.load(io.BytesIO(saved))\nthree = pickle.loads(pickle.dumps({1}, 2))",
            "models/net.py": "class Net:\n    class Inner: pass",
        },
    )
    hubconf = import_hubconf(repository)
    assert hubconf.one is hubconf.two
    assert hubconf.one.__module__ == f"{namespace(repository)}.models.net"
    assert hubconf.three == {1}
    assert find_class(repository, "models.net", "Net.Inner") is hubconf.one.Inner
    assert find_class(repository, "collections", "OrderedDict").__name__ == "OrderedDict"
    assert find_class(repository, "__builtin__", "set") is set
    assert find_class(repository, namespace(repository) + ".models.net", "Net") is hubconf.one
    with pytest.raises(ModuleNotFoundError, match=r"models\.none"):
        find_class(repository, "models.none", "Net")


def test_stock_names_are_there_inside_the_block_and_gone_after_it(tmp_path: Path) -> None:
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": "import models.a",
            "models/__init__.py": "",
            "models/a.py": "class A: pass",
            "models/b.py": "from models.a import A\nclass B(A): pass",
            "late.py": "value = 1",
            "bare/inner.py": "value = 2",
        },
    )
    hubconf = import_hubconf(repository)
    mine = ModuleType("models")
    sys.modules["models"] = mine
    try:
        with stock_names(repository):
            import late  # type: ignore[import-not-found]
            from bare.inner import value  # type: ignore[import-not-found]
            from models.a import A  # type: ignore[import-not-found]
            from models.b import B  # type: ignore[import-not-found]

            unpickled = pickle.loads(b"\x80\x04cmodels.b\nB\n.")
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module("models.none")
        assert value == 2
        assert sys.modules["models"] is mine
        assert "models.a" not in sys.modules and "late" not in sys.modules
    finally:
        del sys.modules["models"]
    assert A is hubconf.models.a.A
    assert unpickled is B and issubclass(B, A)
    assert B.__module__ == f"{namespace(repository)}.models.b"
    assert late.__spec__.name == f"{namespace(repository)}.late"


def test_stock_names_are_gone_after_an_exception_and_blocks_may_nest(tmp_path: Path) -> None:
    one, two = (
        make_repository(tmp_path / word, {"hubconf.py": "", "utils.py": f"word = {word!r}"}) for word in ("one", "two")
    )
    with pytest.raises(ZeroDivisionError), stock_names(one):
        with stock_names(two):
            assert importlib.import_module("utils").word == "two"
        assert importlib.import_module("utils").word == "one"
        raise ZeroDivisionError
    assert "utils" not in sys.modules


def test_a_failed_import_leaves_nothing_and_may_be_tried_again(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    repository = make_repository(
        tmp_path / "tree",
        {
            "hubconf.py": f"import sys, os, models\nsys.path.insert(0, os.path.dirname(__file__))\n"
            f"if not os.path.exists({str(flag)!r}): raise ValueError('not yet')",
            "models.py": "",
        },
    )
    with pytest.raises(ValueError, match="not yet"):
        import_hubconf(repository)
    assert f"{namespace(repository)}.hubconf" not in sys.modules
    flag.touch()
    assert import_hubconf(repository).models.__file__ == str(tmp_path / "tree" / "models.py")


def test_threads_that_import_at_once_get_one_module(tmp_path: Path) -> None:
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": "import time, models.a\ntime.sleep(0.02)\ncount = []\n"
            "def lazy():\n    import models.b\n    return models.b",
            "models/a.py": "import time\ntime.sleep(0.02)",
            "models/b.py": "import models.a, time\ntime.sleep(0.02)",
        },
    )
    found: list[object] = []
    start = threading.Barrier(8)

    def load() -> None:
        start.wait()
        hubconf = import_hubconf(repository)
        found.append((id(hubconf), id(hubconf.lazy())))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_links_inside_the_tree_are_followed(tmp_path: Path) -> None:
    plain = make_repository(tmp_path, {"hubconf.py": "import models.x, one", "src/models/x.py": "v = 1"})
    repository = with_link(with_link(plain, "models", "src/models"), "one.py", "src/models/x.py")
    assert import_hubconf(repository).models.x.v == 1
    assert import_hubconf(repository).one.v == 1


@pytest.mark.parametrize("target", ["src/models/", "./src/models", "src//models"])
def test_a_link_is_taken_as_it_is_spelled(tmp_path: Path, target: str) -> None:
    plain = make_repository(tmp_path, {"hubconf.py": "import models.x", "src/models/x.py": "v = 1"})
    assert import_hubconf(with_link(plain, "models", target)).models.x.v == 1


def test_a_link_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    plain = make_repository(tmp_path, {"hubconf.py": "import one", "a.py": "", "b.py": "raise SystemExit"})
    repository = with_link(plain, "one.py", "a.py")
    (tmp_path / "one.py").unlink()
    (tmp_path / "one.py").symlink_to("b.py")
    with pytest.raises(TreeMismatch, match=r"the link one\.py"):
        import_hubconf(repository)


def test_very_long_chains_of_statements_and_sums_compile(tmp_path: Path) -> None:
    chain = "if x == -1:\n    pass\n" + "".join(f"elif x == {n}:\n    import models as m\n" for n in range(90))
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": f"import models\nx = 89\n{chain}\n"
            "match x:\n    case 89:\n        import models as n\n"
            "try:\n    import none\nexcept ImportError:\n    import models as o\n"
            "else:\n    pass\nfinally:\n    import models as p\n"
            f"total = {' + '.join(['1'] * 900)}\nmodules = {{m, n, o, p, models}}\n",
            "models.py": "",
        },
    )
    hubconf = import_hubconf(repository)
    assert hubconf.total == 900 and len(hubconf.modules) == 1


def test_finders_of_its_own_are_asked_for_submodules_and_give_files_of_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Others:
        def find_spec(self, name: str, *_rest: object) -> None:
            assert not name.startswith("lib.")

    # which puts our own finder there: not only for this test
    importlib.import_module("hublock.repos")
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Others()])
    (tmp_path / "beside.py").write_text("raise RuntimeError('not of the tree')")
    files = {
        "hubconf.py": "import lib.tools.train as train\nfrom lib.tools import deep\nimport lib.tools.deep.below\n",
        "lib/tools/__init__.py": """
            import sys
            from importlib import util
            from pathlib import Path
            from . import present
            class Elsewhere:
                def find_spec(self, name, path, target=None):
                    if not name.startswith("lib.tools."):
                        return None
                    file = Path(__file__).parents[2] / "scripts" / name.split(".")[2]
                    if file.is_dir():
                        return util.spec_from_file_location(name, file / "__init__.py")
                    if name == "lib.tools.beside":
                        return util.spec_from_file_location(name, Path(__file__).parents[3] / "beside.py")
                    file = file.with_suffix(".py")
                    return util.spec_from_file_location(name, file) if file.is_file() else None
            sys.meta_path.append(Elsewhere())
        """,
        "lib/tools/present.py": "",
        "scripts/train.py": "from lib.tools import present\nclass Trainer: pass",
        "scripts/present.py": "raise RuntimeError('it is found without it')",
        "scripts/deep/__init__.py": "",
        "scripts/deep/below.py": "",
    }
    one, two = (make_repository(tmp_path / name, files) for name in ("one", "two"))
    (two.root / "scripts" / "planted.py").write_text("raise RuntimeError('not listed')")
    for repository in (one, two):
        train = import_hubconf(repository).train
        assert train.Trainer.__module__ == f"{namespace(repository)}.lib.tools.train"
        assert train.__file__ == str(repository.root / "scripts" / "train.py")
        for name in ("beside", "planted", "nothing"):
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module(f"{namespace(repository)}.lib.tools.{name}")
    (one.root / "scripts" / "train.py").write_text("raise RuntimeError('changed')")
    sys.modules.pop(f"{namespace(one)}.lib.tools.train")
    with pytest.raises(TreeMismatch):
        importlib.import_module(f"{namespace(one)}.lib.tools.train")


def test_the_package_is_real_and_answers_nothing_it_does_not_know() -> None:
    importlib.import_module("hublock.repos")
    assert any(type(finder).__name__ == "Finder" for finder in sys.meta_path)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("hublock.repos.nothing")


def test_a_namespace_never_seen_is_asked_of_the_lookup(tmp_path: Path) -> None:
    import hublock.repos  # noqa: F401 - sets its own lookup

    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": "import sys, os\nsys.path.append(os.path.join(os.path.dirname(__file__), 'src'))",
            "src/lib/core.py": "from lib import other\nclass Model: pass",
            "src/lib/other.py": "",
            "src/lib/__init__.py": "",
        },
    )
    before, asked = FINDER.lookup, []

    def lookup(name: str) -> Repository | None:
        asked.append(name)
        return repository if name == namespace(repository) else None

    try:
        isolation.install(lookup)
        core = importlib.import_module(f"{namespace(repository)}.lib.core")
        assert core.Model.__module__ == f"{namespace(repository)}.lib.core"
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("hublock.repos.other_0123456789abcdef")
    finally:
        FINDER.lookup = before
    assert asked == [namespace(repository), "hublock.repos.other_0123456789abcdef"]


def test_a_class_of_a_file_that_code_names_by_its_path_is_found_again(tmp_path: Path) -> None:
    repository = make_repository(
        tmp_path,
        {
            "hubconf.py": """
                import importlib.util, os, sys
                def model():
                    path = os.path.join(os.path.dirname(__file__), "plug-ins", "plugin.py")
                    spec = importlib.util.spec_from_file_location("plugin", path)
                    module = sys.modules["plugin"] = importlib.util.module_from_spec(spec)
                    spec.loader.exec_module(module)
                    return sys.modules["plugin"].Net()
            """,
            "plug-ins/plugin.py": """
                from __future__ import annotations
                import dataclasses, typing
                from value import number
                @dataclasses.dataclass
                class Net:
                    shared: typing.ClassVar[int] = number
                    def late(self):
                        return self.shared
            """,
            "value.py": "number = 7",
        },
    )
    net = import_hubconf(repository).model()

    assert dataclasses.fields(net) == ()
    assert inspect.getsource(type(net)).splitlines()[1] == "class Net:"
    assert type(pickle.loads(pickle.dumps(net))) is type(net)
    assert "plugin" not in sys.modules
    assert in_a_fresh_process(repository, [net], "shared") == ["7 7"]


def test_libraries_find_what_a_repository_names_to_them(tmp_path: Path) -> None:
    (tmp_path / "site" / "library_of_tests").mkdir(parents=True)
    (tmp_path / "site" / "library_of_tests" / "__init__.py").write_text(
        "import importlib\ndef find(name):\n    return importlib.import_module(name).NAME\n"
        "def missing():\n    from library_of_tests.missing import thing\n    return thing\n"
    )
    repository = make_repository(
        tmp_path / "tree",
        {
            "hubconf.py": """
                import sys, types
                stub = types.ModuleType("library_of_tests.missing")
                stub.thing = 5
                sys.modules["library_of_tests.missing"] = stub
                import library_of_tests
                found = library_of_tests.find("models.yolo"), library_of_tests.missing()
            """,
            "models/yolo.py": "NAME = 'the tree'",
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "site"))
        patch.setattr(site, "getusersitepackages", lambda: str(tmp_path / "site"))
        assert import_hubconf(repository).found == ("the tree", 5)
        library = importlib.import_module("library_of_tests")
        with pytest.raises(ModuleNotFoundError):
            library.find("models.yolo")
    for name in ("library_of_tests", "library_of_tests.missing"):
        del sys.modules[name]


def test_yaml_finds_the_objects_that_a_file_of_the_tree_names(tmp_path: Path) -> None:
    files = {
        "hubconf.py": """
            import pathlib, yaml
            block, net, top = yaml.unsafe_load(pathlib.Path(__file__).with_name("net.yaml").read_text())
            import models.yolo
            again = yaml.full_load("!!python/name:models.yolo.Net ''")
        """,
        "net.yaml": "- !!python/name:models.yolo.Net ''\n- !!python/object:models.yolo.Net {width: 4}\n"
        "- !!python/module:models ''\n",
        "models/__init__.py": "",
        "models/yolo.py": "class Net:\n    pass\n",
    }
    hubconf = import_hubconf(make_repository(tmp_path, files))
    assert hubconf.block is hubconf.models.yolo.Net is hubconf.again is type(hubconf.net)
    assert hubconf.net.width == 4
    assert hubconf.top is hubconf.models
    with pytest.raises(yaml.constructor.ConstructorError):
        yaml.unsafe_load("!!python/name:models.yolo.Net ''")


def test_a_library_that_calls_import_finds_what_a_repository_names_to_it(tmp_path: Path) -> None:
    library = tmp_path / "site" / "jsonargparse"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("")
    (library / "_util.py").write_text(
        "def import_object(name):\n"
        "    module, _, name = name.rpartition('.')\n"
        "    return getattr(__import__(module, fromlist=[name]), name)\n"
        "def import_top(name):\n    return __import__(name)\n"
    )
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "yolo.py").write_text("NAME = 'the user'")
    repository = make_repository(
        tmp_path / "tree",
        {
            "hubconf.py": """
                import os, sys
                sys.path.append(os.path.join(os.path.dirname(__file__), "more"))
                from jsonargparse._util import import_object, import_top
                found = [import_object(f"{name}.NAME") for name in ("models.yolo", "models.deep.leaf", "extra")]
                found += [import_top("models.yolo").yolo.NAME, import_object("os.path.sep"), import_top("os.path").sep]
                for name in ("models.none.NAME", "none.NAME", "models.yolo.NONE"):
                    try:
                        import_object(name)
                    except (ModuleNotFoundError, AttributeError) as error:
                        found.append(type(error))
            """,
            "models/yolo.py": "NAME = 'the tree'",
            "models/deep/leaf.py": "NAME = 'a leaf'",
            "more/extra.py": "NAME = 'extra'",
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "site"))
        patch.syspath_prepend(str(tmp_path))
        patch.setattr(site, "getusersitepackages", lambda: str(tmp_path / "site"))
        util = importlib.import_module("jsonargparse._util")
        for _ in range(2):
            assert import_hubconf(repository).found == [
                "the tree", "a leaf", "extra", "the tree", os.sep, os.sep,
                ModuleNotFoundError, ModuleNotFoundError, AttributeError,
            ]  # fmt: skip
            # what the user names to it is the user's
            assert util.import_object("models.yolo.NAME") == util.import_top("models.yolo").yolo.NAME == "the user"
            isolation.retire([namespace(repository)])
        with pytest.raises(ModuleNotFoundError):
            util.import_object("extra.NAME")
    for name in ("jsonargparse", "jsonargparse._util", "models", "models.yolo"):
        del sys.modules[name]


@pytest.mark.parametrize(
    ("identity", "hint"),
    [
        ("owner/builds:v1", 'pip install "git+https://github.com/owner/builds@v1"'),
        ("git+https://example.org/builds.git", 'pip install "git+https://example.org/builds.git"'),
    ],
)
def test_a_module_that_the_repository_builds_itself_is_not_looked_for_elsewhere(
    tmp_path: Path, identity: str, hint: str
) -> None:
    setup = """
        from setuptools import Extension, setup
        setup(install_requires=['plain_ops'], ext_modules=[Extension(
            'own_ops_impl', ['ops.c'])])
    """
    files = {"hubconf.py": "import own_ops_impl", "setup.py": setup}
    with pytest.raises(MissingDependency, match=r"imports own_ops_impl, which its own setup\.py builds") as caught:
        import_hubconf(make_repository(tmp_path, files, identity=identity))
    assert caught.value.hint == hint
    files["hubconf.py"] = "import plain_ops"
    with pytest.raises(MissingDependency) as caught:
        import_hubconf(make_repository(tmp_path, files, identity=identity))
    assert caught.value.hint == "pip install plain_ops"
    linked = with_link(make_repository(tmp_path / "linked", {"hubconf.py": "import plain_ops"}), "setup.py", "gone")
    with pytest.raises(MissingDependency):
        import_hubconf(linked)
