"""How one lock differs from another, entry by entry, in the words of a reviewer."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hublock.core.arguments import same, show_call
from hublock.core.lockfile import (
    HuggingFaceFile,
    Input,
    Lock,
    Model,
    NamedWeights,
    Pickle,
    Reply,
    Repo,
    Submodule,
    TreeWeights,
    Weights,
)
from hublock.core.reference import key_of

_File = Weights | NamedWeights | HuggingFaceFile | Reply | Input | TreeWeights

Kind = Literal["added", "removed", "changed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One difference."""

    kind: Kind
    entry: str
    """``repository OWNER/REPO:REF``, ``model NAME``, ``weights NAME`` or ``lock``."""
    what: str = ""
    """The key or file that changed; empty for the entry as a whole."""
    old: str = ""
    new: str = ""
    alarming: bool = False
    """Whether a reviewer must look twice: other bytes at the same address, a new right to run code."""


def compare(old: Lock, new: Lock) -> tuple[Change, ...]:
    """Return every difference between two locks; none means that they pin the same."""
    return tuple(_all(old, new))


def _all(old: Lock, new: Lock) -> Iterator[Change]:
    if old.environment != new.environment:
        yield Change(kind="changed", entry="lock", what="environment", old=old.environment, new=new.environment)
    olds, news = old.by_key, new.by_key
    for key in sorted({*olds, *news}):
        yield from _repo(olds.get(key), news.get(key))
    known = _told((*(row for model in old.models for row in model.fetched), *old.weights))
    was, now = old.by_name, new.by_name
    for name in sorted({*was, *now}):
        yield from _model(was.get(name), now.get(name), known)
    before, after = old.weights_by_name, new.weights_by_name
    for name in sorted({*before, *after}):
        yield from _named(before.get(name), after.get(name), known)


def _repo(old: Repo | None, new: Repo | None) -> Iterator[Change]:
    if old is None or new is None:
        entry, change = _whole("repository", old, new, lambda repo: (repo.id, repo.commit))
        yield change
    else:
        entry = f"repository {new.id}"
        for key in ("id", "ref", "commit", "tree", "digest", "allow_unreachable"):
            # one content under one commit: a digest that moves alone is no update
            alone = key in ("tree", "digest") and old.commit == new.commit
            yield from _key(entry, old, new, key, alarming=alone or key == "allow_unreachable")
        for key in ("via", "dependencies"):
            yield from _rows(entry, *(_texts(key, getattr(repo, key)) for repo in (old, new)))
        yield from _rows(entry, *(_submodules(repo.submodules) for repo in (old, new)))
    yield from _files(entry, {}, *(repo.tree_weights if repo else () for repo in (old, new)))


def _model(
    old: tuple[Repo, Model] | None, new: tuple[Repo, Model] | None, known: Mapping[str, str]
) -> Iterator[Change]:
    if old is None or new is None:
        entry, change = _whole("model", old, new, lambda pair: (pair[1].name, f"{pair[1].entrypoint} of {pair[0].id}"))
        yield change
    else:
        entry = f"model {new[1].name}"
        yield from _same_model(entry, *old, *new)
    yield from _files(entry, known, *(_files_of(pair[1]) if pair else () for pair in (old, new)))


def _same_model(entry: str, old_repo: Repo, was: Model, new_repo: Repo, now: Model) -> Iterator[Change]:
    if key_of(old_repo.id) != key_of(new_repo.id):
        yield Change(kind="changed", entry=entry, what="repository", old=old_repo.id, new=new_repo.id)
    yield from _key(entry, was, now, "entrypoint")
    if not same([*was.args, dict(was.kwargs)], [*now.args, dict(now.kwargs)]):
        yield Change(
            kind="changed",
            entry=entry,
            what="arguments",
            old=show_call("", was.args, was.kwargs),
            new=show_call("", now.args, now.kwargs),
        )
    for key in ("traced", "isolation", "writes_tree"):
        yield from _key(entry, was, now, key)
    # equal code and equal files that load another state: something the lock does not name had a say
    moved = old_repo.digest != new_repo.digest or _files_of(was) != _files_of(now)
    yield from _key(entry, was, now, "state", alarming=not moved)
    for key in ("requires", "traced_with", "repos"):
        yield from _rows(entry, *(_texts(key, getattr(model, key)) for model in (was, now)))
    yield from _rows(entry, *(_texts("tolerated", model.tolerated) for model in (was, now)), grave=True)


