"""How long hublock takes to fetch and verify files, beside the programs people use now.

Run it as ``python tests/benchmarks/sync.py [--case TEXT] [--line TEXT] [--program TEXT] [--scale 10] [--rounds 3]``.
It serves files from nginx on loopback, as fast as it can over http and https and at 20 MB/s a connection, lets all
programs take turns, and prints wall and CPU time of the best run of each and hublock's ratio to it (below 1: hublock
is faster). One of them is a bare loop of sockets, sha256, write and fsync, which retries, locks and names nothing: what
it takes is about what this machine allows.
``--scale N`` makes every file N times smaller. What is not installed (nginx is a must) is left out and said so.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.tls import Authority  # noqa: E402 - found only now

MB = 1_000_000
CASES = {"1 x 2 GB": (1, 2000 * MB), "12 x 100 MB": (12, 100 * MB), "300 x 1 MB": (300, MB)}
THROTTLE = "20m"
"""nginx pauses after each chunk it sends; without the small chunks a file of 1 MB would leave in one, unthrottled."""
NGINX = """
daemon off; worker_processes 2; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; etag on; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{fast}; root {files}; }}
    server {{ listen 127.0.0.1:{slow}; root {files}; limit_rate {rate}; sendfile_max_chunk 128k; }}
    server {{
        listen 127.0.0.1:{safe} ssl; root {files};
        ssl_certificate {authority.certificate}; ssl_certificate_key {authority.key};
    }}
}}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """Files to fetch."""

    urls: list[str]
    digests: list[str]
    sizes: list[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Seconds."""

    wall: float
    cpu: float


HUBLOCK = """
from hublock.core.digest import Digest
from hublock.net.download import Downloader, Wanted
from hublock.net.transport import HttpTransport
from hublock.settings import Settings
from hublock.store.store import Store
import requests
downloader = Downloader(HttpTransport(Settings(cache=target)), Store(target))
files = zip(load["urls"], load["digests"], load["sizes"])
wanted = [Wanted(url=url, digest=Digest("sha256", digits), size=size) for url, digits, size in files]
begin()
downloader.fetch_all(wanted)
"""
TORCH = """
import torch.hub
begin()
for number, (url, digest) in enumerate(zip(load["urls"], load["digests"])):
    torch.hub.download_url_to_file(url, str(target / str(number)), hash_prefix={prefix}, progress=False)
"""
POOCH = """
import pooch
pooch.get_logger().setLevel("ERROR")
begin()
for number, (url, digest) in enumerate(zip(load["urls"], load["digests"])):
    pooch.retrieve(url, known_hash="sha256:" + digest, fname=str(number), path=target)
"""
BARE = """
import hashlib, http.client, os, threading
from urllib.parse import urlsplit
files = iter(list(enumerate(zip(load["urls"], load["digests"]))))
def work():
    line, buffer = None, memoryview(bytearray(1 << 18))
    for number, (url, digest) in files:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        line = line or kind(parts.netloc)
        line.request("GET", parts.path)
        answer, engine = line.getresponse(), hashlib.sha256()
        with open(target / str(number), "wb", buffering=0) as file:
            while count := answer.readinto(buffer):
                file.write(buffer[:count])
                engine.update(buffer[:count])
            os.fsync(file.fileno())
        assert engine.hexdigest() == digest
threads = [threading.Thread(target=work) for _ in range(8)]
begin()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
"""What must be done, and nothing else: a measure of what this machine allows."""
HEAD = """
import json, resource, sys, time
from pathlib import Path
load, target = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
started = [0.0, 0.0]
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
def begin():
    started[:] = time.perf_counter(), cpu()
"""
TAIL = """
print(time.perf_counter() - started[0], cpu() - started[1])
"""


def python(body: str) -> Callable[[Load, Path], Cost]:
    """Return a program that times itself, so that starting Python and importing torch is left out for everybody."""

    def run(load: Load, target: Path) -> Cost:
        note = target.with_suffix(".json")
        note.write_text(json.dumps({"urls": load.urls, "digests": load.digests, "sizes": load.sizes}))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, "-c", HEAD + body + TAIL, str(note), str(target)]
        said = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout
        wall, cpu = map(float, said.split())
        return Cost(wall=wall, cpu=cpu)

    return run


