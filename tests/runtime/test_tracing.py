"""Tracing in a real child: what it learns, what it cannot reach, and how it ends."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hublock.errors import (
    EntrypointNotFound,
    IncompleteTrace,
    InputError,
    MissingDependency,
    TransferError,
    TreeMismatch,
    UnlockedDownload,
)
from hublock.runtime.answers import File
from hublock.runtime.fingerprint import fingerprint
from hublock.runtime.repository import Repository
from hublock.runtime.tracing.parent import Job, Outcome, trace
from tests.runtime.answering import Shelf, saved
from tests.runtime.conftest import MakeRepository
from tests.runtime.trees import make_repository

WEIGHTS = "https://files.example/net-weights.pth"
PATIENCE = 30.0


def gone(process: int) -> bool:
    """Tell whether a process ended; a zombie has."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until_gone(processes: list[int]) -> bool:
    return wait_until(lambda: all(map(gone, processes)))


def wait_until(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return False


NOSY = """
    import ctypes, json, os, random, socket, struct, subprocess, sys
    import torch

    def net(secret, port, tree):
        facts = {"environment": dict(os.environ), "argv": sys.argv, "cwd": os.listdir(), "here": os.getcwd()}
        facts["home"] = os.listdir(os.path.expanduser("~"))
        facts["hub"] = os.listdir(torch.hub.get_dir())
        facts["paths"] = sys.path
        try:
            facts["input"] = input()
        except EOFError:
            facts["input"] = "nothing"
        links = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd") if int(n) > 2]
        facts["files"] = sorted(os.readlink(link) for link in links if os.path.exists(link))
        facts["opened"] = []
        for name, mode in ((secret, "r"), (tree, "a"), (tree, "r"), (__file__, "r"), ("/etc/new", "w")):
            try:
                open(name, mode).close()
                facts["opened"].append([name, mode])
            except OSError:
                pass
        address = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), socket.inet_aton("127.0.0.1"))
        libc = ctypes.CDLL(None)
        line = libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
        facts["connected"] = libc.connect(line, address, len(address)) == 0
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        ran = subprocess.run([sys.executable, "-I", "-c", code], stderr=subprocess.DEVNULL)
        facts["program connected"] = ran.returncode == 0
        print("FACTS " + json.dumps(facts))
        return torch.nn.Linear(2, 2)
"""


class Nosy:
    """What an entry point saw that looks around."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        (self.home / "token").write_text("secret")
        (folder / "script").mkdir()
        tree = make_repository(folder / "tree", {"hubconf.py": NOSY, "extra.py": ""}, identity="owner/nosy")
        self.stored = tree.root / "extra.py"
        with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as server:
            for name in ("GITHUB_TOKEN", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "https_proxy", "SSH_AUTH_SOCK"):
                patch.setenv(name, "secret")
            for name in ("HOME", "USERPROFILE"):
                patch.setenv(name, str(self.home))
            patch.setattr(sys, "argv", ["hublock", "--token=secret"])
            patch.syspath_prepend(str(folder / "script"))
            self.port = server.getsockname()[1]
            args = (str(self.home / "token"), self.port, str(self.stored))
            self.outcome = trace(Job(repository=tree, entrypoint="net", args=args), Shelf(folder / "shelf"))
        line = next(line for line in self.outcome.output.splitlines() if line.startswith("FACTS "))
        self.facts: dict[str, Any] = json.loads(line.removeprefix("FACTS "))


@pytest.fixture(scope="module")
def nosy(tmp_path_factory: pytest.TempPathFactory) -> Nosy:
    return Nosy(tmp_path_factory.mktemp("nosy"))


class TestWhatAChildLearns:
    def test_no_secret_of_the_environment(self, nosy: Nosy) -> None:
        assert "secret" not in nosy.facts["environment"].values()
        assert str(nosy.home) not in json.dumps(nosy.facts["environment"])
        assert nosy.facts["argv"] == [""]

    def test_empty_folders_of_its_own(self, nosy: Nosy) -> None:
        # and what every home has, where code falls back to /tmp without
        assert (sorted(nosy.facts["home"]), nosy.facts["cwd"]) == ([".cache", ".config", ".local"], [])
        scratch = os.path.dirname(nosy.facts["here"])  # noqa: PTH120 - it is gone
        for name in ("HOME", "TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TMPDIR"):
            assert nosy.facts["environment"][name].startswith(f"{scratch}/")
        assert not os.path.exists(scratch)  # noqa: PTH110 - a name, not a path of ours

    def test_nothing_from_standard_input_or_open_files(self, nosy: Nosy) -> None:
        assert nosy.facts["input"] == "nothing"
        # it holds the folder of its own loads
        others = [name for name in nosy.facts["files"] if not name.startswith(nosy.facts["environment"]["TMPDIR"])]
        assert all(name.startswith("pipe:") for name in others)
        assert len(others) <= 2

    def test_no_modules_beside_a_script(self, nosy: Nosy) -> None:
        assert not [path for path in nosy.facts["paths"] if path.endswith("script")]

    def test_only_loopback_and_only_without_a_namespace(self, nosy: Nosy) -> None:
        reached = nosy.facts["connected"] or nosy.facts["program connected"]
        assert not (reached and "netns" in nosy.outcome.isolation)

    def test_neither_the_home_nor_a_way_to_change_the_store(self, nosy: Nosy) -> None:
        opened = {(Path(name).name, mode) for name, mode in nosy.facts["opened"]}
        if "landlock" in nosy.outcome.isolation:
            assert opened == {("extra.py", "r"), ("hubconf.py", "r")}
        assert ("hubconf.py", "r") in opened
        assert nosy.stored.read_bytes() == b""


BUSY = """
    import os, pathlib, random, subprocess, urllib.request
    import torch

    HERE = pathlib.Path(__file__).parent

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(2))
            self.drawn = random.random(), torch.rand(1).item()

    def net(scale, *, dtype=None, pair=()):
        "The network."
        child = os.fork()
        if not child:
            raise SystemExit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        model = Net()
        state = torch.hub.load_state_dict_from_url("https://files.example/net-weights.pth")
        model.load_state_dict(state)
        assert torch.load("best.pt")["x"].item() == 7
        assert torch.hub.load("other/nested", "part", trust_repo=True) == "a part"
        assert dtype is torch.float16 and pair == (1, None), (dtype, pair)
        try:
            urllib.request.urlopen("https://telemetry.example/ping")
        except OSError:
            pass
        try:
            subprocess.run(["curl", "https://files.example/"])
        except OSError:
            pass
        try:
            torch.hub.download_url_to_file("https://mirror.example/x.pth", "x.pth")
        except OSError:
            pass
        (HERE / "cache").mkdir()
        (HERE / "cache" / "made").write_text("x")
        with torch.no_grad():
            model.w.mul_(scale)
        print("\\x1b[31mred\\x1b[0m" + "y" * 5000)
        for number in range(20000):
            print("line", number)
        return model

    globals()["made_at_run_time"] = lambda: None
