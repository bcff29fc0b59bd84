import logging
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from hublock.errors import TransferError
from hublock.net.routes import Route
from hublock.net.transport import HttpTransport
from hublock.settings import Settings
from tests.forge import Forge
from tests.net.bench import Heard
from tests.net.wire import Wire, ok

SECRET = "canary-0123456789"


@pytest.fixture
def forge() -> Iterator[Forge]:
    with Forge() as forge:
        yield forge


def direct(**options: Any) -> HttpTransport:
    return HttpTransport(Settings(cache=Path("unused")), **options)


def get(transport: HttpTransport, url: str, **headers: str) -> bytes:
    with transport.open("GET", url, headers=headers) as response:
        return response.read(1 << 20)


def test_an_answer_names_the_origin_and_never_the_mirror(forge: Forge) -> None:
    forge.serve("https://a.org/x?y=1", b"body")
    with HttpTransport(forge.settings()).open("GET", "https://a.org/x?y=1") as response:
        assert (response.status, response.url, response.read(10)) == (200, "https://a.org/x?y=1", b"body")
        assert response.headers["content-length"] == "4"


def test_follows_a_redirect_to_another_host_through_the_mirrors(forge: Forge) -> None:
    forge.asset("https://github.com/o/n/releases/download/v1/x.pth", b"weights")
    with HttpTransport(forge.settings()).open("GET", "https://github.com/o/n/releases/download/v1/x.pth") as response:
        assert response.read(100) == b"weights"
        assert response.url.startswith("https://objects.githubusercontent.com/")


@pytest.mark.parametrize("dead", [True, False])
def test_where_a_redirect_leads_the_origin_is_asked_if_a_mirror_fails(forge: Forge, dead: bool) -> None:
    with Forge() as origin, Forge() as mirror:
        forge.serve("https://a.org/x", redirect_to=f"{origin.url}b.org/x")
        origin.serve("https://b.org/x", b"body")
        mirrors = f"{forge.mirrors} {origin.url}={'http://127.0.0.1:9/' if dead else mirror.url}"
        heard = Heard()
        assert get(HttpTransport(forge.settings(HUBLOCK_MIRRORS=mirrors), progress=heard), "https://a.org/x") == b"body"
    assert len(heard.lines) == 1
    assert "/b.org/x failed, asking the origin: " in heard.lines[0]


def test_where_a_redirect_leads_its_own_mirror_is_asked_though_the_first_host_has_a_dead_one(forge: Forge) -> None:
    forge.serve("https://a.org/x", redirect_to="https://127.0.0.1:9/x")
    forge.serve("https://cdn.org/x", b"body")
    origin = f"{forge.url}a.org/"
    mirrors = f"{origin}=http://127.0.0.1:9/ https://127.0.0.1:9/={forge.url}cdn.org/"
    assert get(HttpTransport(forge.settings(HUBLOCK_MIRRORS=mirrors)), f"{origin}x") == b"body"


def test_a_whole_answer_leaves_the_connection_open_for_the_next() -> None:
    peers = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            peers.add(self.client_address)
            self.send_response(200)
            self.send_header("Content-Length", "300000")
            self.end_headers()
            self.wfile.write(bytes(300000))

        def log_message(self, *args: object) -> None:
            pass

    # of many threads: it stops though a connection is kept
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    transport = direct()
    for _ in range(3):
        assert len(get(transport, f"http://127.0.0.1:{server.server_port}/")) == 300000
    server.shutdown()
    server.server_close()
    assert len(peers) == 1


def test_asks_for_bytes_as_they_are(forge: Forge) -> None:
    forge.serve("https://a.org/x", b"")
    get(HttpTransport(forge.settings()), "https://a.org/x")
    assert forge.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_refuses_a_redirect_loop(forge: Forge, status: int) -> None:
    forge.serve("https://a.org/x", redirect_to="https://b.org/x", redirect_status=status)
    forge.serve("https://b.org/x", redirect_to="https://a.org/x", redirect_status=status)
    with pytest.raises(TransferError, match=r"https://a\.org/x redirects more than 5 times") as raised:
        get(HttpTransport(forge.settings()), "https://a.org/x")
    assert len(forge.requests) == 6
    assert raised.value.lasting


