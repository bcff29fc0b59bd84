"""What a user may have meant."""

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean a or b?``, or nothing where no name comes close; it ends the sentence of an error."""
    close = difflib.get_close_matches(word, sorted(known), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""
