import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hublock.errors import UnlockedDownload
from hublock.runtime import torchhub
from hublock.runtime.strict import guard
from hublock.runtime.strict.guard import fetching_program
from hublock.runtime.strict.scope import Scope
from tests.runtime.answering import Shelf, run
from tests.runtime.conftest import MakeRepository


@pytest.fixture
def scope(tmp_path: Path) -> Iterator[Scope]:
    guard.install()
    hub = tmp_path / "hub"
    yield Scope(answers=Shelf(tmp_path / "shelf"), folder=tmp_path, hub_dir=hub, private_hub=hub, owner="o/r model")


def connect(host: str) -> None:
    with socket.socket() as endpoint:
        # the method below the one that the fixture `only_loopback` replaces
        super(socket.socket, endpoint).connect((host, 80))


def send(host: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        endpoint.sendto(b"x", (host, 53))


@pytest.mark.parametrize(
    "reach",
    [
        lambda: socket.getaddrinfo("example.org", 443),
        lambda: socket.gethostbyname("example.org"),
        lambda: connect("192.0.2.1"),
        lambda: send("192.0.2.1"),
    ],
)
def test_refuses_sockets_beyond_loopback(scope: Scope, reach: Callable[[], object]) -> None:
    with (
        scope.entered(),
        pytest.raises(UnlockedDownload, match=r"o/r model tries to reach (example\.org|192\.0\.2\.1)"),
    ):
        reach()
    assert scope.refusals[0].what in ("https://example.org", "https://192.0.2.1")


def test_a_refusal_is_an_oserror_so_that_offline_fallbacks_work(scope: Scope) -> None:
    with scope.entered():
        try:
            socket.getaddrinfo("example.org", 443)
        except OSError as error:
            caught = error
    assert isinstance(caught, UnlockedDownload)


@pytest.mark.parametrize("proxy", ["http://name:word@localhost:{}", "127.0.0.1:{}/"])
def test_a_proxy_on_loopback_is_the_network(scope: Scope, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = server.getsockname()
        monkeypatch.setenv("HTTPS_PROXY", proxy.format(address[1]))
        monkeypatch.setenv("HTTP_PROXY", "localhost:none")
        with scope.entered(), pytest.raises(UnlockedDownload, match="o/r model tries to reach the proxy at 127"):
            socket.create_connection(address)
    assert scope.refusals[0].what == f"http://127.0.0.1:{address[1]}"


def test_loopback_and_unix_sockets_are_free(scope: Scope) -> None:
    with socket.socket() as server, scope.entered():
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()[:2]) as client:
            assert client.getpeername() == server.getsockname()
        server.accept()[0].close()
        left, right = socket.socketpair()
        left.close()
        right.close()
        assert socket.getaddrinfo("localhost", 80)
    assert scope.refusals == []


def test_who_asks_for_its_own_name_reaches_nobody(scope: Scope) -> None:
    expected = socket.getfqdn(), socket.getaddrinfo("0.0.0.0", 0)
    with scope.entered():
        assert (socket.getfqdn(), socket.getaddrinfo("0.0.0.0", 0)) == expected
    assert scope.refusals == []


def test_other_threads_are_not_guarded(scope: Scope) -> None:
    found: list[object] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo("localhost.invalid", 80))
        except OSError as error:
            found.append(error)

    inside, leave = threading.Event(), threading.Event()

    def load() -> None:
        with scope.entered():
            inside.set()
            leave.wait(10)

    loader = threading.Thread(target=load)
    loader.start()
    inside.wait(10)
    look_up()
    leave.set()
    loader.join()

    assert not isinstance(found[0], UnlockedDownload)
    assert scope.refusals == []


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["curl", "-L", "https://example.org"], "curl"),
        (["/usr/bin/wget", "x"], "wget"),
        (["git", "clone", "x"], "git"),
        (["aria2c", "x"], "aria2c"),
        (["pip3.11", "install", "x"], "pip"),
        ([r"C:\Python\Scripts\PIP.EXE", "install"], "pip"),
        ([sys.executable, "-m", "pip", "install", "x"], "pip"),
        (["python3.11", "-mgdown", "x"], "gdown"),
        (["python", "-u", "-m", "huggingface_hub.cli", "x"], "huggingface_hub"),
        (["sh", "-c", "cd /tmp && wget -q x"], "wget"),
        (["bash", "-c", "x=$(curl y)"], "curl"),
        (["sh", "-c", "python -m pip install x"], "pip"),
        (["env", "A=1", "curl", "x"], "curl"),
        (["sudo", "timeout", "5", "uv", "pip", "install"], "uv"),
        (["gcc", "-o", "curl.o"], None),
        (["fc-list"], None),
        (["nvidia-smi", "-L"], None),
        (["sh", "-c", "gcc -shared digit.c"], None),
        (["python", "-m", "json.tool"], None),
        (["python", "train.py", "-m", "resnet"], None),
        ([], None),
    ],
)
def test_knows_the_programs_that_fetch(command: list[str], name: str | None) -> None:
    assert fetching_program(command) == name


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run(["/usr/bin/curl", "--version"], check=False),
        lambda: subprocess.run("/usr/bin/curl --version", shell=True, check=False),
        lambda: subprocess.run("PATH=/usr/bin:/bin curl --version", shell=True, check=False),
        lambda: subprocess.run("env -i curl --version", shell=True, check=False),
        lambda: subprocess.run("command -p curl --version", shell=True, check=False),
        lambda: subprocess.run(["harmless"], executable="/usr/bin/curl", check=False),
        lambda: os.system("cd / && ./usr/bin/curl --version"),
        lambda: os.posix_spawn("/usr/bin/curl", ["curl"], {}),
        lambda: os.execv("/usr/bin/curl", ["curl"]),
    ],
)
def test_refuses_to_run_a_program_that_fetches(scope: Scope, start: Callable[[], object]) -> None:
    with scope.entered(), pytest.raises(UnlockedDownload, match="o/r model tries to run curl") as caught:
        start()
    assert scope.refusals[0].what == "subprocess:curl"
    assert caught.value.hint == (
        "hublock add o/r model … --tolerate subprocess:curl, if the model does not need it; "
        'if it is in the manifest, add "subprocess:curl" to its tolerate, '
        "then hublock lock, with --retrace NAME where it is locked"
    )