"""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A trace of ``BUSY``, and what its parent saw of it."""

    outcome: Outcome
    shelf: Shelf
    heard: list[str]
    tree: Repository


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("busy")
    shelf = Shelf(folder / "shelf")
    shelf.put(WEIGHTS, saved({"w": torch.tensor([1.0, 2.0])}))
    best = shelf.put("file:best", saved({"x": torch.tensor(7)}))
    nested = 'def part():\n    open("beside", "w").close()\n    return "a part"\n'
    shelf.repos["other/nested"] = make_repository(folder / "nested", {"hubconf.py": nested}, identity="other/nested")
    tree = make_repository(folder / "tree", {"hubconf.py": BUSY}, identity="owner/busy")
    heard: list[str] = []
    job = Job(
        repository=tree,
        entrypoint="net",
        args=(3.0,),
        kwargs={"dtype": {"object": "torch.float16"}, "pair": {"python": "(1, None)"}},
        seed=1,
        inputs={"best.pt": best.path},
    )
    return Told(outcome=trace(job, shelf, on_output=heard.append), shelf=shelf, heard=heard, tree=tree)


class TestATrace:
    def test_fetches_through_its_parent(self, told: Told) -> None:
        outcome, shelf = told.outcome, told.shelf
        assert shelf.asked[:2] == [WEIGHTS, "other/nested"]
        assert set(shelf.asked[2:]) == {"https://telemetry.example/ping", "https://mirror.example/x.pth"}
        assert outcome.state == fingerprint({"w": torch.tensor([3.0, 6.0])})

    def test_tells_every_refusal_that_was_swallowed(self, told: Told) -> None:
        assert told.outcome.refusals == ("https://mirror.example", "https://telemetry.example", "subprocess:curl")

    def test_tells_entry_points_and_distributions(self, told: Told) -> None:
        names = [entry.name for entry in told.outcome.entrypoints]
        assert {"made_at_run_time", "net"} <= set(names)
        assert next(entry for entry in told.outcome.entrypoints if entry.name == "net").doc == "The network."
        assert f"torch=={torch.__version__.partition('+')[0]}" in told.outcome.traced_with
        assert not [name for name in told.outcome.traced_with if name.startswith(("hublock", "pytest"))]

    def test_notices_writes_and_keeps_the_stored_tree(self, told: Told) -> None:
        assert told.outcome.writes_tree
        assert [path.name for path in told.tree.root.iterdir()] == ["hubconf.py"]

    def test_bounds_and_cleans_what_it_prints(self, told: Told) -> None:
        outcome, heard = told.outcome, told.heard
        assert outcome.output.splitlines()[-1] == "line 19999"
        assert len(outcome.output.splitlines()) <= 200
        assert heard[0].startswith("redyyy")
        assert "\x1b" not in "".join(heard)
        assert max(map(len, heard)) <= 4096

    def test_answers_programs(self, repository: MakeRepository, shelf: Shelf) -> None:
        hubconf = """
            import multiprocessing, os, subprocess, sys
            import other
            HERE = os.path.dirname(__file__)
            def model():
                words = [sys.executable, os.path.join(HERE, "get.py")]
                # by way of a fork, before anybody else has asked
                assert os.spawnv(os.P_WAIT, sys.executable, [*words, "3"]) == 0
                programs = [subprocess.Popen([*words, str(number)], stdout=subprocess.PIPE) for number in range(3)]
                said = [program.communicate()[0] for program in programs]
                # whose code no lock names yet
                worker = multiprocessing.get_context("spawn").Process(target=other.get)
                worker.start()
                worker.join()
                assert worker.exitcode == 0
                subprocess.run(["sh", os.path.join(HERE, "get.sh")])
                return dict(enumerate(said))
        """
        get = f"""
            import os, sys, urllib.request
            found = urllib.request.urlopen("{WEIGHTS}").read()
            if not os.fork():
                os.execv(sys.executable, [sys.executable, "-c", "import socket; socket.gethostbyname('other.example')"])
            os.wait()
            try:
                urllib.request.urlopen("https://mirror.example/" + sys.argv[1])
            except OSError:
                print(len(found))
        """
        shelf.put(WEIGHTS, b"weights", pickle="none")
        files = {"get.py": textwrap.dedent(get), "get.sh": "wget https://mirror.example/x || true\n"}
        files["other.py"] = f"def get():\n    __import__('urllib.request').request.urlopen('{WEIGHTS}')\n"

        outcome = trace(Job(repository=repository(hubconf, files), entrypoint="model"), shelf)

        assert outcome.refusals == ("https://mirror.example", "https://other.example", "subprocess:wget")
        assert sorted(shelf.asked) == sorted([WEIGHTS] * 5 + [f"https://mirror.example/{n}" for n in range(4)])

    def test_only_tells_entry_points_where_asked_for_none(self, repository: MakeRepository, shelf: Shelf) -> None:
        tree = repository("def a(n=1):\n    raise ValueError\n_hidden = print\n", name="owner/quiet")
        outcome = trace(Job(repository=tree, entrypoint=None), shelf)
        assert [(entry.name, entry.signature) for entry in outcome.entrypoints] == [("a", "(n=1)")]
        assert (outcome.state, outcome.refusals, outcome.writes_tree) == (None, (), False)

    def test_draws_by_its_seed(self, repository: MakeRepository, shelf: Shelf) -> None:
        tree = repository(
            """
            import random
            import numpy
            import torch
            def net():
                return torch.rand(2), torch.tensor(random.random()), torch.tensor(numpy.random.rand())
            """
        )
        outcome = trace(Job(repository=tree, entrypoint="net", seed=5), shelf)
        drawn = np.random.RandomState(5).rand()
        torch.manual_seed(5)
        expected = torch.rand(2), torch.tensor(random.Random(5).random()), torch.tensor(drawn)
        assert outcome.state == fingerprint(expected)


