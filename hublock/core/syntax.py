"""Python source that others wrote, parsed: by several threads at once, and without a word about its style."""

import ast
import re
import warnings
from contextlib import suppress
from typing import Any

UNNAMED = "<source of others>"
"""The name of a file of which nobody is warned."""
_UNHEARD = ("ignore", None, Warning, re.compile(UNNAMED), 0)
_ATTEMPTS = 20


def parse(source: bytes | str, file: str = UNNAMED, *, mode: str = "exec") -> Any:
    """Parse ``source`` as :func:`ast.parse` does; where no ``file`` is named, nobody is warned of what is in it.

    Raises:
        SyntaxError: it is not Python of the running version.
        ValueError: it holds null bytes.
        RecursionError: it nests too deeply.
        MemoryError: it does so as well.
    """
    # a filter for these files alone, which stays: one that is taken back, as by catch_warnings, may bring back for good
    # what another thread has set for a while
    filters: Any = warnings.filters
    if filters[:1] != [_UNHEARD]:
        with suppress(ValueError):
            filters.remove(_UNHEARD)
        # not by filterwarnings, after which Python says once more what it has said once of any other file
        filters.insert(0, _UNHEARD)
    for _ in range(_ATTEMPTS):
        # CPython 3.11 counts how deep a tree is in one place for all threads, and takes a wrong count for its own bug
        with suppress(SystemError):
            return ast.parse(source, file, mode)
    return ast.parse(source, file, mode)
