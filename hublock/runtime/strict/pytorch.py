"""How torch is imported: late, and without looking for garbage on the way, nor ever in what the import made."""

import gc
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, ModuleType

from hublock.errors import MissingDependency
from hublock.runtime.strict.frames import libraries


def torch_hub() -> ModuleType:
    """Return the module ``torch.hub``.

    Raises:
        MissingDependency: torch cannot be imported.
    """
    with _uncollected():
        try:
            import torch.hub
        except ImportError as error:
            raise MissingDependency("torch cannot be imported", hint='pip install "hublock[torch]"') from error
    return torch.hub


_PYTHONS = sys.stdlib_module_names | {"interpreters"}
"""Modules of Python, and what 3.13 says is the module of an exception that it makes as it starts."""
PYTHONS_OWN = 1000
"""More objects than Python itself freezes as it starts (3.12: some 375), and fewer than any program's own freeze."""


@contextmanager
def _uncollected() -> Iterator[None]:
    """Do not search for garbage what an import makes, as all of it stays: that takes a fifth of torch's import.

    Later searches, and those at the end of the process, pass it over as well: they took another fifth. Only what the
    user's own code has made must not be passed over, as a file in a cycle is not written out before it is found there.
    """
    if "torch.hub" in sys.modules or not gc.isenabled() or gc.get_freeze_count() > PYTHONS_OWN:
        yield
        return
    searched = _may_hold_files()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if searched:
            # which moves everything to the oldest generation, the last one to be searched
            gc.unfreeze()
        gc.enable()


def _may_hold_files() -> bool:
    """Say whether something of the user's own may be in a cycle and hold a file, now or later.

    That is a class, or a function within a function; and whatever, of anybody's, has something to do at its end.
    """
    known = libraries()
    for thing in gc.get_objects():
        if isinstance(thing, type) or (isinstance(thing, FunctionType) and thing.__closure__):
            name = str(thing.__module__)
            file = getattr(sys.modules.get(name), "__file__", None) or ""
            if name.partition(".")[0] not in _PYTHONS and not file.startswith(known):
                return True
        elif _has_an_end(thing):
            return True
    return False


def _has_an_end(thing: object) -> bool:
    if isinstance(thing, io.IOBase):
        # what Python has opened itself it writes out itself
        return not thing.closed and thing.writable() and thing.fileno() not in (1, 2)
    is_suspended = isinstance(thing, GeneratorType | CoroutineType | AsyncGeneratorType)
    return hasattr(type(thing), "__del__") and not is_suspended
