"""Repositories on this machine, asked by the user's own git: where one is, what nobody committed, what a merge left."""

import os
import subprocess
from pathlib import Path
from shlex import quote

from hublock.errors import EnvironmentMismatch, RepositoryNotFound
from hublock.net.git.child import child_environment


def find_repository(name: str, path: Path) -> Path:
    """Return the folder of the local repository ``name`` at ``path``.

    Raises:
        RepositoryNotFound: there is no git repository.
    """
    folder = path.expanduser().absolute()
    # names are relative to the project, which is not where whoever reads this stands
    place = os.path.normpath(folder)
    shown = name if name == place else f"{name} ({place})"
    if not folder.is_dir():
        plain, _, ref = place.rpartition(":")
        hint = "give the path of a git repository"
        if plain and ref and Path(plain).is_dir():
            hint = f"write git+{Path(plain).as_uri()}@{ref}; a path alone means what is checked out there"
        raise RepositoryNotFound(f"{shown} is no folder", hint=hint)
    if not (folder / ".git").exists() and not ((folder / "objects").is_dir() and (folder / "HEAD").exists()):
        raise RepositoryNotFound(
            f"{shown} is a folder, but no git repository", hint=f"git init {quote(place)}, then commit"
        )
    return folder


def is_dirty(folder: Path) -> bool:
    """Say whether the work tree ``folder`` holds what its HEAD does not; a bare repository holds nothing.

    A repository's own configuration can name programs that ``git status`` runs (fsmonitor, filters, hooks): it is
    somebody else's, so they are switched off.
    """
    if not (folder / ".git").exists():
        return False
    filters = _said(folder, "config", "--local", "--includes", "--name-only", "--get-regexp", r"^filter\.")
    off = [f"{key}=" for key in filters.splitlines() if not key.endswith(".required")]
    off += ["core.fsmonitor=false", "core.hooksPath=/dev/null"]
    off += [f"{key}=false" for key in filters.splitlines() if key.endswith(".required")]
    settings = [word for setting in off for word in ("-c", setting)]
    return bool(_said(folder, *settings, "status", "--porcelain", "--ignore-submodules=all"))


def read_blob(folder: Path, name: str) -> str | None:
    """Return the text of a blob of the repository around ``folder``; None if it has none of that ``name``.

    See gitrevisions(7) for names: ``:2:./FILE`` is our side of a merge under way.
    """
    try:
        done = run_git(folder, "cat-file", "blob", name)
        return done.stdout.decode("utf-8") if done.returncode == 0 else None
    except (EnvironmentMismatch, UnicodeDecodeError):
        return None


def run_git(
    folder: Path, *words: str, asked: str = "", may_fetch: bool = False
) -> "subprocess.CompletedProcess[bytes]":
    """Run the user's own git in ``folder`` and return what came of it; ``asked`` is its standard input.

    What a partial clone has left at its remote is not fetched, unless it ``may_fetch``.

    Raises:
        EnvironmentMismatch: git is not installed.
    """
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    env = {**child_environment(), "GIT_NO_LAZY_FETCH": "0" if may_fetch else "1"}
    try:
        return subprocess.run(command, input=asked.encode(), env=env, capture_output=True, check=False)
    except FileNotFoundError:
        raise EnvironmentMismatch("this needs git, which is not installed", hint="install git") from None


def _said(folder: Path, *words: str) -> str:
    return run_git(folder, *words).stdout.decode("utf-8", "replace")
