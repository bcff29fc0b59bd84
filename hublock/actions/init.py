"""Begin a project: an empty manifest."""

from hublock.actions.project import Project
from hublock.errors import InputError

EMPTY = """\
# What this project takes from PyTorch Hub. `hublock add OWNER/REPO ENTRYPOINT` writes here, and so may you;
# `hublock lock` then pins it in hub.lock.
"""


def init_project(project: Project) -> None:
    """Write an empty ``hub.toml``.

    Raises:
        InputError: the project has a manifest already.
        StoreError: the folder cannot be written.
    """
    if project.embedded or project.manifest.exists():
        raise InputError(f"{project.manifest} already holds a manifest", hint="hublock add OWNER/REPO ENTRYPOINT")
    project.check_writable()
    project.write_manifest(EMPTY)
