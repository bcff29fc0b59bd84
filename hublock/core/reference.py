"""What a user types to name a repository: ``owner/repo[:ref]``, ``git+https://…[@ref]`` or a local path."""

import re
from dataclasses import dataclass, replace
from typing import Literal, Self
from urllib.parse import urlsplit

from hublock.errors import InvalidReference

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*)"
_GITHUB = re.compile(rf"({_NAME}/{_NAME})(?::(.*))?", re.ASCII)
_PATH = re.compile(r"\.{1,2}(?:[/\\]|$)|[/~\\]|[A-Za-z]:[/\\]")
_HOST = re.compile(r"(?:[^@:]+@)?(?:\[[0-9A-Fa-f:.]+\]|[^\[\]@:]+)(?::[0-9]{1,5})?")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.IGNORECASE)
_SCHEMES = ("git+https", "git+http", "git+ssh", "git+file")
_HINT = "write owner/repo[:ref], git+https://host/path[@ref] or a local path such as ./repo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A repository and, if named, a ref of it; ``str()`` gives back what was typed."""

    kind: Literal["github", "git", "local"]
    location: str
    """``owner/repo``, the URL with its ``git+`` and without its ref, or the path."""
    ref: str | None = None
    """A branch, a tag, a full ref name or a full commit id; None is the default branch."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference.

        Raises:
            InvalidReference: ``text`` follows none of the three spellings, or no lock can hold it.
        """
        if text.startswith(tuple(f"{scheme}://" for scheme in _SCHEMES)):
            return cls._parse_url(text)
        if _PATH.match(text):
            return cls(kind="local", location=_checked_path(text))
        match = _GITHUB.fullmatch(text)
        if match is None:
            raise _nameless(text)
        location, ref = match.groups()
        return cls(kind="github", location=location, ref=_checked_ref(text, ref))

    @classmethod
    def _parse_url(cls, text: str) -> Self:
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port
        except ValueError:
            # not shown: it may hold a password that could not be told apart
            raise InvalidReference("the URL of a reference is malformed", hint=_HINT) from None
        if parts.password or ("@" in parts.netloc and parts.scheme != "git+ssh"):
            raise _secretive(host)
        # urlsplit drops control characters and empty queries without a word
        odd = re.search(r"[\x00-\x20\x7f?#\\]", text) or not parts.path.strip("/")
        if odd or (parts.netloc if parts.scheme == "git+file" else not _HOST.fullmatch(parts.netloc)):
            raise InvalidReference(f"{text!r} does not name a repository", hint=_HINT)
        path, at, ref = parts.path.partition("@")
        location = f"{parts.scheme}://{parts.netloc}{path}"
        return cls(kind="git", location=location, ref=_checked_ref(text, ref if at else None))

    def __str__(self) -> str:
        if self.ref is None:
            return self.location
        return f"{self.location}{':' if self.kind == 'github' else '@'}{self.ref}"

    @property
    def key(self) -> str:
        """What two references share when they name the same thing: GitHub ignores the case of owner and name."""
        return str(replace(self, location=self.location.lower())) if self.kind == "github" else str(self)

    def at(self, ref: str | None) -> Self:
        """Return the same repository at another ref."""
        return replace(self, ref=ref)


def _nameless(text: str) -> InvalidReference:
    """Return the error for what follows no spelling, with the one that may have been meant."""
    scheme, slashes, rest = text.partition("://")
    authority = rest.partition("/")[0]
    scp = re.fullmatch(r"([\w.-]+@[\w.-]+):([\w.~/-]+)", text)
    if slashes and "@" in authority:
        return _secretive(authority.rpartition("@")[2])
    hint = _HINT
    if scp:
        hint = f"write git+ssh://{scp[1]}/{scp[2]}"
    elif page := re.fullmatch(r"(?:https?://)?(?:www\.)?github\.com/([^/]+/[^/]+)(?:/.*)?", text, re.IGNORECASE):
        hint = f"write {page[1].removesuffix('.git')}, and behind a colon the branch, tag or commit"
    elif version := re.fullmatch(rf"({_NAME}/{_NAME})@([^@]+)", text, re.ASCII):
        hint = f"write {version[1]}:{version[2]}"
    elif scheme in ("https", "ssh", "file") and slashes:
        hint = f"write git+{text}"
    return InvalidReference(f"{text!r} does not name a repository", hint=hint)


def _secretive(host: str | None) -> InvalidReference:
    return InvalidReference(
        f"the reference to {host} holds a user name or password",
        hint="put credentials into ~/.netrc or a token variable, never into a reference",
    )


def _checked_path(text: str) -> str:
    """Refuse a path that no lock can hold."""
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise InvalidReference(f"{text!r} holds a control character", hint="rename the folder")
    return text


def _checked_ref(text: str, ref: str | None) -> str | None:
    """Refuse what git-check-ref-format(1) refuses, as far as a reference could smuggle it."""
    if ref is None:
        return None
    bad = not ref or re.search(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/.]|[/.]$|\.lock(?:/|$)|/\.", ref)
    if bad:
        raise InvalidReference(f"{text!r} has no valid branch, tag or commit after its repository", hint=_HINT)
    return ref


def is_commit(ref: str) -> bool:
    """Say whether ``ref`` is a whole commit id; it means that commit, whatever branch may be called so."""
    return _COMMIT.fullmatch(ref) is not None


def key_of(reference: str) -> str:
    """Return :attr:`Reference.key` of a reference as typed.

    Raises:
        InvalidReference: it is none.
    """
    return Reference.parse(reference).key
