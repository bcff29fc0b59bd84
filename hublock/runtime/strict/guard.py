"""One audit hook per process: inside a scope, no sockets beyond loopback and no program that fetches.

A guard-rail, not a sandbox (PEP 578): sockets that C or Rust code opens by itself raise no audit event.
"""

import ipaddress
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from hublock.runtime.forksafe import ForkSafeLock
from hublock.runtime.strict import reads, surroundings
from hublock.runtime.strict.callers import current, noting
from hublock.runtime.strict.placing import is_below
from hublock.runtime.strict.scope import Scope

PROGRAMS = frozenset(
    {"aria2c", "conda", "curl", "gdown", "git", "hf", "huggingface-cli", "mamba", "micromamba", "pip", "uv", "uvx"}
    | {"wget"}
)
"""Programs that fetch; every other program runs."""
MODULES = frozenset({"conda", "gdown", "huggingface_hub", "pip", "uv", "wget"})
"""What fetches when it is run as ``python -m``."""
_SHELLS = frozenset({"bash", "busybox", "cmd", "dash", "ksh", "powershell", "pwsh", "sh", "zsh"})
_PYTHON = re.compile(r"python[\d.]*w?|pypy[\d.]*")
_WRAPPERS = frozenset({"doas", "env", "exec", "nice", "nohup", "setsid", "stdbuf", "sudo", "time", "timeout", "xargs"})

_lock = ForkSafeLock()
_installed = False


def install() -> None:
    """Add the audit hook, once per process; it cannot be removed again."""
    global _installed  # noqa: PLW0603 - an audit hook is process-wide and cannot be removed
    with _lock:
        if not _installed:
            sys.addaudithook(_hook)
            _installed = True


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    check = _CHECKS.get(event)
    if check is None:
        return
    # to look at frames may open files
    scope = noting() if check in _OF_FILES else current()
    if scope is not None:
        check(scope, arguments)


def _connect(scope: Scope, arguments: tuple[Any, ...]) -> None:
    endpoint, address = arguments[0], arguments[1]
    if endpoint.family == getattr(socket, "AF_UNIX", None):
        return
    if address is not None:
        host, port = address[:2] if isinstance(address, tuple) and len(address) > 1 else (str(address), None)
        _host(scope, (host,))
        if port in _proxies():
            raise scope.refuse(f"http://{host}:{port}", f"tries to reach the proxy at {host}:{port} by itself")


def _proxies() -> set[int]:
    """Return the ports of this machine behind which the network lies, as the environment names proxies."""
    ports = set()
    for value in [value for kind, value in getproxies().items() if kind != "no"]:
        # what is no URL is no proxy
        with suppress(ValueError):
            proxy = urlsplit(value if "//" in value else f"//{value}")
            if _is_loopback(proxy.hostname or ""):
                ports.add(proxy.port or 80)
    return ports


def _host(scope: Scope, arguments: tuple[Any, ...]) -> None:
    host = arguments[0]
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name and not _is_loopback(str(name)):
        raise scope.refuse(f"https://{name}", f"tries to reach {name} by itself")


def _is_loopback(host: str) -> bool:
    # who asks for its own name, as socket.getfqdn() does, reaches nobody else
    if host.lower() in ("localhost", "localhost.", socket.gethostname().lower()):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _popen(scope: Scope, arguments: tuple[Any, ...]) -> None:
    executable, words, _, environ = arguments
    if _is_stand_in(scope, executable, environ):
        return
    check_program(scope, [words] if isinstance(words, str | bytes | os.PathLike) else list(words), executable)


def _is_stand_in(scope: Scope, executable: Any, environ: Any) -> bool:
    """Say whether a program that fetches is looked for by its bare name, and a stand-in of ours is found."""
    if os.name != "posix" or not environ or not isinstance(executable, str | bytes | os.PathLike):
        return False
    name = os.fsdecode(executable)
    found = shutil.which(name, path=environ.get("PATH")) if "/" not in name else None
    return found is not None and is_below(Path(found), scope.private)


def _spawn(scope: Scope, arguments: tuple[Any, ...]) -> None:
    check_program(scope, list(arguments[1]), arguments[0])


def _spawn_mode(scope: Scope, arguments: tuple[Any, ...]) -> None:
    _spawn(scope, arguments[1:])


