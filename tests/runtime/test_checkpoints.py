import gzip
import importlib
import io
import mmap
import pickle
import random
import sys
import tarfile
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hublock.errors import HublockError, LoadError, TreeMismatch, UnlockedDownload, UnsafePickle
from tests.runtime.answering import Shelf, legacy_tar, legacy_zip, ones, run, saved
from tests.runtime.conftest import MakeRepository

URL = "https://example.org/models/net.pth"
FETCH = """
    import io, os, pickle, tarfile, zipfile, torch
    from torch.hub import load_state_dict_from_url as get
"""
WHOLE = (
    "class Net:\n    def __init__(self, size):\n        self.size = size\n"
    "    def __eq__(self, other):\n        return type(other) is Net and other.size == self.size\n"
    "    def __hash__(self):\n        return self.size\n"
)
MODELS = {"models/__init__.py": "", "models/net.py": WHOLE}


def stock_net() -> bytes:
    """Return a whole object of ``models.net``, as it is saved under torch.hub."""
    net = types.ModuleType("models.net")
    exec(WHOLE, vars(net))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "models", types.ModuleType("models"))
        patch.setitem(sys.modules, "models.net", net)
        return saved(net.Net(7))


@pytest.fixture
def marked_safe() -> Iterator[set[Any]]:
    """What torch holds for safe before the test, and again after it."""
    before = torch.serialization.get_safe_globals()
    yield set(before)
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


