"""Whose code is running: told by the frames on the stack, for calls that no load has marked by its context."""

import os
import site
import sys
import sysconfig
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from hublock.runtime.repository import MARKER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_trees: set[str] = set()


def remember_tree(root: Path) -> None:
    """Know that code of files below ``root`` is a repository's, even where its frames carry no mark."""
    _trees.add(f"{root}{os.sep}")


def innermost_namespace() -> str | None:
    """Return the namespace of the repository that calls: of the frames that are no library's, the innermost decides.

    None if that is one of the user's own: a hook or a dataset that code of a repository calls.
    """
    for frame in _frames():
        marker: str | None = frame.f_globals.get(MARKER)
        if marker is not None or _is_users(frame):
            return marker
    return None


def importing() -> set[str]:
    """Return the namespaces of the modules that are being imported by who calls."""
    frames = (frame for frame in _frames() if frame.f_code.co_name == "<module>")
    return {frame.f_globals[MARKER] for frame in frames if MARKER in frame.f_globals}


def _frames() -> "Iterator[FrameType]":
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_users(frame: "FrameType") -> bool:
    """Say whether a frame is of the program itself: its script or notebook, or a file beside or below it."""
    if frame.f_globals.get("__name__") == "__main__":
        return True
    file = frame.f_code.co_filename
    return not file.startswith("<") and not _is_librarys(file) and file.startswith(_own_folders())


@cache
def _is_librarys(file: str) -> bool:
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    # hublock and torch may be installed from where they are developed
    developed = [module.__file__ for name in ("hublock", "torch") if (module := sys.modules.get(name)) is not None]
    folders += [*site.getsitepackages(), site.getusersitepackages(), *(_folder(path) for path in developed if path)]
    return file.startswith((*(f"{folder}{os.sep}" for folder in folders), *_trees))


def _own_folders() -> tuple[str, ...]:
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    folders = [_folder(script)] if isinstance(script, str) else []
    # the current folder may be gone
    with suppress(OSError):
        folders.append(str(Path.cwd()))
    return tuple(f"{folder.rstrip(os.sep)}{os.sep}" for folder in folders)


def _folder(file: str) -> str:
    return str(Path(file).absolute().parent)
