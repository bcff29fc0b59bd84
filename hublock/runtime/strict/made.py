"""What a repository's modules make of the process, by their package: they are imported once, and do it once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hublock.runtime.strict.frames import importing_package


@dataclass(kw_only=True, slots=True)
class Made:
    """What the modules of one package made, for later loads of them."""

    variables: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    """Of the environment, from what to what, as they were imported; the current directory among them."""
    argv: list[str] | None = None
    """What they left in ``sys.argv`` as they were imported."""
    hub_dir: Path | None = None
    """What they gave ``torch.hub.set_dir`` as they were imported; relative if below the private folder of a load."""
    assigned: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """Attributes of torch.hub, each with a number that tells what came after what."""


_made: dict[str, Made] = {}


def made_by(package: str) -> Made:
    """Return what the modules of ``package`` made, to add to it."""
    return _made.setdefault(package, Made())


def made_if_any(package: str) -> Made:
    """Return what the modules of ``package`` made, only to look at it."""
    return _made.get(package, _NOTHING)


_NOTHING = Made()


def importing() -> Made | None:
    """Return where to add what is made now, if it is the import of a repository's module that calls."""
    package = importing_package()
    return None if package is None else made_by(package)


def forget(package: str) -> None:
    """Forget what modules made whose import has failed: it is made again when they are imported again."""
    _made.pop(package, None)


def anything() -> bool:
    """Say whether any module has made anything."""
    return bool(_made)
