"""What a user may have meant."""

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Return ``; did you mean a or b?``, or nothing where no name comes close; it ends the sentence of an error.

    A ``prefix`` that all share makes none of them close.
    """
    names = [name.removeprefix(prefix) for name in sorted(known)]
    close = difflib.get_close_matches(word.removeprefix(prefix), names, n=3)
    return f"; did you mean {' or '.join(prefix + name for name in close)}?" if close else ""
