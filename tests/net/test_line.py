"""The line to a host is the same for git and for files: proxies, certificates, names, logins and time limits."""

import base64
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hublock.core.reference import Reference
from hublock.errors import RemoteError, TransferError
from hublock.net.download import Downloader, Wanted
from hublock.net.git.remote import open_remote
from hublock.net.releases import Releases
from hublock.net.transport import HttpTransport
from hublock.settings import Settings
from hublock.store.store import Store
from tests.forge import Forge
from tests.net.wire import Wire
from tests.proxy import Proxy
from tests.tls import Authority

TOKEN = "canary-0123456789"
BASIC = "Basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
FILE = "https://github.com/o/n/releases/download/v1/x.pth"
CDN = "objects.githubusercontent.com"
Ask = Callable[[HttpTransport, Path], None]


def git(transport: HttpTransport, folder: Path) -> None:
    here = open_remote(Reference.parse("o/n"), transport, base=folder)
    assert [file.path for file in here.fetch(here.resolve(None).commit).files] == ["hubconf.py"]


def file(transport: HttpTransport, folder: Path) -> None:
    fetched = Downloader(transport, Store(folder), sleep=lambda _: None).fetch(Wanted(url=FILE))
    assert fetched.path.read_bytes() == b"weights"


both = pytest.mark.parametrize("ask", [git, file])


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def publish(forge: Forge) -> Forge:
    forge.repo("o/n", {"hubconf.py": "dependencies = []\n"})
    forge.asset(FILE, b"weights")
    return forge


