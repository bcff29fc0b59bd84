"""Serve hublock-examples/tiny on loopback, as GitHub would: git over HTTP, and release assets.

    python examples/loopback.py COMMAND…

runs COMMAND with HUBLOCK_MIRRORS set so that hublock finds https://github.com/ here, and no other host at all. It needs
the standard library and git.
"""

import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

PUBLISH = Path(__file__).resolve().parent / "publish"
REPOSITORY, TAG = "hublock-examples/tiny", "v1.0"
RELEASE = f"/{REPOSITORY}/releases/download/{TAG}"
DATE = "2024-01-01T00:00:00 +0000"
CONFIG = {  # bytes are committed as they are, whatever the machine does with line ends and modes
    "core.autocrlf": "false",
    "core.fileMode": "false",
    "core.safecrlf": "false",
    "uploadpack.allowFilter": "true",
    "uploadpack.allowAnySHA1InWant": "true",
}


def git(*arguments: str | Path, cwd: Path) -> str:
    """Run git apart from the machine's own configuration."""
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, env=git_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"git {' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout.strip()


def git_environment() -> dict[str, str]:
    """Return an environment in which git makes the same commit on every machine."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TEMP", "TMPDIR") if name in os.environ}
    who: dict[str, str] = {}
    for role in ("AUTHOR", "COMMITTER"):
        who |= {f"GIT_{role}_NAME": "An Author", f"GIT_{role}_EMAIL": "author@example.org", f"GIT_{role}_DATE": DATE}
    return {**kept, **who, "HOME": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}


def publish(root: Path) -> Path:
    """Commit and tag examples/publish in a new bare repository below ``root``; the release stays outside of it."""
    bare = root / f"{REPOSITORY}.git"
    bare.mkdir(parents=True)
    git("init", "--quiet", "--bare", "--initial-branch=main", "--template=", cwd=bare)
    for key, value in CONFIG.items():
        git("config", key, value, cwd=bare)
    (bare / "info").mkdir()
    (bare / "info" / "exclude").write_text("/release/\n__pycache__/\n.*\n")
    (bare / "info" / "attributes").write_text("* -text -eol -ident -filter\n")
    tree = ("--git-dir", bare, "--work-tree", PUBLISH, "-c", "core.bare=false")
    git(*tree, "add", "--all", ".", cwd=PUBLISH)
    git(*tree, "commit", "--quiet", "--message", "A tiny model", cwd=PUBLISH)
    git("tag", TAG, cwd=bare)
    return bare


class Loopback(ThreadingHTTPServer):
    """The server; a context manager. ``assets`` maps a path to bytes and may be changed while it runs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = tempfile.TemporaryDirectory(prefix="loopback-")
        self.root = Path(self.folder.name)
        self.bare = publish(self.root)
        self.assets = {f"{RELEASE}/{path.name}": path.read_bytes() for path in (PUBLISH / "release").iterdir()}

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self.folder.cleanup()

    @property
    def mirrors(self) -> str:
        """What HUBLOCK_MIRRORS must hold: this server is all there is of the network, so nobody asks beyond it."""
        return f"https://=http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: Loopback
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.removeprefix("/github.com")
        if path in self.server.assets:
            self.answer(200, {"Content-Type": "application/octet-stream"}, self.server.assets[path])
        else:
            self.git_answer(path)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def git_answer(self, path: str) -> None:
        """Let git http-backend answer, over CGI (RFC 3875)."""
        name, slash, service = path.partition("/info/refs" if path.endswith("/info/refs") else "/git-upload-pack")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        variables = {
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "PATH_INFO": f"{name.removesuffix('.git')}.git{slash}{service}",
            "QUERY_STRING": urlsplit(self.path).query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=git_environment() | variables, capture_output=True, check=False
        )
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if line)
        self.answer(int(headers.pop("Status", "200").split()[0]), headers, answer)

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Send one whole answer."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def main(command: list[str]) -> int:
    """Run ``command`` while the server stands."""
    if not command:
        raise SystemExit(__doc__)
    with Loopback() as loopback:
        return subprocess.run(command, env={**os.environ, "HUBLOCK_MIRRORS": loopback.mirrors}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
