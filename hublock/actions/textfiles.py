"""Text files of the user's: read with care, replaced whole or not at all."""

import errno
import os
import stat
from pathlib import Path
from shlex import quote

from hublock.errors import InputError, StoreError
from hublock.store.incoming import replacing


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        InputError: it is no regular file, cannot be read, or is not UTF-8.
        FileNotFoundError: there is none.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            # a link in a repository may lead to a device that never ends
            raise InputError(f"{path} is not a file", hint="put a text file in its place")
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})", hint=f"save {path.name} as UTF-8") from None
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(*error.args, str(path)) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", hint=f"chmod u+r {quote(str(path))}") from None


def replace_file(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in one step: written beside, flushed to disk, renamed.

    Raises:
        StoreError: the folder cannot be written; ``path`` is as before.
    """
    path = Path(os.path.realpath(path))
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
        with replacing(path, mode=mode) as file:
            file.write(text.encode("utf-8"))
    except OSError as error:
        hint = f"chmod u+w {quote(str(path.parent))}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = f"free some space for {path.parent}"
        if error.errno == errno.EBUSY:
            hint = f"mount the folder that holds {path.name}, not the file alone: it is replaced by renaming"
        raise StoreError(f"{path} cannot be written: {error.strerror}", hint=hint) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
