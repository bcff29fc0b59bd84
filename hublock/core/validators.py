"""What a host says of a file's content before anybody fetches it, read from the head of its answer."""

import base64
import re
from collections.abc import Mapping
from typing import Literal

Algorithm = Literal["sha256", "md5"]


def claims(headers: Mapping[str, str]) -> dict[Algorithm, str]:
    """Return the digests, as hex, that the headers of an answer claim for its content.

    Read are Repr-Digest and Content-Digest (RFC 9530), Digest (RFC 3230), Content-MD5 (Azure), x-goog-hash (Google
    Cloud Storage), and strong ETags that look like a digest: SHA-256 at Hugging Face, MD5 at S3. A claim may be wrong:
    an ETag is whatever the host likes.
    """
    found: dict[Algorithm, str] = {}
    for name in ("Repr-Digest", "Content-Digest", "Digest"):
        for value in re.findall(r"sha-256=:?([A-Za-z0-9+/]{43}=):?", headers.get(name, ""), re.IGNORECASE):
            _note(found, "sha256", _hex(value))
    _note(found, "md5", _hex(headers.get("Content-MD5", "")))
    for value in re.findall(r"md5=([A-Za-z0-9+/]{22}==)", headers.get("x-goog-hash", "")):
        _note(found, "md5", _hex(value))
    for name in ("X-Linked-ETag", "ETag"):
        tag = headers.get(name, "").strip('"').lower()
        if re.fullmatch(r"[0-9a-f]{64}", tag):
            _note(found, "sha256", tag)
        elif re.fullmatch(r"[0-9a-f]{32}", tag):
            _note(found, "md5", tag)
    return found


def _note(found: dict[Algorithm, str], algorithm: Algorithm, value: str) -> None:
    if value:
        found.setdefault(algorithm, value)


def _hex(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).hex()
    except ValueError:
        return ""
