"""How one lock differs from another, entry by entry, in the words of a reviewer."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hublock.core.arguments import same, show_call
from hublock.core.lockfile import Lock, Model, NamedWeights, Repo
from hublock.core.reference import key_of

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
    olds, news = ({key_of(repo.id): repo for repo in lock.repos} for lock in (old, new))
    for key in sorted({*olds, *news}):
        yield from _repo(olds.get(key), news.get(key))
    was, now = ({model.name: (repo, model) for repo in lock.repos for model in repo.models} for lock in (old, new))
    for name in sorted({*was, *now}):
        yield from _model(was.get(name), now.get(name))
    before, after = ({item.name: item for item in lock.weights} for lock in (old, new))
    for name in sorted({*before, *after}):
        yield from _named(before.get(name), after.get(name))


def _repo(old: Repo | None, new: Repo | None) -> Iterator[Change]:
    if old is None or new is None:
        yield from _whole("repository", old, new, lambda repo: (repo.id, repo.commit))
        return
    entry = f"repository {new.id}"
    for key in ("id", "ref", "commit", "tree", "digest", "allow_unreachable"):
        # one content under one commit: a digest that moves alone is no update
        alone = key in ("tree", "digest") and old.commit == new.commit
        yield from _key(entry, old, new, key, alarming=alone or key == "allow_unreachable")
    for key in ("via", "dependencies", "submodules"):
        yield from _rows(entry, key, _texts(getattr(old, key)), _texts(getattr(new, key)))
    verdicts = [{row.path: _pickle(row.pickle) for row in repo.tree_weights} for repo in (old, new)]
    yield from _rows(entry, "tree-weights", *verdicts, alarming=True)


def _model(old: tuple[Repo, Model] | None, new: tuple[Repo, Model] | None) -> Iterator[Change]:
    if old is None or new is None:
        yield from _whole("model", old, new, lambda pair: (pair[1].name, f"{pair[1].entrypoint} of {pair[0].id}"))
        if new is not None:
            yield from _rows(f"model {new[1].name}", "file", {}, _files(new[1]), alarming=True)
        return
    (old_repo, was), (new_repo, now) = old, new
    entry = f"model {now.name}"
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
    moved = old_repo.digest != new_repo.digest or _files(was) != _files(now)
    yield from _key(entry, was, now, "state", alarming=not moved)
    for key in ("requires", "traced_with", "repos"):
        yield from _rows(entry, key.replace("_", "-"), _texts(getattr(was, key)), _texts(getattr(now, key)))
    yield from _rows(entry, "tolerated", _texts(was.tolerated), _texts(now.tolerated), alarming=True)
    yield from _rows(entry, "file", _files(was), _files(now), alarming=True)


def _named(old: NamedWeights | None, new: NamedWeights | None) -> Iterator[Change]:
    if old is None or new is None:
        yield from _whole("weights", old, new, lambda row: (row.name, f"{row.url} {_bytes(row)}"))
        return
    entry = f"weights {new.name}"
    yield from _key(entry, old, new, "url")
    yield from _rows(entry, "file", {old.url: _bytes(old)}, {new.url: _bytes(new)}, alarming=True)


def _whole(noun: str, old: Any, new: Any, told: Any) -> Iterator[Change]:
    if new is not None:
        name, value = told(new)
        yield Change(kind="added", entry=f"{noun} {name}", new=value)
    else:
        name, value = told(old)
        yield Change(kind="removed", entry=f"{noun} {name}", old=value)


def _key(entry: str, old: Any, new: Any, key: str, *, alarming: bool = False) -> Iterator[Change]:
    before, after = getattr(old, key), getattr(new, key)
    if before != after:
        what = key.replace("_", "-")
        yield Change(kind="changed", entry=entry, what=what, old=_said(before), new=_said(after), alarming=alarming)


def _said(value: object) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _rows(
    entry: str, what: str, old: dict[str, str], new: dict[str, str], *, alarming: bool = False
) -> Iterator[Change]:
    """Compare rows by what tells them apart; alarming is one that changes in place, or brings a right with it."""
    for name in sorted({*old, *new}):
        label = f"{what} {name}"
        if name not in old:
            grave = alarming and (what == "tolerated" or "unpickles" in new[name])
            yield Change(kind="added", entry=entry, what=label, new=new[name], alarming=grave)
        elif name not in new:
            yield Change(kind="removed", entry=entry, what=label, old=old[name])
        elif old[name] != new[name]:
            yield Change(kind="changed", entry=entry, what=label, old=old[name], new=new[name], alarming=alarming)


def _texts(rows: Any) -> dict[str, str]:
    return {getattr(row, "path", None) or str(row): getattr(row, "commit", "") for row in rows}


def _files(model: Model) -> dict[str, str]:
    files = {row.url: _bytes(row) for row in model.weights}
    files |= {f"{row.repo}@{row.revision}: {row.file}": f"{row.commit[:12]} {_bytes(row)}" for row in model.hf}
    files |= {f"{row.method} {row.url}": f"{row.status} {_short(row.body)}" for row in model.replies}
    return files | {row.name: _bytes(row) for row in model.inputs}


def _short(body: str) -> str:
    if len(body) <= 60:
        return repr(body)
    return f"{body[:60]!r}... (sha256 {hashlib.sha256(body.encode()).hexdigest()}, {len(body)} characters)"


def _bytes(row: Any) -> str:
    return f"{row.digest}, {row.size} bytes, {_pickle(row.pickle)}"


def _pickle(verdict: object) -> str:
    return f"unpickles {', '.join(verdict)}" if isinstance(verdict, tuple) else f"pickle {verdict}"
