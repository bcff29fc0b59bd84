"""Begin a project: an empty manifest, and if asked, locks that git merges by entry."""

from pathlib import Path

from hublock.actions.project import Project
from hublock.actions.textfiles import read_text, replace_file
from hublock.core.edits import line_ending
from hublock.errors import InputError
from hublock.net.git.worktree import run_git

ATTRIBUTE = "hub.lock merge=hublock"
"""The line of .gitattributes (gitattributes(5)) that gives the lock its own merge driver."""
DRIVER = "hublock merge-driver %O %A %B || { [ $? = 1 ] || git merge-file -L ours -L base -L theirs %A %O %B; false; }"
"""Where hublock is not found, git would leave our lock as it is, and theirs would be lost without a mark."""

EMPTY = """\
# What this project takes from PyTorch Hub. `hublock add OWNER/REPO ENTRYPOINT` writes here, and so may you;
# `hublock lock` then pins it in hub.lock.
"""


def init_project(project: Project) -> None:
    """Write an empty ``hub.toml``.

    Raises:
        InputError: the project has a manifest already, or something else in its place.
        StoreError: the folder cannot be written.
    """
    if project.embedded or project.manifest.exists():
        project.manifest_text()
        raise InputError(f"{project.manifest} already holds a manifest", hint="hublock add OWNER/REPO ENTRYPOINT")
    project.check_writable()
    project.write_manifest(EMPTY)


def lacks_merge_driver(project: Project) -> bool:
    """Tell whether the project lies in a git repository that merges its lock line by line."""
    inside = any((folder / ".git").exists() for folder in (project.folder, *project.folder.parents))
    return inside and ATTRIBUTE not in _lines(_attributes(project.folder))


def set_merge_driver(project: Project) -> Path:
    """Let git merge the lock by entry: a line in .gitattributes, for all, and the driver in this clone's configuration.

    Raises:
        InputError: the project is in no git repository.
        StoreError: .gitattributes cannot be written.
        EnvironmentMismatch: git is not installed.
    """
    for key, value in (("name", "hublock: merge locks by entry"), ("driver", DRIVER)):
        _configure(project.folder, f"merge.hublock.{key}", value)
    path = project.folder / ".gitattributes"
    text = _attributes(project.folder)
    if ATTRIBUTE not in _lines(text):
        end = line_ending(text)
        gap = end if text and not text.endswith("\n") else ""
        replace_file(path, f"{text}{gap}{ATTRIBUTE}{end}")
    return path


def _attributes(folder: Path) -> str:
    path = folder / ".gitattributes"
    return read_text(path) if path.exists() else ""


def _lines(text: str) -> list[str]:
    """Return the lines as git sees them; str.splitlines parts them at a form feed as well."""
    return [line.rstrip("\r") for line in text.split("\n")]


def _configure(folder: Path, key: str, value: str) -> None:
    done = run_git(folder, "config", "--local", key, value)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise InputError(f"{folder} takes no git configuration: {said}", hint="git init")
