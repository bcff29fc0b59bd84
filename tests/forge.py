"""A small GitHub on loopback: real git, archives, release assets, and faults on demand.

It stands for every https host at once: the mirror rule :attr:`Forge.mirrors` maps ``https://HOST/PATH`` to
``http://127.0.0.1:PORT/HOST/PATH``. A story reads::

    repo = forge.repo("someone/model", {"hubconf.py": "dependencies = []"})
    first = repo.commit({"net.py": "..."})
    repo.tag("v1.0", annotated=True)
    forge.serve("https://example.org/net-1a2b3c4d.pth", b"...", redirect_to="https://cdn.example.org/x")
    assert forge.seen("github.com") == [...]
"""

import base64
import functools
import json
import os
import re
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from hublock.settings import Settings

EPOCH = 1_700_000_000
"""When the first commit of every forge was made (2023-11-14), so that ids are the same in every run."""


@dataclass(frozen=True)
class Executable:
    data: str | bytes


@dataclass(frozen=True)
class Link:
    target: str


@dataclass(frozen=True)
class Gitlink:
    """A submodule, pinned at a commit of another repository."""

    commit: str


Content = str | bytes | Executable | Link | Gitlink | None
"""What a path holds in a commit; None removes it."""
Files = Mapping[Any, Any]
"""Path (str or bytes) -> :data:`Content`; loose, so that a literal needs no annotation."""


def git(
    *args: str | Path, cwd: Path | None = None, data: bytes | None = None, config: Mapping[str, str] | None = None
) -> bytes:
    """Run plain git apart from the machine's configuration and return what it printed."""
    done = subprocess.run(["git", *args], cwd=cwd, input=data, env=git_environment(config or {}), capture_output=True)
    assert done.returncode == 0, f"git {args}: {done.stderr.decode(errors='replace')}"
    return done.stdout


def git_environment(config: Mapping[str, str]) -> dict[str, str]:
    settings = {"safe.directory": "*", "gc.auto": "0", "core.protectNTFS": "false", "core.protectHFS": "false"}
    pairs = list({**settings, **config}.items())
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ALLOW_PROTOCOL": "file",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_COUNT": str(len(pairs)),
    }
    for person in ("AUTHOR", "COMMITTER"):
        environment[f"GIT_{person}_NAME"] = "A. Author"
        environment[f"GIT_{person}_EMAIL"] = "author@example.org"
        environment[f"GIT_{person}_DATE"] = f"{EPOCH} +0000"
    for number, (key, value) in enumerate(pairs):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment


@functools.cache
def _bare(object_format: str) -> Mapping[str, bytes | None]:
    """Return what ``git init`` makes: the content of each file, None for a folder."""
    with tempfile.TemporaryDirectory() as folder:
        git(
            "init",
            "--quiet",
            "--bare",
            "--initial-branch=main",
            "--template=",
            f"--object-format={object_format}",
            folder,
        )
        return {
            str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
            for path in sorted(Path(folder).rglob("*"))
        }


def _init(path: Path, object_format: str) -> None:
    """Make a bare repository, as git made the first of its kind: most tests want one, and a process costs more."""
    path.mkdir()
    for name, data in _bare(object_format).items():
        if data is None:
            (path / name).mkdir()
        else:
            (path / name).write_bytes(data)


class Request(NamedTuple):
    method: str
    host: str
    path: str
    """With its query."""
    headers: dict[str, str]
    """Names in lower case."""


