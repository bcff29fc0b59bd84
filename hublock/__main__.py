"""The program ``hublock``, also as ``python -m hublock``."""

import signal
import sys


def program() -> int:
    """Run the command line as a process of its own: Ctrl-C is a wish from the first import on, and none at the end."""
    try:
        from hublock.cli.main import main

        return main()
    except KeyboardInterrupt:
        return 130
    finally:
        # what ends a process is no longer the command
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(program())
