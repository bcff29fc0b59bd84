"""The manifest: what the project wants. ``hub.toml``, or ``[tool.hublock]`` in ``pyproject.toml``."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hublock.core.lockfile import Environment, Value


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedModel:
    """``[models.NAME]``: one entry point with its arguments."""

    name: str
    repo: str
    entrypoint: str
    """The name, unless the table says otherwise."""
    args: tuple[Value, ...] = ()
    kwargs: Mapping[str, Value] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    allow_pickle: tuple[str, ...] = ()
    allow_unreachable: bool = False
    tolerate: tuple[str, ...] = ()
    """Refusals the model may live with: ``https://host`` or ``subprocess:name``."""
    inputs: tuple[str, ...] = ()
    """Paths, relative to the manifest, of files the user hands in."""
    urls: tuple[str, ...] = ()
    """Declared instead of traced, for a model that cannot run here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedWeights:
    """``[weights.NAME]``: a file that a script loads by URL itself."""

    name: str
    url: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Everything the project wants."""

    environment: Environment = "warn"
    models: tuple[WantedModel, ...] = ()
    weights: tuple[WantedWeights, ...] = ()
