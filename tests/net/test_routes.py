import pytest

from hublock.errors import TransferError
from hublock.net.routes import Route, check, is_loopback, join, redact, routes, same_origin

MIRRORS = (
    ("https://github.com/owner/", "http://mirror.lan/own/"),
    ("https://github.com/", "https://mirror.lan/gh/"),
    ("https://a.org", "https://b.org"),
)


def urls(url: str, mirrors: tuple[tuple[str, str], ...] = MIRRORS) -> list[str]:
    return [route.url for route in routes(url, mirrors)]


def test_the_longest_mirror_comes_first_and_the_origin_last() -> None:
    assert urls("https://github.com/owner/repo?x=1") == [
        "http://mirror.lan/own/repo?x=1",
        "https://mirror.lan/gh/owner/repo?x=1",
        "https://github.com/owner/repo?x=1",
    ]


@pytest.mark.parametrize("url", ["https://a.organic/x", "https://a.org.evil/x", "https://a.org:8443/x"])
def test_a_mirror_covers_whole_names_only(url: str) -> None:
    assert urls(url) == [url]


def test_a_mirror_covers_its_host_in_any_case() -> None:
    assert urls("HTTPS://A.org/X") == ["https://b.org/X", "HTTPS://A.org/X"]


def test_behind_a_mirror_of_the_whole_network_there_is_no_origin() -> None:
    assert urls("https://a.org/x", (("https://", "http://127.0.0.1:1/"),)) == ["http://127.0.0.1:1/a.org/x"]


def test_what_a_mirror_answers_is_recorded_as_the_origin_spells_it() -> None:
    route = routes("https://github.com/o/n", MIRRORS)[0]
    assert route.canonical("https://mirror.lan/gh/new/name") == "https://github.com/new/name"
    assert route.canonical("https://elsewhere.org/x") == "https://elsewhere.org/x"


@pytest.mark.parametrize(
    "url", ["http://a.org/x", "http://127.0.0.1.evil.org/x", "http://10.0.0.1/x", "http://0.0.0.0/"]
)
def test_refuses_plain_http_beyond_loopback(url: str) -> None:
    with pytest.raises(TransferError, match="plain http"):
        check(Route(url=url))


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/x", "http://[::1]/x", "http://localhost/x", "https://a.org/x"])
def test_allows_https_and_loopback(url: str) -> None:
    check(Route(url=url))


def test_allows_plain_http_where_a_mirror_says_so() -> None:
    check(routes("https://github.com/owner/x", MIRRORS)[0])


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.org/x",
        "file:///etc/passwd",
        "https://",
        "https:///x",
        "https://[::1/x",
        "https://a:x/",
        "x",
        "",
        "http://evil.org\\@127.0.0.1/",
        "https://evil.org\\@github.com/",
    ],
)
def test_refuses_what_is_no_http_url(url: str) -> None:
    with pytest.raises(TransferError):
        check(Route(url=url))


def test_a_redirect_leaves_user_info_and_fragment_behind() -> None:
    assert join("https://a.org/x/y", "https://u:p@b.org/z#f") == "https://b.org/z"
    assert join("https://a.org/x/y", "../z?q=1") == "https://a.org/z?q=1"
    assert join("https://a.org/x/y", "//c.org/z") == "https://c.org/z"


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("https://a.org/x", "https://A.org:443/y", True),
        ("https://a.org", "http://a.org", False),
        ("https://a.org", "https://a.org:8443", False),
        ("https://a.org", "https://b.a.org", False),
    ],
)
def test_an_origin_is_scheme_host_and_port(left: str, right: str, same: bool) -> None:
    assert same_origin(left, right) is same


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@a.org/x", "https://a.org/x"),
        ("https://a.org/x?X-Amz-Signature=abc&x=1", "https://a.org/x?…"),
        ("https://a.org/x?access_token=abc", "https://a.org/x?…"),
        ("https://a.org/uc?id=1&export=download", "https://a.org/uc?id=1&export=download"),
    ],
)
def test_no_secret_of_a_url_is_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST"])
def test_knows_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", [None, "", "localhost.evil.org", "127.0.0.1.evil.org", "0.0.0.0", "example.org"])
def test_nothing_else_is_loopback(host: str | None) -> None:
    assert not is_loopback(host)
