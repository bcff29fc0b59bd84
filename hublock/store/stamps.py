"""How a file looked when it was last hashed: as long as it looks the same, it need not be hashed again."""

import os


def stamp(facts: os.stat_result) -> str:
    """Return size, time of change (ns) and inode of a file, in one line.

    Not the time of its inode's change: that moves when the file gets its name.
    """
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ino}\n"