class TestHowItEnds:
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ("raise AttributeError('no such\\nthing')", "raised AttributeError: no such thing (hubconf.py:4)"),
            ("import sys; sys.exit(2)", "ended the process with SystemExit: 2 (hubconf.py:4)"),
            ("os._exit(0)", "ended the process with status 0"),
            ("os.kill(os.getpid(), 11)", "crashed with SIGSEGV"),
            ("[os.write(n, b'garbage\\n') for n in range(3, 1000) if is_pipe(n)]; time.sleep(60)", "broke the line to"),
            ("ask({'ask': 'fetch', 'url': 7})", "broke the line to"),
        ],
    )
    def test_an_early_end_is_told(self, repository: MakeRepository, shelf: Shelf, body: str, said: str) -> None:
        helpers = """
            def is_pipe(n):
                link = f"/proc/self/fd/{n}"
                if not os.path.lexists(link) or not os.readlink(link).startswith("pipe:"):
                    return False
                return fcntl.fcntl(n, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
            def ask(message):
                [os.write(n, json.dumps(message).encode() + b"\\n") for n in range(3, 1000) if is_pipe(n)]
                time.sleep(60)
        """
        tree = repository(
            f"import fcntl, json, os, time\ndef net():\n    'Fails.'\n    {body}\n" + textwrap.dedent(helpers)
        )
        with pytest.raises(IncompleteTrace) as caught:
            trace(Job(repository=tree, entrypoint="net"), shelf, timeout=30)
        assert f"{tree.id} net {said}" in caught.value.message
        assert caught.value.hint
        assert ("an older Python" in caught.value.hint) == ("AttributeError" in said)

    def test_a_package_that_is_not_installed_is_named(self, repository: MakeRepository, shelf: Shelf) -> None:
        tree = repository("def net():\n    import omegaconf_of_old\n")
        with pytest.raises(MissingDependency) as caught:
            trace(Job(repository=tree, entrypoint="net"), shelf)
        assert caught.value.hint == "pip install omegaconf_of_old"

    def test_an_entry_point_that_is_not_there_is_named(self, repository: MakeRepository, shelf: Shelf) -> None:
        with pytest.raises(EntrypointNotFound, match="netz"):
            trace(Job(repository=repository("def net(): pass\n"), entrypoint="netz"), shelf)

    def test_what_no_lock_can_tolerate_ends_it(self, repository: MakeRepository, shelf: Shelf) -> None:
        tree = repository(
            """
            import torch
            def net():
                torch.save({}, "/dev/shm/hublock-test")
                with open("mine.pt", "wb") as file:
                    file.write(b"\\x80\\x02}.")
                try:
                    torch.load("mine.pt")
                except OSError:
                    pass
            """
        )
        with pytest.raises(UnlockedDownload, match=r"mine\.pt"):
            trace(Job(repository=tree, entrypoint="net"), shelf)

    def test_what_the_parent_cannot_answer_ends_it(self, repository: MakeRepository, tmp_path: Path) -> None:
        error = TransferError("the line broke")

        class Failing(Shelf):
            def fetch(self, url: str, *, hash_prefix: str | None = None) -> File:
                raise error

        tree = repository(FETCH_THEN.format("time.sleep(600)"))
        with pytest.raises(TransferError) as caught:
            trace(Job(repository=tree, entrypoint="net"), Failing(tmp_path))
        assert caught.value is error


