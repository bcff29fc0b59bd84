"""The lock: what was found. Its tables, their reader, and the canonical writer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hublock.core.digest import Digest

VERSION = 1

Value = str | int | float | bool | list["Value"] | dict[str, "Value"]
"""A TOML value. ``{python = "None"}`` and ``{object = "torch.float16"}`` say what TOML cannot (see core.arguments)."""

Pickle = Literal["tensors", "torchscript", "none"] | tuple[str, ...]
"""What a file's pickle may run: a fixed verdict, or the sorted globals it names (see core.pickles)."""

Environment = Literal["warn", "exact"]
Traced = Literal["confirmed", "unconfirmed", "declared"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Submodule:
    """A submodule: recorded, fetched only when asked."""

    path: str
    url: str
    commit: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeWeights:
    """A checkpoint that lies in the tree itself."""

    path: str
    pickle: Pickle


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A file an entry point fetches by URL, as the code asks for it."""

    url: str
    digest: Digest
    size: int
    pickle: Pickle


@dataclass(frozen=True, kw_only=True, slots=True)
class HuggingFaceFile:
    """A file of a Hugging Face repository at one commit."""

    repo: str
    type: str
    revision: str
    """As the code asks for it."""
    commit: str
    file: str
    digest: Digest
    size: int
    pickle: Pickle


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A small metadata answer, replayed at load."""

    method: str
    url: str
    status: int
    digest: Digest
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """A file the user hands in."""

    name: str
    digest: Digest
    size: int
    pickle: Pickle


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """One entry point with its arguments, and everything it fetches."""

    name: str
    entrypoint: str
    args: tuple[Value, ...] = ()
    kwargs: Mapping[str, Value] = field(default_factory=dict)
    traced: Traced = "confirmed"
    isolation: str | None = None
    """What held while tracing: ``netns+landlock``, ``netns``, ``landlock`` or ``guard``."""
    requires: tuple[str, ...] = ()
    traced_with: tuple[str, ...] = ()
    state: Digest | None = None
    repos: tuple[str, ...] = ()
    weights: tuple[Weights, ...] = ()
    hf: tuple[HuggingFaceFile, ...] = ()
    replies: tuple[Reply, ...] = ()
    inputs: tuple[Input, ...] = ()
    tolerated: tuple[str, ...] = ()
    writes_tree: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Repo:
    """One repository at one commit, under the reference that asked for it."""

    id: str
    via: tuple[str, ...] = ()
    ref: str
    """The full name of the ref that led to the commit."""
    commit: str
    tree: Digest
    digest: Digest
    allow_unreachable: bool = False
    dependencies: tuple[str, ...] = ()
    submodules: tuple[Submodule, ...] = ()
    tree_weights: tuple[TreeWeights, ...] = ()
    models: tuple[Model, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedWeights:
    """A file that a script loads by URL itself."""

    name: str
    url: str
    digest: Digest
    size: int
    pickle: Pickle


@dataclass(frozen=True, kw_only=True, slots=True)
class Lock:
    """A whole ``hub.lock``."""

    version: int = VERSION
    environment: Environment = "warn"
    repos: tuple[Repo, ...] = ()
    weights: tuple[NamedWeights, ...] = ()
