"""The functions of torch.hub that fetch files, and those that say where files go, inside a scope."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse, urlsplit

from hublock.errors import UnlockedDownload
from hublock.runtime.answers import check_prefix, sha256_now
from hublock.runtime.strict import placing
from hublock.runtime.strict.made import importing
from hublock.runtime.strict.scope import Scope
from hublock.runtime.strict.swap import Function
from hublock.runtime.strict.transports import as_also, local_file


def get_dir(scope: Scope, _original: Function) -> str:
    """Answer ``torch.hub.get_dir``."""
    return str(scope.hub_dir)


def get_torch_home(scope: Scope, _original: Function) -> str:
    """Answer ``torch.hub._get_torch_home``, which some repositories call."""
    return str(scope.hub_dir.parent)


def set_dir(scope: Scope, _original: Function, d: str | os.PathLike[str]) -> None:
    """Answer ``torch.hub.set_dir``: it changes what this scope sees, and nothing else."""
    scope.hub_dir = folder = Path(d).expanduser()
    made = importing()
    if made is not None:
        is_private = folder.is_relative_to(scope.private_hub)
        made.hub_dir = folder.relative_to(scope.private_hub) if is_private else folder


def download_url_to_file(
    scope: Scope, _original: Function, url: str, dst: str, hash_prefix: str | None = None, _progress: bool = True
) -> None:
    """Answer ``torch.hub.download_url_to_file``.

    Raises:
        UnlockedDownload: nobody locked ``url``; a URLError as well, which code catches that has another address.
        DigestMismatch: the sha256 does not begin with ``hash_prefix``.
        OSError: ``url`` names a file that is not there, or ``dst`` cannot be written.
    """
    placing.place(_fetch(scope, url, hash_prefix), Path(dst).expanduser(), private=scope.private)


def _fetch(scope: Scope, url: str, hash_prefix: str | None) -> Path:
    if urlsplit(url).scheme.lower() != "file":
        try:
            return scope.fetch(url, hash_prefix).path
        except UnlockedDownload as error:
            raise as_also(error, URLError) from error
    path = local_file(scope, url)
    check_prefix(url, sha256_now(path), hash_prefix)
    return path


def load_state_dict_from_url(
    scope: Scope,
    original: Function,
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    *rest: Any,
    **options: Any,
) -> Any:
    """Let torch's own function find the right bytes, alone in a folder under the name it expects.

    Raises:
        UnlockedDownload: nobody locked ``url``.
        DigestMismatch: ``check_hash`` is set and the name claims another sha256.
        OSError: ``url`` names a file that is not there.
    """
    name = file_name if file_name is not None else os.path.basename(urlparse(url).path)  # noqa: PTH119 - as torch does
    path = _fetch(scope, url, _claimed_hash(name) if check_hash else None)
    kept = Path(model_dir) if model_dir is not None else scope.hub_dir / "checkpoints"
    kept.mkdir(parents=True, exist_ok=True)
    _leave_behind(scope, path, kept / name)
    folder = Path(tempfile.mkdtemp(dir=scope.folder))
    # a name may be a path, and lead out of the folder
    alone = Path(name).name or "file"
    try:
        placing.link(path, folder / alone)
        loaded = original(url, str(folder), map_location, progress, check_hash, alone, *rest, **options)
        for unpacked in folder.iterdir():
            # the one file of an old zip
            if unpacked.name != alone and unpacked.is_file():
                _leave_behind(scope, unpacked, kept / unpacked.name, copy=True)
        return loaded
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _leave_behind(scope: Scope, source: Path, target: Path, *, copy: bool = False) -> None:
    """Put a file where torch.hub would keep it; another file that is there already is the user's and stays.

    Unless an earlier load has left it in its own hub folder, whose name a module may keep.
    """
    if placing.is_below(target, scope.private) or not target.exists():
        if copy:
            placing.copy(source, target)
        else:
            placing.place(source, target, private=scope.private)


def _claimed_hash(name: str) -> str | None:
    import torch.hub

    match = torch.hub.HASH_REGEX.search(name)
    return match.group(1) if match else None
