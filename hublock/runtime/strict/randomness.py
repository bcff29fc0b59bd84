"""The random numbers that code draws next, of Python, torch and NumPy."""

import random
import sys
from collections.abc import Callable
from types import ModuleType

from hublock.runtime.forksafe import ForkSafeLock
from hublock.runtime.strict.arrivals import is_initializing

_torchs = ForkSafeLock()
"""torch makes Python objects while it holds a lock of its own, for which others wait with the interpreter in hand: if
that runs other code, as of a finalizer, both wait for ever."""


def random_state() -> Callable[[], None]:
    """Return what lets the numbers of now be drawn once more; of a library that was imported since, not."""
    pythons, torch, numpy = random.getstate(), _imported("torch"), _imported("numpy.random")
    with _torchs:
        torchs = torch.get_rng_state() if torch is not None else None
    numpys = numpy.get_state() if numpy is not None else None

    def put_back() -> None:
        random.setstate(pythons)
        with _torchs:
            if torch is not None:
                torch.set_rng_state(torchs)
        if numpy is not None:
            numpy.set_state(numpys)

    return put_back


def _imported(name: str) -> ModuleType | None:
    module = sys.modules.get(name)
    # nobody has drawn yet from one that another thread imports
    return None if is_initializing(module) else module
