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
    made = _made.setdefault(package, [])
    if not made or made[-1].module != module:
        made.append(Made(module=module))
    return made[-1]


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
    if package in _made:
        _made[package] = [made for made in _made[package] if made.module in sys.modules]


@contextmanager
def forgotten(package: str) -> Iterator[None]:
    """Run the hubconf.py of ``package`` anew, which makes anew what it has made; if it fails, that holds.

    Attributes of torch.hub stay: models may use them meanwhile.
    """
    before = _made.get(package, [])
    runs = [made for made in before if made.module.startswith(f"{package}.hubconf")]
    assigned = {name: value for made in runs for name, value in made.assigned.items()}
    others = [made for made in before if made not in runs]
    _made[package] = [Made(module=f"{package}.hubconf", assigned=assigned), *others] if runs else others
    try:
        yield
    except BaseException:
        _made[package] = before
        raise


def anything() -> bool:
    """Say whether any module has made anything."""
    return bool(_made)