def _system(scope: Scope, arguments: tuple[Any, ...]) -> None:
    check_program(scope, ["sh", "-c", arguments[0]])


def check_program(scope: Scope, words: Sequence[Any], executable: Any = None) -> None:
    """Refuse to run a program that fetches.

    Who looks for it by its name finds a stand-in, which fails as a program does: code may go on without it.

    Raises:
        UnlockedDownload: it is one.
    """
    texts = [os.fsdecode(word) for word in words]
    if os.name == "posix" and _finds_stand_ins(texts):
        return
    # an open file has no name
    named = executable if executable and not isinstance(executable, int) else None
    name = fetching_program(texts, os.fsdecode(named) if named else None)
    if name is not None:
        raise scope.refuse(f"subprocess:{name}", f"tries to run {name}")


def _finds_stand_ins(words: Sequence[str]) -> bool:
    """Say whether a shell looks for all that fetches by its bare name, along the path that it is given."""
    if len(words) != 3 or program_name(words[0]) not in _SHELLS or words[1] != "-c":
        return False
    parts = _words_of(words[2])
    names = [program_name(part) for part in parts]
    other_path = "PATH" in words[2] or not _WRAPPERS.union({"command", "hash"}).isdisjoint(names)
    named = [part for part, name in zip(parts, names, strict=True) if name in PROGRAMS or _PYTHON.fullmatch(name)]
    # a Python is looked into by its options
    return not other_path and not any("/" in part or _PYTHON.fullmatch(part) for part in named)


def _words_of(text: str) -> list[str]:
    """Return the words of a shell's command; its grammar is not parsed."""
    return [part for part in re.split(r"[\s;|&()`$<>\"']+", text) if part]


def fetching_program(words: Sequence[str], executable: str | None = None) -> str | None:
    """Return the fetching program that a command line runs, or None; shells and wrappers are looked into."""
    names = [program_name(executable)] if executable else []
    names += [program_name(word) for word in words[:1]]
    if any(name in _SHELLS | _WRAPPERS for name in names):
        # any word that names such a program counts
        names += [program_name(part) for word in words[1:] for part in _words_of(word)]
        words = [part for word in words for part in word.split()]
    elif len(words) == 1 and os.name == "nt":
        words = words[0].split()
    for name in names:
        if name in PROGRAMS:
            return name
    return _python_module(words) if any(map(_PYTHON.fullmatch, names)) else None


def _python_module(words: Sequence[str]) -> str | None:
    for option, value in zip(words, [*words[1:], ""], strict=True):
        attached = option.removeprefix("-m") if option.startswith("-m") else ""
        module = (attached or (value if option == "-m" else "")).partition(".")[0]
        if module in MODULES:
            return module
    return None


def program_name(word: str) -> str:
    """Return the name by which a program is refused, of the word that runs it: ``pip`` for ``/usr/bin/pip3.11``."""
    name = PurePath(word.replace("\\", "/")).name.lower().removesuffix(".exe")
    return "pip" if re.fullmatch(r"pip[\d.]+", name) else name


def _chdir(scope: Scope, arguments: tuple[Any, ...]) -> None:
    surroundings.before_chdir(scope, arguments[0])


def _environ(scope: Scope, arguments: tuple[Any, ...]) -> None:
    value = os.fsdecode(arguments[1]) if len(arguments) > 1 else None
    surroundings.before_putenv(scope, os.fsdecode(arguments[0]), value)


_CHECKS: dict[str, Callable[[Scope, tuple[Any, ...]], None]] = {
    "socket.connect": _connect,
    "socket.sendto": _connect,
    "socket.sendmsg": _connect,
    "socket.getaddrinfo": _host,
    "socket.gethostbyname": _host,
    "socket.gethostbyaddr": _host,
    "subprocess.Popen": _popen,
    "os.system": _system,
    "os.exec": _spawn,
    "os.posix_spawn": _spawn,
    "os.spawn": _spawn_mode,
    "os.chdir": _chdir,
    "os.putenv": _environ,
    "os.unsetenv": _environ,
    "open": reads.note,
    "os.rename": reads.note_move,
    "os.link": reads.note_move,
    "os.chmod": reads.before_change,
    "os.chown": reads.before_change,
    "os.truncate": reads.before_change,
    "os.utime": reads.before_change,
}
_OF_FILES = (reads.note, reads.note_move, reads.before_change)
