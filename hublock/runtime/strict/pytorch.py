"""How torch is imported: late, and without looking for garbage on the way, nor ever in what the import made."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

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


@contextmanager
def _uncollected() -> Iterator[None]:
    """Do not search for garbage what an import makes, as all of it stays: that takes a fifth of torch's import.

    Later searches, and those at the end of the process, pass it over as well: they took another fifth. Only what the
    user's own code has made must not be passed over, as a file in a cycle is not written out before it is found there.
    """
    if "torch.hub" in sys.modules or not gc.isenabled() or gc.get_freeze_count():
        yield
        return
    searched = _user_has_classes()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if searched:
            # which moves everything to the oldest generation, the last one to be searched
            gc.unfreeze()
        gc.enable()


def _user_has_classes() -> bool:
    """Say whether a module that is no library's has defined a class."""
    known = libraries()
    return any(
        isinstance(value, type) and value.__module__ == name
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not (getattr(module, "__file__", None) or "").startswith(known)
        for value in list(vars(module).values())
    )
