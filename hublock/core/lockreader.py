"""The one way to read a lock: strictly, at a bounded cost, and every refusal names the line."""

from collections.abc import Iterator
from typing import get_args

from hublock.core import fields, tables
from hublock.core.lockfile import (
    ISOLATIONS,
    VERSION,
    Environment,
    HuggingFaceFile,
    Input,
    Lock,
    Model,
    NamedWeights,
    Reply,
    Repo,
    Submodule,
    Traced,
    TreeWeights,
    Weights,
)
from hublock.core.reference import Reference, is_commit, key_of
from hublock.core.tables import Cell, array, distinct, record
from hublock.core.toml import read_toml
from hublock.errors import InvalidLock, UnsupportedLockVersion

HINT = "git restore hub.lock, then hublock lock"


def parse_lock(text: str, *, file: str) -> Lock:
    """Read a lock, strictly and at a bounded cost; ``file`` is its name in messages.

    Raises:
        UnsupportedLockVersion: a newer hublock wrote it.
        InvalidLock: anything in it is not as the schema says, or two entries contradict each other.
    """
    # an editor's mark at its front makes it one that nobody would write, and no other lock
    root = read_toml(text.removeprefix("\ufeff"), file=file, refusal=InvalidLock, hint=HINT)
    _check_version(root)
    lock = _LOCK(root)
    _check_names(root)
    _check_once(root)
    _check_commits(root)
    _check_digests(root)
    _check_bodies(root)
    return lock


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
    traced=tables.one_of(*get_args(Traced)),
    isolation=tables.one_of(*ISOLATIONS),
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
    dependencies=array(fields.word),
    submodules=array(_SUBMODULE),
    tree_weights=array(_TREE_WEIGHTS),
    models=array(_MODEL),
)
_NAMED = record(NamedWeights, name=fields.name, url=fields.url, digest=_sha256, size=_size, pickle=fields.pickle)
_LOCK = record(
    Lock,
    keys={"repos": "repo"},
    version=tables.integer(1),
    environment=tables.one_of(*get_args(Environment)),
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
        _once(ids, key_of(str(cell.value)), cell, repo.path)
    names: dict[str, str] = {}
    for row in [*_models(root), *_rows(root, "weights")]:
        cell = row.members()["name"]
        _once(names, str(cell.value), cell, row.path)


def _check_commits(root: Cell) -> None:
    """A repository that is named by a whole commit id is locked at that commit."""
    for repo in _rows(root, "repo"):
        cells = repo.members()
        ref = Reference.parse(str(cells["id"].value)).ref
        if ref is not None and is_commit(ref) and ref.lower() != cells["commit"].value:
            raise cells["commit"].refuse(f"is not the commit that {tables.quote(str(cells['id'].value))} names")


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
    """A URL has one digest and size in the whole lock, and so has a file of Hugging Face at one revision."""
    seen: dict[tuple[object, ...], dict[str, Cell]] = {}
    rows = [
        (row, _IDENTITIES[key]) for model in _models(root) for key in ("weights", "hf") for row in _rows(model, key)
    ]
    rows += [(row, _IDENTITIES["weights"]) for row in _rows(root, "weights")]
    for row, names in rows:
        cells = row.members()
        first = seen.setdefault(tuple(cells[name].value for name in names), cells)
        for key in ("digest", "size"):
            if cells[key].value != first[key].value:
                raise cells[key].refuse(f"differs from {first[key].path}, which is of the same file")