FETCH_THEN = """
    import os, subprocess, sys, time
    import torch
    TELL = "os.write(1, b'%d' % os.getpid() + bytes([10])); time.sleep(600)"
    DAEMON = "import os, time; os.fork() and os._exit(0); os.setsid(); " + TELL
    def start():
        subprocess.run([sys.executable, "-I", "-c", DAEMON], start_new_session=True)
        subprocess.Popen([sys.executable, "-I", "-c", "import os, time; " + TELL])
        os.write(1, b"%d" % os.getpid() + bytes([10]))
    def net():
        start()
        while True:
            try:
                torch.hub.download_url_to_file("https://files.example/net-weights.pth", "x")
                break
            except OSError:
                pass
        {}
"""


class Counting:
    """Collects the process ids that a child prints, and tells when there are three."""

    def __init__(self) -> None:
        self.processes: list[int] = []
        self.complete = threading.Event()

    def __call__(self, line: str) -> None:
        if line.isdigit():
            self.processes.append(int(line))
        if len(self.processes) == 3:
            self.complete.set()


class TestNothingOutlivesIt:
    def test_a_hang_is_killed_with_all_it_started(self, repository: MakeRepository, shelf: Shelf) -> None:
        shelf.put(WEIGHTS, b"x")
        seen = Counting()
        tree = repository(FETCH_THEN.format("time.sleep(600)"))
        with pytest.raises(IncompleteTrace, match="still running after 3 s"):
            trace(Job(repository=tree, entrypoint="net"), shelf, timeout=3, on_output=seen)
        assert len(seen.processes) == 3
        assert wait_until_gone(seen.processes)

    def test_an_end_kills_what_was_left_running(self, repository: MakeRepository, shelf: Shelf) -> None:
        shelf.put(WEIGHTS, b"x")
        seen = Counting()
        trace(Job(repository=repository(FETCH_THEN.format("return 1")), entrypoint="net"), shelf, on_output=seen)
        assert len(seen.processes) == 3
        assert all(map(gone, seen.processes))

    def test_ctrl_c_while_it_fetches_kills_it(self, repository: MakeRepository, tmp_path: Path) -> None:
        seen = Counting()

        class Interrupted(Shelf):
            def fetch(self, url: str, *, hash_prefix: str | None = None) -> File:
                assert seen.complete.wait(PATIENCE)
                raise KeyboardInterrupt

        tree = repository(FETCH_THEN.format("time.sleep(600)"))
        with pytest.raises(KeyboardInterrupt):
            trace(Job(repository=tree, entrypoint="net"), Interrupted(tmp_path), on_output=seen)
        assert all(map(gone, seen.processes))

    def test_the_clock_stands_still_while_the_parent_answers(self, repository: MakeRepository, tmp_path: Path) -> None:
        class Slow(Shelf):
            def fetch(self, url: str, *, hash_prefix: str | None = None) -> File:
                time.sleep(4)
                return super().fetch(url, hash_prefix=hash_prefix)

        shelf = Slow(tmp_path)
        shelf.put(WEIGHTS, b"x")
        tree = repository(
            f"import torch\ndef net():\n    torch.hub.download_url_to_file({WEIGHTS!r}, 'x')\n    return 1\n"
        )
        assert trace(Job(repository=tree, entrypoint="net"), shelf, timeout=3).state is None

    def test_a_child_that_never_stops_asking_is_stopped(self, repository: MakeRepository, shelf: Shelf) -> None:
        tree = repository(FETCH_THEN.format("pass").replace("start()\n", "pass\n"))
        with pytest.raises(IncompleteTrace, match="still running after 1 s"):
            trace(Job(repository=tree, entrypoint="net"), shelf, timeout=1)

    def test_it_dies_with_its_parent(self, tmp_path: Path, repository: MakeRepository) -> None:
        tree = repository(FETCH_THEN.format("time.sleep(600)"), name="owner/orphan")
        with parent(tree, tmp_path) as process:
            assert process.stdout is not None
            processes = [int(process.stdout.readline()) for _ in range(3)]
            assert not any(map(gone, processes))
            assert len(list(tmp_path.glob("temporary/hublock-trace-*"))) == 1
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert wait_until_gone(processes)
            assert wait_until(lambda: not list(tmp_path.glob("temporary/hublock-trace-*")))


