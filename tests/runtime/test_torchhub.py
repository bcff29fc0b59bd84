import re
import shutil
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.hub
import torch.utils.model_zoo

from hublock.errors import (
    DigestMismatch,
    InputError,
    MissingDependency,
    UnlockedDownload,
)
from hublock.runtime import torchhub
from tests.runtime.answering import Shelf, ones, run
from tests.runtime.conftest import MakeRepository

URL = "https://example.org/models/net.pth"
OTHER = "https://example.net/elsewhere/net.pth"


class TestDoorsForHub:
    def test_load_state_dict_from_url(self, shelf: Shelf, tmp_path: Path) -> None:
        shelf.put(URL, ones(3))

        assert len(torchhub.load_state_dict_from_url(shelf, URL)["w"]) == 3
        torchhub.load_state_dict_from_url(shelf, URL, str(tmp_path / "here"), file_name="n.pth", map_location="cpu")
        assert (tmp_path / "here" / "n.pth").read_bytes() == ones(3)
        assert not (tmp_path / "here" / "n.pth").is_symlink()
        with pytest.raises(UnlockedDownload):
            torchhub.load_state_dict_from_url(shelf, OTHER)

    def test_download_url_to_file(self, shelf: Shelf, tmp_path: Path) -> None:
        file = shelf.put(URL, b"bytes")
        (tmp_path / "n").write_bytes(b"old")
        torchhub.download_url_to_file(shelf, URL, str(tmp_path / "n"), file.digest.hex[:8])

        assert (tmp_path / "n").read_bytes() == b"bytes"
        with pytest.raises(DigestMismatch):
            torchhub.download_url_to_file(shelf, URL, str(tmp_path / "m"), "00000000")
        with pytest.raises(FileNotFoundError):
            torchhub.download_url_to_file(shelf, URL, str(tmp_path / "no" / "folder"))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["n", "shelf"]

    def test_a_folder_of_the_users_own_is_free_but_its_downloads_are_not(self, shelf: Shelf, tmp_path: Path) -> None:
        folder = tmp_path / "my-model"
        folder.mkdir()
        (folder / "hubconf.py").write_text(
            "import os, torch\nfrom part import VALUE\n"
            "def model(url):\n"
            "    torch.load(os.path.join(os.path.dirname(__file__), 'own.pth'))\n"
            "    return VALUE, torch.hub.load_state_dict_from_url(url)['w'].sum()\n"
            "def later():\n    return __import__('late').VALUE\n"
            "def lazy():\n    return later\n"
        )
        (folder / "late.py").write_text("VALUE = 1\n")
        (folder / "part.py").write_text("VALUE = 1\n")
        (folder / "own.pth").write_bytes(ones(2))
        shelf.put(URL, ones(3))

        assert torchhub.watch_local(folder, "model", [URL], answers=shelf).result == (1, 3)
        (folder / "part.py").write_text("VALUE = 22\n")
        assert torchhub.watch_local(folder, "model", [URL], answers=shelf).result == (22, 3)
        with pytest.raises(UnlockedDownload):
            torchhub.watch_local(folder, "model", [OTHER], answers=shelf)
        later = torchhub.watch_local(folder, "lazy", answers=shelf).result
        (folder / "late.py").write_text("VALUE = 333\n")
        assert later() == 333
        with pytest.raises(InputError, match=r"has no hubconf\.py"):
            torchhub.watch_local(tmp_path, "model", answers=shelf)

    def test_a_process_that_code_of_a_folder_starts_knows_its_modules_and_what_it_may_fetch(
        self, shelf: Shelf, tmp_path: Path
    ) -> None:
        (tmp_path / "hubconf.py").write_text(
            "import multiprocessing, urllib.request\nfrom concurrent.futures import ProcessPoolExecutor\n"
            "from part import VALUE\n"
            "def fetch(url):\n"
            "    try:\n        return VALUE, urllib.request.urlopen(url).read()\n"
            "    except OSError:\n        return 'swallowed'\n"
            "def model(url):\n"
            "    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:\n"
            "        return pool.submit(fetch, url).result(60)\n"
        )
        (tmp_path / "part.py").write_text("VALUE = 1\n")
        shelf.put(URL, b"locked")

        assert torchhub.watch_local(tmp_path, "model", [URL], answers=shelf).result == (1, b"locked")
        with pytest.raises(UnlockedDownload, match=f"nobody locked {OTHER}"):
            torchhub.watch_local(tmp_path, "model", [OTHER], answers=shelf)

    def test_a_process_that_a_folder_inside_a_tree_starts_knows_its_modules(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        inner = """
            import multiprocessing
            from concurrent.futures import ProcessPoolExecutor
            from part import VALUE
            def job():
                return VALUE
            def model():
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                    return pool.submit(job).result(60)
        """
        repo = repository(
            "import os, torch\n"
            "def model():\n"
            "    return torch.hub.load(os.path.join(os.path.dirname(__file__), 'sub'), 'model', source='local')\n",
            {"sub/hubconf.py": textwrap.dedent(inner), "sub/part.py": "VALUE = 1\n"},
        )
        assert run(repo, "model", answers=shelf) == 1

    def test_objects_of_torch_and_of_the_tree_are_arguments(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository(
            "from kinds.blocks import Block\ndef model(dtype, *, block):\n    return dtype, block[0] is Block\n",
            {"kinds/__init__.py": "", "kinds/blocks.py": "class Block:\n    pass\n"},
        )
        dtype = torchhub.resolve_object(repo, "torch.float16")
        block = torchhub.resolve_object(repo, "kinds.blocks.Block")

        assert run(repo, "model", [dtype], {"block": [block]}, answers=shelf) == (torch.float16, True)
        device = torchhub.resolve_object(repo, "torch.device('cuda:1')")
        assert run(repo, "model", [device], {"block": [block]}, answers=shelf) == (torch.device("cuda", 1), True)
        for name in ("torch.float17", "torch.device('gpu')", "os.system", "Block"):
            with pytest.raises(InputError, match=re.escape(name)):
                torchhub.resolve_object(repo, name)
        with pytest.raises(InputError, match=r"there is no kinds\.blocks\.Missing"):
            missing = torchhub.resolve_object(repo, "kinds.blocks.Missing")
            run(repo, "model", [dtype], {"block": missing}, answers=shelf)

    def test_lists_and_dicts_stay_the_callers_own(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository("""
            class Block:
                pass
            def model(taps, *, info):
                taps[0].append(1)
                info["width"] = 2
                return info["block"] is Block
        """)
        taps: list[list[int]] = [[]]
        info: dict[str, object] = {"block": None}

        assert not run(repo, "model", [taps], {"info": info}, answers=shelf)
        assert (taps, info) == ([[1]], {"block": None, "width": 2})
        info["block"] = torchhub.resolve_object(repo, "hubconf.Block")
        assert run(repo, "model", [taps], {"info": info}, answers=shelf)
        assert taps == [[1, 1]]

    def test_watching_tells_what_was_refused_and_tolerated(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository("""
            import torch
            def model(url):
                try:
                    torch.hub.load_state_dict_from_url(url)
                except OSError:
                    return "survived"
        """)
        seen = torchhub.watch(repo, "model", [OTHER], answers=shelf, tolerated=["https://example.net"])

        assert seen.result == "survived"
        assert [refusal.what for refusal in seen.refusals] == ["https://example.net"]
        assert torchhub.watch(repo, None, answers=shelf, tolerated=()).result is None
        assert seen.hubconf.model.__name__ == "model"
        with pytest.raises(UnlockedDownload):
            torchhub.watch(repo, "model", [OTHER], answers=shelf, tolerated=["https://example.org"])


class TestNested:
    def test_a_nested_load_runs_in_the_same_scope(self, shelf: Shelf, repository: MakeRepository) -> None:
        shelf.put(URL, ones(3))
        shelf.repos["other/inner:v1"] = repository(
            """
            import torch
            from inner_code import size
            def net(url, *, extra):
                '''The inner net.'''
                return size(torch.hub.load_state_dict_from_url(url)) + extra
            """,
            {"inner_code.py": "def size(state):\n    return len(state['w'])\n"},
            name="other/inner:v1",
        )
        outer = repository("""
            import torch
            def model(url):
                value = torch.hub.load("other/inner:v1", "net", url, extra=1, trust_repo=True, verbose=False)
                return value, torch.hub.list("other/inner:v1"), torch.hub.help("other/inner:v1", "net")
        """)
        value, names, doc = run(outer, "model", [URL], answers=shelf)

        assert (value, doc) == (4, "The inner net.")
        assert set(names) == {"net", "size"}
        assert shelf.asked == ["other/inner:v1", URL, "other/inner:v1", "other/inner:v1"]

    def test_a_nested_repository_that_is_not_locked_is_refused(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository("""
            import torch
            def model():
                try:
                    return torch.hub.load("someone/else", "net")
                except Exception:
                    return "random"
        """)
        with pytest.raises(UnlockedDownload, match="nobody locked someone/else"):
            run(repo, "model", answers=shelf)

    def test_missing_dependencies_are_named_before_anything_is_imported(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        hubconf = "dependencies = ['torch', 'no_such_one', 'nor_this']\nraise SystemExit('ran')\n"
        shelf.repos["other/inner"] = repository(hubconf, name="other/inner")
        outer = repository("import torch\ndef model():\n    return torch.hub.load('other/inner', 'net')\n")
        (tmp_path / "hubconf.py").write_text(hubconf)

        with pytest.raises(MissingDependency, match=r"no_such_one.*nor_this"):
            run(outer, "model", answers=shelf)
        with pytest.raises(MissingDependency, match=r"no_such_one.*nor_this"):
            torchhub.watch_local(tmp_path, "net", answers=shelf)

    def test_a_nested_call_of_its_own_repository_leaves_the_callers_folders(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        repo = repository(
            """
            import os, sys, torch
            here = os.path.dirname(os.path.abspath(__file__))
            def model():
                sys.path.insert(0, os.path.join(here, "src"))
                inner = torch.hub.load(here, "small", source="local")
                from layers import value
                return inner, value
            def small():
                return "small"
            """,
            {"src/layers.py": "value = 3\n"},
        )
        assert run(repo, "model", answers=shelf) == ("small", 3)

    def test_local_means_inside_the_tree(self, shelf: Shelf, repository: MakeRepository, tmp_path: Path) -> None:
        (tmp_path / "evil").mkdir()
        (tmp_path / "evil" / "hubconf.py").write_text("def net():\n    return 'evil'\n")
        repo = repository(
            """
            import os, torch
            here = os.path.dirname(os.path.abspath(__file__))
            def model(folder):
                return torch.hub.load(os.path.join(here, folder), "net", source="local")
            def net():
                return "the tree's own"
            """,
            {
                "part/hubconf.py": "from mod import VALUE\ndef net():\n    return VALUE\n",
                "part/mod.py": "VALUE = 'part'",
            },
        )

        assert run(repo, "model", [""], answers=shelf) == "the tree's own"
        assert run(repo, "model", ["part"], answers=shelf) == "part"
        # a second store that holds the same tree
        shutil.copytree(repo.root, tmp_path / "again")
        again = replace(repo, root=tmp_path / "again")
        assert run(again, "model", [""], answers=shelf) == "the tree's own"
        assert run(again, "model", ["part"], answers=shelf) == "part"
        with pytest.raises(UnlockedDownload, match="evil, a folder that is not in its tree"):
            run(repo, "model", [str(tmp_path / "evil")], answers=shelf)


class TestActivated:
    def test_every_call_of_the_process_is_answered_until_the_end(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        shelf.put(URL, ones(3))
        early: Any = torch.hub.load
        repo = repository("""
            import torch
            def model(url):
                return len(torch.hub.load_state_dict_from_url(url)["w"]), torch.hub.get_dir()
        """)

        def load(repo_or_dir: str, model: str, *args: Any, **options: Any) -> Any:
            assert options.pop("trust_repo") == "check"
            return repo_or_dir, run(repo, model, args, answers=shelf)

        def load_state_dict(url: str, *rest: Any, **options: Any) -> Any:
            return torchhub.load_state_dict_from_url(shelf, url, *rest, **options)

        before = torch.hub.get_dir()
        functions: dict[str, Any] = {
            "load": load,
            "load_state_dict_from_url": load_state_dict,
            "get_dir": lambda: "the store",
        }
        with torchhub.activated(functions):
            name, (size, folder) = early("owner/repo", "model", URL)
            assert (name, size) == ("owner/repo", 3)
            assert folder not in (before, "the store")
            assert torch.hub.get_dir() == "the store"
            assert len(torch.hub.load_state_dict_from_url(URL)["w"]) == 3
            with pytest.raises(UnlockedDownload):
                torch.hub.load_state_dict_from_url(OTHER)
            with torchhub.activated({}):
                assert torch.hub.get_dir() == before
            assert torch.hub.get_dir() == "the store"
        assert torch.hub.get_dir() == before