def test_follows_five_redirects(forge: Forge) -> None:
    for hop in range(5):
        forge.serve(f"https://a.org/{hop}", redirect_to=f"https://a.org/{hop + 1}")
    forge.serve("https://a.org/5", b"there")
    assert get(HttpTransport(forge.settings()), "https://a.org/0") == b"there"


def test_refuses_a_redirect_to_plain_http(forge: Forge) -> None:
    forge.serve("https://a.org/x", redirect_to="http://b.org/x")
    with pytest.raises(TransferError, match=r"http://b\.org/x is plain http"):
        get(HttpTransport(forge.settings()), "https://a.org/x")


@pytest.mark.parametrize(
    "location", ["", "ftp://b.org/x", "https://[::1", "https://b.org:port/x", "file:///etc/passwd"]
)
def test_refuses_a_redirect_to_nowhere(forge: Forge, location: str) -> None:
    forge.serve("https://a.org/x", redirect_to=location)
    with pytest.raises(TransferError):
        get(HttpTransport(forge.settings()), "https://a.org/x")


@pytest.mark.parametrize("location", ["/modèle.bin", "/mod%C3%A8le.bin"])
def test_a_redirect_may_lead_to_more_than_ascii(location: str) -> None:
    def reply(head: bytes) -> list[bytes]:
        if head.startswith(b"GET /mod"):
            return [ok(head.split()[1])]
        found = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        return [found.encode()]

    with Wire(reply) as wire, direct().open("GET", wire.url) as response:
        assert response.read(100) == b"/mod%C3%A8le.bin"


def test_the_body_of_a_redirect_is_not_read() -> None:
    def endless(head: bytes) -> Iterator[bytes]:
        yield ok(b"", "Location: http://127.0.0.1:9/", length=1 << 40, status="302 Found")
        while True:
            yield bytes(1 << 16)

    with Wire(endless) as wire, pytest.raises(TransferError, match=r"127\.0\.0\.1:9/ cannot be reached"):
        get(direct(), wire.url)


def test_refuses_to_turn_a_post_into_a_get(forge: Forge) -> None:
    forge.serve("https://a.org/x", redirect_to="https://b.org/x")
    forge.serve("https://b.org/x", b"")
    with pytest.raises(TransferError, match=r"redirects \(302\) a POST request"):
        HttpTransport(forge.settings()).open("POST", "https://a.org/x", body=b"data")
    assert forge.seen("b.org") == []


def test_repeats_a_post_where_the_redirect_keeps_the_method(forge: Forge) -> None:
    forge.serve("https://a.org/x", redirect_to="https://b.org/x", redirect_status=307)
    forge.serve("https://b.org/x", b"")
    with HttpTransport(forge.settings()).open("POST", "https://a.org/x", body=b"data"):
        pass
    assert [(request.method, request.headers["content-length"]) for request in forge.requests] == [("POST", "4")] * 2


def authorization(forge: Forge, host: str) -> list[str | None]:
    return [request.headers.get("authorization") for request in forge.seen(host)]


def test_a_token_goes_to_its_host_alone(forge: Forge) -> None:
    for host in ("github.com", "huggingface.co", "a.org", "github.com.evil.org"):
        forge.serve(f"https://{host}/x", b"")
        get(HttpTransport(forge.settings(GITHUB_TOKEN=SECRET, HF_TOKEN="hf")), f"https://{host}/x")
    assert authorization(forge, "github.com") == ["Basic eC1hY2Nlc3MtdG9rZW46Y2FuYXJ5LTAxMjM0NTY3ODk="]
    assert authorization(forge, "huggingface.co") == ["Bearer hf"]
    assert authorization(forge, "a.org") == [None]
    assert authorization(forge, "github.com.evil.org") == [None]


