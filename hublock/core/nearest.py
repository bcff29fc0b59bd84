"""What a user may have meant."""

import difflib
from collections import defaultdict
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Return ``; did you mean a or b?``, or nothing where no name comes close; it ends the sentence of an error.

    Case counts for nothing. A ``prefix`` that all share makes none of them close.
    """
    spelled: dict[str, list[str]] = defaultdict(list)
    for name in sorted(known):
        spelled[name.removeprefix(prefix).lower()].append(name)
    close = difflib.get_close_matches(word.removeprefix(prefix).lower(), spelled, n=3)
    # of several that differ in case alone, the one that looks most like it
    best = [difflib.get_close_matches(word, spelled[folded], n=1, cutoff=0)[0] for folded in close]
    return f"; did you mean {' or '.join(best)}?" if best else ""
