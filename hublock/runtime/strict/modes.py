"""The modes of files that code copies out of the store, where nobody may write: under torch.hub they are the user's."""

import os
import stat
from pathlib import Path
from typing import Any

from hublock.runtime.strict.scope import Scope
from hublock.runtime.strict.swap import Function


def copy_mode(scope: Scope, original: Function, src: Any, dst: Any, **options: Any) -> None:
    """Answer ``shutil.copymode`` and ``copystat``, by which ``copy`` and ``copytree`` end.

    What the code writes there later, and who removes it, needs a file or folder that can be written.
    """
    original(src, dst, **options)
    if not os.path.islink(dst) and _is_stored(scope, os.path.realpath(src)):  # noqa: PTH114 - any path
        mode = Path(dst).stat().st_mode
        Path(dst).chmod(stat.S_IMODE(mode) | stat.S_IWUSR)


def _is_stored(scope: Scope, real: str) -> bool:
    trees = [os.path.realpath(repository.root) for repository in scope.repositories if not repository.is_users_own]
    return real in scope.by_path or any(Path(real).is_relative_to(root) for root in trees)
