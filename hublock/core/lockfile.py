"""The lock: what was found. Its tables and their reader; ``core.canonical`` writes them.

Tables without an order of their own keep their rows sorted, so that equal locks are equal whatever the order they
were found in.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from hublock.core import arguments, fields, tables
from hublock.core.digest import Digest
from hublock.core.reference import Reference, key_of
from hublock.core.tables import Cell, array, distinct, record
from hublock.core.toml import read_toml
from hublock.errors import InvalidLock, UnsupportedLockVersion

VERSION = 1
HINT = "git restore hub.lock, then hublock lock"

Value = arguments.Value
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


@dataclass(frozen=True, kw_only=True, slots=True)
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

    def repo(self, reference: str) -> Repo | None:
        """Return the repository locked under ``reference``, whatever the case in which GitHub's names are typed.

        Raises:
            InvalidReference: ``reference`` is none.
        """
        key = key_of(reference)
        return next((repo for repo in self.repos if key_of(repo.id) == key), None)

    def is_written(self, repo: Repo) -> bool:
        """Say whether any model that loads ``repo`` writes beside the code: all loads of it run on a copy then."""
        key = key_of(repo.id)
        rows = ((other, model) for other in self.repos for model in other.models if model.writes_tree)
        return any(other.id == repo.id or key in {key_of(name) for name in m.repos} for other, m in rows)

    def model(self, name: str) -> tuple[Repo, Model] | None:
        """Return the model of that name and its repository."""
        rows = ((repo, model) for repo in self.repos for model in repo.models)
        return next((row for row in rows if row[1].name == name), None)


def parse_lock(text: str, *, file: str) -> Lock:
    """Read a lock, strictly and at a bounded cost; ``file`` is its name in messages.

    Raises:
        UnsupportedLockVersion: a newer hublock wrote it.
        InvalidLock: anything in it is not as the schema says, or two entries contradict each other.
    """
    root = read_toml(text, file=file, refusal=InvalidLock, hint=HINT)
    _check_version(root)
    lock = _LOCK(root)
    _check_names(root)
    _check_once(root)
    _check_digests(root)
    _check_bodies(root)
    return lock


def _sort(row: object, *names: str, key: Callable[[Any], Any] | None = None) -> None:
    for name in names:
        object.__setattr__(row, name, tuple(sorted(getattr(row, name), key=key)))


_sha256 = fields.digest("sha256")
_size = tables.integer(0)
_SUBMODULE = record(Submodule, path=fields.path, url=fields.submodule_url, commit=fields.commit)
_TREE_WEIGHTS = record(TreeWeights, path=fields.path, pickle=fields.pickle)
_WEIGHTS = record(Weights, url=fields.url, digest=_sha256, size=_size, pickle=fields.pickle)
_HF = record(
    HuggingFaceFile,
    repo=fields.hf_repo,
    type=tables.one_of("model", "dataset", "space"),
    revision=fields.word,
    commit=fields.commit,
    file=fields.path,
    digest=_sha256,
    size=_size,
    pickle=fields.pickle,
)
_REPLY = record(
    Reply,
    method=fields.method,
    url=fields.url,
    status=tables.integer(100, 599),
    digest=_sha256,
    size=_size,
    body=fields.body,
)
_INPUT = record(Input, name=fields.relative, digest=_sha256, size=_size, pickle=fields.pickle)
_MODEL = record(
    Model,
    name=fields.name,
    entrypoint=fields.entrypoint,
    args=fields.arguments_of,
    kwargs=fields.keywords,
    traced=tables.one_of("confirmed", "unconfirmed", "declared"),
    isolation=tables.one_of("netns+landlock", "netns", "landlock", "guard"),
    requires=distinct(fields.requirement),
    traced_with=distinct(fields.distribution),
    state=_sha256,
    repos=distinct(fields.reference),
    weights=array(_WEIGHTS),
    hf=array(_HF),
    replies=array(_REPLY),
    inputs=array(_INPUT),
    tolerated=distinct(fields.tolerated),
    writes_tree=tables.boolean,
)
_REPO = record(
    Repo,
    keys={"models": "model"},
    id=fields.reference,
    via=distinct(fields.reference),
    ref=fields.word,
    commit=fields.commit,
    tree=fields.digest("git-sha1", "git-sha256"),
    digest=fields.digest("git-sha256"),
    allow_unreachable=tables.boolean,
    dependencies=array(tables.text),
    submodules=array(_SUBMODULE),
    tree_weights=array(_TREE_WEIGHTS),
    models=array(_MODEL),
)
_NAMED = record(NamedWeights, name=fields.name, url=fields.url, digest=_sha256, size=_size, pickle=fields.pickle)
_LOCK = record(
    Lock,
    keys={"repos": "repo"},
    version=tables.integer(1),
    environment=tables.one_of("warn", "exact"),
    repos=array(_REPO),
    weights=array(_NAMED),
)


def _check_version(root: Cell) -> None:
    """Judge the version before anything else: what a newer one holds is not ours to call wrong."""
    cell = root.members().get("version")
    if cell is None:
        raise root.at("version", None).refuse("is missing")
    if tables.integer(1)(cell) > VERSION:
        raise UnsupportedLockVersion(
            f"{root.source.file}: version: is {cell.value}, and this hublock reads only {VERSION}",
            hint="upgrade hublock: pip install -U hublock",
        )


def _rows(cell: Cell, key: str) -> list[Cell]:
    below = cell.members().get(key)
    return below.items() if below else []


def _models(root: Cell) -> Iterator[Cell]:
    for repo in _rows(root, "repo"):
        yield from _rows(repo, "model")


def _check_names(root: Cell) -> None:
    """Names are unique in the whole lock, and so are ids however they are spelled."""
    ids: dict[str, str] = {}
    for repo in _rows(root, "repo"):
        cell = repo.members()["id"]
        _once(ids, Reference.parse(str(cell.value)).key, cell, repo.path)
    names: dict[str, str] = {}
    for row in [*_models(root), *_rows(root, "weights")]:
        cell = row.members()["name"]
        _once(names, str(cell.value), cell, row.path)


def _once(seen: dict[str, str], value: str, cell: Cell, path: str) -> None:
    if value in seen:
        raise cell.refuse(f"{tables.quote(str(cell.value))} is taken by {seen[value]}")
    seen[value] = path


_IDENTITIES = {
    "submodules": ("path",),
    "tree-weights": ("path",),
    "weights": ("url",),
    "hf": ("repo", "type", "revision", "file"),
    "replies": ("method", "url"),
    "inputs": ("name",),
}
"""What tells the rows of each inner array apart."""


def _check_once(root: Cell) -> None:
    for table in [*_rows(root, "repo"), *_models(root)]:
        for key, names in _IDENTITIES.items():
            seen: dict[tuple[object, ...], str] = {}
            for row in _rows(table, key):
                cells = row.members()
                identity = tuple(cells[name].value for name in names)
                if identity in seen:
                    raise row.refuse(f"repeats {seen[identity]}")
                seen[identity] = row.path


def _check_bodies(root: Cell) -> None:
    """The answers that a lock holds are those it names the digests of."""
    for row in (row for model in _models(root) for row in _rows(model, "replies")):
        cells = row.members()
        body = cells["body"].value if "body" in cells else ""
        whole = Reply.of("", "", 0, str(body))
        if (str(whole.digest), whole.size) != (cells["digest"].value, cells["size"].value):
            raise row.refuse("the body is not the one that digest and size are of")


def _check_digests(root: Cell) -> None:
    """A URL has one digest in the whole lock, and so has a file of Hugging Face at one revision."""
    seen: dict[tuple[object, ...], tuple[object, str]] = {}
    rows = [
        (row, _IDENTITIES[key]) for model in _models(root) for key in ("weights", "hf") for row in _rows(model, key)
    ]
    rows += [(row, _IDENTITIES["weights"]) for row in _rows(root, "weights")]
    for row, names in rows:
        cells = row.members()
        digest = cells["digest"]
        known, path = seen.setdefault(tuple(cells[name].value for name in names), (digest.value, digest.path))
        if known != digest.value:
            raise digest.refuse(f"differs from {path}, which is of the same file")