@dataclass
class ForgeRepo:
    """A bare repository and how its host behaves; every field may be changed while the forge runs."""

    forge: "Forge"
    name: str
    """``owner/name``, or any path on a host that is not GitHub."""
    host: str
    path: Path
    """The bare git directory."""
    refuse: int | str | None = None
    """A status (401, 403, 429) or the text of an ERR line, answered to every git request without the token."""
    refuse_archives: int | None = None
    token: str | None = None
    """The repository is private: who does not send this sees what GitHub shows strangers."""
    renamed_to: str | None = None
    """Another ``owner/name`` of the same host, to which everything redirects (301)."""
    config: dict[str, str] = field(
        default_factory=lambda: {"uploadpack.allowFilter": "true", "uploadpack.allowAnySHA1InWant": "true"}
    )
    """Configuration of the serving git; ``{"protocol.version": ...}`` and the like."""
    protocol_v2: bool = True
    """False: the host ignores the Git-Protocol header, as old hosts do."""
    tamper: Callable[[bytes, bytes], bytes] | None = None
    """``(request body, response body) -> response body`` of every POST to git-upload-pack."""
    traffic: int = 0
    """Bytes of git responses sent so far."""

    @property
    def url(self) -> str:
        return f"https://{self.host}/{self.name}"

    def git(self, *args: str | Path, data: bytes | None = None) -> str:
        return git("--git-dir", self.path, *args, data=data).decode().strip()

    def commit(
        self,
        files: Files,
        *,
        message: str = "a change",
        branch: str = "main",
        parent: str | None = None,
        orphan: bool = False,
        ref: str | None = None,
    ) -> str:
        """Commit ``files`` on top of ``branch`` (or of ``parent``) and return the id; what is not named stays."""
        ref = ref or f"refs/heads/{branch}"
        exists = (self.path / ref).exists()
        start = None if orphan else parent or (f"{ref}^0" if exists else None)
        stream = bytearray(b"commit %s\n" % ref.encode())
        stream += b"committer A. Author <author@example.org> %d +0000\n" % self.forge.tick()
        stream += b"data %d\n%s\n" % (len(message.encode()), message.encode())
        if start:
            stream += b"from %s\n" % start.encode()
        for name, content in files.items():
            stream += _change(name, content)
        self.git("fast-import", "--quiet", "--force", data=bytes(stream))
        return self._read(ref)

    def tag(self, name: str, at: str = "HEAD", *, annotated: bool = False) -> str:
        """Tag ``at`` and return what the tag's ref holds (a tag object's id if annotated)."""
        self.git("tag", "--force", *(("-a", "-m", name) if annotated else ()), name, at)
        return self._read(f"refs/tags/{name}")

    def _read(self, ref: str) -> str:
        """Return what a ref holds; none is packed here (gitrepository-layout(5)), and a process costs more."""
        return (self.path / ref).read_text("ascii").strip()

    def branch(self, name: str, at: str = "HEAD") -> str:
        return self.ref(f"refs/heads/{name}", at)

    def ref(self, name: str, at: str) -> str:
        """Point any ref at ``at``, also names git would refuse a user (``refs/pull/1/head``)."""
        commit = self.git("rev-parse", at)
        self.git("update-ref", name, commit)
        return commit

    def delete(self, ref: str) -> None:
        self.git("update-ref", "-d", ref)

    def default_branch(self, name: str) -> None:
        self.git("symbolic-ref", "HEAD", f"refs/heads/{name}")

    def object(self, kind: str, data: bytes) -> str:
        """Store an object as it is, valid or not, and return its id."""
        return self.git("hash-object", "-w", "--literally", "--stdin", "-t", kind, data=data)

    def commit_tree(self, tree: str, *, ref: str = "refs/heads/main") -> str:
        """Point ``ref`` at a new commit of ``tree`` and return its id."""
        commit = self.git("commit-tree", tree, "-m", "a tree")
        self.git("update-ref", ref, commit)
        return commit


def _change(name: str | bytes, content: Content) -> bytes:
    raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    path = b'"' + b"".join(b"\\%03o" % byte if byte < 33 or byte in b'"\\' else bytes([byte]) for byte in raw) + b'"'
    if content is None:
        return b"D %s\n" % path
    if isinstance(content, Gitlink):
        return b"M 160000 %s %s\n" % (content.commit.encode(), path)
    mode, body = b"100644", content
    if isinstance(content, Executable):
        mode, body = b"100755", content.data
    elif isinstance(content, Link):
        mode, body = b"120000", content.target
    raw_body = body.encode() if isinstance(body, str) else body
    assert isinstance(raw_body, bytes)
    return b"M %s inline %s\ndata %d\n%s\n" % (mode, path, len(raw_body), raw_body)