PARENT = """
import sys
from pathlib import Path
from hublock.core.digest import Digest
from hublock.core.tree import Listing
from hublock.runtime.repository import Repository
from hublock.runtime.tracing.parent import Job, trace
from tests.runtime.answering import Shelf

root, shelf = map(Path, sys.argv[1:])
listing = Listing.parse((root.parent / "listing").read_bytes())
shelf = Shelf(shelf)
shelf.put("https://files.example/net-weights.pth", b"x")
tree = Repository(id="owner/orphan", digest=listing.digest, root=root, listing=listing)
trace(Job(repository=tree, entrypoint="net"), shelf, on_output=lambda line: print(line, flush=True))
"""


class parent:
    """Another process that traces."""

    def __init__(self, tree: Repository, folder: Path) -> None:
        (tree.root.parent / "listing").write_bytes(tree.listing.to_bytes())
        self.process = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(tree.root), str(folder / "parents-shelf")],
            stdout=subprocess.PIPE,
            env={
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "PATH": os.defpath,
                "HOME": str(folder),
                "TMPDIR": str(folder / "temporary"),
            },
        )

    def __enter__(self) -> "subprocess.Popen[bytes]":
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class TestBeforeItStarts:
    def test_an_input_outside_the_project_is_refused(self, repository: MakeRepository, shelf: Shelf) -> None:
        tree = repository("def net(): pass\n")
        for name in ("../best.pt", "/etc/best.pt", "."):
            with pytest.raises(InputError, match="outside the project"):
                trace(Job(repository=tree, entrypoint="net", inputs={name: tree.root / "hubconf.py"}), shelf)

    def test_a_damaged_tree_is_told(self, repository: MakeRepository, shelf: Shelf) -> None:
        tree = repository("def net(): pass\n", {"more.py": ""})
        (tree.root / "more.py").unlink()
        with pytest.raises(TreeMismatch, match=r"more\.py"):
            trace(Job(repository=tree, entrypoint="net"), shelf)


@pytest.fixture(autouse=True)
def no_scratch_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every folder made for a child is removed again."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []
