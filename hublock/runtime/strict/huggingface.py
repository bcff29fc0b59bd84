"""The Hugging Face library inside a scope: its two download functions, answered file by file, and its cache.

Its HTTP library is left alone (it has changed from requests to httpx), and so is its native transfer, which no hook
sees: neither runs, because the functions above them are answered.
"""

import fnmatch
import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from hublock.core.inventory import HUGGING_FACE, hugging_face_file
from hublock.runtime.strict import placing
from hublock.runtime.strict.arrivals import when_imported
from hublock.runtime.strict.dispatching import dispatching
from hublock.runtime.strict.scope import Scope
from hublock.runtime.strict.swap import Function, swap

_NOT_FOUND = 404


def install() -> None:
    """Exchange the functions if the library is imported already, else when it arrives."""
    when_imported("huggingface_hub.file_download", _swap_file)
    when_imported("huggingface_hub._snapshot_download", _swap_snapshot)


def _swap_file(module: ModuleType) -> None:
    swap(module.hf_hub_download, dispatching(_hf_hub_download))
    looking = getattr(module, "try_to_load_from_cache", None)
    if looking is not None:
        swap(looking, dispatching(_try_to_load_from_cache))


def _swap_snapshot(module: ModuleType) -> None:
    swap(module.snapshot_download, dispatching(_snapshot_download))


def _hf_hub_download(
    scope: Scope,
    _original: Function,
    repo_id: str,
    filename: str,
    *,
    subfolder: str | None = None,
    repo_type: str | None = None,
    revision: str | None = None,
    local_dir: Any = None,
    **_options: Any,
) -> str:
    name = f"{subfolder}/{filename}" if subfolder else filename
    return str(_file(scope, repo_id, repo_type or "model", revision or "main", name, local_dir))


def _snapshot_download(
    scope: Scope,
    _original: Function,
    repo_id: str,
    *,
    repo_type: str | None = None,
    revision: str | None = None,
    local_dir: Any = None,
    allow_patterns: str | Sequence[str] | None = None,
    ignore_patterns: str | Sequence[str] | None = None,
    **_options: Any,
) -> str:
    kind, wanted = repo_type or "model", revision or "main"
    commit, names = scope.ask(HUGGING_FACE, lambda answers: answers.hf_files(repo_id, kind, wanted))
    for name in _chosen(names, allow_patterns, ignore_patterns):
        _file(scope, repo_id, kind, wanted, name, local_dir)
    return str(local_dir) if local_dir is not None else str(_snapshot(scope, repo_id, kind, commit))


def _chosen(names: Sequence[str], allow: str | Sequence[str] | None, ignore: str | Sequence[str] | None) -> list[str]:
    """Filter names as ``huggingface_hub.utils.filter_repo_objects`` does: a folder stands for all that is in it."""
    allowed, ignored = _patterns(allow), _patterns(ignore)
    return [
        name
        for name in names
        if (allow is None or any(fnmatch.fnmatch(name, pattern) for pattern in allowed))
        and not any(fnmatch.fnmatch(name, pattern) for pattern in ignored)
    ]


def _patterns(given: str | Sequence[str] | None) -> list[str]:
    patterns = [given] if isinstance(given, str) else list(given or ())
    return [f"{pattern}*" if pattern.endswith("/") else pattern for pattern in patterns]


def address(repo: str, file: str) -> str:
    """Return what a refused file is known by, whatever revision was asked for."""
    return f"{HUGGING_FACE}/{repo}/{file}"


def _file(scope: Scope, repo_id: str, kind: str, revision: str, name: str, local_dir: Any) -> Path:
    url = hugging_face_file(repo_id, kind, revision, name)
    # libraries probe for optional files: that one is absent is an answer of its own
    probe = scope.ask(HUGGING_FACE, lambda answers: answers.reply("HEAD", url))
    if probe is not None and probe[0] == _NOT_FOUND:
        _raise_absent(url)
    commit, file = scope.ask(
        HUGGING_FACE, lambda answers: answers.hf(repo_id, kind, revision, name), file=address(repo_id, name)
    )
    scope.given(file)
    if local_dir is not None:
        target = Path(local_dir) / name
        target.parent.mkdir(parents=True, exist_ok=True)
    else:
        target = _snapshot(scope, repo_id, kind, commit) / name
    placing.place(file.path, target, private=scope.folder)
    return target


def _try_to_load_from_cache(
    scope: Scope,
    _original: Function,
    repo_id: str,
    filename: str,
    cache_dir: Any = None,
    revision: str | None = None,
    repo_type: str | None = None,
) -> str | None:
    """Find what this load was given; in the user's cache, where transformers looks first, are bytes nobody checked."""
    del cache_dir
    snapshots = _snapshots(scope, repo_id, repo_type or "model")
    # there is one for a branch
    commits = [snapshots / str(revision)] if (snapshots / str(revision)).is_dir() else sorted(snapshots.glob("*"))
    return next((str(commit / filename) for commit in commits if (commit / filename).is_file()), None)


def _snapshots(scope: Scope, repo_id: str, kind: str) -> Path:
    """Return a folder laid out as in the library's cache: some code takes names out of the path."""
    return scope.folder / "huggingface" / "hub" / "--".join([f"{kind}s", *repo_id.split("/")]) / "snapshots"


def _snapshot(scope: Scope, repo_id: str, kind: str, commit: str) -> Path:
    """Return the folder of one commit."""
    folder = _snapshots(scope, repo_id, kind) / commit
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _raise_absent(url: str) -> NoReturn:
    # made without its constructor: that wants the answer of a server
    kind = importlib.import_module("huggingface_hub.utils").EntryNotFoundError
    error: Exception = kind.__new__(kind)
    error.args = (f"404 Client Error: {url} does not exist",)
    raise error
