"""``hublock sync``."""

import argparse

from hublock.cli.console import counted, size
from hublock.cli.face import Face
from hublock.errors import NotLocked, StaleLock

SUMMARY = "fetch what hub.lock names into the store, and verify it"
EXAMPLES = """\
  hublock sync
  hublock sync --locked    exit 1 first if the lock does not answer the manifest
  hublock sync --offline   fetch nothing, exit 4 if anything is missing"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--locked", action="store_true", help="refuse a stale lock")
    parser.add_argument("--offline", action="store_true", help="use no network")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="how many downloads run at once (default: HUBLOCK_JOBS or 8)"
    )


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from hublock.actions.sync import sync
    from hublock.core.plan import plan

    project, console = face.project, face.console
    if not project.lock.exists():
        raise NotLocked(f"{project.lock} does not exist", hint="hublock lock")
    lock = project.read_lock()
    reasons = plan(project.read_manifest(), lock).reasons if project.manifest.exists() else ()
    if reasons and arguments.locked:
        raise StaleLock(f"{project.lock} does not answer the manifest: {'; '.join(reasons)}", hint="hublock lock")
    for reason in reasons:
        console.warn(f"{project.lock.name} is stale: {reason}")
    done = sync(lock, face.context, base=project.folder, offline=arguments.offline)
    if done.fetched_trees or done.fetched_files:
        fetched = f"{counted(done.fetched_trees, 'tree')} and {counted(done.fetched_files, 'file')}"
        console.done("Fetched", f"{fetched}, {size(done.fetched_bytes)}")
    if done.adopted_bytes:
        console.done("Took over", f"{size(done.adopted_bytes)} from torch.hub's own cache")
    console.done("Synced", f"{counted(done.trees, 'tree')} and {counted(done.files, 'file')} of {project.lock.name}")
    return 0
