"""Models that are loaded one after the other, as if each were the only one of its process."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from hublock.errors import LoadError
from hublock.runtime.strict.pytorch import torch_hub


@contextmanager
def apart() -> Iterator[None]:
    """Put back what a load sets for all of torch, and let ``os._exit`` end no more than the load, by SystemExit.

    Else one model would be loaded with another's default data type, and the process could end with status 0 and
    without a word of what was found.

    Raises:
        MissingDependency: torch cannot be imported.
    """
    torch_hub()
    import torch

    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    end, process, thread = os._exit, os.getpid(), threading.get_ident()

    def leave(status: int) -> NoReturn:
        if os.getpid() != process:
            end(status)
        if threading.get_ident() != thread:
            # nobody would hear of an exception there; no status of ours is 0
            end(status or LoadError.exit_code)
        raise SystemExit(status)

    os._exit = leave
    try:
        yield
    finally:
        os._exit = end
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        torch.use_deterministic_algorithms(strict, warn_only=warns)
