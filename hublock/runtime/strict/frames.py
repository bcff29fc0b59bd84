"""Whose code is running: told by the frames on the stack, for calls that no load has marked by its context."""

import importlib.metadata
import json
import os
import site
import sys
import threading
from contextlib import suppress
from functools import cache, partial
from inspect import getattr_static
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from hublock.runtime.repository import MARKER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_trees: set[str] = set()


def here() -> Path:
    """Return the current folder; that of the whole disk where it was removed."""
    try:
        return Path.cwd()
    except OSError:
        return Path(os.sep)


_STARTED_IN = here()
"""Where the program was when this was imported, wherever it goes."""


def remember_tree(root: Path) -> None:
    """Know that code of files below ``root`` is a repository's, even where its frames carry no mark."""
    _trees.update((f"{root}{os.sep}", f"{os.path.realpath(root)}{os.sep}"))


USERS = ""
"""What is said instead of a package where the user's own code calls."""


def innermost_namespace() -> str | None:
    """Return the package of the repository that calls: of the frames that are no library's, the innermost decides.

    ``USERS`` if that is one of the user's own: a hook or a dataset that code of a repository calls. None if there is
    none: in a thread that a library has started. What a repository has put in place of a library's function, which it
    calls in its turn, is as that function: whoever calls it decides.
    """
    # not the frames: one that holds itself lives, with all that its callers have, until garbage is collected
    passed: list[tuple[str, CodeType]] = []
    for frame in _frames():
        marker: str | None = frame.f_globals.get(MARKER)
        # equal, not the same: each run of its code wraps what an earlier one has put there
        if marker is not None and all(_there_now(*inner) != frame.f_code for inner in passed):
            return marker
        passed.append((str(frame.f_globals.get("__name__")), frame.f_code))
        if frame.f_globals.get("__name__") in _STARTERS:
            # what is below has started this process, and not its job
            return None
        if _is_users(frame):
            return USERS
    return None


def _there_now(module: str, code: CodeType) -> object:
    """Return the code of what is found by now under the name of the function of ``module`` that had ``code``."""
    found: object = sys.modules.get(module)
    for word in code.co_qualname.split("."):
        # attributes of torch.hub depend on who calls
        found = getattr_static(found, word, None)
    # anything else may be what an attribute loads, as of a lazy module, which may be just what calls
    return found.__code__ if type(found) is FunctionType else None


_STARTERS = ("multiprocessing.spawn", "multiprocessing.forkserver")


def importing_module() -> tuple[str | None, str]:
    """Return the package and the name of the module that is being imported and calls, if a repository has it."""
    for frame in _frames():
        if frame.f_code.co_name == "<module>" and MARKER in frame.f_globals:
            return str(frame.f_globals[MARKER]), str(frame.f_globals.get("__name__"))
    return None, ""


def importing_library() -> bool:
    """Say whether it is the import of an installed library's module that calls."""
    for frame in _frames():
        # not the program itself, which may be installed as well
        is_import = frame.f_back is not None and frame.f_back.f_code.co_name == "_call_with_frames_removed"
        if frame.f_code.co_name == "<module>" and is_import:
            return MARKER not in frame.f_globals and is_others(frame.f_code.co_filename)
    return False


class _Job(threading.local):
    """What this thread works at; beside the context, which a library may copy for a job before it hands it on."""

    libraries: tuple[str, ...] = ()
    """Those that have handed it on."""


job = _Job()


def responsible() -> tuple[str, ...]:
    """Return the installed libraries that ask on behalf of a repository, those that handed on this job among them."""
    return (*calling_libraries(), *job.libraries)


def calling_libraries() -> list[str]:
    """Return the installed packages that call on behalf of a repository, the innermost first."""
    found = []
    for frame in _frames():
        if MARKER in frame.f_globals or _is_users(frame):
            break
        name = str(frame.f_globals.get("__name__")).partition(".")[0]
        generated = frame.f_code.co_filename.startswith("<")
        if not generated and name not in THAT_KEEP_NOTHING and name not in sys.stdlib_module_names:
            found.append(name)
    return found


def level_of_caller() -> int:
    """Return the ``stacklevel`` at which a warning of who calls this points at the code that uses hublock or torch."""
    for level, frame in enumerate(_frames()):
        name = str(frame.f_globals.get("__name__")).partition(".")[0]
        if MARKER in frame.f_globals or (name not in THAT_KEEP_NOTHING and name not in sys.stdlib_module_names):
            return level
    return 1


THAT_KEEP_NOTHING = ("hublock", "torch", "huggingface_hub", "requests", "urllib3")
"""They fetch for others, and pass on what they do not get."""


def _frames() -> "Iterator[FrameType]":
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_users(frame: "FrameType") -> bool:
    """Say whether a frame is of the program, or of what its user wrote: neither a library's nor a repository's."""
    file = frame.f_code.co_filename
    if file.startswith("<"):
        # generated code is its maker's, but for `python -c`
        return frame.f_globals.get("__name__") == "__main__"
    return not is_others(file)


def is_others(file: str) -> bool:
    """Say whether a file is a library's or a repository's."""
    return _is_others(file, tuple(sys.path))


@cache
def _is_others(file: str, path: tuple[str, ...]) -> bool:
    # what else is on the path is looked at last: that reads files of every distribution
    return any(file.startswith(folders()) for folders in (libraries, partial(_elsewhere, path)))


def library_folders() -> list[str]:
    """Return the folders of the standard library and of what is installed.

    sysconfig knows them too, but to ask it takes as long as to check a tree.
    """
    return [os.path.dirname(os.__file__), *site.getsitepackages(), site.getusersitepackages()]  # noqa: PTH120


def libraries() -> tuple[str, ...]:
    """Return the folders of what is installed, and of repositories."""
    folders = library_folders()
    for name in ("hublock", "torch"):
        file = getattr(sys.modules.get(name), "__file__", None)
        folders += [os.path.dirname(file)] if file else []  # noqa: PTH120
    return (*(f"{folder}{os.sep}" for folder in folders), *_trees)


@cache
def _elsewhere(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return where else on ``path`` libraries are, but for the folder of the program.

    Where an installer has put them, as ``pip install --target`` does (PEP 627: ``INSTALLER``), and where they are
    developed (PEP 610: ``direct_url.json``).
    """
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    own = [_STARTED_IN, *([_STARTED_IN / main] if main else [])]
    folders = set()
    for distribution in importlib.metadata.distributions(path=list(path)):
        if distribution.read_text("INSTALLER") is not None:
            folders.add(str(distribution.locate_file("")))
        # what somebody has damaged tells nothing
        with suppress(ValueError, AttributeError, TypeError):
            facts = json.loads(distribution.read_text("direct_url.json") or "{}")
            if facts.get("dir_info", {}).get("editable"):
                folders.add(unquote(urlsplit(facts.get("url", "")).path))
    found = (folder.rstrip("/") for folder in folders if not any(path.is_relative_to(folder) for path in own))
    return tuple(f"{folder}/" for folder in found)
