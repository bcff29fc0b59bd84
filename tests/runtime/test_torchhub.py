import functools
import inspect
import os
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.hub
import torch.utils.model_zoo

from hublock.errors import DigestMismatch, EntrypointNotFound, InputError, OfflineError, UnlockedDownload
from hublock.runtime import torchhub
from tests.runtime.answering import Shelf, saved
from tests.runtime.conftest import MakeRepository

URL = "https://example.org/models/net.pth"
OTHER = "https://example.net/elsewhere/net.pth"
EARLY = types.ModuleType("early_library")
EARLY.get = functools.partial(torch.hub.load_state_dict_from_url, progress=False)  # type: ignore[attr-defined]
EARLY.zoo = vars(torch.utils.model_zoo)["load_url"]  # type: ignore[attr-defined]


def ones(count: int) -> bytes:
    return saved({"w": torch.ones(count)})


class TestWhatIsAnswered:
    @pytest.mark.parametrize(
        "call",
        [
            "torch.hub.load_state_dict_from_url(url)",
            "by_name(url)",
            "alias.hub.load_state_dict_from_url(url, progress=False, check_hash=False)",
            "torch.utils.model_zoo.load_url(url)",
            "partial(url)",
            "early_library.get(url)",
            "early_library.zoo(url)",
            "getattr(torch.hub, 'load_state_' + 'dict_from_url')(url)",
        ],
    )
    def test_state_dicts_however_the_function_is_called(
        self, shelf: Shelf, repository: MakeRepository, call: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "early_library", EARLY)
        shelf.put(URL, ones(3))
        repo = repository(f"""
            import functools, torch, torch as alias, torch.utils.model_zoo, early_library
            from torch.hub import load_state_dict_from_url as by_name
            partial = functools.partial(by_name, progress=False)
            def model(url):
                return {call}
        """)

        assert torchhub.run(repo, "model", [URL], answers=shelf)["w"].sum() == 3
        assert shelf.asked == [URL]

    def test_files_are_fetched_by_url_not_by_name(self, shelf: Shelf, repository: MakeRepository) -> None:
        shelf.put(URL, ones(3))
        shelf.put(OTHER, ones(5))
        repo = repository("""
            from torch.hub import load_state_dict_from_url
            def model(*urls):
                return [len(load_state_dict_from_url(url)["w"]) for url in urls]
        """)

        assert torchhub.run(repo, "model", [URL, OTHER, URL], answers=shelf) == [3, 5, 3]

    def test_a_file_planted_in_torch_hubs_cache_is_not_seen(
        self, shelf: Shelf, repository: MakeRepository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        planted = tmp_path / "torch" / "hub" / "checkpoints" / "net.pth"
        planted.parent.mkdir(parents=True)
        planted.write_bytes(ones(9))
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        shelf.put(URL, ones(3))
        repo = repository("""
            import os, torch
            def model(url):
                planted = os.path.exists(os.path.join(torch.hub.get_dir(), "checkpoints", "net.pth"))
                return planted, len(torch.hub.load_state_dict_from_url(url)["w"])
        """)

        assert Path(torch.hub.get_dir(), "checkpoints", "net.pth").exists()
        assert torchhub.run(repo, "model", [URL], answers=shelf) == (False, 3)

    def test_a_download_into_the_hub_folder_can_be_loaded_from_there(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        shelf.put(URL, ones(3))
        repo = repository("""
            import os, torch
            def model(url):
                path = os.path.join(torch.hub.get_dir(), "checkpoints", "mine.pth")
                torch.hub.download_url_to_file(url, path, progress=False)
                return len(torch.load(path)["w"])
        """)

        assert torchhub.run(repo, "model", [URL], answers=shelf) == 3

    def test_a_download_elsewhere_is_a_copy_of_its_own(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        blob = shelf.put(URL, ones(3))
        repo = repository("""
            import torch
            def model(url, path):
                torch.hub.download_url_to_file(url, path)
                with open(path, "ab") as file:
                    file.write(b"more")
        """)
        torchhub.run(repo, "model", [URL, str(tmp_path / "net.pth")], answers=shelf)

        assert (tmp_path / "net.pth").read_bytes() == ones(3) + b"more"
        assert blob.path.read_bytes() == ones(3)

    def test_a_download_through_a_link_out_of_the_hub_folder_is_a_copy(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        shelf.put(URL, ones(3))
        (tmp_path / "outside").mkdir()
        repo = repository("""
            import os, torch
            def model(url, folder):
                os.symlink(folder, os.path.join(torch.hub.get_dir(), "link"))
                torch.hub.download_url_to_file(url, os.path.join(torch.hub.get_dir(), "link", "net.pth"))
        """)
        torchhub.run(repo, "model", [URL, str(tmp_path / "outside")], answers=shelf)

        assert not (tmp_path / "outside" / "net.pth").is_symlink()

    def test_set_dir_changes_what_the_load_sees_and_nothing_else(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        before = torch.hub.get_dir()
        repo = repository("""
            import torch
            def model(folder):
                first = torch.hub.get_dir()
                torch.hub.set_dir(folder)
                return first, torch.hub.get_dir(), torch.hub._get_torch_home()
        """)
        first, second, home = torchhub.run(repo, "model", [str(tmp_path / "mine")], answers=shelf)

        assert (second, home) == (str(tmp_path / "mine"), str(tmp_path))
        assert torch.hub.get_dir() == before
        assert torchhub.run(repo, "model", ["x"], answers=shelf)[0] not in (first, before)

    def test_the_hub_folder_links_to_the_tree(self, shelf: Shelf, repository: MakeRepository) -> None:
        hubconf = """
            import torch
            from pathlib import Path
            def model(*names):
                return [Path(torch.hub.get_dir(), name, "data.txt").read_text() for name in names]
        """
        tagged = repository(hubconf, {"data.txt": "tagged"}, name="snakers4/silero-vad:v5/x")
        bare = repository(hubconf, {"data.txt": "bare"}, name="snakers4/silero-vad")

        assert torchhub.run(tagged, "model", ["snakers4_silero-vad_v5_x"], answers=shelf) == ["tagged"]
        both = ["snakers4_silero-vad_main", "snakers4_silero-vad_master"]
        assert torchhub.run(bare, "model", both, answers=shelf) == ["bare", "bare"]

    def test_check_hash_is_held_against_the_name(self, shelf: Shelf, repository: MakeRepository) -> None:
        data = ones(3)
        good = f"https://example.org/net-{shelf.put('x', data).digest.hex[:8]}.pth"
        bad = "https://example.org/net-00000000.pth"
        shelf.put(good, data)
        shelf.put(bad, data)
        repo = repository("""
            from torch.hub import load_state_dict_from_url
            def model(url, **options):
                return len(load_state_dict_from_url(url, **options)["w"])
        """)

        assert torchhub.run(repo, "model", [good], {"check_hash": True}, answers=shelf) == 3
        assert torchhub.run(repo, "model", [bad], answers=shelf) == 3
        named = {"check_hash": True, "file_name": "plain.pth"}
        assert torchhub.run(repo, "model", [bad], named, answers=shelf) == 3
        with pytest.raises(RuntimeError, match=r'invalid hash value for .* \(expected "00000000", got') as caught:
            torchhub.run(repo, "model", [bad], {"check_hash": True}, answers=shelf)
        assert isinstance(caught.value, DigestMismatch)

    def test_model_dir_and_file_name_leave_a_file_as_torch_does(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        shelf.put(URL, ones(3))
        repo = repository("""
            from torch.hub import load_state_dict_from_url
            def model(url, folder, name=None):
                return len(load_state_dict_from_url(url, folder, file_name=name)["w"])
        """)
        assert torchhub.run(repo, "model", [URL, str(tmp_path / "a")], answers=shelf) == 3
        assert torchhub.run(repo, "model", [URL, str(tmp_path / "a"), "b.pth"], answers=shelf) == 3
        assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b.pth", "net.pth"]
        (tmp_path / "a" / "net.pth").write_bytes(b"the user's own")

        assert torchhub.run(repo, "model", [URL, str(tmp_path / "a")], answers=shelf) == 3
        assert (tmp_path / "a" / "net.pth").read_bytes() == b"the user's own"


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "body",
        [
            "return get('https://example.org/unknown.pth')",
            "try: return get('https://example.org/unknown.pth')\n    except Exception: return 'random weights'",
            "try: return get('https://example.org/unknown.pth')\n    except OSError: return 'random weights'",
            "try: return get('https://example.org/unknown.pth')\n    except OSError: raise ValueError('broken cache')",
            "try: return get('https://example.org/unknown.pth')\n    except OSError: raise SystemExit(3)",
            "return get('https://mirror.example.org/models/net.pth')",
            "return get('https://example.org/models/net.pth?download=1')",
        ],
    )
    def test_a_fetch_that_is_not_locked_even_if_it_is_swallowed(
        self, shelf: Shelf, repository: MakeRepository, body: str
    ) -> None:
        shelf.put(URL, ones(3))
        repo = repository(f"from torch.hub import load_state_dict_from_url as get\ndef model():\n    {body}\n")

        with pytest.raises(UnlockedDownload, match=r"nobody locked https://(mirror\.)?example\.org") as caught:
            torchhub.run(repo, "model", answers=shelf)
        assert caught.value.hint == "hublock add OWNER/REPO ENTRYPOINT"

    def test_a_fallback_at_import_is_not_kept_for_the_next_load(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository(
            "from weights import WEIGHTS\ndef model():\n    return WEIGHTS\n",
            {
                "weights.py": """
                    import torch
                    try:
                        WEIGHTS = torch.hub.load_state_dict_from_url("https://example.org/models/net.pth")
                    except OSError:
                        WEIGHTS = "random"
                """
            },
        )
        for _ in range(2):
            with pytest.raises(UnlockedDownload, match="nobody locked"):
                torchhub.run(repo, "model", answers=shelf)
        shelf.put(URL, ones(3))

        assert torchhub.run(repo, "model", answers=shelf)["w"].sum() == 3

    def test_what_is_tolerated_by_exact_name_may_be_swallowed(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository("""
            import subprocess, torch
            def model():
                for attempt in (lambda: torch.hub.load_state_dict_from_url("https://api.example.org/x"),
                                lambda: subprocess.run(["git", "tag"])):
                    try:
                        attempt()
                    except OSError:
                        pass
                return "whole"
        """)

        assert (
            torchhub.run(repo, "model", answers=shelf, tolerated=["https://api.example.org", "subprocess:git"])
            == "whole"
        )
        with pytest.raises(UnlockedDownload, match="tries to run git"):
            torchhub.run(repo, "model", answers=shelf, tolerated=["https://api.example.org"])
        with pytest.raises(UnlockedDownload, match=r"nobody locked https://api\.example\.org/x"):
            torchhub.run(repo, "model", answers=shelf, tolerated=["https://example.org", "subprocess:git"])

    def test_what_is_not_an_unlocked_download_is_never_tolerated(
        self, shelf: Shelf, repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def absent(url: str, **_options: object) -> Any:
            raise OfflineError(f"{url} is not in the store", hint="hublock sync")

        monkeypatch.setattr(shelf, "fetch", absent)
        repo = repository("""
            import torch
            def model():
                try:
                    torch.hub.load_state_dict_from_url("https://example.org/x")
                except Exception:
                    return "random"
        """)
        with pytest.raises(OfflineError, match="not in the store"):
            torchhub.run(repo, "model", answers=shelf, tolerated=["https://example.org"])

    def test_the_entry_points_own_error_and_interrupts_pass(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository("""
            import torch
            def model(error):
                raise error
            def late(error):
                try:
                    torch.hub.load_state_dict_from_url("https://example.org/x")
                except OSError:
                    raise error
        """)
        for error in (ValueError("its own"), SystemExit(4), KeyboardInterrupt()):
            with pytest.raises(type(error)):
                torchhub.run(repo, "model", [error], answers=shelf)
        with pytest.raises(KeyboardInterrupt):
            torchhub.run(repo, "late", [KeyboardInterrupt()], answers=shelf)
        with pytest.raises(EntrypointNotFound, match="modle"):
            torchhub.run(repo, "modle", answers=shelf)

    @pytest.mark.parametrize(
        "start",
        [
            "t = threading.Thread(target=job); t.start(); t.join()",
            "t = Own(); t.start(); t.join()",
            "t = threading.Timer(0, job); t.start(); t.join()",
            "[future.result() for future in [ThreadPoolExecutor(2).submit(job) for _ in range(3)]]",
            "ThreadPool(2).apply(job)",
            "asyncio.run(asyncio.to_thread(job))",
            "asyncio.run(in_executor(job))",
            "t = threading.Thread(target=start_and_join, args=(job,)); t.start(); t.join()",
        ],
    )
    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_threads_and_pools_that_the_entry_point_starts(
        self, shelf: Shelf, repository: MakeRepository, start: str
    ) -> None:
        # everything that runs in the threads is a library's: no frame there tells whose it is
        repo = repository(f"""
            import asyncio, threading
            from concurrent.futures import ThreadPoolExecutor
            from multiprocessing.pool import ThreadPool
            from foreign import Own, in_executor, start_and_join, swallow as job
            def model():
                {start}
                return "random"
        """)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "foreign", _foreign())
            with pytest.raises(UnlockedDownload, match=r"nobody locked https://example\.org/x"):
                torchhub.run(repo, "model", answers=shelf)

    def test_a_job_in_a_pool_of_the_users_is_inside_but_the_pool_is_not(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        repo = repository("""
            import foreign
            def model(pool):
                pool.submit(foreign.swallow).result()
        """)
        with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
            patch.setitem(sys.modules, "foreign", _foreign())
            with pytest.raises(UnlockedDownload):
                torchhub.run(repo, "model", [pool], answers=shelf)
            assert pool.submit(torch.hub.get_dir).result() == torch.hub.get_dir()

    def test_a_download_at_forward_time_after_the_load(self, shelf: Shelf, repository: MakeRepository) -> None:
        shelf.put(URL, ones(3))
        repo = repository("""
            import torch
            class Lazy(torch.nn.Module):
                def forward(self, url):
                    return torch.hub.load_state_dict_from_url(url)["w"]
            def model():
                return Lazy()
        """)
        lazy = torchhub.run(repo, "model", answers=shelf)

        assert lazy(URL).sum() == 3
        with pytest.raises(UnlockedDownload):
            lazy(OTHER)


FOREIGN = """
import asyncio, threading, torch
def swallow():
    try:
        torch.hub.load_state_dict_from_url("https://example.org/x")
    except OSError:
        pass
class Own(threading.Thread):
    def run(self):
        swallow()
def start_and_join(job):
    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
async def in_executor(job):
    await asyncio.get_running_loop().run_in_executor(None, job)
"""


def _foreign() -> types.ModuleType:
    """An installed library: its frames carry no mark."""
    module = types.ModuleType("foreign")
    exec(FOREIGN, vars(module))
    return module


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
        value, names, doc = torchhub.run(outer, "model", [URL], answers=shelf)

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
            torchhub.run(repo, "model", answers=shelf)

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

        assert torchhub.run(repo, "model", [""], answers=shelf) == "the tree's own"
        assert torchhub.run(repo, "model", ["part"], answers=shelf) == "part"
        with pytest.raises(UnlockedDownload, match="evil, a folder that is not in its tree"):
            torchhub.run(repo, "model", [str(tmp_path / "evil")], answers=shelf)


class TestBystanders:
    def test_functions_keep_identity_and_signature(self) -> None:
        before = torch.hub.load_state_dict_from_url
        torchhub.install()

        assert torch.hub.load_state_dict_from_url is before is vars(torch.utils.model_zoo)["load_url"]
        assert list(inspect.signature(torch.hub.load).parameters) == [
            "repo_or_dir", "model", "args", "source", "trust_repo", "force_reload", "verbose", "skip_validation",
            "kwargs",
        ]  # fmt: skip
        assert inspect.signature(torch.load).parameters["weights_only"].default is None

    def test_six_loads_at_once_disturb_neither_each_other_nor_a_bystander(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        for number in range(6):
            shelf.put(f"https://example.org/{number}/net.pth", ones(number + 1))
        repos = [
            repository(f"""
                import torch
                def model():
                    first = torch.hub.get_dir()
                    sizes = {{len(torch.hub.load_state_dict_from_url("https://example.org/{number}/net.pth")["w"])
                             for _ in range(10)}}
                    return sizes, first == torch.hub.get_dir()
            """)
            for number in range(6)
        ]
        stop, seen, errors = threading.Event(), set(), []
        mine = tmp_path / "mine.pth"
        mine.write_bytes(ones(7))

        def bystander() -> None:
            while not stop.is_set():
                try:
                    seen.add((torch.hub.get_dir(), len(torch.load(mine)["w"])))
                except Exception as error:
                    errors.append(error)

        watcher = threading.Thread(target=bystander)
        expected = (torch.hub.get_dir(), 7)
        watcher.start()
        with ThreadPoolExecutor(6) as pool:
            runs = [pool.submit(torchhub.run, repo, "model", answers=shelf) for repo in repos]
            results = [run.result() for run in runs]
        stop.set()
        watcher.join()

        assert results == [({number + 1}, True) for number in range(6)]
        assert (seen, errors) == ({expected}, [])

    def test_the_users_own_code_stays_free_after_a_load(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        torchhub.run(repository("def model():\n    return 1\n"), "model", answers=shelf)
        (tmp_path / "file").write_bytes(b"bytes")
        torch.hub.download_url_to_file((tmp_path / "file").as_uri(), str(tmp_path / "copy"), progress=False)

        assert (tmp_path / "copy").read_bytes() == b"bytes"

    @pytest.mark.parametrize("end", ["return 1", "raise ValueError('no')", "raise SystemExit(1)"])
    def test_the_state_of_the_process_is_as_before(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
    ) -> None:
        repo = repository(f"""
            import os, sys, torch
            def model(folder):
                assert sys.argv == [""], sys.argv
                sys.argv.append("--flag")
                sys.path.insert(0, folder)
                os.environ["ADDED"] = "1"
                os.environ["CHANGED"] = "2"
                os.environ.pop("REMOVED")
                os.chdir(folder)
                torch.hub._validate_not_a_forked_repo = lambda a, b, c: True
                torch.hub.new_name = 1
                {end}
        """)
        monkeypatch.setenv("CHANGED", "before")
        monkeypatch.setenv("REMOVED", "before")

        def state() -> tuple[Any, ...]:
            return list(sys.argv), list(sys.path), dict(os.environ), Path.cwd(), dict(vars(torch.hub))

        before = state()
        try:
            torchhub.run(repo, "model", [str(tmp_path)], answers=shelf)
        except (ValueError, SystemExit):
            assert end != "return 1"
        assert state() == before

    def test_what_a_bystander_changes_meanwhile_stays(
        self, shelf: Shelf, repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("THEIRS", "before")
        repo = repository("def model(wait):\n    wait()\n")

        def bystander() -> None:
            os.environ["THEIRS"] = "changed"

        def wait() -> None:
            go.set()
            assert done.wait(10)

        go, done = threading.Event(), threading.Event()

        def when_told() -> None:
            go.wait(10)
            bystander()
            done.set()

        thread = threading.Thread(target=when_told)
        thread.start()
        torchhub.run(repo, "model", [wait], answers=shelf)
        thread.join()

        assert os.environ["THEIRS"] == "changed"


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
        )
        (folder / "part.py").write_text("VALUE = 1\n")
        (folder / "own.pth").write_bytes(ones(2))
        shelf.put(URL, ones(3))

        assert torchhub.run_local(folder, "model", [URL], answers=shelf) == (1, 3)
        (folder / "part.py").write_text("VALUE = 22\n")
        assert torchhub.run_local(folder, "model", [URL], answers=shelf) == (22, 3)
        with pytest.raises(UnlockedDownload):
            torchhub.run_local(folder, "model", [OTHER], answers=shelf)
        with pytest.raises(InputError, match=r"has no hubconf\.py"):
            torchhub.run_local(tmp_path, "model", answers=shelf)

    def test_objects_of_torch_and_of_the_tree_are_arguments(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository(
            "from kinds.blocks import Block\ndef model(dtype, *, block):\n    return dtype, block[0] is Block\n",
            {"kinds/__init__.py": "", "kinds/blocks.py": "class Block:\n    pass\n"},
        )
        dtype = torchhub.resolve_object(repo, "torch.float16")
        block = torchhub.resolve_object(repo, "kinds.blocks.Block")

        assert torchhub.run(repo, "model", [dtype], {"block": [block]}, answers=shelf) == (torch.float16, True)
        for name in ("torch.float17", "os.system", "Block"):
            with pytest.raises(InputError, match=name.replace(".", r"\.")):
                torchhub.resolve_object(repo, name)
        with pytest.raises(InputError, match=r"there is no kinds\.blocks\.Missing"):
            missing = torchhub.resolve_object(repo, "kinds.blocks.Missing")
            torchhub.run(repo, "model", [dtype], {"block": missing}, answers=shelf)
