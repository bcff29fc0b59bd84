"""How torch is imported: late, and without looking for garbage on the way."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from hublock.errors import MissingDependency


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
    """Do not search for garbage what an import makes, as all of it stays: that takes a fifth of torch's import."""
    if not gc.isenabled() or gc.get_freeze_count():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        # there and back moves everything to the oldest generation, which is searched last
        gc.freeze()
        gc.unfreeze()
        gc.enable()
