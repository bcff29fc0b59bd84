"""What went wrong on the line, in one kind of error and few words."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hublock.errors import TransferError
from hublock.net.routes import redact

_NO_ADDRESS = "its address, or that of the proxy (HTTPS_PROXY), is none that can be asked"
AGAIN = "check the network, then run the same command again"


@contextmanager
def told(url: str, what: str, *, hint: str = AGAIN) -> Iterator[None]:
    """Turn every failure of the libraries below into a TransferError that names ``url``."""
    import http.client

    import requests
    import urllib3

    try:
        yield
    except (
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        OSError,
        ValueError,
    ) as error:
        lasting = _lasts(error)
        raise TransferError(
            f"{redact(url)} {what}: {_cause(error)}", hint=None if lasting else hint, lasting=lasting
        ) from None


def _cause(error: BaseException) -> str:
    """Return what went wrong in a few words; the libraries' own texts repeat the URL with its query."""
    import http.client
    import socket
    import ssl

    import requests
    import urllib3

    inner = _innermost(error)
    known: tuple[tuple[type[BaseException], Callable[[Any], str]], ...] = (
        (urllib3.exceptions.ConnectTimeoutError, lambda _: "no connection in time"),
        (TimeoutError, lambda _: "no answer in time"),
        (urllib3.exceptions.ReadTimeoutError, lambda _: "no answer in time"),
        (urllib3.exceptions.IncompleteRead, lambda e: f"the body ended {e.expected} bytes early"),
        (http.client.IncompleteRead, lambda _: "the body ended early"),
        (ssl.SSLCertVerificationError, lambda e: f"its certificate is not valid ({e.verify_message})"),
        (ssl.SSLError, lambda e: f"TLS failed ({e.reason or 'unknown reason'})"),
        (socket.gaierror, lambda _: "the name of the host is not known"),
        (http.client.RemoteDisconnected, lambda _: "the host hung up without an answer"),
        (http.client.HTTPException, lambda e: f"the answer is no HTTP ({type(e).__name__})"),
        (requests.exceptions.InvalidSchema, lambda _: "a SOCKS proxy needs PySocks (pip install pysocks)"),
        (urllib3.exceptions.LocationValueError, lambda _: _NO_ADDRESS),
        (requests.exceptions.InvalidURL, lambda _: _NO_ADDRESS),
        (requests.RequestException, lambda e: type(e).__name__),
        (OSError, lambda e: e.strerror or printable(str(e)) or type(e).__name__),
    )
    said = next((say(inner) for kind, say in known if isinstance(inner, kind)), type(inner).__name__)
    return f"the proxy does not let us through: {said}" if isinstance(error, urllib3.exceptions.ProxyError) else said


def printable(text: str) -> str:
    """Return at most 300 characters of what a host or a proxy said, without control characters."""
    return "".join(character if character.isprintable() else " " for character in text[:300]).strip()


def _innermost(error: BaseException) -> BaseException:
    """Return the error that the libraries wrapped, in their arguments or as a cause."""
    while True:
        wrapped = (*error.args, getattr(error, "reason", None), error.__cause__)
        below = next((item for item in wrapped if isinstance(item, Exception)), None)
        if below is None or below is error:
            return error
        error = below


def _lasts(error: BaseException) -> bool:
    import ssl

    import requests
    import urllib3

    # requests says so of a bundle of certificates that is not there
    unset = type(error) is OSError and error.errno is None
    return (
        unset
        or isinstance(_innermost(error), ssl.SSLCertVerificationError)
        or isinstance(
            error,
            requests.exceptions.InvalidURL
            | requests.exceptions.InvalidHeader
            | requests.exceptions.InvalidSchema
            | urllib3.exceptions.LocationValueError,
        )
    )
