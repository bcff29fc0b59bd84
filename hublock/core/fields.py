"""The rules of single fields that manifest and lock share.

Wherever a JSON Schema can say the same, ``schemas/`` says it with the same pattern.
"""

import math
import re
from contextlib import suppress

from hublock.core import arguments, tables
from hublock.core.digest import LENGTHS, Digest
from hublock.core.reference import Reference
from hublock.core.tables import Cell, Rule, quote
from hublock.errors import InputError, InvalidReference

LONGEST_BODY = 256 * 2**10
"""The longest metadata answer that a lock holds, in characters; a longer one is a file."""

_CONTROL = r"\x00-\x20\x7f"
_URL = re.compile(rf"https?://[^{_CONTROL}/?#@\\]+(?:[/?#][^{_CONTROL}]*)?")
_USERINFO = re.compile(r"[a-z]+://[^/?#]*@")
_PART = r"(?!\.{1,2}(?:/|$))[^/\\\x00-\x1f\x7f]+"
_ABSOLUTE = r"[/\\~]|[A-Za-z]:"

commit = tables.matching(re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?"), "a full commit id of 40 or 64 hex digits")
name = tables.matching(
    re.compile(rf"(?!\.)[^{_CONTROL}/\\:@]+"),
    "a name without white space, slash, colon or @, and no dot in front",
)
entrypoint = tables.matching(
    re.compile(rf"(?![._])[^{_CONTROL}/\\:@]+"), "an entry point, whose name never begins with an underscore"
)
word = tables.matching(re.compile(rf"[^{_CONTROL}]+"), "a word without white space")
hf_repo = tables.matching(
    re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)?"), "a Hugging Face repository such as owner/name"
)
method = tables.matching(re.compile(r"[A-Z]+"), "an HTTP method such as GET")
tolerated = tables.matching(
    re.compile(rf"https?://[^{_CONTROL}/?#@\\]+|subprocess:[^{_CONTROL}/\\]+"), "https://HOST or subprocess:PROGRAM"
)
distribution = tables.matching(
    re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?==[A-Za-z0-9.!_-]+"), "NAME==VERSION without a local part"
)

path = tables.matching(re.compile(rf"(?![A-Za-z]:){_PART}(?:/{_PART})*"), 'a relative path without ".."')
"""That of a file below a tree, parted by ``/``."""
relative = tables.matching(re.compile(rf"(?!{_ABSOLUTE}).+", re.DOTALL), "a relative path")


def digest(*schemes: str) -> Rule[Digest]:
    """Read a digest of one of ``schemes``."""

    def rule(cell: Cell) -> Digest:
        written = tables.text(cell)
        found = written.partition(":")[0]
        if found not in schemes and found in LENGTHS:
            raise cell.refuse(f"expected a {' or '.join(schemes)} digest, found a {found} one")
        try:
            return Digest.parse(written)
        except ValueError as error:
            raise cell.refuse(str(error)) from None

    return rule


def url(cell: Cell) -> str:
    """Read an http or https URL that holds no credentials."""
    value = tables.text(cell)
    if _USERINFO.match(value):
        # the URL is not shown: what it holds may be a password
        raise cell.refuse(
            "the URL holds a user name or password", hint="put credentials into ~/.netrc, never into a URL"
        )
    if not _URL.fullmatch(value):
        raise cell.refuse(f"expected an http or https URL, found {quote(value)}")
    return value


def submodule_url(cell: Cell) -> str:
    """Read what .gitmodules says: any URL of git(7), also a relative one."""
    value = word(cell)
    if re.match(r"https?://[^/?#]*@", value):
        raise cell.refuse("the URL holds a user name or password")
    return value


def reference(cell: Cell) -> str:
    """Read a reference to a repository; a local one must be relative."""
    value = tables.text(cell)
    try:
        parsed = Reference.parse(value)
    except InvalidReference as error:
        raise cell.refuse(error.message, hint=error.hint) from None
    if parsed.kind == "local" and re.match(_ABSOLUTE, value):
        raise cell.refuse(
            f"{quote(value)} is an absolute path, which other machines do not have",
            hint="write a path relative to the manifest, such as ./repo",
        )
    return value


def requirement(cell: Cell) -> str:
    """Read a PEP 508 requirement, on one line."""
    from packaging.requirements import InvalidRequirement, Requirement

    value = tables.text(cell)
    with suppress(InvalidRequirement, RecursionError):
        Requirement(value)
        if not re.search(r"[\x00-\x1f\x7f]", value):
            return value
    raise cell.refuse(
        f"{quote(value)} is not a requirement (PEP 508)", hint='write a requirement such as "torch>=2.4,<3"'
    )


def body(cell: Cell) -> str:
    """Read a metadata answer."""
    if not isinstance(cell.value, str):
        raise cell.refuse(f"expected a string, found {tables.kind_of(cell.value)}")
    if len(cell.value) > LONGEST_BODY:
        raise cell.refuse(f"must not be longer than {LONGEST_BODY} characters")
    return cell.value


def pickle(cell: Cell) -> str | tuple[str, ...]:
    """Read a verdict on a pickle: a fixed word, or the globals it names."""
    if isinstance(cell.value, list):
        names = tables.distinct(tables.text)(cell)
        if not names:
            raise cell.refuse("must not be empty")
        return names
    return tables.one_of("tensors", "torchscript", "none")(cell)


def value(cell: Cell) -> arguments.Value:
    """Read an argument of an entry point."""
    raw = cell.value
    if isinstance(raw, list):
        return [value(item) for item in cell.items()]
    if isinstance(raw, dict):
        special = arguments.marked(raw)
        if special:
            _check_marked(cell, *special)
        return {key: value(item) for key, item in cell.members().items()}
    if isinstance(raw, float) and math.isnan(raw):
        raise cell.refuse("nan cannot be an argument, because it never equals itself")
    if isinstance(raw, int) and not -(2**63) <= raw < 2**63:
        raise cell.refuse("an integer of TOML has 64 bits", hint='write it as { python = "…" }')
    if not isinstance(raw, str | int | float):
        raise cell.refuse(f"{tables.kind_of(raw)} cannot be an argument", hint="write it as a string")
    return raw


def keywords(cell: Cell) -> dict[str, arguments.Value]:
    """Read the keyword arguments of an entry point."""
    cells = cell.members()
    for key, item in cells.items():
        if not key.isidentifier():
            raise item.refuse("a keyword argument must be a Python name")
    return {key: value(item) for key, item in cells.items()}


arguments_of = tables.array(value)
"""Reads the positional arguments of an entry point."""


def _check_marked(cell: Cell, kind: str, text: str) -> None:
    here = cell.at(kind, text)
    if kind == "object":
        if not arguments.is_object_path(text):
            raise here.refuse(f"expected a dotted name such as torch.float16, found {quote(text)}")
        return
    try:
        arguments.literal(text)
    except InputError as error:
        raise here.refuse(error.message) from None
