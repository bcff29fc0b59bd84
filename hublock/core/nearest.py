"""What a user may have meant."""

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Return ``; did you mean a or b?``, or nothing where no name comes close; it ends the sentence of an error.

    Case counts for nothing. A ``prefix`` that all share makes none of them close.
    """
    spelled = {name.removeprefix(prefix).lower(): name for name in sorted(known, reverse=True)}
    close = difflib.get_close_matches(word.removeprefix(prefix).lower(), spelled, n=3)
    return f"; did you mean {' or '.join(map(spelled.__getitem__, close))}?" if close else ""
