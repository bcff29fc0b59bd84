"""What a log of system calls (``strace -f -y``) says about the order in which bytes and names reach the disk."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SYNCS = ("fsync", "fdatasync")
NAMES = ("rename", "renameat", "renameat2", "link", "linkat")
FOLDERS = ("mkdir", "mkdirat")
WRITES = (
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "sendfile", "splice", "copy_file_range"),
    *("ftruncate", "truncate", "fallocate"),
)
TRACED = "trace=" + ",".join((*SYNCS, *NAMES, *FOLDERS, *WRITES))


@dataclass(frozen=True)
class Call:
    """A system call that succeeded."""

    name: str
    paths: tuple[str, ...]
    begun: int
    """Which line of the log it begins in, and which it ends in: those of several threads overlap."""
    done: int


def read_log(log: Path) -> list[Call]:
    """Return the calls of a log of :data:`TRACED`, in the order in which they ended."""
    calls = []
    waiting: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(log.read_text(errors="replace").splitlines()):
        thread, _, text = line.partition(" ")
        text = text.strip()
        begun = number
        if text.endswith("<unfinished ...>"):
            waiting[thread] = number, text.removesuffix("<unfinished ...>")
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>", text):
            begun, first = waiting.pop(thread)
            text = first + text[resumed.end() :]
        match = re.match(r"(\w+)\((.*)\) += \d+", text)
        if match is None:
            continue
        named = r'"(/[^"]*)"' if match[1] in (*NAMES, *FOLDERS, "truncate") else r"^\d+<(/[^>]*)>"
        if paths := tuple(re.findall(named, match[2])):
            calls.append(Call(match[1], paths, begun, number))
    return calls


def misordered(calls: list[Call], names: str) -> list[str]:
    """Return what is wrong about the files and folders whose final paths match the pattern ``names``.

    Each must have its bytes, and all that lies below it, on the disk before it gets its name; the folder of the name,
    and each folder made on the way to it, must be synced afterwards.
    """
    return [fault for call in published(calls, names) for fault in _faults(calls, call)]


def published(calls: list[Call], names: str) -> list[Call]:
    """Return the calls that gave something a name that matches ``names``."""
    return [call for call in calls if call.name in NAMES and re.search(names, call.paths[-1])]


def _faults(calls: list[Call], name: Call) -> Iterator[str]:
    source, target = name.paths[-2:]
    for path in sorted({path for call in calls for path in call.paths if _within(path, source)} | {source}):
        wrote = [call.done for call in _of(calls, path, (*WRITES, *FOLDERS)) if call.begun < name.done]
        synced = [call for call in _of(calls, path, SYNCS) if call.begun > max(wrote, default=-1)]
        if not any(call.done < name.begun for call in synced):
            yield f"{path} is not synced before it becomes {target}"
    for call in calls:
        if call.name in WRITES and call.begun > name.begun and any(_within(path, target) for path in call.paths):
            yield f"{call.paths[0]} is written under its final name"
    folder = target.rpartition("/")[0]
    if not any(call.begun > name.done for call in _of(calls, folder, SYNCS)):
        yield f"{folder} is not synced after {target} got its name"
    for made in calls:
        above = made.paths[0].rpartition("/")[0]
        after = (call.begun > made.done for call in _of(calls, above, SYNCS))
        if made.name in FOLDERS and _within(target, made.paths[0]) and not any(after):
            yield f"{above} is not synced after {made.paths[0]} was made"


def _of(calls: list[Call], path: str, names: tuple[str, ...]) -> list[Call]:
    return [call for call in calls if call.name in names and path in call.paths]


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")
