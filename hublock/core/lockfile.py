"""The lock: what was found. Its tables; ``core.lockreader`` reads them, ``core.canonical`` writes them.

Tables without an order of their own keep their rows sorted, so that equal locks are equal whatever the order they
were found in.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from hublock.core.arguments import Value
from hublock.core.cached import cached
from hublock.core.digest import Digest
from hublock.core.reference import key_of

VERSION = 1

Pickle = Literal["tensors", "torchscript", "none"] | tuple[str, ...]
"""What a file's pickle may run: a fixed verdict, or the sorted globals it names (see core.pickles)."""

Environment = Literal["warn", "exact"]
Traced = Literal["confirmed", "unconfirmed", "declared"]
ISOLATIONS = ("netns+landlock", "netns", "landlock", "guard")
"""What may have held while a model was traced."""


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
    """A small metadata answer, replayed at load.

    The lock holds it whole: most hosts answer otherwise every time, so that no digest could be fetched again.
    """

    method: str
    url: str
    status: int
    digest: Digest
    size: int
    """Bytes of the answer, in UTF-8."""
    body: str = ""

    @classmethod
    def of(cls, method: str, url: str, status: int, body: str) -> Self:
        """Make the entry of an answer."""
        data = body.encode("utf-8")
        digest = Digest("sha256", hashlib.sha256(data).hexdigest())
        return cls(method=method, url=url, status=status, digest=digest, size=len(data), body=body)


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
    """What held while tracing: one of :data:`ISOLATIONS`."""
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

    @property
    def fetched(self) -> tuple[Weights | HuggingFaceFile, ...]:
        """Every file it fetches."""
        return (*self.weights, *self.hf)

    def __post_init__(self) -> None:
        _sort(self, "traced_with", "repos", "tolerated")
        _sort(self, "weights", key=lambda row: row.url)
        _sort(self, "hf", key=lambda row: (row.repo, row.type, row.revision, row.file))
        _sort(self, "replies", key=lambda row: (row.url, row.method))
        _sort(self, "inputs", key=lambda row: row.name)


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

    def __post_init__(self) -> None:
        _sort(self, "via")
        _sort(self, "submodules", "tree_weights", key=lambda row: row.path)
        _sort(self, "models", key=lambda row: row.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedWeights:
    """A file that a script loads by URL itself."""

    name: str
    url: str
    digest: Digest
    size: int
    pickle: Pickle


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A whole ``hub.lock``."""

    version: int = VERSION
    environment: Environment = "warn"
    repos: tuple[Repo, ...] = ()
    weights: tuple[NamedWeights, ...] = ()

    def __post_init__(self) -> None:
        _sort(self, "repos", key=lambda row: row.id)
        _sort(self, "weights", key=lambda row: row.name)

    @property
    def models(self) -> tuple[Model, ...]:
        """The models of all repositories."""
        return tuple(model for repo in self.repos for model in repo.models)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all models and weights."""
        return (*(model.name for model in self.models), *(item.name for item in self.weights))

    @property
    def url_files(self) -> tuple[Weights | NamedWeights, ...]:
        """Every file that is fetched by URL, those of models first; several may be of one URL."""
        return (*(weights for model in self.models for weights in model.weights), *self.weights)

    def at(self, url: str) -> Weights | NamedWeights | None:
        """Return what it says of ``url`` anywhere: a URL has one digest in a whole lock."""
        return next((row for row in self.url_files if row.url == url), None)

    def repo(self, reference: str) -> Repo | None:
        """Return the repository locked under ``reference``, whatever the case in which GitHub's names are typed.

        Raises:
            InvalidReference: ``reference`` is none.
        """
        return self.by_key.get(key_of(reference))

    def is_written(self, repo: Repo) -> bool:
        """Say whether any model that loads ``repo`` writes beside the code: all loads of it run on a copy then."""
        key = key_of(repo.id)
        rows = ((other, model) for other in self.repos for model in other.models if model.writes_tree)
        return any(other.id == repo.id or key in {key_of(name) for name in m.repos} for other, m in rows)

    @cached
    def by_key(self) -> Mapping[str, Repo]:
        """Every repository by the key of its reference, which is the same in whatever case GitHub's names are typed."""
        return {key_of(repo.id): repo for repo in self.repos}

    @cached
    def by_name(self) -> Mapping[str, tuple[Repo, Model]]:
        """Every model, and its repository, by its name."""
        return {model.name: (repo, model) for repo in self.repos for model in repo.models}

    @cached
    def weights_by_name(self) -> Mapping[str, NamedWeights]:
        """Every file that a script loads itself by its name."""
        return {item.name: item for item in self.weights}


def _sort(row: object, *names: str, key: Callable[[Any], Any] | None = None) -> None:
    for name in names:
        object.__setattr__(row, name, tuple(sorted(getattr(row, name), key=key)))