def _named(old: NamedWeights | None, new: NamedWeights | None, known: Mapping[str, str]) -> Iterator[Change]:
    if old is None or new is None:
        entry, change = _whole("weights", old, new, lambda row: (row.name, row.url))
        yield change
    else:
        entry = f"weights {new.name}"
        yield from _key(entry, old, new, "url")
    yield from _files(entry, known, *((row,) if row else () for row in (old, new)))


def _whole(noun: str, old: Any, new: Any, told: Any) -> tuple[str, Change]:
    if new is not None:
        name, value = told(new)
        return f"{noun} {name}", Change(kind="added", entry=f"{noun} {name}", new=value)
    name, value = told(old)
    return f"{noun} {name}", Change(kind="removed", entry=f"{noun} {name}", old=value)


def _key(entry: str, old: Any, new: Any, key: str, *, alarming: bool = False) -> Iterator[Change]:
    before, after = getattr(old, key), getattr(new, key)
    if before != after:
        what = key.replace("_", "-")
        yield Change(kind="changed", entry=entry, what=what, old=_said(before), new=_said(after), alarming=alarming)


def _said(value: object) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _files(entry: str, known: Mapping[str, str], old: Iterable[_File], new: Iterable[_File]) -> Iterator[Change]:
    """Compare files; what is ``known`` with other bytes has changed, whichever entry it was of."""
    after = _told(new)
    moved = {what: known[what] for what, told in after.items() if known.get(what, told) != told}
    yield from _rows(entry, moved | _told(old), after, alarming=True)
    # a row for each name: at the end of a long list nobody would see one
    yield from _rows(entry, _names(old), _names(new), grave=True)


def _rows(
    entry: str, old: Mapping[str, str], new: Mapping[str, str], *, alarming: bool = False, grave: bool = False
) -> Iterator[Change]:
    """Compare rows by what tells them apart; ``alarming`` is a change in place, ``grave`` one that comes."""
    for what in sorted({*old, *new}):
        if what not in old:
            yield Change(kind="added", entry=entry, what=what, new=new[what], alarming=grave)
        elif what not in new:
            yield Change(kind="removed", entry=entry, what=what, old=old[what])
        elif old[what] != new[what]:
            yield Change(kind="changed", entry=entry, what=what, old=old[what], new=new[what], alarming=alarming)


def _files_of(model: Model) -> tuple[_File, ...]:
    return (*model.fetched, *model.replies, *model.inputs)


def _texts(key: str, rows: Iterable[Any]) -> dict[str, str]:
    what = key.replace("_", "-")
    return {f"{what} {row}": "" for row in rows}


def _submodules(rows: Iterable[Submodule]) -> dict[str, str]:
    return {f"submodules {row.path}": f"{row.commit} of {row.url}" for row in rows}


def _told(rows: Iterable[_File]) -> dict[str, str]:
    return {_label(row): _value(row) for row in rows}


def _names(rows: Iterable[_File]) -> dict[str, str]:
    """Return each global that a pickle names, as a row of its own."""
    return {
        f"unpickles {name} in {_label(row)}": ""
        for row in rows
        if not isinstance(row, Reply) and isinstance(row.pickle, tuple)
        for name in row.pickle
    }


def _label(row: _File) -> str:
    match row:
        case HuggingFaceFile():
            kind = "" if row.type == "model" else f"{row.type}s/"
            return f"file {kind}{row.repo}@{row.revision}: {row.file}"
        case Reply():
            return f"reply {row.method} {row.url}"
        case Input():
            return f"input {row.name}"
        case TreeWeights():
            return f"tree-weights {row.path}"
        case _:
            return f"file {row.url}"


def _value(row: _File) -> str:
    match row:
        case Reply():
            return f"{row.status} {_short(row.body)}"
        case TreeWeights():
            return _pickle(row.pickle)
        case _:
            commit = f"{row.commit[:12]} " if isinstance(row, HuggingFaceFile) else ""
            return f"{commit}{row.digest}, {row.size} bytes, {_pickle(row.pickle)}"


def _short(body: str) -> str:
    if len(body) <= 60:
        return repr(body)
    return f"{body[:60]!r}... (sha256 {hashlib.sha256(body.encode()).hexdigest()}, {len(body)} characters)"


def _pickle(verdict: Pickle) -> str:
    if isinstance(verdict, str):
        return f"pickle {verdict}"
    return f"unpickles {len(verdict)} name{'s' if len(verdict) > 1 else ''}"
