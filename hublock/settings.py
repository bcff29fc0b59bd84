"""What a user set outside the project: a frozen value built from a mapping, never from the environment itself."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import starmap
from pathlib import Path
from typing import Self

from hublock.errors import InputError

DEFAULT_JOBS = 8
LONGEST_SHOWN = 20
"""Characters of a wrong number that a message repeats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings of one process."""

    cache: Path
    """The folder of the store (``HUBLOCK_CACHE_DIR``, else the platform's cache folder)."""
    project: Path | None = None
    """Where the project is (``HUBLOCK_PROJECT``): a folder or a lock file; None to search for it."""
    mirrors: tuple[tuple[str, str], ...] = ()
    """``(from, to)`` URL prefixes, longest ``from`` first; never written to a lock."""
    jobs: int = DEFAULT_JOBS
    """How many downloads run at once (``HUBLOCK_JOBS``)."""
    mmap: bool = True
    """Whether checkpoints may be memory-mapped from the store (``HUBLOCK_MMAP=0`` turns it off)."""
    torch_home: Path | None = None
    """Where torch keeps its own cache: files of it are taken over where their digest matches."""
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Host name -> token, from ``GITHUB_TOKEN``, ``GH_TOKEN`` and ``HF_TOKEN``; never printed."""

    @classmethod
    def from_mapping(cls, environ: Mapping[str, str], *, mirrors: Mapping[str, str] | None = None) -> Self:
        """Read the settings from ``environ``; ``mirrors`` are those of the user's config file, which it overrides.

        Raises:
            InputError: a variable holds what it cannot.
        """
        cache = environ.get("HUBLOCK_CACHE_DIR")
        project = environ.get("HUBLOCK_PROJECT")
        rules = {**(mirrors or {}), **_mirrors(environ.get("HUBLOCK_MIRRORS", ""))}
        merged = dict(starmap(_rule, rules.items()))
        return cls(
            cache=_expanded(cache, environ).absolute() if cache else _default_cache(),
            project=Path(project).absolute() if project else None,
            mirrors=tuple(sorted(merged.items(), key=lambda pair: (-len(pair[0]), pair[0]))),
            jobs=_jobs(environ.get("HUBLOCK_JOBS", "")),
            mmap=environ.get("HUBLOCK_MMAP", "1") != "0",
            torch_home=_torch_home(environ),
            tokens=_tokens(environ),
        )


def _default_cache() -> Path:
    import platformdirs

    try:
        return Path(platformdirs.user_cache_dir("hublock", appauthor=False))
    except RuntimeError as error:
        raise InputError(f"there is no folder for the store: {error}", hint="export HUBLOCK_CACHE_DIR=FOLDER") from None


def _mirrors(text: str) -> dict[str, str]:
    """Read ``FROM=TO`` pairs parted by white space, each split at its first ``=``."""
    pairs = {}
    for word in text.split():
        source, equals, target = word.partition("=")
        if not (source and equals and target):
            raise InputError(
                f"HUBLOCK_MIRRORS holds {_shown(word)!r}, which is not FROM=TO",
                hint="export HUBLOCK_MIRRORS='https://github.com/=https://mirror.example/github.com/'",
            )
        pairs[source] = target
    return pairs


def _rule(source: str, target: str) -> tuple[str, str]:
    """Return a mirror rule as addresses are spelled; what stands behind the one must not run into the other."""
    if not all(url.lower().startswith(("http://", "https://")) for url in (source, target)):
        raise InputError(
            f"the mirror rule {_shown(source)}={_shown(target)} of HUBLOCK_MIRRORS or config.toml"
            " does not map an http(s) address to another",
            hint="write https://github.com/=https://mirror.example/github.com/",
        )
    scheme, _, rest = source.partition("://")
    host, slash, path = rest.partition("/")
    if source.endswith("/") != target.endswith("/") and "?" not in target:
        target = f"{target}/" if source.endswith("/") else target.rstrip("/")
    return f"{scheme}://{host}".lower() + slash + path, target


def _shown(address: str) -> str:
    """Return what may be printed of an address that is none: whatever stands before an ``@`` may be a password."""
    return re.sub(r"[^/\s]+@", "…@", address)


def _jobs(text: str) -> int:
    try:
        return count(text) if text else DEFAULT_JOBS
    except ValueError as error:
        raise InputError(f"HUBLOCK_JOBS: {error}", hint="export HUBLOCK_JOBS=8") from None


def count(text: str) -> int:
    """Read how many downloads run at once.

    Raises:
        ValueError: the text is no such number.
    """
    if not re.fullmatch(r"0*[1-9][0-9]{0,3}", text):
        shown = text if len(text) < LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
        raise ValueError(f"{shown!r} is not a whole number from 1 to 9999")
    return int(text)


def _torch_home(environ: Mapping[str, str]) -> Path:
    """Return the folder that torch.hub derives (torch/hub.py: TORCH_HOME, else XDG_CACHE_HOME/torch)."""
    named, cache = environ.get("TORCH_HOME"), environ.get("XDG_CACHE_HOME")
    return _expanded(named or f"{cache or '~/.cache'}/torch", environ)


def _expanded(path: str, environ: Mapping[str, str]) -> Path:
    """Return a path as a shell would have it: what sets variables for a container expands no ``~``."""
    return home(environ) / path[2:] if path == "~" or path.startswith("~/") else Path(path)


def _tokens(environ: Mapping[str, str]) -> dict[str, str]:
    github = environ.get("GITHUB_TOKEN") or environ.get("GH_TOKEN")
    hosts = {"github.com": github, "codeload.github.com": github, "huggingface.co": environ.get("HF_TOKEN")}
    # a secret that was read from a file ends in the end of a line
    return {host: token.strip() for host, token in hosts.items() if token and token.strip()}


def home(environ: Mapping[str, str]) -> Path:
    """Return the user's home folder as ``environ`` tells it."""
    return Path(environ.get("HOME") or environ.get("USERPROFILE") or os.path.expanduser("~"))  # noqa: PTH111
