"""Take a model or a file out of manifest and lock."""

from dataclasses import replace

from hublock.actions.changing import changing
from hublock.actions.context import Context
from hublock.actions.lock import Locking, build
from hublock.actions.project import Project
from hublock.actions.trace import TraceOptions
from hublock.core.manifest import edit_manifest
from hublock.core.nearest import nearest
from hublock.core.plan import plan
from hublock.errors import InputError


def remove(name: str, project: Project, context: Context) -> Locking:
    """Remove the model or the weights called ``name`` from both files, or from neither; what else is locked stays.

    Raises:
        InputError: neither file has anything of that name, or only a person can edit the manifest.
        StoreError: the project cannot be written.
    """
    with changing(project, context):
        text = project.manifest_text()
        manifest, old = project.read_manifest(), project.read_lock()
        # of a command that was killed, the lock alone may have it
        if name not in {*manifest.names, *old.names}:
            raise InputError(f"{project.manifest} has no {name}{nearest(name, manifest.names)}", hint="hublock list")
        rest = replace(
            manifest,
            models=tuple(model for model in manifest.models if model.name != name),
            weights=tuple(item for item in manifest.weights if item.name != name),
        )
        answered = set(plan(rest, old).keep)
        # what the lock did not answer before is left to `hublock lock`: removing needs neither network nor torch
        kept = replace(
            rest,
            models=tuple(model for model in rest.models if model.name in answered),
            weights=tuple(item for item in rest.weights if item.name in {locked.name for locked in old.weights}),
        )
        done = build(kept, old, context, base=project.folder, options=TraceOptions())
        if name in manifest.names:
            text = edit_manifest(text, embedded=project.embedded, remove=name)
        return replace(done, changed=project.write_both(text, done.lock, less=True))
