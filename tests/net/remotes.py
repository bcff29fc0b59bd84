"""Short ways to ask for a repository of the forge."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hublock.core.progress import Progress
from hublock.core.reference import Reference
from hublock.core.tree import SourceFile, blob_id, tree_id
from hublock.net.git.remote import Remote, Resolved, Snapshot, open_remote
from hublock.net.transport import HttpTransport
from tests.forge import Forge


def remote(
    forge: Forge,
    text: str,
    *,
    base: Path = Path("/"),
    environ: Mapping[str, str] | None = None,
    mirror: tuple[str, str] | None = None,
    progress: Progress | None = None,
) -> Remote:
    settings = forge.settings(None, **(environ or {}))
    if mirror is not None:
        settings = replace(settings, mirrors=(mirror, *settings.mirrors))
    return open_remote(Reference.parse(text), HttpTransport(settings), base=base, progress=progress or Progress())


def resolve(forge: Forge, text: str, *, allow_unreachable: bool = False, nested: bool = False) -> Resolved:
    ref = Reference.parse(text).ref
    return remote(forge, text).resolve(ref, allow_unreachable=allow_unreachable, nested=nested)


def fetch(forge: Forge, text: str) -> Snapshot:
    here = remote(forge, text)
    return here.fetch(here.resolve(Reference.parse(text).ref).commit)


def contents(files: Sequence[SourceFile]) -> dict[str, bytes]:
    return {file.path: file.data for file in files}


def digest(files: Sequence[SourceFile], algorithm: str = "sha256") -> str:
    return tree_id(((file.path, file.mode, blob_id(file.data, algorithm)) for file in files), algorithm)
