import argparse
import asyncio
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import pickle
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.hub
import torch.utils.model_zoo

from hublock.errors import UnlockedDownload
from hublock.runtime import torchhub
from hublock.runtime.repository import MARKER
from hublock.runtime.strict import frames
from tests.runtime.answering import Shelf, ones, run
from tests.runtime.carrying import in_a_fresh_process
from tests.runtime.conftest import MakeRepository


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
            runs = [pool.submit(run, repo, "model", answers=shelf) for repo in repos]
            results = [run.result() for run in runs]
        stop.set()
        watcher.join()

        assert results == [({number + 1}, True) for number in range(6)]
        assert (seen, errors) == ({expected}, [])

    def test_the_users_own_code_stays_free_after_a_load(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        run(repository("def model():\n    return 1\n"), "model", answers=shelf)
        (tmp_path / "file").write_bytes(b"bytes")
        torch.hub.download_url_to_file((tmp_path / "file").as_uri(), str(tmp_path / "copy"), progress=False)

        assert (tmp_path / "copy").read_bytes() == b"bytes"

    def test_what_a_repository_has_put_in_place_of_a_librarys_function_is_free_for_the_user(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(urllib.request, "urlopen", urllib.request.urlopen)
        monkeypatch.setattr(urllib.request.OpenerDirector, "open", urllib.request.OpenerDirector.open)
        repo = repository("""
            import urllib.request
            original, method = urllib.request.urlopen, urllib.request.OpenerDirector.open
            def patiently(*args, **options):
                return original(*args, **options)
            def opened(self, *args, **options):
                return method(self, *args, **options)
            urllib.request.urlopen, urllib.request.OpenerDirector.open = patiently, opened
            def model(url):
                return lambda: urllib.request.urlopen(url).read()
        """)
        (tmp_path / "file").write_bytes(b"bytes")
        url = (tmp_path / "file").as_uri()
        for _ in range(3):
            # each load wraps once more
            fetch = run(repo, "model", [url], answers=shelf)

        with urllib.request.urlopen(url) as mine:
            assert mine.read() == b"bytes"
        with pytest.warns(match="may be wrong"), pytest.raises(UnlockedDownload):
            fetch()

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
                torch.hub._hub_dir = folder
                {end}
        """)
        monkeypatch.setenv("CHANGED", "before")
        monkeypatch.setenv("REMOVED", "before")

        def state() -> tuple[Any, ...]:
            return list(sys.argv), list(sys.path), dict(os.environ), Path.cwd(), dict(vars(torch.hub))

        before = state()
        try:
            run(repo, "model", [str(tmp_path)], answers=shelf)
        except (ValueError, SystemExit):
            assert end != "return 1"
        assert state() == before

    @pytest.mark.parametrize("end", ["return os.environ['ADDED']", "raise ValueError('no')"])
    def test_another_environment_that_a_load_has_put_in_place_of_the_processs_goes_with_it(
        self, shelf: Shelf, repository: MakeRepository, end: str
    ) -> None:
        repo = repository(f"""
            import os
            def model():
                os.environ = {{**os.environ, "ADDED": "1"}}
                {end}
        """)
        environment, before = os.environ, dict(os.environ)
        with suppress(ValueError):
            assert run(repo, "model", answers=shelf) == "1"
        assert os.environ is environment
        assert os.environ == before

    def test_code_may_leave_a_folder_that_is_gone(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repo = repository("""
            import os
            os.chdir(os.path.dirname(__file__))
            def model():
                os.chdir("/")
                return os.getcwd()
        """)
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        assert [run(repo, "model", answers=shelf) for _ in range(2)] == ["/", "/"]

    def test_what_a_task_of_a_load_calls_after_it_is_the_users_own(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        repo = repository("""
            import asyncio
            async def work(jobs):
                while True:
                    job, done = await jobs.get()
                    done.set_result(job())
            def model(jobs):
                return asyncio.get_running_loop().create_task(work(jobs))
        """)
        (tmp_path / "file").write_bytes(b"bytes")

        def own() -> bytes:
            torch.hub.download_url_to_file((tmp_path / "file").as_uri(), str(tmp_path / "copy"), progress=False)
            return (tmp_path / "copy").read_bytes()

        async def program() -> bytes:
            jobs: asyncio.Queue[Any] = asyncio.Queue()
            task = run(repo, "model", [jobs], answers=shelf)
            done = asyncio.get_running_loop().create_future()
            await jobs.put((own, done))
            try:
                return await asyncio.wait_for(done, 30)
            finally:
                task.cancel()

        assert asyncio.run(program()) == b"bytes"

    def test_what_a_bystander_changes_meanwhile_stays(
        self, shelf: Shelf, repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("THEIRS", "before")
        monkeypatch.setattr(torch.hub, "_hub_dir", None)
        repo = repository("def model(wait):\n    wait()\n")

        def bystander() -> None:
            os.environ["THEIRS"] = "changed"
            torch.hub.set_dir("/theirs")

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
        run(repo, "model", [wait], answers=shelf)
        thread.join()

        assert os.environ["THEIRS"] == "changed"
        assert torch.hub.get_dir() == "/theirs"

    def test_a_library_that_another_thread_is_importing_is_left_alone(
        self, shelf: Shelf, repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = importlib.machinery.ModuleSpec("numpy.random", None)
        # as importlib marks it (importlib._bootstrap._load_unlocked)
        vars(spec)["_initializing"] = True
        monkeypatch.setitem(sys.modules, "numpy.random", importlib.util.module_from_spec(spec))

        assert run(repository("def model():\n    return 1\n"), "model", answers=shelf) == 1

    def test_a_bystander_has_its_arguments(
        self, shelf: Shelf, repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        arguments = ["train.py", "--rate=3"]
        monkeypatch.setattr(sys, "argv", arguments)
        repo = repository("""
            import argparse, sys
            def parsed():
                parser = argparse.ArgumentParser()
                parser.add_argument("--rate", default="1")
                return parser.parse_args().rate, sys.argv[0], len(sys.argv), sys.argv == [""]
            def model(wait):
                before = parsed()
                wait()
                sys.argv.append("--rate=4")
                return before, parsed()
        """)

        def parse() -> str:
            parser = argparse.ArgumentParser()
            parser.add_argument("--rate", default="1")
            return str(parser.parse_args().rate)

        def wait() -> None:
            with ThreadPoolExecutor(1) as pool:
                # a thread of the load's has none either
                assert pool.submit(parse).result(30) == "1"
            go.set()
            assert done.wait(30)

        seen: list[object] = []

        def beside() -> None:
            go.wait(30)
            seen.extend([parse(), sys.argv, sys.argv[1:], isinstance(sys.argv, list), repr(sys.argv)])
            seen.append(pickle.loads(pickle.dumps(sys.argv)))
            sys.argv.append("--more")
            done.set()

        go, done = threading.Event(), threading.Event()
        thread = threading.Thread(target=beside)
        thread.start()
        loaded = run(repo, "model", [wait], answers=shelf)
        thread.join()

        words = ["train.py", "--rate=3"]
        assert loaded == (("1", "", 1, True), ("4", "", 2, False))
        assert seen == ["3", [*words, "--more"], words[1:], True, repr(words), words]
        assert type(seen[-1]) is list
        assert sys.argv is arguments
        assert arguments == [*words, "--more"]

    def test_loads_that_overlap_give_back_what_was_before_the_first(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        before, arguments = sys.argv, list(sys.argv)
        began, ended = threading.Event(), threading.Event()

        def first() -> None:
            began.set()
            assert second_began.wait(10)

        def second() -> None:
            second_began.set()
            assert ended.wait(10)

        second_began = threading.Event()
        repo = repository("""
            import sys, torch
            def model(wait):
                torch.hub.changed_by_a_load = wait
                wait()
                return list(sys.argv)
        """)

        def run_first() -> None:
            run(repo, "model", [first], answers=shelf)
            ended.set()

        thread = threading.Thread(target=run_first)
        thread.start()
        assert began.wait(10)
        assert run(repo, "model", [second], answers=shelf) == [""]
        thread.join()

        assert sys.argv is before
        assert sys.argv == arguments
        assert not hasattr(torch.hub, "changed_by_a_load")

    def test_the_program_in_a_folder_of_the_users_own_stays_the_users(self, shelf: Shelf, tmp_path: Path) -> None:
        files = {
            "hubconf.py": "import early_of_tests\ndef model(): return 1\n",
            "early_of_tests.py": "",
            "late_of_tests.py": "import settings_of_tests\nrate = settings_of_tests.rate\n",
            "settings_of_tests.py": "rate = 0\n",
        }
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(tmp_path))
            settings = importlib.import_module("settings_of_tests")
            settings.rate = 3  # type: ignore[attr-defined]
            assert torchhub.watch_local(tmp_path, "model", answers=shelf).result == 1
            late = importlib.import_module("late_of_tests")
            assert (late.settings_of_tests is settings, late.rate, hasattr(late, MARKER)) == (True, 3, False)
        for name in ("settings_of_tests", "late_of_tests"):
            del sys.modules[name]

    @pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
    def test_modules_that_plain_loaders_make_are_their_repositorys(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        text = """
            import os, pkgutil
            def model():
                [found] = pkgutil.iter_modules([os.path.join(os.path.dirname(__file__), "plugins")])
                return found.module_finder.find_spec(found.name).loader.load_module(found.name).word
        """
        repos = [
            repository(text, {"plugins/plug.py": "from helper import word\n", "helper.py": f"word = {word!r}\n"})
            for word in "ab"
        ]
        before = set(sys.modules)

        for _ in range(2):
            assert [run(repo, "model", answers=shelf) for repo in repos] == ["a", "b"]
        assert {name for name in set(sys.modules) - before if not name.startswith("hublock.")} == set()

    @pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
    def test_packages_that_plain_loaders_make_are_too_with_all_below_them(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        text = """
            import os, pkgutil
            def model():
                [found] = pkgutil.iter_modules([os.path.join(os.path.dirname(__file__), "plugins")])
                return found.module_finder.find_spec(found.name).loader.load_module(found.name).Net()
        """

        def files(word: str) -> dict[str, str]:
            net = """
                import plug.inner
                from .inner import word
                class Net:
                    word, again = word, plug.inner.word
                    def late(self):
                        from .deep.later import where
                        from plug.deep.later import where as same
                        import plug.deep.other
                        return where, same, plug.deep.other.where
            """
            inner = {"inner.py": f"word = {word!r}\n", "deep/__init__.py": ""}
            deep = {"deep/later.py": f"where = {word!r}\n", "deep/other.py": f"where = {word!r}\n"}
            return {f"plugins/plug/{name}": data for name, data in {"__init__.py": net, **inner, **deep}.items()}

        repos = [repository(text, files(word)) for word in "ab"]
        before = set(sys.modules)

        nets = [run(repo, "model", answers=shelf) for repo in repos * 2]
        assert [(net.word, net.again, *net.late()) for net in nets] == [("a",) * 5, ("b",) * 5] * 2
        assert {name for name in set(sys.modules) - before if not name.startswith("hublock.")} == set()
        for repo, net in zip(repos, nets[2:], strict=True):
            assert pickle.loads(pickle.dumps(net)).late() == net.late()
            assert in_a_fresh_process(repo, [net], "word", "again") == [f"{net.word} {net.word} {net.late()}"]

    def test_the_real_path_is_as_before_whatever_detour_changed_it(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        repo = repository("""
            import os, site
            def model():
                os.sys.path.insert(0, os.path.dirname(__file__))
                site.addsitedir(os.path.join(os.path.dirname(__file__), "sub"))
        """)
        before = list(sys.path)
        run(repo, "model", answers=shelf)
        assert sys.path == before

    def test_loads_that_overlap_leave_environment_and_folder_as_before(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        repo = repository("""
            import os
            def model(name, folder, begun, go_on):
                os.environ["SET_BY"] = name
                os.chdir(folder)
                begun.set()
                assert go_on.wait(30)
                return os.environ.get("SET_BY")
        """)
        before = os.environ.get("SET_BY"), Path.cwd()
        (tmp_path / "a").mkdir()
        begun, go_on = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

        def load(number: int) -> Any:
            given = ["ab"[number], str(tmp_path / "a"), begun[number], go_on[number]]
            return run(repo, "model", given, answers=shelf)

        with ThreadPoolExecutor(2) as pool:
            loads = []
            for number in (0, 1):
                loads.append(pool.submit(load, number))
                assert begun[number].wait(30)
            # the first to begin is the first to end, and takes nothing from the other
            go_on[0].set()
            loads[0].result(30)
            assert (os.environ.get("SET_BY"), Path.cwd()) == ("b", tmp_path / "a")
            go_on[1].set()
            assert loads[1].result(30) == "b"

        assert (os.environ.get("SET_BY"), Path.cwd()) == before

    def test_a_load_within_a_load_is_a_load_of_its_own(self, shelf: Shelf, repository: MakeRepository) -> None:
        shelf.put("https://example.org/inner.pth", ones(3))
        inner = repository("""
            import os, torch
            def model(url):
                os.environ["SET_BY"] = "inner"
                return len(torch.hub.load_state_dict_from_url(url)["w"]), torch.hub.get_dir()
        """)
        outer = repository("""
            import os, sys, torch
            def model(callback):
                os.environ["SET_BY"] = "outer"
                before = torch.hub.get_dir()
                size, folder = callback()
                return size, folder != before == torch.hub.get_dir(), os.environ["SET_BY"], list(sys.argv)
        """)

        def callback() -> Any:
            return run(inner, "model", ["https://example.org/inner.pth"], answers=shelf)

        assert run(outer, "model", [callback], answers=shelf) == (3, True, "outer", [""])
        assert "SET_BY" not in os.environ

    def test_a_file_that_a_bystander_opens_during_a_load_is_opened_at_once(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        repo = repository("""
            def model(begun, go_on):
                begun.set()
                return go_on.wait(60)
        """)
        begun, go_on = threading.Event(), threading.Event()
        frames._elsewhere.cache_clear()
        frames._is_others.cache_clear()
        loader = threading.Thread(target=run, args=[repo, "model", [begun, go_on]], kwargs={"answers": shelf})
        loader.start()
        try:
            assert begun.wait(30)
            opener = threading.Thread(target=(tmp_path / "mine").write_text, args=["mine"])
            opener.start()
            opener.join(20)
            assert not opener.is_alive()
        finally:
            go_on.set()
            loader.join()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_process_that_is_forked_beside_a_load_has_its_arguments(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("""
        import os, sys
        def model(begun=None, go=None):
            if begun:
                os.environ["OF_THE_LOAD"] = "1"
                os.chdir("/")
                begun.set()
                go.wait(60)
            return list(sys.argv)
    """)
    folder = Path.cwd()
    arguments, begun, go = list(sys.argv), threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(run, repo, "model", [begun, go], answers=shelf)
        assert begun.wait(60)
        child = os.fork()
        if not child:
            status = 1
            with suppress(BaseException):
                assert (sys.argv, Path.cwd(), "OF_THE_LOAD" in os.environ) == (arguments, folder, False)
                assert run(repo, "model", answers=shelf) == [""]
                assert (sys.argv, Path.cwd(), "OF_THE_LOAD" in os.environ) == (arguments, folder, False)
                status = 0
            os._exit(status)
        go.set()
        assert os.waitpid(child, 0)[1] == 0
        assert load.result() == [""]
    assert sys.argv == arguments


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_model_in_a_process_that_the_user_forks_is_no_part_of_a_load_beside_it(
    shelf: Shelf, repository: MakeRepository
) -> None:
    repo = repository("""
        import torch
        def forward():
            try:
                torch.hub.load_state_dict_from_url("https://example.org/x")
            except OSError:
                pass
        def earlier():
            return forward
        def model(begun, go):
            begun.set()
            return go.wait(60)
    """)
    forward = run(repo, "earlier", answers=shelf)
    begun, go = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(run, repo, "model", [begun, go], answers=shelf)
        assert begun.wait(60)
        child = os.fork()
        if not child:
            status = 1
            with (
                suppress(BaseException),
                pytest.warns(match=r"example\.org/x; what the model returns now may be wrong"),
            ):
                forward()
                status = 0
            os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        go.set()
        assert load.result() is True
