"""hublock: the reproducibility lockfile for PyTorch Hub.

``hublock.load`` is ``torch.hub.load``, answered strictly from the ``hub.lock`` of the project: it runs only bytes whose
digest is in that lock, or stops before running anything. The other functions of torch.hub are here too; ``hublock.use``
names a lock, ``hublock.modules`` gives a repository's modules their stock names, ``hublock.errors`` holds every error.

Everything else is internal.
"""

import gc
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hublock.errors import HublockError
    from hublock.hub import (
        activate,
        activated,
        download_url_to_file,
        get_dir,
        help,
        list,
        load,
        load_state_dict_from_url,
        modules,
        set_dir,
        use,
    )

__version__ = "0.1.0"

__all__ = [
    "HublockError",
    "__version__",
    "activate",
    "activated",
    "download_url_to_file",
    "get_dir",
    "help",
    "list",
    "load",
    "load_state_dict_from_url",
    "modules",
    "set_dir",
    "use",
]


def __getattr__(name: str) -> Any:
    # PEP 562: the names come when they are used, so that `import hublock` stays light
    if name in __all__:
        home = "hublock.errors" if name == "HublockError" else "hublock.hub"
        # nothing that an import makes is garbage; where torch is imported already, to look for some takes longer
        searching = gc.isenabled()
        gc.disable()
        try:
            return getattr(import_module(home), name)
        finally:
            if searching:
                gc.enable()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> "list[str]":  # type: ignore[valid-type]
    return sorted(__all__)