def test_no_credential_follows_a_redirect_to_another_origin_not_even_back_again(
    forge: Forge, clean_environment: Path
) -> None:
    netrc = clean_environment / ".netrc"
    netrc.write_text("machine evil.org login me password mine\nmachine github.com login me password mine\n")
    netrc.chmod(0o600)
    forge.serve("https://github.com/x", redirect_to="https://evil.org/x")
    forge.serve("https://evil.org/x", redirect_to="https://github.com/y")
    forge.serve("https://github.com/y", redirect_to="https://github.com/z")
    forge.serve("https://github.com/z", b"")
    get(HttpTransport(forge.settings(GITHUB_TOKEN=SECRET)), "https://github.com/x", Cookie="a=b")
    assert [
        (request.host, "authorization" in request.headers, "cookie" in request.headers) for request in forge.requests
    ] == [("github.com", True, True), ("evil.org", False, False), *[("github.com", False, False)] * 2]


def test_a_given_authorization_does_not_follow_a_redirect_either(forge: Forge) -> None:
    forge.serve("https://a.org/x", redirect_to="https://b.org/x")
    forge.serve("https://b.org/x", b"")
    get(HttpTransport(forge.settings()), "https://a.org/x", Authorization=f"Bearer {SECRET}")
    assert authorization(forge, "a.org") == [f"Bearer {SECRET}"]
    assert authorization(forge, "b.org") == [None]


def test_a_token_follows_a_redirect_within_its_origin(forge: Forge) -> None:
    forge.serve("https://github.com/old", redirect_to="https://github.com/new")
    forge.serve("https://github.com/new", b"")
    get(HttpTransport(forge.settings(GITHUB_TOKEN=SECRET)), "https://github.com/old")
    assert None not in authorization(forge, "github.com")


def test_netrc_is_read_for_its_host(forge: Forge, clean_environment: Path) -> None:
    netrc = clean_environment / ".netrc"
    netrc.write_text("machine a.org login me password mine\n")
    netrc.chmod(0o600)
    for host in ("a.org", "b.org"):
        forge.serve(f"https://{host}/x", b"")
        get(HttpTransport(forge.settings()), f"https://{host}/x")
    assert authorization(forge, "a.org") == ["Basic bWU6bWluZQ=="]
    assert authorization(forge, "b.org") == [None]


def test_the_login_of_a_mirror_is_for_all_of_it() -> None:
    asked: list[bytes] = []

    def reply(head: bytes) -> list[bytes]:
        asked.append(head)
        if head.startswith(b"GET /m/a.git "):
            return [ok(b"body")]
        return [ok(b"", "Location: /m/a.git", status="301 Moved")]

    with Wire(reply) as wire:
        rule = ("https://a.org/", wire.url.replace("//", "//me:my%20own@") + "m/")
        settings = Settings(cache=Path("unused"), mirrors=(rule,))
        with HttpTransport(settings).open("GET", "https://a.org/a") as response:
            assert (response.read(10), response.url) == (b"body", "https://a.org/a.git")
            assert response.way.origin == "https://a.org/a.git"
    assert [b"Authorization: Basic bWU6bXkgb3du\r\n" in head for head in asked] == [True, True]


def test_a_netrc_that_is_no_text_is_passed_over(forge: Forge, clean_environment: Path) -> None:
    netrc = clean_environment / ".netrc"
    netrc.write_bytes("# Müller\nmachine a.org login me password mine\n".encode("latin-1"))
    netrc.chmod(0o600)
    forge.serve("https://a.org/x", b"")
    get(HttpTransport(forge.settings()), "https://a.org/x")
    assert authorization(forge, "a.org") == [None]


def test_no_credential_travels_over_plain_http_to_another_machine(clean_environment: Path) -> None:
    netrc = clean_environment / ".netrc"
    netrc.write_text("machine mirror.lan login me password mine\n")
    netrc.chmod(0o600)
    with Wire(lambda head: [ok(b"")]) as proxy:
        settings = Settings(
            cache=Path("unused"),
            mirrors=(("https://a.org/", "http://mirror.lan/"),),
            tokens={"a.org": SECRET, "mirror.lan": SECRET},
        )
        transport = HttpTransport(settings)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("http_proxy", proxy.url)
            get(transport, "https://a.org/x")
    assert proxy.heads[0].startswith(b"GET http://mirror.lan/x")
    assert b"authorization" not in proxy.heads[0].lower()