@dataclass
class Served:
    """One file at one URL, and its faults; every field may be changed while the forge runs."""

    data: bytes
    status: int = 200
    redirect_to: str | None = None
    """Answer 302 to this URL instead (``redirect_status`` for another)."""
    redirect_status: int = 302
    ranges: bool = True
    etag: str | None = '"1"'
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False
    """Send no Content-Length."""
    truncate: int | None = None
    """Close the connection after this many bytes of the body, though more were promised."""
    length: int | None = None
    """Promise this Content-Length instead of the true one."""
    stall: int | None = None
    """Fall silent after this many bytes of the body, until the forge closes."""
    drop: bool = False
    """Close the connection without an answer."""
    pace: float = 0.0
    """Seconds to wait between blocks of 64 KiB."""
    token: str | None = None
    """Answer 404 to who does not send this token."""
    accept: str | None = None
    """Answer 415 to who asks for another media type."""
    times: int | None = None
    """Only the first so many requests meet the faults; later ones are answered well."""
    hits: int = 0
    """Requests so far."""
    on_hit: Callable[["Served"], None] | None = None
    """Called before each answer, with :attr:`hits` counted; it may change what is served."""
    _counting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def _now(self) -> "Served":
        """Return how this request is answered."""
        with self._counting:
            self.hits += 1
            if self.on_hit is not None:
                self.on_hit(self)
        if self.times is None or self.hits <= self.times:
            return self
        return Served(self.data, etag=self.etag, ranges=self.ranges, token=self.token)