@pytest.fixture
def named(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forge]:
    """A forge that answers https as github.com, and whose authority is trusted; only a proxy leads there."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
    with Forge(tls=authority.context) as forge:
        yield publish(forge)


@pytest.fixture
def resolved(named: Forge, monkeypatch: pytest.MonkeyPatch) -> Forge:
    """The same, and the names of all hosts lead there."""
    lead_to(named, monkeypatch)
    return named


def lead_to(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    known, here = socket.getaddrinfo, int(forge.url.rpartition(":")[2].strip("/"))

    def getaddrinfo(host: str, port: int, *rest: int, **more: int) -> object:
        return known("127.0.0.1", here if port == 443 else port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def plain(**environ: str) -> HttpTransport:
    """The way out of somebody who has no mirrors."""
    return Releases(Settings.from_mapping({"HUBLOCK_CACHE_DIR": "/nonexistent", **environ}))


def hosts(forge: Forge) -> list[str]:
    return sorted({request.host for request in forge.requests})


@both
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_https_goes_through_a_tunnel_of_the_proxy(
    named: Forge, ask: Ask, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(named.url) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        ask(plain(GITHUB_TOKEN=TOKEN), tmp_path)
    assert set(proxy.lines) <= {"CONNECT github.com:443", f"CONNECT {CDN}:443"}
    assert "CONNECT github.com:443" in proxy.lines
    assert hosts(named) == (["github.com"] if ask is git else ["github.com", CDN])
    assert "authorization" not in "".join(proxy.heads).lower()


@both
def test_a_mirror_by_plain_http_is_asked_through_the_proxy(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Forge() as forge, Proxy(publish(forge).url) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        ask(plain(HUBLOCK_MIRRORS="https://=http://mirror.lan/", GITHUB_TOKEN=TOKEN), tmp_path)
        assert {line.split(" ")[1].split("/")[2] for line in proxy.lines} == {"mirror.lan"}
        assert len(proxy.lines) == len(forge.requests)
    assert "authorization" not in "".join(proxy.heads).lower()


@both
def test_a_mirror_on_this_machine_is_never_asked_through_a_proxy_which_could_read_the_token(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Forge() as forge, Proxy(publish(forge).url) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        ask(plain(HUBLOCK_MIRRORS=forge.mirrors, GITHUB_TOKEN=TOKEN), tmp_path)
        assert proxy.heads == []
        assert forge.requests[0].headers["authorization"] == BASIC


@both
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("names", ["github.com,.githubusercontent.com", "*"])
def test_a_host_named_in_no_proxy_is_asked_directly(
    resolved: Forge, ask: Ask, variable: str, names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(resolved.url) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv(variable, names)
        ask(plain(), tmp_path)
    assert proxy.heads == []
    assert resolved.requests


def test_each_hop_of_a_redirect_asks_no_proxy_anew(
    resolved: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(resolved.url) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "github.com")
        file(plain(), tmp_path)
    assert proxy.lines == [f"CONNECT {CDN}:443"]


@both
def test_a_proxy_with_a_login_is_served_and_its_password_is_never_told(
    named: Forge, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(named.url, login=f"me:{TOKEN}") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        ask(plain(), tmp_path / "first")
        proxy.login = "me:another"
        with pytest.raises(
            TransferError, match=r"the proxy does not let us through: .*407 Proxy Authentication Required"
        ) as caught:
            ask(plain(), tmp_path / "second")
    assert TOKEN not in str(caught.value)


@both
def test_a_proxy_that_is_not_there_is_named_as_the_cause(
    named: Forge, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{TOKEN}@127.0.0.1:9")
    with pytest.raises(
        TransferError, match=r"cannot be reached: the proxy does not let us through: Connection refused"
    ) as caught:
        ask(plain(), tmp_path)
    assert TOKEN not in str(caught.value)


@both
@pytest.mark.parametrize("proxy", ["http://me:{}@[::1", "http://me:{}@127.0.0.1:99999", "ftp://me:{}@127.0.0.1"])
def test_a_proxy_that_is_no_address_is_named_at_once_without_its_password(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.format(TOKEN))
    with pytest.raises(
        TransferError, match=r"cannot be reached: .*that of the proxy \(HTTPS_PROXY\), is none"
    ) as caught:
        ask(plain(), tmp_path)
    assert caught.value.lasting
    assert TOKEN not in str(caught.value)


@both
def test_what_a_socks_proxy_needs_is_told(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socks", None)
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(TransferError, match="a SOCKS proxy needs PySocks"):
        ask(plain(), tmp_path)


@both
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_authority_of_ones_own_is_trusted_when_named(
    resolved: Forge, authority: Authority, ask: Ask, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(TransferError, match=r"github\.com/.* its certificate is not valid") as caught:
        ask(plain(GITHUB_TOKEN=TOKEN), tmp_path)
    assert caught.value.lasting
    assert resolved.requests == []
    monkeypatch.setenv(variable, str(authority.bundle))
    ask(plain(GITHUB_TOKEN=TOKEN), tmp_path)


@both
def test_a_bundle_that_is_missing_is_named(
    resolved: Forge, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent/ca.pem")
    with pytest.raises(TransferError, match=r"/nonexistent/ca\.pem"):
        ask(plain(), tmp_path)
    assert resolved.requests == []


@both
@pytest.mark.parametrize("variable", ["GITHUB_TOKEN", "GH_TOKEN"])
def test_a_token_goes_to_github_itself_and_to_no_host_behind_it(
    resolved: Forge, ask: Ask, variable: str, tmp_path: Path
) -> None:
    ask(plain(**{variable: TOKEN}), tmp_path)
    assert {request.headers.get("authorization") for request in resolved.seen("github.com")} == {BASIC}
    assert {request.headers.get("authorization") for request in resolved.seen(CDN)} <= {None}
    assert [TOKEN in str(request) for request in resolved.requests].count(True) == 0


@both
def test_netrc_is_for_github_itself_and_for_no_host_behind_it(
    resolved: Forge, ask: Ask, tmp_path: Path, clean_environment: Path
) -> None:
    netrc = clean_environment / ".netrc"
    netrc.write_text(f"machine github.com login x-access-token password {TOKEN}\ndefault login a password b\n")
    netrc.chmod(0o600)
    ask(plain(), tmp_path)
    assert {request.headers.get("authorization") for request in resolved.seen("github.com")} == {BASIC}
    assert {request.headers.get("authorization") for request in resolved.seen(CDN)} <= {None}


def test_a_private_repository_and_release_open_to_a_token_alone(resolved: Forge, tmp_path: Path) -> None:
    resolved.repo("o/private", {"hubconf.py": ""}).token = TOKEN
    url = "https://github.com/o/private/releases/download/v1/x.pth"
    resolved.private_asset(url, b"secret weights", token=TOKEN)
    for environ in ({}, {"GITHUB_TOKEN": "another"}):
        with pytest.raises(RemoteError):
            open_remote(Reference.parse("o/private"), plain(**environ), base=tmp_path).resolve(None)
        with pytest.raises(RemoteError):
            Downloader(plain(**environ), Store(tmp_path)).fetch(Wanted(url=url))
    transport = plain(GITHUB_TOKEN=TOKEN)
    assert open_remote(Reference.parse("o/private"), transport, base=tmp_path).resolve(None).ref == "refs/heads/main"
    assert Downloader(transport, Store(tmp_path)).fetch(Wanted(url=url)).size == 14
    assert not [request for request in resolved.seen(CDN) if "authorization" in request.headers]


def test_git_that_redirects_elsewhere_is_followed_without_the_token(resolved: Forge, tmp_path: Path) -> None:
    resolved.repo("o/n", {"hubconf.py": "1"}, host="git.example.org")
    service = "info/refs?service=git-upload-pack"
    resolved.serve(
        f"https://github.com/o/moved.git/{service}", redirect_to=f"https://git.example.org/o/n.git/{service}"
    )
    here = open_remote(Reference.parse("o/moved"), plain(GITHUB_TOKEN=TOKEN), base=tmp_path)
    here.fetch(here.resolve(None).commit)
    assert len(resolved.seen("git.example.org")) == 4
    assert not [request for request in resolved.seen("git.example.org") if "authorization" in request.headers]


@both
def test_a_host_that_never_answers_is_given_up_in_time(ask: Ask, tmp_path: Path) -> None:
    def silent(head: bytes) -> Iterator[bytes]:
        wire.closing.wait()
        yield b""

    with Wire(silent) as wire:
        settings = Settings(cache=Path("unused"), mirrors=(("https://", wire.url),))
        began = time.monotonic()
        with pytest.raises(TransferError, match="no answer in time"):
            ask(HttpTransport(settings, idle_timeout=0.1), tmp_path)
        assert time.monotonic() - began < 10


def test_git_that_falls_silent_after_its_greeting_is_given_up_in_time(tmp_path: Path) -> None:
    with Forge() as forge:
        publish(forge)
        forge.serve("https://github.com/o/n.git/git-upload-pack", b"0123456789", stall=5)
        transport = HttpTransport(forge.settings(), idle_timeout=0.2)
        began = time.monotonic()
        with pytest.raises(TransferError):
            open_remote(Reference.parse("o/n"), transport, base=tmp_path).resolve(None)
        assert time.monotonic() - began < 5
