import gc
import pickle
import sys
import threading
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.hub
import torch.utils.model_zoo

from hublock.errors import EntrypointNotFound, LoadError, OfflineError, UnlockedDownload
from hublock.runtime import torchhub
from hublock.runtime.repository import namespace
from hublock.runtime.strict import frames
from hublock.runtime.strict.scope import under_way
from tests.runtime.answering import Shelf, ones, run
from tests.runtime.carrying import Job
from tests.runtime.conftest import MakeRepository

URL = "https://example.org/models/net.pth"
OTHER = "https://example.net/elsewhere/net.pth"


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
            run(repo, "model", answers=shelf)
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
                run(repo, "model", answers=shelf)
        shelf.put(URL, ones(3))

        assert run(repo, "model", answers=shelf)["w"].sum() == 3

    def test_a_fallback_that_is_kept_is_not_returned_the_next_time(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        repo = repository(
            "from weights import fetch\ndef model(url):\n    return fetch(url)\n",
            {
                "weights.py": """
                    import functools, torch
                    class Net:
                        def __init__(self, count):
                            self.count = count
                    @functools.lru_cache
                    def fetch(url):
                        try:
                            return Net(len(torch.hub.load_state_dict_from_url(url)["w"]))
                        except OSError:
                            return Net("random")
                """
            },
        )
        shelf.put(URL, ones(3))
        # so that another load has imported the module, which keeps its answers
        earlier = run(repo, "model", [URL], answers=shelf)
        for _ in range(2):
            with pytest.raises(UnlockedDownload, match="nobody locked"):
                run(repo, "model", [OTHER], answers=shelf)
            with pytest.raises(UnlockedDownload, match="nobody locked"):
                run(repo, "model", kwargs={"url": OTHER}, answers=shelf)
        shelf.put(OTHER, ones(4))
        later = run(repo, "model", [OTHER], answers=shelf)

        assert (earlier.count, later.count) == (3, 4)
        for kept in (earlier, later):
            assert type(pickle.loads(pickle.dumps(kept))) is type(kept)

    def test_what_a_refusal_left_half_made_is_not_returned_the_next_time(
        self, shelf: Shelf, either: MakeRepository
    ) -> None:
        # the code swallows nothing, but has kept what it had made by then
        repo = either("""
            import torch
            made = None
            def model(url):
                global made
                if made is None:
                    made = torch.nn.Linear(3, 1, bias=False)
                    made.weight.data = torch.hub.load_state_dict_from_url(url)["w"]
                return made
        """)
        shelf.put(URL, ones(3))
        for _ in range(2):
            with pytest.raises(UnlockedDownload):
                run(repo, "model", [OTHER], answers=shelf)
        assert run(repo, "model", [URL], answers=shelf).weight.sum() == 3

    def test_a_thread_that_an_earlier_load_has_started_hides_no_refusal(
        self, shelf: Shelf, either: MakeRepository
    ) -> None:
        repo = either("""
            import foreign, threading, torch
            threading.Thread(target=foreign.work, daemon=True).start()
            def model(url):
                foreign.jobs.put((torch.hub.load_state_dict_from_url, url))
                found = foreign.results.get()
                return "random" if isinstance(found, OSError) else found["w"]
        """)
        shelf.put(URL, ones(3))
        foreign = _foreign()
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "foreign", foreign)
            assert run(repo, "model", [URL], answers=shelf).sum() == 3
            with pytest.warns(UserWarning, match="may be wrong"), pytest.raises(UnlockedDownload):
                run(repo, "model", [OTHER], answers=shelf)
        foreign.jobs.put(None)

    def test_a_thread_that_a_library_has_started_works_for_whoever_gives_it_a_job(
        self, tmp_path: Path, repository: MakeRepository
    ) -> None:
        repos = [
            repository("""
                import foreign, torch
                def model(url):
                    return foreign.in_background(torch.hub.load_state_dict_from_url, url)["w"]
            """)
            for _ in range(2)
        ]
        shelves = [Shelf(tmp_path / "first"), Shelf(tmp_path / "second")]
        for shelf, url, count in zip(shelves, (URL, OTHER), (2, 3), strict=True):
            shelf.put(url, ones(count))
        foreign = _foreign()
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "foreign", foreign)
            assert run(repos[0], "model", [URL], answers=shelves[0]).sum() == 2
            assert run(repos[1], "model", [OTHER], answers=shelves[1]).sum() == 3
            with pytest.raises(UnlockedDownload):
                run(repos[1], "model", [URL], answers=shelves[1])
        assert foreign.in_background(torch.hub.get_dir) == torch.hub.get_dir()
        foreign.jobs.put(None)

    def test_a_process_that_an_earlier_load_has_started_hides_no_refusal(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        repo = repository(
            """
                import multiprocessing, torch
                from keeping import pools
                def get(url):
                    try:
                        return len(torch.hub.load_state_dict_from_url(url)["w"])
                    except OSError:
                        return "random"
                def model(url):
                    if not pools:
                        pools.append(multiprocessing.get_context("fork").Pool(1))
                    return pools[0].apply(get, (url,)), pools[0]
            """,
            {"keeping.py": "pools = []\n"},
        )
        shelf.put(URL, ones(3))
        count, pool = run(repo, "model", [URL], answers=shelf)
        with pool:
            # between loads: a matter of the first model, not of the next load
            assert pool.apply(sys.modules[f"{namespace(repo)}.hubconf"].get, (OTHER,)) == "random"
            assert run(repo, "model", [URL], answers=shelf)[0] == count == 3
            with pytest.raises(UnlockedDownload, match=f"nobody locked {OTHER}"):
                run(repo, "model", [OTHER], answers=shelf)

    def test_code_that_cannot_be_imported_again_says_so(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository("""
            import torch
            library = torch.library.Library("hublock_test_of_fallbacks", "DEF")
            def model(url):
                try:
                    return torch.hub.load_state_dict_from_url(url)["w"]
                except OSError:
                    return "random"
        """)
        shelf.put(URL, ones(3))
        with pytest.raises(UnlockedDownload):
            run(repo, "model", [OTHER], answers=shelf)
        with pytest.raises(LoadError, match="cannot be imported twice in one process") as caught:
            run(repo, "model", [URL], answers=shelf)
        assert caught.value.hint == "start a new process"

    def test_modules_of_refused_loads_do_not_pile_up(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository("""
            import torch
            def model(url):
                try:
                    return torch.hub.load_state_dict_from_url(url)["w"]
                except OSError:
                    return "random"
        """)
        for _ in range(3):
            with pytest.raises(UnlockedDownload):
                run(repo, "model", [OTHER], answers=shelf)
        assert [name for name in sys.modules if name.startswith(namespace(repo))] == []

    def test_a_good_load_beside_a_refused_one_is_neither_refused_nor_spoilt(
        self, shelf: Shelf, either: MakeRepository
    ) -> None:
        repo = either("""
            import functools, torch
            @functools.lru_cache
            def backbone():
                try:
                    return torch.hub.load_state_dict_from_url("https://example.net/elsewhere/net.pth")["w"]
                except OSError:
                    return "random"
            def big(meet):
                backbone()
                meet()
            def small(meet):
                meet()
                found = backbone()
                meet()
                return found
        """)
        begun, go = threading.Event(), threading.Event()
        first, second = Shelf(shelf.folder / "first"), Shelf(shelf.folder / "second")
        second.put(OTHER, ones(4))

        def wait_in_the_middle() -> None:
            begun.set()
            assert go.wait(60)

        with ThreadPoolExecutor(1) as pool:
            refused = pool.submit(run, repo, "big", [wait_in_the_middle], answers=first)
            assert begun.wait(60)
            assert run(repo, "small", [lambda: None], answers=second).sum() == 4
            go.set()
            with pytest.raises(UnlockedDownload):
                refused.result()

    @pytest.mark.parametrize("ending", ["raise KeyboardInterrupt", "raise ValueError", "raise SystemExit", "return 1"])
    def test_what_was_refused_for_a_program_or_a_host_is_refused_again(
        self, shelf: Shelf, repository: MakeRepository, ending: str
    ) -> None:
        repo = repository(
            f"from version import version\ndef first():\n    version()\n    {ending}\ndef model(): return version()\n",
            {
                "version.py": """
                    import functools, subprocess
                    @functools.lru_cache
                    def version():
                        try:
                            return subprocess.check_output(["git", "describe"])
                        except OSError:
                            return "unknown"
                """
            },
        )
        run(repository("def model(): return 1\n"), "model", answers=shelf)
        with pytest.raises((UnlockedDownload, KeyboardInterrupt)):
            run(repo, "first", answers=shelf)
        for _ in range(2):
            with pytest.raises(UnlockedDownload, match="tries to run git"):
                run(repo, "model", answers=shelf)

    def test_a_fallback_that_is_kept_is_not_met_by_the_same_load_beside_it(
        self, shelf: Shelf, either: MakeRepository
    ) -> None:
        repo = either("""
            import threading, torch
            lock, cache = threading.Lock(), {}
            def fetch():
                with lock:
                    if "it" not in cache:
                        try:
                            cache["it"] = torch.hub.load_state_dict_from_url("https://example.org/x")
                        except OSError:
                            cache["it"] = "random"
                    return cache["it"]
            def model(meet):
                meet()
                result = fetch()
                meet()
                return result
        """)
        barrier, passed = threading.Barrier(4, timeout=60), threading.local()

        def meet() -> None:
            # only in its first attempt: a load may begin again
            passed.times = getattr(passed, "times", 0) + 1
            if passed.times <= 2:
                barrier.wait()

        with ThreadPoolExecutor(4) as pool:
            runs = [pool.submit(run, repo, "model", [meet], answers=shelf) for _ in range(4)]
            for task in runs:
                with pytest.raises(UnlockedDownload, match=r"nobody locked|beside loads that were refused"):
                    task.result()

    def test_a_refused_load_takes_no_modules_from_one_beside_it(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository(
            """
                import torch
                from net import Net
                def refused(begun, go):
                    begun.set()
                    go.wait(60)
                    torch.hub.load_state_dict_from_url("https://example.org/x")
                def model():
                    return Net()
            """,
            {"net.py": "class Net: pass\n"},
        )
        begun, go = threading.Event(), threading.Event()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(run, repo, "refused", [begun, go], answers=shelf)
            assert begun.wait(60)
            net = run(repo, "model", answers=shelf)
            go.set()
            with pytest.raises(UnlockedDownload):
                first.result()

        assert type(pickle.loads(pickle.dumps(net))) is type(net)

    def test_a_fallback_at_import_is_not_met_by_the_load_beside_it(
        self, tmp_path: Path, either: MakeRepository
    ) -> None:
        repo = either("""
            import foreign, torch
            foreign.begun.set()
            foreign.go.wait(60)
            try:
                WEIGHTS = torch.hub.load_state_dict_from_url("https://example.org/models/net.pth")
            except OSError:
                WEIGHTS = "random"
            def one():
                return WEIGHTS
            def two():
                return WEIGHTS
        """)
        foreign = types.ModuleType("foreign")
        vars(foreign).update(begun=threading.Event(), go=threading.Event())
        first, second = Shelf(tmp_path / "first"), Shelf(tmp_path / "second")
        second.put(URL, ones(3))
        with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
            patch.setitem(sys.modules, "foreign", foreign)
            runs = [pool.submit(run, repo, "one", answers=first)]
            assert foreign.begun.wait(60)
            runs.append(pool.submit(run, repo, "two", answers=second))
            while not (len(under_way) == 2 and under_way[1].packages):
                assert not runs[1].done()
            foreign.go.set()
            with pytest.raises(UnlockedDownload, match="nobody locked"):
                runs[0].result()
            # it began again, with modules of its own
            assert runs[1].result()["w"].sum() == 3
            assert run(repo, "two", answers=second)["w"].sum() == 3

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

        assert run(repo, "model", answers=shelf, tolerated=["https://api.example.org", "subprocess:git"]) == "whole"
        with pytest.raises(UnlockedDownload, match="tries to run git"):
            run(repo, "model", answers=shelf, tolerated=["https://api.example.org"])
        with pytest.raises(UnlockedDownload, match=r"nobody locked https://api\.example\.org/x"):
            run(repo, "model", answers=shelf, tolerated=["https://example.org", "subprocess:git"])

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
            run(repo, "model", answers=shelf, tolerated=["https://example.org"])

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
                run(repo, "model", [error], answers=shelf)
        with pytest.raises(KeyboardInterrupt):
            run(repo, "late", [KeyboardInterrupt()], answers=shelf)
        with pytest.raises(EntrypointNotFound, match="modle"):
            run(repo, "modle", answers=shelf)

    @pytest.mark.parametrize(
        "start",
        [
            "t = threading.Thread(target=job); t.start(); t.join()",
            "t = Own(); t.start(); t.join()",
            "t = threading.Timer(0, job); t.start(); t.join()",
            "[future.result() for future in [ThreadPoolExecutor(2).submit(job) for _ in range(3)]]",
            "with ThreadPool(2) as pool: pool.apply(job)",
            "with ThreadPoolExecutor(2, initializer=job) as pool: pool.submit(int).result()",
            "with ThreadPoolExecutor(2) as pool: pool.submit(time.sleep, 0.1).add_done_callback(swallow_one)",
            "asyncio.run(asyncio.to_thread(job))",
            "asyncio.run(in_executor(job))",
            "t = threading.Thread(target=start_and_join, args=(job,)); t.start(); t.join()",
        ],
    )
    def test_threads_and_pools_that_the_entry_point_starts(
        self, shelf: Shelf, repository: MakeRepository, start: str
    ) -> None:
        # everything that runs in the threads is a library's: no frame there tells whose it is
        repo = repository(f"""
            import asyncio, threading, time
            from concurrent.futures import ThreadPoolExecutor
            from multiprocessing.pool import ThreadPool
            from foreign import Own, in_executor, start_and_join, swallow as job, swallow_one
            def model():
                {start}
                return "random"
        """)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "foreign", _foreign())
            with pytest.raises(UnlockedDownload, match=r"nobody locked https://example\.org/x"):
                run(repo, "model", answers=shelf)

    @pytest.mark.parametrize(
        ("kind", "hand_over"),
        [
            (ThreadPoolExecutor, "submit(foreign.swallow).result()"),
            (ThreadPool, "apply(foreign.swallow)"),
            (ThreadPool, "starmap(foreign.swallow, [()])"),
            (ThreadPool, "imap(foreign.swallow_one, [1]).next()"),
            (ThreadPool, "imap_unordered(foreign.swallow_one, [1], 2).__next__()"),
        ],
    )
    def test_a_job_in_a_pool_of_the_users_is_inside_but_the_pool_is_not(
        self, shelf: Shelf, repository: MakeRepository, kind: type[Any], hand_over: str
    ) -> None:
        repo = repository(f"import foreign\ndef model(pool): pool.{hand_over}\n")
        with pytest.MonkeyPatch.context() as patch, kind(1) as pool:
            own = getattr(pool, "submit", None) or pool.apply_async
            # before the load: its worker has begun
            own(int)
            patch.setitem(sys.modules, "foreign", _foreign())
            with pytest.raises(UnlockedDownload):
                run(repo, "model", [pool], answers=shelf)
            done = own(torch.hub.get_dir)
            assert (getattr(done, "result", None) or done.get)() == torch.hub.get_dir()

    def test_the_users_own_code_in_a_thread_that_a_repository_starts_after_the_load_is_free(
        self, shelf: Shelf, repository: MakeRepository, tmp_path: Path
    ) -> None:
        repo = repository("""
            import threading, torch
            from concurrent.futures import ThreadPoolExecutor
            def own():
                return torch.hub.get_dir()
            def by_pool(function):
                with ThreadPoolExecutor(1) as pool:
                    return pool.submit(function).result()
            def by_thread(function):
                found = []
                thread = threading.Thread(target=lambda: found.append(function()))
                thread.start()
                thread.join()
                return found[0]
            def model():
                return own, by_pool, by_thread
        """)
        own, *ways = run(repo, "model", answers=shelf)
        data = (tmp_path / "file").as_uri()
        (tmp_path / "file").write_bytes(b"bytes")

        def users() -> str:
            torch.hub.download_url_to_file(data, str(tmp_path / "copy"), progress=False)
            return torch.hub.get_dir()

        for way in ways:
            assert way(users) == torch.hub.get_dir()
            assert way(own) == own() != torch.hub.get_dir()

    def test_under_warnings_as_errors_a_refusal_stays_one(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository("""
            import torch
            def forward():
                return torch.hub.load_state_dict_from_url("https://example.org/x")
            def model():
                return forward
        """)
        forward = run(repo, "model", answers=shelf)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UnlockedDownload):
                forward()

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
        lazy = run(repo, "model", answers=shelf)

        assert lazy(URL).sum() == 3
        with pytest.raises(UnlockedDownload), pytest.warns(UserWarning, match="nobody locked"):
            lazy(OTHER)

    def test_what_is_swallowed_at_forward_time_is_told(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository("""
            import torch
            def forward(url):
                try:
                    return torch.hub.load_state_dict_from_url(url)["w"]
                except OSError:
                    return torch.zeros(3)
            def model():
                return forward
        """)
        forward = run(repo, "model", answers=shelf, tolerated=["https://example.net"])

        with pytest.warns(UserWarning, match=r"nobody locked https://example\.org/.* may be wrong") as told:
            forward(URL)
        assert (told[0].filename, told[0].lineno) == (str(repo.root / "hubconf.py"), 5)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert forward(OTHER).sum() == 0

    def test_a_model_has_its_files_though_its_entry_point_was_loaded_anew_since(
        self, tmp_path: Path, repository: MakeRepository
    ) -> None:
        repo = repository("""
            import torch
            def get(url):
                return len(torch.hub.load_state_dict_from_url(url)["w"])
            def first(): return get
            def second(url, meet):
                meet()
                return get(url)
        """)
        first, second = Shelf(tmp_path / "first"), Shelf(tmp_path / "second")
        first.put(URL, ones(2))
        second.put(OTHER, ones(3))
        with pytest.raises(UnlockedDownload):
            run(repo, "second", ["https://example.org/x", lambda: None], answers=second)
        get = run(repo, "first", answers=first)
        begun, go = threading.Event(), threading.Event()

        def meet() -> None:
            begun.set()
            assert go.wait(60)

        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(run, repo, "second", [OTHER, meet], answers=second)
            assert begun.wait(60)
            # whose modules later loads do not use
            with pytest.raises(UnlockedDownload):
                run(repo, "second", ["https://example.org/x", lambda: None], answers=second)
            assert run(repo, "first", answers=first) is not get
            assert get(URL) == 2
            go.set()
            assert loading.result() == 3

    def test_what_is_refused_after_the_load_is_not_kept(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository("""
            import torch
            def forward():
                big = torch.zeros(3)
                try:
                    torch.hub.load_state_dict_from_url("https://example.org/x")
                except OSError:
                    return weakref.ref(big)
            import weakref
            def model():
                return forward
        """)
        forward = run(repo, "model", answers=shelf)
        with pytest.warns(UserWarning, match="may be wrong"):
            big = forward()
        gc.collect()
        assert big() is None

    def test_refused_loads_do_not_starve_a_good_one(self, tmp_path: Path, repository: MakeRepository) -> None:
        repo = repository("""
            import torch
            def model(url, meet):
                meet()
                return torch.hub.load_state_dict_from_url(url)["w"]
        """)
        shelf = Shelf(tmp_path / "shelf")
        shelf.put(URL, ones(3))

        def be_refused() -> None:
            with pytest.raises(UnlockedDownload):
                run(repo, "model", [OTHER, lambda: None], answers=shelf)

        with ThreadPoolExecutor(1) as pool:
            # in each of its attempts somebody else is refused
            assert run(repo, "model", [URL, lambda: pool.submit(be_refused).result()], answers=shelf).sum() == 3

    def test_what_a_forked_process_swallows_at_forward_time_is_told(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        repo = repository("""
            import multiprocessing, torch, warnings
            def fetch():
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    try:
                        return torch.hub.load_state_dict_from_url("https://example.org/x")
                    except OSError:
                        return [str(warning.message) for warning in told]
            def model():
                pool = multiprocessing.get_context("fork").Pool(1)
                return pool, lambda: pool.apply(fetch)
        """)
        pool, forward = run(repo, "model", answers=shelf)
        with pool:
            assert forward() == ["nobody locked https://example.org/x; what the model returns now may be wrong"]

    def test_a_later_load_takes_nothing_from_the_models_of_an_earlier_one(
        self, tmp_path: Path, repository: MakeRepository
    ) -> None:
        repo = repository("""
            import torch
            def fetch(url):
                return len(torch.hub.load_state_dict_from_url(url)["w"])
            def one():
                return fetch
            def two(url):
                return fetch(url)
        """)
        first, second = Shelf(tmp_path / "first"), Shelf(tmp_path / "second")
        first.put(URL, ones(2))
        second.put(OTHER, ones(3))
        forward = run(repo, "one", answers=first)
        assert run(repo, "two", [OTHER], answers=second) == 3

        assert (forward(URL), forward(OTHER)) == (2, 3)
        # but a load may have only its own
        with pytest.raises(UnlockedDownload):
            run(repo, "two", [URL], answers=second)

    @pytest.mark.parametrize("entrypoint", ["model", "other"])
    def test_a_model_in_a_thread_of_the_users_is_no_part_of_a_load_under_way(
        self, tmp_path: Path, either: MakeRepository, entrypoint: str
    ) -> None:
        repo = either("""
            import functools, torch
            @functools.cache
            def weight(url):
                try:
                    return torch.hub.load_state_dict_from_url(url)["w"]
                except OSError:
                    return "random"
            def model(url, meet=lambda: None):
                meet()
                found = url and weight(url)
                meet()
                return weight if found is None else found
            other = model
        """)
        first, second = Shelf(tmp_path / "first"), Shelf(tmp_path / "second")
        first.put(URL, ones(2))
        first.put(f"{URL}?later", ones(4))
        late = run(repo, "model", [None], answers=first)
        with pytest.raises(UnlockedDownload):
            run(repo, entrypoint, ["https://example.org/x"], answers=second)
        assert len(late(f"{URL}?later")) == 4
        late = run(repo, "model", [None], answers=first)
        begun, go = threading.Event(), threading.Event()

        def meet() -> None:
            begun.set()
            assert go.wait(60)

        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(run, repo, entrypoint, [OTHER, meet], answers=second)
            assert begun.wait(60)
            assert len(late(URL)) == 2
            with pytest.warns(UserWarning, match="may be wrong"):
                assert late(OTHER) == "random"
            second.put(OTHER, ones(3))
            go.set()
            assert loading.result().sum() == 3

    def test_a_tolerated_host_excuses_no_file_of_another_call(self, shelf: Shelf, repository: MakeRepository) -> None:
        repo = repository("""
            import torch, urllib.request
            def model(url):
                for attempt in (lambda: urllib.request.urlopen("https://example.org/count", data=b"1"),
                                lambda: url and torch.hub.load_state_dict_from_url(url)):
                    try:
                        attempt()
                    except OSError:
                        pass
                return "random"
        """)
        tolerated = ["https://example.org"]

        for url in (None, URL):
            assert run(repo, "model", [url], answers=shelf, tolerated=tolerated) == "random"
        assert run(repo, "model", [None], answers=shelf, tolerated=tolerated, as_locked=False) == "random"
        with pytest.raises(UnlockedDownload, match="nobody locked"):
            run(repo, "model", [URL], answers=shelf, tolerated=tolerated, as_locked=False)

    @pytest.mark.parametrize(
        "start",
        [
            "with multiprocessing.get_context('fork').Pool(1) as pool: pool.apply(swallow)",
            "p = multiprocessing.get_context('fork').Process(target=swallow); p.start(); p.join()",
            "os.waitpid(os.fork() or (swallow(), os._exit(0)), 0)",
        ],
    )
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_forked_children_of_the_entry_point(self, shelf: Shelf, repository: MakeRepository, start: str) -> None:
        repo = repository(f"""
            import multiprocessing, os, torch
            def swallow():
                try:
                    torch.hub.load_state_dict_from_url("https://example.org/x")
                except OSError:
                    pass
            def model():
                {start}
                return "random"
        """)
        with pytest.raises(UnlockedDownload, match=r"nobody locked https://example\.org/x") as caught:
            run(repo, "model", answers=shelf)
        assert caught.value.hint == "hublock add OWNER/REPO ENTRYPOINT"
        # a trace writes down what a lock may tolerate
        seen = torchhub.watch(repo, "model", answers=shelf, tolerated=["https://example.org"])
        assert [refusal.what for refusal in seen.refusals] == ["https://example.org"]

    @pytest.mark.parametrize(
        ("start", "job"),
        [
            ("ProcessPoolExecutor(1, spawn).submit(job).result()", "fork"),
            ("p = multiprocessing.get_context('forkserver').Process(target=job); p.start(); p.join()", "swallow"),
        ],
    )
    def test_spawned_children_of_the_entry_point(
        self, shelf: Shelf, repository: MakeRepository, capfd: pytest.CaptureFixture[str], start: str, job: str
    ) -> None:
        repo = repository(f"""
            import multiprocessing, torch
            from concurrent.futures import ProcessPoolExecutor
            def swallow():
                try:
                    torch.hub.load_state_dict_from_url("https://example.org/x")
                except OSError:
                    pass
            def fork():
                child = multiprocessing.get_context("fork").Process(target=swallow)
                child.start()
                child.join()
            def model(job):
                spawn = multiprocessing.get_context("spawn")
                {start}
                return "random"
        """)
        # twice, for a server of forks remembers what it was started with
        for _ in range(2):
            with pytest.raises(UnlockedDownload, match=r"nobody locked https://example\.org/x"):
                run(repo, "model", [Job(repo, job)], answers=shelf)
        assert "what the model returns now may be wrong" in capfd.readouterr().err

    def test_a_job_that_is_a_librarys_in_a_process_of_the_entry_point(
        self, shelf: Shelf, repository: MakeRepository
    ) -> None:
        repo = repository("""
            import multiprocessing, socket, urllib.request
            from concurrent.futures import ProcessPoolExecutor
            def model():
                with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
                    pool.submit(urllib.request.urlopen, "https://example.org", b"sent").exception()
                    pool.submit(socket.gethostbyname, "example.net").exception()
        """)
        with pytest.raises(UnlockedDownload, match="sends POST https"):
            run(repo, "model", answers=shelf)
        with pytest.raises(UnlockedDownload, match="tries to reach"):
            run(repo, "model", answers=shelf, tolerated=["https://example.org"])


FOREIGN = """
import asyncio, queue, threading, torch
jobs, results = queue.Queue(), queue.Queue()
def work():
    while job := jobs.get():
        try:
            results.put(job[0](*job[1:]))
        except OSError as error:
            results.put(error)
def in_background(*job):
    if not hasattr(in_background, "thread"):
        in_background.thread = threading.Thread(target=work, daemon=True)
        in_background.thread.start()
    jobs.put(job)
    return results.get()
def swallow():
    try:
        torch.hub.load_state_dict_from_url("https://example.org/x")
    except OSError:
        pass
def swallow_one(_):
    swallow()
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
    exec(compile(FOREIGN, f"{frames.library_folders()[1]}/foreign.py", "exec"), vars(module))
    return module


def test_what_foreign_code_names_is_one_word_of_a_hint(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("""
        import socket
        def model():
            socket.gethostbyname("x;touch y")
    """)
    with pytest.raises(UnlockedDownload) as caught:
        run(replace(repo, id="someone/net:v1;touch y"), "model", answers=shelf)
    assert str(caught.value.hint).startswith(
        "hublock add 'someone/net:v1;touch y' model … --tolerate 'https://x;touch y', if"
    )
