"""How a file looked when it was last hashed: as long as it looks the same, it need not be hashed again."""

import os
import time
from contextlib import suppress
from pathlib import Path

OFTEN = 900.0
"""Seconds; how exactly it is known when something was last used: what is used now outlives any `cache prune`."""


def stamp(facts: os.stat_result) -> str:
    """Return size, time of change (ns) and inode of a file, in one line.

    Not the time of its inode's change: that moves when the file gets its name.
    """
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ino}\n"


def mark_used(path: Path) -> None:
    """Remember, by the time of the stamp file ``path``, that what it is about is in use, where that can be written."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > OFTEN:
            os.utime(path)