def test_a_mirror_elsewhere_never_sees_the_token_of_the_origin(tmp_path: Path) -> None:
    known = socket.getaddrinfo
    with tls_server(tmp_path) as (url, heads), pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
        patch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: known("127.0.0.1", *rest, **more))
        settings = Settings(
            cache=Path("unused"), mirrors=(("https://github.com/", url),), tokens={"github.com": SECRET}
        )
        get(HttpTransport(settings), "https://github.com/x")
    assert heads
    assert not any("authorization" in head for head in heads)


def tls_server(folder: Path) -> "TlsServer":
    return TlsServer(folder)


class TlsServer:
    """An https server on loopback whose certificate names ``mirror.lan``."""

    def __init__(self, folder: Path) -> None:
        self.heads: list[set[str]] = []
        self._folder = folder

    def __enter__(self) -> tuple[str, list[set[str]]]:
        key, certificate = self._folder / "key.pem", self._folder / "cert.pem"
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-keyout",
                key,
                "-out",
                certificate,
                "-subj",
                "/CN=mirror.lan",
                "-addext",
                "subjectAltName=DNS:mirror.lan",
            ],
            check=True,
            capture_output=True,
        )
        heads = self.heads

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heads.append({name.lower() for name in self.headers})
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        class Quiet(HTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self._server = Quiet(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return f"https://mirror.lan:{self._server.server_port}/", heads

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_refuses_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    with tls_server(tmp_path) as (url, heads), pytest.raises(TransferError, match="is not valid") as raised:
        get(direct(), url.replace("mirror.lan", "127.0.0.1"))
    assert raised.value.lasting
    assert heads == []


def test_refuses_a_certificate_for_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_server(tmp_path) as (url, heads):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
        with pytest.raises(TransferError, match="its certificate is not valid"):
            get(direct(), url.replace("mirror.lan", "127.0.0.1"))
    assert heads == []


def test_no_secret_is_logged_or_told(forge: Forge, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="hublock")
    settings = forge.settings(GITHUB_TOKEN=SECRET)
    forge.serve("https://github.com/x", redirect_to=f"https://cdn.org/x?X-Amz-Signature={SECRET}")
    forge.serve(f"https://cdn.org/x?X-Amz-Signature={SECRET}", b"12345", truncate=2)
    with pytest.raises(TransferError, match=r"https://cdn.org/x\?… broke off: the body ended 3 bytes early") as raised:
        get(HttpTransport(settings), "https://github.com/x")
    assert SECRET not in str(raised.value) + repr(settings) + caplog.text
    assert raised.value.__context__ is None or raised.value.__suppress_context__


def test_a_host_that_does_not_exist_is_named() -> None:
    with pytest.raises(TransferError, match=r"https://nowhere\.invalid/x cannot be reached: ") as raised:
        get(direct(), "https://nowhere.invalid/x")
    assert "name of the host is not known" in str(raised.value)


def test_a_refused_connection_is_named() -> None:
    with pytest.raises(TransferError, match=r"http://127.0.0.1:9/x cannot be reached: Connection refused"):
        get(direct(), "http://127.0.0.1:9/x")


def test_a_host_that_hangs_up_without_an_answer_is_named(forge: Forge) -> None:
    forge.serve("https://a.org/x", drop=True)
    with pytest.raises(TransferError, match=r"cannot be reached by its mirror .*: the host hung up"):
        get(HttpTransport(forge.settings()), "https://a.org/x")


def test_silence_before_the_answer_ends_in_time() -> None:
    def silent(head: bytes) -> Iterator[bytes]:
        wire.closing.wait()
        yield b""

    with Wire(silent) as wire:
        began = time.monotonic()
        with pytest.raises(TransferError, match="no answer in time"):
            get(direct(idle_timeout=0.2), wire.url)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("drip", [b"H", b"X-A: b\r\n"])
def test_a_head_that_drips_ends_in_time(drip: bytes) -> None:
    """A byte, or a whole header, often enough that no single read ever waits too long."""

    def dripping(head: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n" if len(drip) > 1 else b""
        for _ in range(100):
            wire.closing.wait(0.05)
            yield drip

    began = time.monotonic()
    with Wire(dripping) as wire:
        transport = HttpTransport(Settings(cache=Path("unused")), idle_timeout=0.3)
        with pytest.raises(TransferError, match="no answer in time"):
            transport.open("GET", wire.url)
        assert 0.5 < time.monotonic() - began < 3


def test_one_answer_that_drips_does_not_end_another(forge: Forge) -> None:
    def dripping(head: bytes) -> Iterator[bytes]:
        for _ in range(100):
            wire.closing.wait(0.05)
            yield b"H"

    forge.serve("https://a.org/x", b"data")
    with Wire(dripping) as wire:
        transport = HttpTransport(forge.settings(), idle_timeout=0.3)
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(transport.open, "GET", wire.url)
            while not slow.done():
                with transport.open("GET", "https://a.org/x") as response:
                    assert response.read(10) == b"data"
        assert isinstance(slow.exception(), TransferError)
    with transport.open("GET", "https://a.org/x") as response:
        assert response.read(10) == b"data"


def test_silence_amid_the_body_ends_in_time(forge: Forge) -> None:
    forge.serve("https://a.org/x", b"x" * 100, stall=50)
    began = time.monotonic()
    with pytest.raises(TransferError, match=r"https://a\.org/x broke off: no answer in time"):
        get(HttpTransport(forge.settings(), idle_timeout=0.2), "https://a.org/x")
    assert time.monotonic() - began < 2


def test_a_line_may_fall_silent_often_in_all_longer_than_once(forge: Forge) -> None:
    forge.serve("https://a.org/x", bytes(1 << 20), pace=0.05)
    transport = HttpTransport(forge.settings(), connect_timeout=0.4, idle_timeout=0.4)
    with transport.open("GET", "https://a.org/x") as response:
        assert len(response.read(1 << 20)) == 1 << 20


def test_a_body_that_drips_counts_as_dead() -> None:
    def drip(head: bytes) -> Iterator[bytes]:
        yield ok(b"", length=1000)
        for _ in range(1000):
            yield b"x"
            wire.closing.wait(0.02)

    with Wire(drip) as wire, pytest.raises(TransferError, match="crawls: "):
        get(direct(idle_timeout=0.3), wire.url)


def test_a_slow_reader_is_not_a_slow_line(forge: Forge) -> None:
    forge.serve("https://a.org/x", b"x" * 1000)
    with HttpTransport(forge.settings(), idle_timeout=0.05).open("GET", "https://a.org/x") as response:
        came = 0
        for piece in response.chunks(100):
            came += len(piece)
            threading.Event().wait(0.02)
    assert came == 1000


def test_a_connection_that_is_reset_is_named() -> None:
    with (
        Wire(lambda head: [ok(b"abc", length=100)], reset=True) as wire,
        pytest.raises(TransferError, match="broke off: "),
    ):
        get(direct(), wire.url)


BROKEN = {
    "no HTTP at all": b"hello\r\n\r\n",
    "two lengths": ok(b"abc", "Content-Length: 7"),
    "a chunk size that is none": ok(b"xyz\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=None),
    "a chunk cut short": ok(b"8\r\nabc", "Transfer-Encoding: chunked", length=None),
    "chunks without an end": ok(b"3\r\nabc\r\n", "Transfer-Encoding: chunked", length=None),
    "a coding below the chunks": ok(b"3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: gzip, chunked", length=None),
    "a coding that ends in a space": ok(b"3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked ", length=None),
    "two codings": ok(
        b"3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: identity", "Transfer-Encoding: chunked", length=None
    ),
    "a length too long": ok(b"abc", length=7),
    "an endless status line": b"HTTP/1.1 200 " + b"x" * 70000 + b"\r\n\r\n",
    "too many headers": ok(b"", *[f"X-{number}: 1" for number in range(200)]),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_answer_is_an_error(answer: bytes) -> None:
    with Wire(lambda head: [answer]) as wire, pytest.raises(TransferError):
        get(direct(), wire.url)


@pytest.mark.parametrize("length", [None, "-5", "abc"])
def test_a_body_of_unknown_length_ends_with_the_connection(length: str | None) -> None:
    with Wire(lambda head: [ok(b"abc", length=length)]) as wire:
        assert get(direct(), wire.url) == b"abc"


@pytest.mark.parametrize("early", ["100 Continue", "102 Processing", "103 Early Hints"])
def test_what_a_host_says_before_its_answer_is_no_answer(early: str) -> None:
    before = f"HTTP/1.1 {early}\r\nLink: </style.css>; rel=preload\r\n\r\n".encode()
    with Wire(lambda head: [before, before, ok(b"body")]) as wire:
        assert get(direct(), wire.url) == b"body"


def test_a_body_longer_than_allowed_is_not_kept(forge: Forge) -> None:
    forge.serve("https://a.org/x", b"x" * 1001)
    response = HttpTransport(forge.settings()).open("GET", "https://a.org/x")
    with response, pytest.raises(TransferError, match="more than 1000 bytes"):
        response.read(1000)


def test_cookies_of_one_answer_are_not_sent_with_the_next(forge: Forge) -> None:
    forge.serve("https://a.org/x", b"", headers={"Set-Cookie": "a=b"})
    transport = HttpTransport(forge.settings())
    get(transport, "https://a.org/x")
    get(transport, "https://a.org/x")
    assert "cookie" not in forge.requests[1].headers


def test_what_waits_can_be_ended_from_another_thread(forge: Forge) -> None:
    released = threading.Event()
    forge.serve("https://a.org/body", b"x" * 100, stall=50)
    forge.serve("https://a.org/head", b"x" * 100, on_hit=lambda _: released.wait(60))
    transport = HttpTransport(forge.settings(), idle_timeout=60)

    def get(url: str, *, before: bool) -> str:
        with transport.breakable() as give_up:
            timer = threading.Timer(0.1, give_up)
            if before:
                give_up()
            else:
                timer.start()
            try:
                with pytest.raises(TransferError), transport.open("GET", url) as response:
                    response.read(1000)
            finally:
                timer.cancel()
        # only inside the block
        return transport.open("GET", "https://a.org/other").headers["Content-Length"]

    forge.serve("https://a.org/other", b"other")
    with ThreadPoolExecutor(3) as pool:
        calls = [("head", False), ("body", False), ("body", True)]
        runs = [pool.submit(get, f"https://a.org/{name}", before=before) for name, before in calls]
        try:
            assert [run.result(timeout=20) for run in runs] == ["5"] * 3
        finally:
            released.set()


def test_a_wait_between_two_requests_can_be_ended_from_another_thread() -> None:
    transport = direct()
    waiting: Queue[Callable[[], None]] = Queue()

    def wait() -> None:
        with transport.breakable() as end:
            waiting.put(end)
            transport.wait(3600, Route(url="https://a.org/x"))

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(wait)
        waiting.get(timeout=20)()
        with pytest.raises(TransferError, match="stopped"):
            run.result(timeout=20)


@pytest.mark.parametrize("status", [403, 404, 502])
def test_what_a_mirror_refuses_is_asked_of_the_origin(forge: Forge, status: int) -> None:
    forge.serve("https://a.org/x", b"page of the mirror", status=status)
    origin = f"{forge.url}real/x"
    forge.serve("https://real/x", b"well")
    heard = Heard()
    settings = Settings(cache=Path("unused"), mirrors=((origin, f"{forge.url}a.org/x"),))
    with HttpTransport(settings, progress=heard).open("GET", origin) as response:
        assert (response.status, response.read(100)) == (200, b"well")
    assert heard.lines == [f"warn mirror {forge.url}a.org/x failed, asking the origin: it answers with status {status}"]


def test_a_second_route_skips_the_first_mirror(forge: Forge) -> None:
    forge.serve("https://a.org/x", b"well")
    mirrors = (("https://a.org/", "http://127.0.0.1:9/"), ("https://", forge.url))
    transport = HttpTransport(Settings(cache=Path("unused"), mirrors=mirrors))
    with pytest.raises(TransferError):
        transport.open("GET", "https://a.org/x", route=0)
    for route in (1, None):
        with transport.open("GET", "https://a.org/x", route=route) as response:
            assert response.read(10) == b"well"
