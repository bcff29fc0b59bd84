"""A content digest: ``scheme:hex``."""

import re
from dataclasses import dataclass
from typing import Self

LENGTHS = {"sha256": 64, "git-sha1": 40, "git-sha256": 64}
"""The schemes a lock may hold and the number of hex digits of each.

``sha256`` is that of a file's bytes; ``git-sha1`` and ``git-sha256`` are ids of a git tree object in git's two object
formats (gitformat-signature, hash-function-transition).
"""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A digest and the scheme it was computed by, written ``sha256:9f86d0…``."""

    scheme: str
    hex: str

    def __post_init__(self) -> None:
        length = LENGTHS.get(self.scheme)
        if length is None:
            raise ValueError(f"unknown digest scheme {self.scheme!r}, expected one of {', '.join(LENGTHS)}")
        if not re.fullmatch(rf"[0-9a-f]{{{length}}}", self.hex):
            raise ValueError(f"a {self.scheme} digest has {length} lower-case hex digits")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``scheme:hex``.

        Raises:
            ValueError: the scheme is unknown or the hex digits are not.
        """
        scheme, colon, digits = text.partition(":")
        if not colon:
            raise ValueError(f"a digest is written scheme:hex, not {text!r}")
        return cls(scheme, digits)

    def __str__(self) -> str:
        return f"{self.scheme}:{self.hex}"
