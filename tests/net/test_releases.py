"""Files of private GitHub releases, found by the one use of the REST API there is."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hublock.core.digest import Digest
from hublock.errors import TransferError
from hublock.net.download import Downloader, Wanted
from hublock.net.parts import WORTH_PARTS
from hublock.net.releases import Releases
from hublock.settings import Settings
from hublock.store.store import Store
from tests.forge import Forge
from tests.net.wire import Wire, ok

TOKEN = "canary-0123456789"
URL = "https://github.com/o/private/releases/download/v1.0/net%2B1.pth"
RELEASE = "https://api.github.com/repos/o/private/releases/tags/v1.0"
SIGNED = "objects.githubusercontent.com"


@pytest.fixture
def forge() -> Iterator[Forge]:
    with Forge() as forge:
        yield forge


def fetch(forge: Forge, url: str, folder: Path, **environ: str) -> bytes:
    store = Store(folder)
    transport = Releases(forge.settings(folder, **environ))
    return Downloader(transport, store, sleep=lambda _: None).fetch(Wanted(url=url)).path.read_bytes()


def test_a_file_of_a_private_release_is_fetched_with_a_token(forge: Forge, tmp_path: Path) -> None:
    forge.private_asset("https://github.com/o/private/releases/download/v1.0/other.pth", b"other", token=TOKEN)
    forge.private_asset(URL, b"weights", token=TOKEN)
    assert fetch(forge, URL, tmp_path, GITHUB_TOKEN=TOKEN) == b"weights"
    assert [request.host for request in forge.requests] == ["github.com", "api.github.com", "api.github.com", SIGNED]
    assert [request.headers.get("authorization") for request in forge.seen("api.github.com")] == [f"Bearer {TOKEN}"] * 2


def test_the_signed_address_and_what_the_api_says_never_see_the_token(forge: Forge, tmp_path: Path) -> None:
    forge.private_asset(URL, b"weights", token=TOKEN)
    fetch(forge, URL, tmp_path, GITHUB_TOKEN=TOKEN)
    assert forge.seen("evil.example.org") == []
    [request] = forge.seen(SIGNED)
    assert TOKEN not in str(request)
    assert "authorization" not in request.headers


def test_a_large_file_comes_in_parts_and_the_api_is_asked_for_it_once(forge: Forge, tmp_path: Path) -> None:
    data = bytes(range(256)) * (WORTH_PARTS // 256 + 1)
    forge.private_asset(URL, data, token=TOKEN, truncate=1000, times=1)
    assert fetch(forge, URL, tmp_path, GITHUB_TOKEN=TOKEN) == data
    assert len(forge.seen(SIGNED)) > 1
    assert len([request for request in forge.requests if request.path.endswith("/tags/v1.0")]) == 1
    assert len(forge.seen("github.com")) == 1


def test_a_private_file_that_broke_off_is_resumed(forge: Forge, tmp_path: Path) -> None:
    forge.private_asset(URL, b"weights", token=TOKEN, truncate=3, times=1)
    assert fetch(forge, URL, tmp_path, GITHUB_TOKEN=TOKEN) == b"weights"


@pytest.mark.parametrize("environ", [{}, {"HF_TOKEN": TOKEN}])
def test_without_a_token_of_github_the_api_is_never_asked(
    forge: Forge, tmp_path: Path, environ: dict[str, str]
) -> None:
    forge.private_asset(URL, b"weights", token=TOKEN)
    with pytest.raises(TransferError, match=r"does not exist \(404\)") as caught:
        fetch(forge, URL, tmp_path, **environ)
    assert caught.value.hint == "check the address; for a release of a private repository set GITHUB_TOKEN"
    assert forge.seen("api.github.com") == []


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/o/private/raw/main/net.pth",
        "https://github.com/o/private/releases/latest/download/net.pth",
        "https://github.com/o/private/releases/download/v1.0/",
        "https://github.com/o/private/releases/download/v1.0/net.pth?x=1",
        "https://github.com.evil.org/o/private/releases/download/v1.0/net.pth",
        "https://example.org/o/private/releases/download/v1.0/net.pth",
    ],
)
def test_for_nothing_else_the_api_is_asked(forge: Forge, tmp_path: Path, url: str) -> None:
    with pytest.raises(TransferError, match=r"does not exist \(404\)"):
        fetch(forge, url, tmp_path, GITHUB_TOKEN=TOKEN)
    assert forge.seen("api.github.com") == []


def test_a_public_release_never_costs_a_call_of_the_api(forge: Forge, tmp_path: Path) -> None:
    forge.asset(URL, b"weights")
    assert fetch(forge, URL, tmp_path, GITHUB_TOKEN=TOKEN) == b"weights"
    assert forge.seen("api.github.com") == []


def test_the_api_sees_the_token_for_nothing_else(forge: Forge) -> None:
    url = "https://api.github.com/repos/o/private/branches"
    with Releases(forge.settings(GITHUB_TOKEN=TOKEN)).open("GET", url):
        pass
    assert [TOKEN in str(request) for request in forge.requests] == [False]


@pytest.mark.parametrize(
    "answer",
    [
        b'{"assets": []}',
        b"{}",
        b"[]",
        b"null",
        b"<html>",
        b'{"assets": [{"name": "net+1.pth", "id": "../../../../evil"}]}',
        b'{"assets": [{"name": "net+1.pth"}]}',
        b"[" * 100_000,
    ],
)
def test_a_release_that_does_not_name_the_file_leaves_it_missing(forge: Forge, tmp_path: Path, answer: bytes) -> None:
    forge.serve(RELEASE, answer)
    with pytest.raises(TransferError, match=r"https://github\.com/o/private/.* does not exist \(404\)"):
        fetch(forge, URL, tmp_path, GITHUB_TOKEN=TOKEN)
    assert [request.path for request in forge.seen("api.github.com")] == ["/repos/o/private/releases/tags/v1.0"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_the_api_refuses_is_told(forge: Forge, tmp_path: Path, status: int) -> None:
    forge.serve(RELEASE, b"Bad credentials", status=status)
    with pytest.raises(TransferError, match=rf"api\.github\.com does not say .* \(HTTP {status}\)") as caught:
        fetch(forge, URL, tmp_path, GITHUB_TOKEN=TOKEN)
    assert "GITHUB_TOKEN is valid" in (caught.value.hint or "")
    assert TOKEN not in str(caught.value)


def test_a_mirror_is_asked_before_the_api(forge: Forge, tmp_path: Path) -> None:
    forge.private_asset(URL, b"weights", token=TOKEN)
    with Wire(lambda head: [ok(b"Not Found", status="404 Not Found")]) as mirror:
        settings = Settings.from_mapping(
            {
                "HUBLOCK_CACHE_DIR": str(tmp_path),
                "HUBLOCK_MIRRORS": f"https://github.com/o/={mirror.url} {forge.mirrors}",
                "GITHUB_TOKEN": TOKEN,
            }
        )
        transport = Releases(settings)
        assert Downloader(transport, Store(tmp_path)).fetch(Wanted(url=URL)).path.read_bytes() == b"weights"
        with transport.open("GET", URL) as answer:
            assert answer.status == 404
    assert [head.split(b" ")[1] for head in mirror.heads] == [b"/private/releases/download/v1.0/net%2B1.pth"] * 2
    assert len(forge.seen("api.github.com")) == 2


def test_an_api_behind_a_mirror_elsewhere_never_sees_the_token(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    with Wire(lambda head: [ok(b"Not Found", status="404 Not Found")]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        environ = {"HUBLOCK_MIRRORS": "https://=http://mirror.lan/", "GITHUB_TOKEN": TOKEN, "HUBLOCK_CACHE_DIR": "x"}
        with Releases(Settings.from_mapping(environ)).open("GET", URL) as answer:
            assert answer.status == 404
    assert [head.split(b" ")[1].split(b"/")[3] for head in proxy.heads] == [b"github.com", b"api.github.com"]
    assert not [head for head in proxy.heads if b"authorization" in head.lower()]


def test_the_lock_can_say_what_it_must_be(forge: Forge, tmp_path: Path) -> None:
    forge.private_asset(URL, b"weights", token=TOKEN)
    digest = Digest("sha256", hashlib.sha256(b"weights").hexdigest())
    transport = Releases(forge.settings(tmp_path, GH_TOKEN=TOKEN))
    fetched = Downloader(transport, Store(tmp_path)).fetch(Wanted(url=URL, digest=digest, size=7))
    assert (fetched.url, fetched.digest) == (URL, digest)