class TestForms:
    def test_a_zip_that_holds_one_checkpoint(self, shelf: Shelf, repository: MakeRepository) -> None:
        shelf.put(URL, legacy_zip(saved({"w": torch.ones(4)}, _use_new_zipfile_serialization=False)))
        repo = repository(FETCH + "    def model(url):\n        return get(url)['w']\n")

        with pytest.warns(FutureWarning, match="old format"):
            assert run(repo, "model", [URL], answers=shelf).sum() == 4

    # of torch's own reader, from Python 3.12 on
    @pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")
    def test_a_tar_of_the_first_days(self, shelf: Shelf, repository: MakeRepository) -> None:
        file = shelf.put(URL, legacy_tar([1.0, 2.0, 3.0]))
        repo = repository(FETCH + "    def model(url):\n        return get(url)['w']\n")

        assert file.pickle != "tensors"
        assert run(repo, "model", [URL], answers=shelf).tolist() == [1, 2, 3]

    def test_the_format_before_1_6(self, shelf: Shelf, repository: MakeRepository) -> None:
        shelf.put(URL, saved({"w": torch.ones(4)}, _use_new_zipfile_serialization=False))
        repo = repository(FETCH + "    def model(url):\n        return get(url, weights_only=False)['w']\n")

        assert run(repo, "model", [URL], answers=shelf, mmap=True).sum() == 4

    @pytest.mark.filterwarnings("ignore:`torch.jit")
    def test_a_torchscript_archive(self, shelf: Shelf, repository: MakeRepository) -> None:
        class Twice(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x * 2

        buffer = io.BytesIO()
        with pytest.warns((DeprecationWarning, FutureWarning)):
            torch.jit.save(torch.jit.trace(Twice(), torch.ones(1)), buffer)  # type: ignore[no-untyped-call]
        shelf.put(URL, buffer.getvalue())
        repo = repository(
            FETCH
            + """
    def model(url):
        path = os.path.join(torch.hub.get_dir(), "x.pt")
        torch.hub.download_url_to_file(url, path)
        return torch.jit.load(path)
            """
        )

        assert run(repo, "model", [URL], answers=shelf)(torch.ones(1)).item() == 2

    def test_mapped_into_memory_where_the_format_allows(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        file = shelf.put(URL, ones(1000))
        repo = repository(
            FETCH
            + """
    def model(url):
        state = get(url)
        state["w"][0] = 5
        with open("/proc/self/maps") as maps:
            return state["w"].tolist(), maps.read()
            """
        )
        (values, maps) = run(repo, "model", [URL], answers=shelf, mmap=True)

        assert str(file.path) in maps
        assert values[:2] == [5, 1]
        assert file.path.read_bytes() == ones(1000)
        assert str(file.path) not in run(repo, "model", [URL], answers=shelf)[1]
        with torch.serialization.set_default_mmap_options(mmap.MAP_SHARED):
            # shared, every change to a tensor would go into the store
            values, maps = run(repo, "model", [URL], answers=shelf, mmap=True)
        assert str(file.path) not in maps
        assert file.path.read_bytes() == ones(1000)

    def test_on_the_cpu_where_the_code_says_nothing(
        self, shelf: Shelf, repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
            shelf.put(URL, ones(3))
        repo = repository(
            FETCH + "    def model(url, **options):\n        return get(url, **options)['w'].device.type\n"
        )

        assert run(repo, "model", [URL], answers=shelf, cpu_only=True) == "cpu"
        assert run(repo, "model", [URL], {"map_location": "meta"}, answers=shelf, cpu_only=True) == "meta"
        with pytest.raises(RuntimeError, match="CUDA"):
            run(repo, "model", [URL], answers=shelf)


class TestHowItIsUnpickled:
    @pytest.mark.parametrize(
        "call",
        [
            "get(url)",
            "get(url, weights_only=False)",
            "torch.load(path(url), weights_only=False)",
            "torch.load(path(url), None, pickle)",
            "torch.load(path(url), pickle_module=pickle, weights_only=False)",
            "torch.load(open_file(url), weights_only=False)",
            "torch.load(io.BytesIO(open_file(url).read()), weights_only=False)",
        ],
    )
    @pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
    def test_tensors_only_whatever_the_code_passes(self, shelf: Shelf, repository: MakeRepository, call: str) -> None:
        shelf.put(URL, saved(Evil()), "tensors")
        repo = repository(
            FETCH
            + f"""
    def path(url):
        torch.hub.download_url_to_file(url, os.path.join(torch.hub.get_dir(), "x.pth"))
        return os.path.join(torch.hub.get_dir(), "x.pth")
    def open_file(url):
        return open(path(url), "rb")
    def model(url):
        try:
            return {call}
        except Exception:
            return "random"
            """
        )
        RAN.clear()
        with pytest.raises(UnsafePickle, match="locked as 'tensors', but torch finds more in it"):
            run(repo, "model", [URL], answers=shelf)
        assert RAN == []

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "a Git LFS pointer"),
            (b"\n<!DOCTYPE html>\n<title>Sign in</title>\n", "a web page"),
            (b"# some text", "nothing that torch.load reads"),
        ],
    )
    def test_what_stands_where_a_checkpoint_was_expected_is_named(
        self, shelf: Shelf, repository: MakeRepository, data: bytes, said: str
    ) -> None:
        shelf.put(URL, data, "none")
        repo = repository(FETCH + "    def model(url):\n        return get(url)\n")

        with pytest.raises(LoadError) as caught:
            run(repo, "model", [URL], answers=shelf)
        assert caught.value.message.endswith(f" is {said}, not a checkpoint")
        assert "--input PATH" in str(caught.value.hint)

    @pytest.mark.parametrize("options", ["", ", weights_only=None", ", weights_only=False"])
    def test_what_is_consented_to_is_unpickled_by_code_that_says_nothing(
        self, shelf: Shelf, repository: MakeRepository, options: str
    ) -> None:
        """Code of before torch 2.6, whose ``torch.load`` unpickled unless it was told not to."""
        netcode = types.ModuleType("netcode")
        exec("class Net:\n    pass", vars(netcode))
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "netcode", netcode)
            data = saved(netcode.Net())
        shelf.put(URL, data, ("netcode.Net",))
        hubconf = f"""
    import netcode
    def model(url, **options):
        path = os.path.join(torch.hub.get_dir(), "x.pth")
        torch.hub.download_url_to_file(url, path)
        return type(torch.load(path{options}, **options)) is netcode.Net
        """
        repo = repository(FETCH + hubconf, {"netcode.py": "class Net:\n    pass\n"})

        assert run(repo, "model", [URL], answers=shelf)
        if not options:
            with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
                run(repo, "model", [URL], {"weights_only": True}, answers=shelf)

    def test_options_for_pickle_are_no_hindrance(self, shelf: Shelf, repository: MakeRepository) -> None:
        shelf.put(URL, ones(3))
        repo = repository(
            FETCH
            + """
    def model(url, **options):
        path = os.path.join(torch.hub.get_dir(), "x.pth")
        torch.hub.download_url_to_file(url, path)
        return len(torch.load(path, weights_only=False, **options)["w"])
            """
        )

        assert run(repo, "model", [URL], {"encoding": "latin1", "fix_imports": True}, answers=shelf) == 3
        with pytest.warns(UserWarning, match="pickle_load_args"):
            assert run(repo, "model", [URL], {"encoding": "bytes"}, answers=shelf) == 3

    def test_a_file_whose_globals_were_consented_to_is_loaded_as_the_code_asks(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        shelf.put(URL, saved({"when": complex(1, 2), "d": torch.ones(2)}), ("some.Class",))
        repo = repository(FETCH + "    def model(url, **options):\n        return get(url, **options)\n")

        assert run(repo, "model", [URL], {"weights_only": False}, answers=shelf)["when"] == complex(1, 2)

    def test_a_whole_module_is_found_by_the_name_it_was_saved_under(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "stock").mkdir()
        (tmp_path / "stock" / "netcode.py").write_text(WHOLE)
        monkeypatch.syspath_prepend(str(tmp_path / "stock"))
        import sys

        data = saved({"net": __import__("netcode").Net(7)})
        old = sys.modules.pop("netcode")
        shelf.put(URL, data, ("netcode.Net",))
        body = """
    import netcode
    class Renamer(pickle.Unpickler):
        def find_class(self, module, name):
            return super().find_class(module, name)
    class custom:
        Unpickler = Renamer
        load = pickle.load
    def model(url, which):
        options = {"none": {}, "pickle": {"pickle_module": pickle}, "custom": {"pickle_module": custom}}[which]
        path = os.path.join(torch.hub.get_dir(), "x.pth")
        torch.hub.download_url_to_file(url, path)
        return torch.load(path, weights_only=False, **options)["net"] == netcode.Net(7)
        """
        repo = repository(FETCH + body, {"netcode.py": WHOLE})

        for which in ("none", "pickle", "custom"):
            assert run(repo, "model", [URL, which], answers=shelf)
        shelf.repos["nested/one"] = repo
        outer = repository(
            "import torch\ndef model(*args):\n    return torch.hub.load('nested/one', 'model', *args)\n",
            {"netcode.py": "class Net:\n    pass\n"},
        )
        assert run(outer, "model", [URL, "none"], answers=shelf)
        assert sys.modules.get("netcode") is not old

    @pytest.mark.parametrize("with_block", [False, True])
    def test_a_class_that_the_code_marks_safe_is_found_by_the_name_it_was_saved_under(
        self, shelf: Shelf, repository: MakeRepository, marked_safe: set[Any], with_block: bool
    ) -> None:
        shelf.put(URL, stock_net(), ("models.net.Net",))
        body = """
    import sys
    from contextlib import nullcontext
    from torch.serialization import add_safe_globals, safe_globals
    def model(url, with_block, folder="."):
        sys.path.insert(0, os.path.join(os.path.dirname(__file__), folder))
        from models.net import Net
        with safe_globals([Net]) if with_block else nullcontext(add_safe_globals([Net])):
            found = get(url, weights_only=True)
        return type(found) is Net, found.size
        """
        repos = [repository(FETCH + body, MODELS | {f"v2/{k}": v for k, v in MODELS.items()}) for _ in range(2)]
        shelf.repos["nested/one"] = repos[1]
        outer = repository(
            "import torch\ndef model(*args):\n    return torch.hub.load('nested/one', 'model', *args)\n", MODELS
        )

        for repo in (*repos, *repos, outer):
            assert run(repo, "model", [URL, with_block], answers=shelf) == (True, 7)
        # a folder that comes onto sys.path is in the names of its modules
        assert run(repos[0], "model", [URL, with_block, "v2"], answers=shelf) == (True, 7)
        new = set(torch.serialization.get_safe_globals()) - marked_safe
        assert {marked.__module__.partition(".")[0] for marked in new} == (set() if with_block else {"hublock"})
        # what the user's own code loads is not the tree's
        with pytest.raises(pickle.UnpicklingError, match=r"models\.net\.Net was not an allowed global"):
            torch.load(io.BytesIO(stock_net()), weights_only=True)

    @pytest.mark.usefixtures("marked_safe")
    def test_a_class_that_only_another_repository_marks_safe_is_not_unpickled(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        shelf.put(URL, stock_net(), ("models.net.Net",))
        mark = "    from models.net import Net\n    def model():\n        torch.serialization.add_safe_globals([Net])\n"
        run(repository(FETCH + mark, MODELS), "model", answers=shelf)
        repo = repository(FETCH + "    def model(url):\n        return get(url, weights_only=True)\n", MODELS)

        with pytest.raises(pickle.UnpicklingError, match=r"models\.net\.Net was not an allowed global"):
            run(repo, "model", [URL], answers=shelf)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_the_code_may_load_again_what_it_saved(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        repo = repository(
            FETCH
            + """
    class Own:
        pass
    def model(folder):
        buffer = io.BytesIO()
        torch.save({"w": torch.ones(2)}, buffer)
        buffer.seek(0)
        path = os.path.join(folder, "converted.pth")
        torch.save(torch.load(buffer), path)
        with open(os.path.join(folder, "second.pth"), "wb") as file:
            torch.save({"own": 3}, file)
        return len(torch.load(path)["w"]), torch.load(os.path.join(folder, "second.pth"))["own"]
    def script(folder):
        path, scripted = os.path.join(folder, "net.pt"), torch.jit.script(torch.nn.Linear(2, 2))
        found = []
        for save in (lambda: torch.jit.save(scripted, path), lambda: scripted.save(path)):
            save()
            found.append(torch.jit.load(path).bias)
        buffer = io.BytesIO()
        torch.jit.save(scripted, buffer)
        buffer.seek(0)
        return [torch.equal(bias, scripted.bias) for bias in (*found, torch.jit.load(buffer).bias)]
            """
        )
        assert run(repo, "model", [str(tmp_path)], answers=shelf) == (2, 3)
        assert run(repo, "script", [str(tmp_path)], answers=shelf) == [True] * 3


class TestWhoseBytes:
    LOAD = FETCH + "    def model(path):\n        return torch.load(path, weights_only=False)\n"

    def test_a_file_that_lies_around_is_refused(self, shelf: Shelf, repository: MakeRepository, tmp_path: Path) -> None:
        (tmp_path / "around.pt").write_bytes(saved(Evil()))
        repo = repository(self.LOAD)
        RAN.clear()

        for given in (str(tmp_path / "around.pt"), tmp_path / "around.pt", io.BytesIO(saved(Evil()))):
            with pytest.raises(UnlockedDownload, match="whose bytes the lock does not list"):
                run(repo, "model", [given], answers=shelf)
        with (tmp_path / "around.pt").open("rb") as file, pytest.raises(UnlockedDownload, match=r"around\.pt"):
            run(repo, "model", [file], answers=shelf)
        assert RAN == []

    def test_jit_files_that_lie_around_are_refused(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        (tmp_path / "around.pt").write_bytes(ones(1))
        repo = repository(FETCH + "    def model(path):\n        return torch.jit.load(path)\n")

        with pytest.raises(UnlockedDownload, match=r"loads around\.pt"):
            run(repo, "model", [str(tmp_path / "around.pt")], answers=shelf)

    def test_packages_of_code_that_lie_around_are_refused(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        from torch.package.package_exporter import PackageExporter

        with PackageExporter(tmp_path / "code.pt") as exporter:
            exporter.save_source_string("inside", "VALUE = 5\n")
        repo = repository(
            FETCH
            + """
    from torch.package import PackageImporter
    def model(path):
        return PackageImporter(path).import_module("inside").VALUE
            """
        )

        with pytest.raises(UnlockedDownload, match=r"loads code\.pt"):
            run(repo, "model", [str(tmp_path / "code.pt")], answers=shelf)
        shelf.put(URL, (tmp_path / "code.pt").read_bytes(), "none")
        assert run(repo, "model", [str(tmp_path / "code.pt")], answers=shelf) == 5

    def test_an_unpacked_package_that_nobody_locked_is_not_run(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        from torch.package.package_exporter import PackageExporter
        from torch.package.package_importer import PackageImporter

        with PackageExporter(str(tmp_path / "code.pt")) as exporter:
            exporter.save_source_string("inside", "VALUE = 5\n")
        with zipfile.ZipFile(tmp_path / "code.pt") as archive:
            archive.extractall(tmp_path)
        repo = repository(
            FETCH
            + """
    from torch.package import PackageImporter
    def model(path):
        return PackageImporter(path).import_module("inside").VALUE
            """
        )

        assert PackageImporter(str(tmp_path / "code")).import_module("inside").VALUE == 5
        with pytest.raises(UnlockedDownload, match="runs code in code, a folder that nobody locked"):
            run(repo, "model", [str(tmp_path / "code")], answers=shelf)

    def test_a_file_that_was_handed_in_is_known_by_its_bytes(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        path = tmp_path / "best.pt"
        path.write_bytes(ones(5))
        shelf.inputs[shelf.put("x", ones(5)).digest] = "tensors"
        shelf.files.clear()
        repo = repository(self.LOAD)

        assert len(run(repo, "model", [str(path)], answers=shelf)["w"]) == 5
        path.write_bytes(ones(6))
        with pytest.raises(UnlockedDownload):
            run(repo, "model", [str(path)], answers=shelf)

    def test_a_file_that_changes_between_two_looks_is_looked_at_again(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        path = tmp_path / "best.pt"
        path.write_bytes(ones(5))
        shelf.inputs[shelf.put("x", ones(5)).digest] = "tensors"
        shelf.files.clear()
        repo = repository(
            FETCH
            + """
    def model(path):
        before = torch.load(path)["w"]
        os.replace(path + ".other", path)
        return before, torch.load(path)["w"]
            """
        )

        (tmp_path / "best.pt.other").write_bytes(ones(5))
        assert len(run(repo, "model", [str(path)], answers=shelf)[1]) == 5
        (tmp_path / "best.pt.other").write_bytes(ones(6))
        with pytest.raises(UnlockedDownload, match=r"loads best\.pt, whose bytes the lock does not list"):
            run(repo, "model", [str(path)], answers=shelf)

    def test_a_checkpoint_of_the_tree_is_loaded_with_its_verdict(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        repo = repository(
            FETCH
            + """
    def model(name):
        return torch.load(os.path.join(os.path.dirname(__file__), "weights", name), weights_only=False)
            """,
            {"weights/save.pth": ones(4), "weights/evil.pth": saved(Evil()), "weights/unlisted.pth": ones(8)},
        )
        shelf.tree[repo.id, "weights/save.pth"] = "tensors"
        shelf.tree[repo.id, "weights/evil.pth"] = "tensors"
        RAN.clear()

        assert len(run(repo, "model", ["save.pth"], answers=shelf)["w"]) == 4
        with pytest.raises(UnsafePickle):
            run(repo, "model", ["evil.pth"], answers=shelf)
        with pytest.raises(UnlockedDownload, match=r"unlisted\.pth"):
            run(repo, "model", ["unlisted.pth"], answers=shelf)
        (repo.root / "weights" / "save.pth").write_bytes(saved(Evil()))
        with pytest.raises(TreeMismatch, match=r"weights/save\.pth of owner/repo\d+ is not what the lock says"):
            run(repo, "model", ["save.pth"], answers=shelf)
        assert RAN == []

    @pytest.mark.parametrize(
        "copy", ["io.BytesIO(pkgutil.get_data(__name__, name))", "shutil.copy(os.path.join(HERE, name), folder)"]
    )
    def test_a_copy_of_a_checkpoint_of_the_tree_has_its_verdict(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path, copy: str
    ) -> None:
        repo = repository(
            FETCH
            + f"""
    import pkgutil, shutil
    HERE = os.path.dirname(__file__)
    def model(name, folder):
        return torch.load({copy}, weights_only=False)
            """,
            {"save.pth": ones(4), "evil.pth": saved(Evil()), "unlisted.pth": ones(8)},
        )
        shelf.tree[repo.id, "save.pth"] = shelf.tree[repo.id, "evil.pth"] = "tensors"
        RAN.clear()

        assert len(run(repo, "model", ["save.pth", str(tmp_path)], answers=shelf)["w"]) == 4
        with pytest.raises(UnsafePickle):
            run(repo, "model", ["evil.pth", str(tmp_path)], answers=shelf)
        with pytest.raises(UnlockedDownload, match="whose bytes the lock does not list"):
            run(repo, "model", ["unlisted.pth", str(tmp_path)], answers=shelf)
        assert RAN == []

    @pytest.mark.parametrize("packed", ["zip", "tar"])
    def test_what_the_code_unpacks_from_a_fetched_archive_is_known(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path, packed: str
    ) -> None:
        buffer = io.BytesIO()
        members = {"good.pth": ones(3), "evil.pth": saved(Evil()), "readme.txt": b"hello"}
        if packed == "zip":
            with zipfile.ZipFile(buffer, "w") as archive:
                for name, data in members.items():
                    archive.writestr(name, data)
        else:
            with tarfile.open(fileobj=buffer, mode="w:gz") as packing:
                for name, data in members.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    packing.addfile(info, io.BytesIO(data))
        shelf.put("https://example.org/all", buffer.getvalue(), "none")
        repo = repository(
            FETCH
            + """
    def model(folder, name):
        path = os.path.join(folder, "all")
        torch.hub.download_url_to_file("https://example.org/all", path)
        if zipfile.is_zipfile(path):
            zipfile.ZipFile(path).extractall(folder)
        else:
            tarfile.open(path).extractall(folder, filter="data")
        return torch.load(os.path.join(folder, name), weights_only=False)
            """
        )
        RAN.clear()
        folder = str(tmp_path)

        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            assert len(run(repo, "model", [folder, "good.pth"], answers=shelf)["w"]) == 3
            with pytest.raises(UnsafePickle, match=r"evil\.pth, unpacked by owner/repo\d+ model, would run"):
                run(repo, "model", [folder, "evil.pth"], answers=shelf)
            shelf.put("https://example.org/all", buffer.getvalue(), (f"{__name__}.ran",))
            assert run(repo, "model", [folder, "evil.pth"], answers=shelf) == "ran"
            RAN.clear()
            (tmp_path / "swapped.pth").write_bytes(ones(9))
            with pytest.raises(UnlockedDownload, match=r"swapped\.pth"):
                run(repo, "model", [folder, "swapped.pth"], answers=shelf)
        assert RAN == []

    @pytest.mark.parametrize("library", ["gzip", "bz2", "lzma"])
    def test_what_the_code_decompresses_from_a_fetched_file_is_known(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path, library: str
    ) -> None:
        repo = repository(
            FETCH
            + f"""
    import {library}
    def model(name, folder):
        torch.hub.download_url_to_file("https://example.org/" + name, os.path.join(folder, name))
        with {library}.open(os.path.join(folder, name)) as packed:
            data = packed.read()
        if name == "longer":
            data = data[:-1]
        return torch.load(io.BytesIO(data), weights_only=False)
            """
        )
        compress = importlib.import_module(library).compress
        for name, data in {"good": ones(3), "evil": saved(Evil()), "longer": ones(3) + b"\0"}.items():
            shelf.put(f"https://example.org/{name}", compress(data), "none")
        RAN.clear()

        assert len(run(repo, "model", ["good", str(tmp_path)], answers=shelf)["w"]) == 3
        with pytest.raises(UnsafePickle, match=r"unpacked by owner/repo\d+ model, would run"):
            run(repo, "model", ["evil", str(tmp_path)], answers=shelf)
        with pytest.raises(UnlockedDownload, match="whose bytes the lock does not list"):
            run(repo, "model", ["longer", str(tmp_path)], answers=shelf)
        assert RAN == []

    def test_what_is_decompressed_may_be_an_archive_itself(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        # what gzip stores as it is ends as a zip does, as which its members were looked at alone
        shelf.put(URL, gzip.compress(ones(3), 0), "none")
        repo = repository(
            FETCH
            + """
    import gzip
    def model(url, path):
        torch.hub.download_url_to_file(url, path)
        with gzip.open(path) as packed:
            return torch.load(io.BytesIO(packed.read()))
            """
        )

        assert len(run(repo, "model", [URL, str(tmp_path / "packed")], answers=shelf)["w"]) == 3

    @pytest.mark.parametrize("library", ["gzip", "bz2", "lzma"])
    @pytest.mark.parametrize("length", [6, 300])
    def test_a_broken_archive_holds_nothing(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path, library: str, length: int
    ) -> None:
        packed = importlib.import_module(library).compress(random.Random(1).randbytes(5000))
        shelf.put("https://example.org/broken", packed[:length], "none")
        repo = repository(
            FETCH
            + """
    def model(folder):
        torch.hub.download_url_to_file("https://example.org/broken", os.path.join(folder, "broken"))
        return torch.load(io.BytesIO(bytes(5000)))
            """
        )

        with pytest.raises(UnlockedDownload, match="whose bytes the lock does not list"):
            run(repo, "model", [str(tmp_path)], answers=shelf)

    def test_after_the_load_the_users_own_checkpoints_are_free(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        (tmp_path / "mine.pth").write_bytes(ones(5))
        repo = repository(FETCH + "    def model():\n        return lambda path: torch.load(path)\n")
        resume = run(repo, "model", answers=shelf)

        assert len(resume(tmp_path / "mine.pth")["w"]) == 5

    def test_a_path_that_is_not_there_is_torchs_own_error(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            run(repository(self.LOAD), "model", [str(tmp_path / "none.pth")], answers=shelf)
        assert not isinstance(caught.value, HublockError)


RAN: list[str] = []


def ran() -> str:
    RAN.append("ran")
    return "ran"


class Evil:
    def __reduce__(self) -> Any:
        return ran, ()
