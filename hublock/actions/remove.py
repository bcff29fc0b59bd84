"""Take a model or a file out of manifest and lock."""

from dataclasses import replace
from shlex import quote

from hublock.actions.changing import changing
from hublock.actions.context import Context
from hublock.actions.project import Project
from hublock.core.manifest import edit_manifest, keep_home
from hublock.core.nearest import nearest
from hublock.core.plan import as_wanted, plan, unpinned, without
from hublock.errors import InputError, StaleLock


def remove(name: str, project: Project, context: Context) -> None:
    """Remove the model or the weights called ``name`` from both files, or from neither; what else is locked stays.

    Raises:
        InputError: neither file has anything of that name, or only a person can edit the manifest.
        StaleLock: something that the lock does not answer yet has its pin from what would go, or what stays is only
            allowed something by what would go.
        StoreError: the project cannot be written.
    """
    with changing(project, context) as project:
        text = project.manifest_text()
        manifest, old = project.read_manifest(), project.read_lock()
        # of a command that was killed, the lock alone may have it
        if name not in {*manifest.names, *old.names}:
            raise InputError(f"{project.manifest} has no {name}{nearest(name, manifest.names)}", hint="hublock list")
        new = without(old, name)
        rest = replace(
            manifest,
            models=tuple(model for model in manifest.models if model.name != name),
            weights=tuple(item for item in manifest.weights if item.name != name),
        )
        todo = plan(rest, new)
        if lost := unpinned(todo, old, new):
            raise StaleLock(
                f"{project.lock} does not answer {', '.join(lost)} yet, which would lose its pin with {name}",
                hint=f"hublock lock, then hublock remove {quote(name)}",
            )
        before = {pending.wanted.name for pending in plan(manifest, old).trace}
        if worse := [pending for pending in todo.trace if pending.wanted.name not in before]:
            told = "; ".join(f"model {pending.wanted.name} {pending.reason}" for pending in worse)
            raise StaleLock(f"without {name}, {told}", hint="allow it there in the manifest, then remove it")
        if not (todo.trace or todo.fetch):
            # the name of a repository may be as only the one that goes has spelled it
            new = as_wanted(rest, new)
        if name in manifest.names:
            text = edit_manifest(text, embedded=project.embedded, remove=name)
            # without any table of ours, the next model would begin a hub.toml beside it
            text = keep_home(text) if project.embedded else text
        if project.lock.exists():
            project.write_both(text, new, less=True)
        else:
            project.write_manifest(text)
