"""The program ``hublock``, also as ``python -m hublock``."""

import os
import signal
import sys
import threading
from contextlib import suppress

INTERRUPTED = 130


def program() -> int:
    """Run the command line as a process of its own: Ctrl-C is a wish from the first import on, and none at the end.

    So is what a CI system sends that ends a job: else folders of a trace under way would be left.
    """
    code = INTERRUPTED
    # not where it is ignored
    ends = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    try:
        if ends:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        from hublock.cli.main import main

        code = main()
    except KeyboardInterrupt:
        pass
    finally:
        # what ends a process is no longer the command
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if ends:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if code == INTERRUPTED and any(not thread.daemon for thread in threading.enumerate()[1:]):
        _end_at_once()
    return code


def _end_at_once() -> None:
    """End without those who still look up a name or connect, for whom Python would wait."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(program())
