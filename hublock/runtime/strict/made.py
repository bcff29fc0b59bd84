"""What a repository's modules make of the process, by their package: they are imported once, and do it once."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hublock.runtime.strict.frames import importing_module


@dataclass(kw_only=True, slots=True)
class Made:
    """What one module of a package made without a break, for later loads of it."""

    module: str
    variables: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    """Of the environment, from what to what, as they were imported; the current directory among them."""
    argv: list[str] | None = None
    """What they left in ``sys.argv`` as they were imported."""
    hub_dir: Path | None = None
    """What they gave ``torch.hub.set_dir`` as they were imported; relative if below the private folder of a load."""
    assigned: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """Attributes of torch.hub, each with a number that tells what came after what."""


_made: dict[str, list[Made]] = {}
"""By package, in the order of events: a module that others interrupt comes several times."""


def making(package: str, module: str = "") -> Made:
    """Return where to add what ``module`` makes, or a function of ``package`` if none is being imported."""
    all_made = _made.setdefault(package, [])
    last = all_made[-1] if all_made else None
    if last is None or last.module != module:
        last = Made(module=module)
        # another thread may add one as well
        all_made.append(last)
    return last


def made_by(package: str) -> Sequence[Made]:
    """Return what ``package`` made, one after the other."""
    return _made.get(package, ())


def importing() -> Made | None:
    """Return where to add what is made now, if it is the import of a repository's module that calls."""
    package, module = importing_module()
    return None if package is None else making(package, module)


def forget(package: str) -> None:
    """Forget what modules made whose import has failed: they do it again when they are imported again.

    Others stay imported, and do it no more.
    """
    all_made = _made.get(package, [])
    all_made[:] = [made for made in all_made if made.module in sys.modules]


@contextmanager
def forgotten(package: str) -> Iterator[None]:
    """Run the hubconf.py of ``package`` anew, which makes anew what it has made; if it fails, that holds.

    Attributes of torch.hub stay: models may use them meanwhile.
    """
    first, all_made = f"{package}.hubconf", _made.get(package, [])
    before, others, kept = list(all_made), [], Made(module=first)
    for made in before:
        if made.module == first or made.module.startswith(f"{first}__"):
            kept.assigned |= made.assigned
        else:
            others.append(made)
    all_made[:] = [kept, *others]
    try:
        yield
    except BaseException:
        all_made[:] = before
        raise


def anything() -> bool:
    """Say whether any module has made anything."""
    return bool(_made)
