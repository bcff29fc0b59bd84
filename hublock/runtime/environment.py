"""Whether what is installed here suits a repository, asked before any of its code is imported."""

import importlib.machinery
import importlib.metadata
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from hublock.errors import EnvironmentMismatch, MissingDependency
from hublock.runtime.modules.ownership import find_top

PIP_NAMES: Mapping[str, str] = {
    "attr": "attrs", "Bio": "biopython", "bs4": "beautifulsoup4", "cv2": "opencv-python", "dateutil": "python-dateutil",
    "dora": "dora-search", "dotenv": "python-dotenv", "faiss": "faiss-cpu", "git": "GitPython",
    "google.protobuf": "protobuf", "hydra": "hydra-core", "MeCab": "mecab-python3", "PIL": "pillow",
    "pkg_resources": "setuptools<81", "skimage": "scikit-image", "sklearn": "scikit-learn", "torch": "hublock[torch]",
    "umap": "umap-learn", "yaml": "pyyaml",
}  # fmt: skip
"""What to install for a module whose distribution has another name."""
NAMESPACES = frozenset({"backports", "google", "jaraco", "ruamel", "zope"})
"""Packages that distributions share, each named for its own part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problems:
    """Everything that is wrong, gathered before anything is said."""

    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    install: list[str] = field(default_factory=list)

    def raise_if_any(self, of: str) -> None:
        absent = _once(self.missing)
        lacks = f"{of} needs {_listed(absent)}, which {_are(absent)} not installed" if absent else ""
        message = "; ".join([*([lacks] if lacks else []), *self.wrong])
        if message:
            kind = MissingDependency if self.missing else EnvironmentMismatch
            raise kind(message, hint=pip_line(self.install))


def check(
    *,
    dependencies: Sequence[str],
    requires: Sequence[str] = (),
    traced_with: Sequence[str] = (),
    exact: bool = False,
    trees_own: Collection[str],
    of: str = "the repository",
) -> list[str]:
    """Compare the installed distributions with what the repository and the manifest ask for; import nothing.

    Args:
        dependencies: hubconf's own list: import names, distribution names or modules of the standard library.
        requires: the manifest's specifiers (PEP 508); public versions are compared, so ``==2.13.0`` takes 2.13.0+cpu.
        traced_with: ``name==version`` of the distributions that the trace saw.
        exact: whether any difference from ``traced_with`` is an error.
        trees_own: top-level names that the tree holds itself.
        of: whom the errors speak of.

    Returns:
        One sentence for torch, and for each distribution that ``dependencies`` names, at another version than traced.

    Raises:
        MissingDependency: something is not installed; all of it is named at once, with one pip line.
        EnvironmentMismatch: a version does not fit.
    """
    problems = _Problems()
    for name in dict.fromkeys(dependencies):
        _check_dependency(name, trees_own, problems)
    for requirement in dict.fromkeys(requires):
        _check_requirement(requirement, problems)
    drifted = _drifted(traced_with)
    if exact:
        _refuse_drift(drifted, problems)
    problems.raise_if_any(of)
    return [_drift(name, traced, have) for name, traced, have in _that_matter(tuple(drifted), tuple(dependencies))]


def undeclared(error: ModuleNotFoundError, of: str) -> MissingDependency | None:
    """Return what to say when foreign code imports a package that its hubconf does not declare.

    None if ``error`` is about a module of the tree, or a part of a package that is installed.
    """
    name = (error.name or "").partition(".")[0]
    if not name or name == "hublock" or name in sys.stdlib_module_names or find_top(name) is not None:
        return None
    return MissingDependency(
        f"{of} imports {name}, which is not installed and not among its declared dependencies",
        hint=pip_line([_pip_name(name)]),
    )


def pip_line(what: Iterable[str]) -> str:
    """Return the one command that installs ``what``, quoted for any shell."""
    words = [word if re.fullmatch(r"[\w.\-]+(?:==[\w.\-]+)?", word, re.ASCII) else f'"{word}"' for word in what]
    return " ".join(["pip install", *dict.fromkeys(words)])


def _check_dependency(name: str, trees_own: Collection[str], problems: _Problems) -> None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(name)
    except InvalidRequirement:
        bare, specified = name, False
    else:
        bare, specified = requirement.name, bool(requirement.specifier)
    if specified and _version(bare) is not None:
        _check_requirement(name, problems)
    elif bare.partition(".")[0] not in trees_own and not importable(bare) and _version(bare) is None:
        problems.missing.append(bare)
        problems.install.append(_pip_name(name if specified else bare))


def _pip_name(name: str) -> str:
    """Return what installs the dependency ``name``, a requirement or a module, however deep."""
    top, dot, _ = name.partition(".")
    known = PIP_NAMES.get(name) or PIP_NAMES.get(top)
    return known or (top if dot and top not in NAMESPACES and name.replace(".", "").isidentifier() else name)


def _check_requirement(text: str, problems: _Problems) -> None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise EnvironmentMismatch(
            f"the requirement {text!r} cannot be read", hint="write it as pip does, for example torch>=2.4,<3"
        ) from error
    if requirement.marker is not None and not requirement.marker.evaluate():
        return
    have = _version(requirement.name)
    if have is None:
        problems.missing.append(text)
        problems.install.extend([PIP_NAMES[requirement.name], text] if requirement.name == "torch" else [text])
    elif not any(requirement.specifier.contains(v, prereleases=True) for v in (have, _public(have))):
        problems.wrong.append(f"{requirement.name} {have} is installed, {text} is required")
        problems.install.append(text)


def importable(name: str) -> bool:
    """Tell whether a module could be imported, without importing even its parents."""
    top, *rest = name.split(".")
    if top in sys.stdlib_module_names:
        return True
    spec = find_top(top)
    full = top
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return False
        full = f"{full}.{part}"
        spec = importlib.machinery.PathFinder.find_spec(full, list(spec.submodule_search_locations))
    return spec is not None


def _version(distribution: str) -> str | None:
    try:
        found = importlib.metadata.distribution(distribution)
        path = vars(found).get("_path")
        return found.version if path is None else _version_at(path)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


@cache
def _version_at(path: Path) -> str:
    """Read the version in a folder of metadata, which is named after it: that takes as long as to check a tree."""
    return importlib.metadata.Distribution.at(path).version


def _public(version: str) -> str:
    """Return ``version`` without its local part: 2.13.0+cpu is 2.13.0."""
    return version.partition("+")[0]


Drifted = tuple[str, str, str | None]
"""A distribution, the version the trace saw, and the installed one."""


def _drifted(traced_with: Sequence[str]) -> list[Drifted]:
    pairs = [(name, version) for name, _, version in (item.partition("==") for item in traced_with)]
    found = [(name, version, _version(name)) for name, version in pairs]
    return [(name, version, have) for name, version, have in found if have is None or _public(have) != _public(version)]


def _refuse_drift(drifted: Sequence[Drifted], problems: _Problems) -> None:
    for name, traced, have in drifted:
        pin = f"{name}=={_public(traced)}"
        problems.install.append(pin)
        if have is None:
            problems.missing.append(pin)
        else:
            problems.wrong.append(_drift(name, traced, have))


@cache
def _that_matter(drifted: tuple[Drifted, ...], dependencies: tuple[str, ...]) -> list[Drifted]:
    """Return those that users are warned of; once for all loads, as it reads what every distribution holds."""
    if not drifted:
        return []
    from packaging.utils import canonicalize_name

    named = {canonicalize_name(name) for name in ("torch", *dependencies, *(PIP_NAMES.get(n, n) for n in dependencies))}
    owners = importlib.metadata.packages_distributions()
    named |= {canonicalize_name(owner) for name in dependencies for owner in owners.get(name.partition(".")[0], ())}
    return [item for item in drifted if canonicalize_name(item[0]) in named]


def _drift(name: str, traced: str, have: str | None) -> str:
    here = f"{name} {have} is installed" if have is not None else f"{name} is not installed"
    return f"{here}, the lock was traced with {_public(traced)}"


def _once(words: Sequence[str]) -> list[str]:
    """Name each distribution once, by the first thing that asked for it."""
    named: dict[str, str] = {}
    for word in words:
        named.setdefault(re.split(r"[\[<>=!~; ]", word, maxsplit=1)[0], word)
    return list(named.values())


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _are(words: Sequence[str]) -> str:
    return "is" if len(words) == 1 else "are"