def program(arguments: Callable[[Load, Path], list[str]]) -> Callable[[Load, Path], Cost]:
    """Return a program that is timed from outside."""

    def run(load: Load, target: Path) -> Cost:
        command = arguments(load, target)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        return Cost(wall=wall, cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    return run


def curl(load: Load, target: Path) -> list[str]:
    lines = [f'url = "{url}"\noutput = "{target / str(number)}"' for number, url in enumerate(load.urls)]
    config = target.with_suffix(".curl")
    config.write_text("\n".join(lines))
    return [
        "curl",
        "--silent",
        "--no-progress-meter",
        "--fail",
        "--parallel",
        "--parallel-max",
        "8",
        "--config",
        str(config),
    ]


def aria2_at_once(load: Load, target: Path) -> list[str]:
    """Fetch eight files at once over five connections each, forty in all."""
    return [*aria2(load, target), "-s5", "-j8"]


def aria2(load: Load, target: Path) -> list[str]:
    """Use eight connections in all, as hublock does."""
    lines = [
        f"{url}\n  out={number}\n  checksum=sha-256={digest}"
        for number, (url, digest) in enumerate(zip(load.urls, load.digests, strict=True))
    ]
    listed = target.with_suffix(".aria2")
    listed.write_text("\n".join(lines))
    options = ["-x8", "-s8", "-j1", "--quiet", "--check-certificate=false"]
    return ["aria2c", *options, f"--dir={target}", f"--input-file={listed}"]


def contestants() -> dict[str, Callable[[Load, Path], Cost]]:
    """Return the programs by name, with what is not installed left out."""
    found = {"hublock": python(HUBLOCK), "bare loop +hash": python(BARE)}
    for module, names in (("torch", ("torch.hub", "torch.hub +hash")), ("pooch", ("pooch +hash",))):
        if subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode != 0:
            print(f"{module} is not installed: left out")
            continue
        bodies = (TORCH.format(prefix="None"), TORCH.format(prefix="digest")) if module == "torch" else (POOCH,)
        found |= {name: python(body) for name, body in zip(names, bodies, strict=True)}
    programs = (("curl", "curl", curl), ("aria2c", "aria2c +hash", aria2), ("aria2c", "aria2c 40 +hash", aria2_at_once))
    for command, name, arguments in programs:
        if shutil.which(command):
            found[name] = program(arguments)
        else:
            print(f"{command} is not installed: left out")
    return found


def make(folder: Path, count: int, size: int) -> list[tuple[str, str]]:
    """Write ``count`` files of random bytes and return their names and digests."""
    folder.mkdir()
    made = []
    for number in range(count):
        engine, left = hashlib.sha256(), size
        with (folder / str(number)).open("wb") as file:
            while left:
                block = os.urandom(min(left, 8 * MB))
                engine.update(block)
                file.write(block)
                left -= len(block)
        made.append((f"{folder.name}/{number}", engine.hexdigest()))
    return made


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def nginx(folder: Path, files: Path) -> Iterator[dict[str, str]]:
    """Serve ``files`` and give the address of each line."""
    fast, slow, safe = free_port(), free_port(), free_port()
    config, authority = folder / "nginx.conf", Authority(folder)
    ports = {"fast": fast, "slow": slow, "safe": safe}
    config.write_text(NGINX.format(folder=folder, files=files, authority=authority, rate=THROTTLE, **ports))
    # as requests, Python and curl find it
    os.environ |= dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"), str(authority.bundle))
    server = subprocess.Popen(["nginx", "-e", folder / "error.log", "-c", config])
    try:
        for port in (fast, slow, safe):
            wait_for(port)
        yield {
            "as fast as it can": f"http://127.0.0.1:{fast}/",
            "as fast as it can over https": f"https://localhost:{safe}/",
            "20 MB/s a connection": f"http://127.0.0.1:{slow}/",
        }
    finally:
        server.terminate()
        server.wait()


def wait_for(port: int) -> None:
    for _ in range(500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise SystemExit("nginx did not start")


def measure(run: Callable[[Load, Path], Cost], load: Load, target: Path) -> Cost:
    """Return what one run into an empty folder costs.

    What it wrote is emptied and put aside, not removed: ext4 passes over every inode that was removed within the last
    minute before it makes a file, and so would charge each program for what the one before it had made.
    """
    target.mkdir()
    try:
        return run(load, target)
    finally:
        for path in target.rglob("*"):
            if path.is_file():
                os.truncate(path, 0)
        target.rename(tempfile.mkdtemp(dir=target.parent, prefix="done-"))
        # what one program left to be written must not slow the next
        os.sync()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="", help="only cases whose name holds this text, as `300 x`")
    parser.add_argument("--line", default="", help="only lines whose name holds this text, as `fast` or `20 MB/s`")
    parser.add_argument("--program", default="", help="only programs whose name holds this text, beside hublock")
    parser.add_argument("--scale", type=int, default=1, help="make every file so many times smaller")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where files are served from and written to")
    given = parser.parse_args()
    programs = {name: run for name, run in contestants().items() if name == "hublock" or given.program in name}
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="hublock-bench-") as name:
        folder = Path(name)
        # nginx reads as another user
        folder.chmod(0o755)
        files = folder / "files"
        files.mkdir()
        with nginx(folder, files) as lines:
            for number, (case, (count, size)) in enumerate(CASES.items()):
                if given.case not in case:
                    continue
                made = make(files / str(number), count, size // given.scale)
                for line, address in lines.items():
                    if given.line not in line:
                        continue
                    load = Load(
                        urls=[address + path for path, _ in made],
                        digests=[digest for _, digest in made],
                        sizes=[size // given.scale] * count,
                    )
                    print(f"\n{case}{f' / {given.scale}' if given.scale > 1 else ''}, {line}", flush=True)
                    table(programs, load, folder / "target", given.rounds)


def table(programs: dict[str, Callable[[Load, Path], Cost]], load: Load, target: Path, rounds: int) -> None:
    """Print the best of ``rounds`` runs of every program; they take turns, so that a slow minute hits all of them."""
    costs: dict[str, list[Cost]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, run in programs.items():
            costs[name].append(measure(run, load, target))
    best = {name: min(runs, key=lambda cost: cost.wall) for name, runs in costs.items()}
    ours = best["hublock"]
    for name, cost in best.items():
        wall, cpu = ours.wall / cost.wall, ours.cpu / max(cost.cpu, 0.001)
        ratio = f"hublock takes {wall:5.2f} x its wall time, {cpu:5.2f} x its CPU"
        print(
            f"  {name:16} {cost.wall:7.2f} s wall {cost.cpu:7.2f} s CPU   {ratio if name != 'hublock' else ''}".rstrip()
        )


if __name__ == "__main__":
    main()
