"""Confines the process that traces: no network, no writing outside its folder, no reading of the user's home.

Linux only, and only as far as the kernel allows; elsewhere the in-process guard is all there is, and the lock says so.
A network namespace (user_namespaces(7), network_namespaces(7)) takes away every network; Landlock (landlock(7)) names
the folders that may be read and written. Both bind the process and whatever it starts, for good. They must be set up
while the process has one thread: before torch is imported.
"""

import ctypes
import os
import signal
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GUARD = "guard"
"""What holds where the kernel gives nothing: the audit hook alone."""

MAX_PROCESSES = 4096
MAX_FILE = 256 << 30
"""Bytes that one file may grow to."""

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_CHILD_SUBREAPER = 1, 38, 36
_O_PATH = 0o10000000

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH, _VERSION_FLAG = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_WRITE_SINCE = {1: ((1 << 13) - 1) & ~_READ, 2: _REFER, 3: _TRUNCATE}
"""The rights to write, by the version of Landlock that brought them."""
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_TCP = 0b11
_SCOPES = 0b11
"""Abstract sockets and signals reach no process outside."""

_DEVICES = ("null", "zero", "full", "random", "urandom", "shm", "kfd", "dri")


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What a process may touch; whatever lies below a named folder is meant."""

    readable: tuple[Path, ...]
    writable: tuple[Path, ...]


def confine(policy: Policy) -> str:
    """Confine this process as far as the kernel allows, and tell what holds.

    Returns:
        ``netns+landlock``, ``netns``, ``landlock`` or ``guard``.
    """
    limit_core()
    if not sys.platform.startswith("linux"):
        return GUARD
    network = _leave_network()
    _limit(network)
    files = _restrict_files(policy)
    return "+".join(name for name, holds in (("netns", network), ("landlock", files)) if holds) or GUARD


def readable_below(home: Path, extra: Iterable[Path]) -> tuple[Path, ...]:
    """Return what may be read: everything but homes, temporary folders and terminals, and then ``extra``."""
    hidden = {Path("/tmp"), Path("/var/tmp"), Path("/home"), Path("/root"), Path("/run/user"), Path("/dev/pts")}  # noqa: S108
    hidden.add(home.resolve())
    found = list(_outside(Path("/"), hidden - {Path("/")}))
    return tuple(dict.fromkeys([*found, *(path.resolve() for path in extra)]))


def _outside(folder: Path, hidden: set[Path]) -> Iterable[Path]:
    """Name the largest folders below ``folder`` that hold nothing hidden."""
    for path in sorted(folder.iterdir()):
        if path in hidden or path.is_symlink():
            continue
        inner = {item for item in hidden if path in item.parents}
        if inner:
            yield from _outside(path, inner)
        else:
            yield path


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process as soon as its parent, the process ``parent``, ends; Linux only."""
    if sys.platform.startswith("linux"):
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            # it ended before the kernel knew
            os._exit(1)


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own parent ends; True where the kernel can."""
    return sys.platform.startswith("linux") and _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def limit_core() -> None:
    """Leave no core file behind a crash."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit(own_users: bool) -> None:
    import resource

    bounds = {resource.RLIMIT_FSIZE: MAX_FILE}
    if own_users:
        # elsewhere, the user's other processes would count
        bounds[resource.RLIMIT_NPROC] = MAX_PROCESSES
    for limit, wanted in bounds.items():
        hard = resource.getrlimit(limit)[1]
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(limit, (bound, bound))


def _leave_network() -> bool:
    """Enter a user and a network namespace of our own; nothing is changed where the kernel forbids it."""
    user, group = os.geteuid(), os.getegid()
    if _libc().unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        return False
    # else without names for user and group, but also without a network
    with suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def _restrict_files(policy: Policy) -> bool:
    """Enter a Landlock domain; nothing is changed where the kernel has none."""
    version = _syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    if version < 1 or not _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        return False
    write = sum(right for since, right in _WRITE_SINCE.items() if version >= since)
    attributes = struct.pack("<QQQ", _READ | write, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    attributes = attributes[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        for path in (*policy.readable, *policy.writable):
            _allow(ruleset, path, _READ)
        for path in (*policy.writable, *_devices()):
            _allow(ruleset, path, _READ | write)
        return _syscall(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _devices() -> list[Path]:
    folder = Path("/dev")
    return [folder / name for name in _DEVICES if (folder / name).exists()] + sorted(folder.glob("nvidia*"))


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, _O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            rights &= _OF_FILES
        _syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("<Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> bool:
    arguments = [ctypes.c_ulong(word) for word in (value, 0, 0, 0)]
    return int(_libc().prctl(option, *arguments)) == 0


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    call = _libc().syscall
    call.restype = ctypes.c_long
    return int(call(ctypes.c_long(number), *(_word(argument) for argument in arguments)))


def _word(argument: int | bytes | None) -> object:
    if isinstance(argument, int):
        return ctypes.c_long(argument)
    return ctypes.c_char_p(argument)
