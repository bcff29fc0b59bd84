"""``hublock sync``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hublock.cli.console import counted, size
from hublock.cli.face import Face
from hublock.settings import count

if TYPE_CHECKING:
    from hublock.core.lockfile import Lock

SUMMARY = "fetch what hub.lock names into the store, and verify it"
EXAMPLES = """\
  hublock sync
  hublock sync --locked    exit 1 first if the lock does not answer the manifest
  hublock sync --offline   fetch nothing, exit 4 if anything is missing
  hublock sync --from-bundle out.tar"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--locked", action="store_true", help="refuse a stale lock")
    parser.add_argument(
        "--torch-hub",
        action="store_true",
        help="also write repositories, and files by the ends of their URLs, into torch.hub's own cache (TORCH_HOME)",
    )
    parser.add_argument("--offline", action="store_true", help="use no network")
    parser.add_argument(
        "--jobs", type=_count, metavar="N", help="how many downloads run at once (default: HUBLOCK_JOBS or 8)"
    )
    parser.add_argument(
        "--from-bundle",
        metavar="FILE",
        type=Path,
        help="take everything from what `hublock bundle` wrote, use no network",
    )


def _count(text: str) -> int:
    try:
        return count(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from hublock.actions.project import read_named_lock
    from hublock.actions.sync import sync

    project, console = face.project, face.console
    lock = read_named_lock(project.lock)
    face.warn_if_stale(lock, refuse=arguments.locked)
    if arguments.from_bundle:
        from hublock.actions.bundle import read_bundle

        came = read_bundle(lock, face.context, arguments.from_bundle)
        what = f"{counted(came.trees, 'tree')} and {counted(came.files, 'file')}, {size(came.size)}"
        console.done("Took in", f"{what} from {arguments.from_bundle}")
    offline = arguments.offline or arguments.from_bundle is not None
    done = sync(lock, face.context, base=project.folder, offline=offline)
    if done.fetched_trees or done.fetched_files:
        fetched = f"{counted(done.fetched_trees, 'tree')} and {counted(done.fetched_files, 'file')}"
        console.done("Fetched", f"{fetched}, {size(done.fetched_bytes)}")
    if done.adopted_bytes:
        console.done("Took over", f"{size(done.adopted_bytes)} from torch.hub's own cache")
    console.done("Synced", f"{counted(done.trees, 'tree')} and {counted(done.files, 'file')} of {project.lock.name}")
    if arguments.torch_hub:
        _write_torch_cache(lock, face)
    return 0


def _write_torch_cache(lock: "Lock", face: Face) -> None:
    from hublock.actions.torch_cache import write_torch_cache

    torch_home = face.settings.torch_home
    assert torch_home is not None
    written = write_torch_cache(lock, face.context.store, torch_home)
    for name, aside in written.set_aside:
        face.console.warn(f"{name} in {written.folder} held something else, which is kept as {aside}")
    for reason in written.left_out:
        face.console.warn(f"{reason}: torch.hub has no place for it")
    face.console.done(
        "Wrote", f"{counted(written.trees, 'tree')} and {counted(written.files, 'file')} to {written.folder}"
    )
