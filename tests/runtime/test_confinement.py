"""What the kernel keeps from a confined process, route by route, and that the routes are open without it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hublock.runtime.tracing import confinement
from hublock.runtime.tracing.confinement import readable_below

linux = sys.platform.startswith("linux")

PROBE = """
import ctypes, json, os, socket, struct, subprocess, sys
from pathlib import Path
from hublock.runtime.tracing import confinement
job = json.loads(sys.argv[1])
for name in job["without"]:
    setattr(confinement, name, lambda *_: False)
folder, secret = Path(job["folder"]), Path(job["secret"])
policy = confinement.Policy(
    readable=confinement.readable_below(secret.parent, map(Path, sys.path[1:] + [sys.prefix, sys.base_prefix])),
    writable=(folder,),
)
print(confinement.confine(policy) if job["confine"] else "open")
address = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(job["tcp"]), socket.inet_aton("127.0.0.1"))

def python():
    socket.create_connection(("127.0.0.1", job["tcp"]), 2).close()

def libc():
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.connect(libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0), address, len(address)) == 0

def program():
    code = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 2)"
    subprocess.run([sys.executable, "-I", "-c", code, str(job["tcp"])], check=True, stderr=subprocess.DEVNULL)

def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.sendto(b"x", ("127.0.0.1", job["udp"]))

def read():
    secret.read_text()

def read_by_program():
    subprocess.run(["cat", str(secret)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def look():
    os.listdir(secret.parent)

def write():
    (secret.parent / "new").write_text("x")

def remove():
    (secret.parent / "spare").unlink()

def cut():
    os.truncate(secret.parent / "long", 0)

def terminal():
    os.close(os.open(job["terminal"], os.O_WRONLY | os.O_NOCTTY))

def overhear():
    os.close(os.open(job["terminal"], os.O_RDONLY | os.O_NOCTTY))

def signal():
    os.kill(os.getppid(), 0)

def stay():
    (folder / "deep").mkdir()
    (folder / "deep" / "new").write_text("x")
    (folder / "deep" / "new").rename(folder / "moved")
    Path("/dev/null").write_text("x")
    json.loads(Path(json.__file__).with_name("__init__.py").read_text() and "1")

network = python, libc, program, datagram
for route in (*network, read, read_by_program, look, write, remove, cut, terminal, overhear, signal, stay):
    try:
        route()
    except Exception:
        continue
    print(route.__name__)
import resource
print("core", resource.getrlimit(resource.RLIMIT_CORE))
"""

TCP = {"python", "libc", "program"}
FILES = {"read", "read_by_program", "look", "write", "remove", "cut", "terminal", "overhear"}
EVERYTHING = {*TCP, *FILES, "datagram", "signal", "stay"}


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        yield tcp.getsockname()[1], udp.getsockname()[1]


def probe(
    folder: Path, ports: tuple[int, int], *, confine: bool = True, without: tuple[str, ...] = ()
) -> tuple[str, set[str], str]:
    home, own = folder / "home", folder / "own"
    for path in (home, own):
        path.mkdir()
    for name in ("secret", "spare", "long"):
        (home / name).write_text("token")
    ends = os.openpty()
    job = {
        "terminal": os.ttyname(ends[1]),
        "folder": str(own),
        "secret": str(home / "secret"),
        "tcp": ports[0],
        "udp": ports[1],
        "confine": confine,
        "without": list(without),
    }
    root = str(Path(confinement.__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-B", "-c", PROBE, json.dumps(job)],
        env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    for end in ends:
        os.close(end)
    held, *routes, core = ran.stdout.splitlines()
    return held, set(routes), core


class TestRoutes:
    def test_all_are_open_without_confinement(self, tmp_path: Path, ports: tuple[int, int]) -> None:
        assert probe(tmp_path, ports, confine=False)[1] == EVERYTHING

    def test_none_leads_out(self, tmp_path: Path, ports: tuple[int, int]) -> None:
        held, routes, core = probe(tmp_path, ports)
        assert held == kernel_gives()
        assert routes == EVERYTHING - closed(held)
        assert core == "core (0, 0)"

    def test_landlock_alone_leaves_datagrams(self, tmp_path: Path, ports: tuple[int, int]) -> None:
        held, routes, _ = probe(tmp_path, ports, without=("_leave_network",))
        assert held == ("landlock" if "landlock" in kernel_gives() else "guard")
        assert routes == EVERYTHING - closed(held)

    def test_a_network_namespace_alone_leaves_files(self, tmp_path: Path, ports: tuple[int, int]) -> None:
        held, routes, _ = probe(tmp_path, ports, without=("_restrict_files",))
        assert held == ("netns" if "netns" in kernel_gives() else "guard")
        assert routes == EVERYTHING - closed(held)

    def test_says_guard_where_the_kernel_gives_nothing(self, tmp_path: Path, ports: tuple[int, int]) -> None:
        held, routes, core = probe(tmp_path, ports, without=("_restrict_files", "_leave_network"))
        assert (held, routes, core) == ("guard", EVERYTHING, "core (0, 0)")


def kernel_gives() -> str:
    """Tell what this kernel gives; of namespaces by another program than ours."""
    names = []
    if linux and subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0:
        names.append("netns")
    if landlock_version() > 0:
        names.append("landlock")
    return "+".join(names) or "guard"


def landlock_version() -> int:
    return confinement._syscall(444, None, 0, 1) if linux else 0


def closed(held: str) -> set[str]:
    """Return the routes that must be closed; Landlock brought TCP with version 4, signals with 6."""
    network = {*TCP, "datagram"} if "netns" in held else set()
    if "landlock" not in held:
        return network
    version = landlock_version()
    return network | FILES | (TCP if version >= 4 else set()) | ({"signal"} if version >= 6 else set())


class TestReadable:
    def test_leaves_out_homes_and_temporary_folders(self, tmp_path: Path) -> None:
        found = readable_below(tmp_path, [])
        assert not [path for path in found if tmp_path.is_relative_to(path)]
        assert not {Path("/"), Path("/tmp"), Path("/home"), Path("/root"), Path("/var")} & set(found)
        assert not {Path("/dev"), Path("/dev/pts")} & set(found)
        assert Path("/usr") in found

    def test_takes_in_what_is_named(self, tmp_path: Path) -> None:
        python = tmp_path / "venv"
        python.mkdir()
        assert readable_below(tmp_path, [python])[-1] == python.resolve()