class Forge:
    """The server; a context manager."""

    def __init__(self, root: Path | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        """Keep repositories below ``root``; with ``tls``, be every https host under its own name, without a mirror."""
        self._own = tempfile.TemporaryDirectory(prefix="forge-") if root is None else None
        self.root = Path(self._own.name) if self._own else Path(root or "")
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._clock = EPOCH
        self._repos: dict[tuple[str, str], ForgeRepo] = {}
        self._files: dict[str, Served] = {}
        self._releases: dict[str, list[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.by_name = tls is not None
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if self._own:
            self._own.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    @property
    def mirrors(self) -> str:
        """What HUBLOCK_MIRRORS must hold so that every https host is this forge."""
        return f"https://={self.url}"

    def settings(self, cache: Path | None = None, **environ: str) -> Settings:
        """Return settings that see every https host here; ``environ`` adds variables such as GITHUB_TOKEN."""
        return Settings.from_mapping(
            {"HUBLOCK_CACHE_DIR": str(cache or self.root / "cache"), "HUBLOCK_MIRRORS": self.mirrors, **environ}
        )

    def repo(
        self, name: str, files: Files | None = None, *, host: str = "github.com", object_format: str = "sha1"
    ) -> ForgeRepo:
        """Make a repository; with ``files``, its first commit on ``main``."""
        path = self.root / "git" / host / f"{name}.git"
        path.parent.mkdir(parents=True, exist_ok=True)
        _init(path, object_format)
        repo = self.adopt(name, path, host=host)
        if files is not None:
            repo.commit(files, message="the first commit")
        return repo

    def adopt(self, name: str, git_dir: Path, *, host: str = "github.com") -> ForgeRepo:
        """Serve a bare repository that exists already; nothing is written into it."""
        repo = ForgeRepo(forge=self, name=name, host=host, path=Path(git_dir).resolve())
        self._repos[host, name.lower()] = repo
        return repo

    def serve(self, url: str, data: bytes = b"", **faults: Any) -> Served:
        """Serve ``data`` at an https URL, in the manner of :class:`Served`."""
        assert url.startswith("https://")
        served = Served(data, **faults)
        self._files[url] = served
        return served

    def asset(self, url: str, data: bytes, **faults: Any) -> Served:
        """Serve ``data`` as a release asset of GitHub: a redirect to a signed URL that is another every time."""
        signed = f"https://objects.githubusercontent.com{urlsplit(url).path}?X-Amz-Signature=0123"
        self.serve(url, redirect_to=signed)
        return self.serve(signed, data, **faults)

    def private_asset(self, url: str, data: bytes, *, token: str, **faults: Any) -> Served:
        """Serve ``data`` as a release asset of a private repository of GitHub.

        Its own address answers 404 to everybody; the API redirects who sends ``token`` to a signed URL.
        """
        owner, name, _, _, tag, file = urlsplit(url).path.removeprefix("/").split("/")
        repo = f"https://api.github.com/repos/{owner}/{name}/releases"
        release = self._releases.setdefault(f"{repo}/tags/{tag}", [])
        number = 1000 + len(self._files)
        release.append({"url": "https://evil.example.org/x", "id": number, "name": unquote(file), "size": len(data)})
        self.serve(f"{repo}/tags/{tag}", json.dumps({"tag_name": tag, "assets": release}).encode(), token=token)
        signed = f"https://objects.githubusercontent.com/private/{number}?X-Amz-Signature=0123"
        self.serve(f"{repo}/assets/{number}", redirect_to=signed, token=token, accept="application/octet-stream")
        return self.serve(signed, data, **faults)

    def forget(self, url: str) -> None:
        """Answer 404 at ``url`` from now on."""
        del self._files[url]

    def seen(self, host: str) -> list[Request]:
        """Return the requests made to ``host`` so far."""
        return [request for request in self.requests if request.host == host]

    def tick(self) -> int:
        """Return the next second of the forge's own clock."""
        with self._lock:
            self._clock += 60
            return self._clock

    def find_repo(self, host: str, name: str) -> ForgeRepo | None:
        return self._repos.get((host, name.removesuffix(".git").lower()))

    def find_file(self, url: str) -> Served | None:
        return self._files.get(url)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that breaks off is what many tests are about."""


_GIT = re.compile(r"/(.+?)/(info/refs|git-upload-pack)$")
_ARCHIVES = {
    "codeload.github.com": re.compile(r"/([^/]+/[^/]+)/zip/(.+)$"),
    "github.com": re.compile(r"/([^/]+/[^/]+)/archive/(.+)\.zip$"),
}


def _handler(forge: Forge) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"forge": forge})


class _Handler(BaseHTTPRequestHandler):
    forge: Forge
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        """Say nothing; :attr:`Forge.requests` remembers."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        host, _, rest = self.path.removeprefix("/").partition("/")
        if self.forge.by_name:
            host, rest = self.headers["Host"], self.path.removeprefix("/")
        self.host, self.rest, self.body = host, "/" + rest, self._read_body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.forge.requests.append(Request(self.command, host, self.rest, headers))
        served = self.forge.find_file(f"https://{host}{self.rest}")
        if served is not None:
            return self._send_file(served)
        if host == "api.github.com":
            return self._send(403, b'{"message": "API rate limit exceeded"}', {"X-RateLimit-Remaining": "0"})
        path = unquote(urlsplit(self.rest).path)
        if (match := _GIT.match(path)) is not None:
            return self._send_git(match[1], "/" + match[2])
        if (pattern := _ARCHIVES.get(host)) and (match := pattern.match(path)):
            return self._send_archive(match[1], match[2])
        return self._send(404, b"Not Found")

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _sent_token(self) -> str | None:
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "basic":
            return base64.b64decode(value).decode().partition(":")[2]
        return value or None

    def _send_git(self, name: str, service: str) -> None:
        repo = self.forge.find_repo(self.host, name)
        if repo is not None and repo.renamed_to:
            return self._redirect(301, f"https://{self.host}/{repo.renamed_to}.git{service}")
        stranger = {"WWW-Authenticate": 'Basic realm="GitHub"'}
        trusted = repo is not None and repo.token is not None and self._sent_token() == repo.token
        if repo is None or (repo.token is not None and not trusted and repo.refuse is None):
            return self._send(401, b"Repository not found.", stranger)
        if repo.refuse is not None and not trusted:
            if isinstance(repo.refuse, int):
                return self._send(repo.refuse, b"refused", stranger if repo.refuse == 401 else None)
            return self._send_err(repo.refuse, service)
        return self._backend(repo, service)

    def _send_err(self, text: str, service: str) -> None:
        line = b"ERR " + text.encode()
        packet = b"%04x" % (len(line) + 4) + line
        kind = "advertisement" if service == "/info/refs" else "result"
        self._send(200, packet, {"Content-Type": f"application/x-git-upload-pack-{kind}"})

    def _redirect(self, status: int, url: str) -> None:
        query = urlsplit(self.rest).query
        self._send(status, headers={"Location": f"{url}?{query}" if query else url})

    def _backend(self, repo: ForgeRepo, service: str) -> None:
        """Let real ``git http-backend`` answer (CGI, RFC 3875)."""
        environment = git_environment(repo.config) | {
            "GIT_PROJECT_ROOT": str(repo.path),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": service,
            "QUERY_STRING": urlsplit(self.rest).query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(self.body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        if repo.protocol_v2:
            environment["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        done = subprocess.run(["git", "http-backend"], input=self.body, env=environment, capture_output=True)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n"))
        status = int(headers.pop("Status", "200").split()[0])
        if repo.tamper is not None and self.command == "POST":
            body = repo.tamper(self.body, body)
        repo.traffic += len(body)
        self._send(status, body, headers)

    def _send_archive(self, name: str, ref: str) -> None:
        repo = self.forge.find_repo("github.com", name)
        if repo is None or (repo.token is not None and self._sent_token() != repo.token):
            return self._send(404, b"Not Found")
        if repo.refuse_archives is not None:
            return self._send(repo.refuse_archives, b"refused")
        if repo.renamed_to:
            return self._redirect(301, f"https://{self.host}/{repo.renamed_to}/{self.rest.split('/', 3)[3]}")
        if self.host == "github.com":
            return self._redirect(302, f"https://codeload.github.com/{repo.name}/zip/{ref}")
        prefix = f"{repo.name.split('/')[1]}-{ref.removeprefix('refs/heads/').removeprefix('refs/tags/')}/"
        command = ["git", "--git-dir", str(repo.path), "archive", "--format=zip", f"--prefix={prefix}", ref]
        done = subprocess.run(command, env=git_environment({}), capture_output=True)
        if done.returncode != 0:
            return self._send(404, b"Not Found")
        return self._send(200, done.stdout, {"Content-Type": "application/zip", "ETag": f'"{ref}"'})

    def _send_file(self, served: Served) -> None:
        now = served._now()
        if now.drop:
            self.close_connection = True
            return None
        if now.token is not None and self._sent_token() != now.token:
            return self._send(404, b"Not Found")
        if now.accept not in (None, self.headers.get("Accept")):
            return self._send(415, b"Unsupported")
        if now.redirect_to is not None:
            return self._send(now.redirect_status, headers={"Location": now.redirect_to, **now.headers})
        if now.status != 200:
            return self._send(now.status, now.data, now.headers)
        return self._send_body(now)

    def _send_body(self, now: Served) -> None:
        span = self._span(now)
        start, stop = span or (0, len(now.data))
        if start >= len(now.data) and span is not None:
            return self._send(416, headers={"Content-Range": f"bytes */{len(now.data)}"})
        body = now.data[start:stop]
        headers = {"Content-Type": "application/octet-stream"}
        if now.etag is not None:
            headers["ETag"] = now.etag
        if now.ranges:
            headers["Accept-Ranges"] = "bytes"
        if span:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(now.data)}"
        self.send_response(206 if span else 200)
        for name, value in {**headers, **now.headers}.items():
            self.send_header(name, value)
        if now.chunked:
            self.close_connection = True
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body) if now.length is None else now.length))
        self.end_headers()
        if self.command != "HEAD":
            self._write(body, now)
        return None

    def _span(self, now: Served) -> tuple[int, int] | None:
        """Read one Range of bytes, if the server honours it (RFC 9110, 14.2; If-Range, 13.1.5)."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if match is None or not now.ranges or (condition is not None and condition != now.etag):
            return None
        stop = int(match[2]) + 1 if match[2] else len(now.data)
        return int(match[1]), min(stop, len(now.data))

    def _write(self, body: bytes, now: Served) -> None:
        cut = now.truncate if now.truncate is not None else now.stall
        block = 1 << 16
        sent = body if cut is None else body[:cut]
        for start in range(0, len(sent), block):
            self.wfile.write(sent[start : start + block])
            if now.pace:
                self.wfile.flush()
                time.sleep(now.pace)
        self.wfile.flush()
        if now.stall is not None and len(body) > now.stall:
            self.forge.closing.wait()
        if len(sent) != len(body) or now.length not in (None, len(body)):
            self.close_connection = True
