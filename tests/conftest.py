"""No test may touch the real home, the real store or a host beyond loopback."""

import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.forge import Forge

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell lets its background jobs ignore Ctrl-C, and every process that a test starts would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)

# on a machine that does much else, what is slow says nothing of a property
settings.register_profile(
    "hublock", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
settings.load_profile("hublock")

LOOPBACK = {"127.0.0.1", "::1", "localhost", ""}
Record = Callable[[str, object], None]
"""What ``record_property`` is; a property ``told`` is shown at the end of the run."""
KEPT = {"PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV", "COVERAGE_PROCESS_START"}


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the homes of all tests: pytest looks through all of its own for every new one."""
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(autouse=True)
def clean_environment(homes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test an empty home, and an environment in which nothing of the machine shows."""
    home = Path(tempfile.mkdtemp(dir=homes))
    for name in list(os.environ):
        if name not in KEPT and not name.startswith(("PYTEST_", "COV_")):
            monkeypatch.delenv(name)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TORCH_HOME", "HF_HOME", "HUBLOCK_CACHE_DIR"):
        monkeypatch.setenv(name, str(home / name.lower()))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_TERMINAL_PROMPT", "0")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "A. Author")
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", "author@example.org")
    monkeypatch.setenv("GIT_COMMITTER_NAME", "A. Author")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "author@example.org")
    return home


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse every connection of this process to another machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = address[0] if isinstance(address, tuple) else ""
            assert host in LOOPBACK or str(host).startswith("127."), f"a test tried to reach {address!r}"
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield


@pytest.fixture
def forge(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forge]:
    """A small GitHub on loopback that every https host leads to, also for commands run as a child process."""
    with Forge(tmp_path_factory.mktemp("forge")) as forge:
        monkeypatch.setenv("HUBLOCK_MIRRORS", forge.mirrors)
        yield forge


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have to tell besides that they passed."""
    for kind in ("passed", "failed"):
        for report in terminalreporter.getreports(kind):
            for name, text in report.user_properties:
                if name == "told":
                    terminalreporter.write_line(f"{report.nodeid.rpartition('/')[2]}: {text}")