@pytest.mark.parametrize(
    "start",
    [
        "subprocess.run('curl --version', shell=True).returncode",
        "os.waitstatus_to_exitcode(os.system('curl --version'))",
        "os.waitstatus_to_exitcode(os.popen('curl --version').close())",
        "subprocess.run(['sh', '-c', 'cd / && curl --version']).returncode",
        # code looks at the status, or catches CalledProcessError, and not what is raised where there is no program
        "subprocess.run(['curl', '--version']).returncode",
        "subprocess.run(('curl', '--version'), env={}, cwd='/').returncode",
        "subprocess.Popen('curl').wait()",
        "subprocess.call(['x'], executable='curl')",
    ],
)
def test_what_looks_for_a_program_that_fetches_fails_as_that_does(
    shelf: Shelf, repository: MakeRepository, capfd: pytest.CaptureFixture[str], start: str
) -> None:
    repo = repository(f"""
        import os, subprocess
        def model():
            return {start}
    """)
    with pytest.raises(UnlockedDownload, match="model tries to run curl"):
        run(repo, "model", answers=shelf)
    assert capfd.readouterr().err == f"hublock: {repo.id} model tries to run curl\n"
    assert run(repo, "model", answers=shelf, tolerated=["subprocess:curl"]) == 1
    assert capfd.readouterr().err == ""


def test_other_programs_run(scope: Scope) -> None:
    torchhub.install()
    with scope.entered():
        done = subprocess.run([sys.executable, "-c", "print(6*7)"], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "42"
    assert scope.refusals == []
