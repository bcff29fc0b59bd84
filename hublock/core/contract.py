"""What a repository promises its callers, read as text, and how two versions of it differ: nothing runs.

It is an estimate where hubconf.py makes its names at run time, and the URLs always are one (see core.hints). Only a
trace tells.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hublock.core.hints import find_urls
from hublock.core.hubconf import HUBCONF, not_a_repository, read_hubconf


@dataclass(frozen=True, kw_only=True, slots=True)
class Contract:
    """Entry points with their signatures, declared dependencies, and the URLs of files in the source."""

    entrypoints: Mapping[str, str]
    """Name -> signature, empty where only the name is known."""
    dependencies: tuple[str, ...]
    urls: tuple[str, ...]
    """Those of files that the source names, sorted."""
    estimated: bool
    """Whether hubconf.py makes names at run time, so that some may be missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """An entry point that is called otherwise than before."""

    name: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ContractChange:
    """How one version of a repository differs from the one before, for its callers."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    signatures: tuple[Signature, ...] = ()
    dependencies_added: tuple[str, ...] = ()
    dependencies_removed: tuple[str, ...] = ()
    urls_added: tuple[str, ...] = ()
    urls_removed: tuple[str, ...] = ()
    estimated: bool = False
    """Whether either version makes names at run time and was only read."""

    @property
    def empty(self) -> bool:
        """Whether callers see no difference."""
        return self == ContractChange(estimated=self.estimated)


def read_contract(sources: Mapping[str, bytes], *, name: str) -> Contract:
    """Read the contract of a tree.

    Args:
        sources: path -> bytes of its Python files, hubconf.py among them.
        name: how messages call the repository.

    Raises:
        InputError: there is no hubconf.py, or it cannot be parsed.
    """
    if HUBCONF not in sources:
        raise not_a_repository(name)
    hubconf = read_hubconf(sources[HUBCONF], file=f"{name}: {HUBCONF}")
    return Contract(
        entrypoints={entry.name: entry.signature for entry in hubconf.entrypoints},
        dependencies=hubconf.dependencies,
        urls=find_urls(sources.get),
        estimated=hubconf.dynamic,
    )


def compare(old: Contract, new: Contract) -> ContractChange:
    """Return what callers of ``old`` find changed in ``new``."""
    shared = sorted(old.entrypoints.keys() & new.entrypoints.keys())
    return ContractChange(
        added=_missing(new.entrypoints, old.entrypoints),
        removed=_missing(old.entrypoints, new.entrypoints),
        signatures=tuple(
            Signature(name=name, old=old.entrypoints[name], new=new.entrypoints[name])
            for name in shared
            if old.entrypoints[name] != new.entrypoints[name]
        ),
        dependencies_added=_missing(new.dependencies, old.dependencies),
        dependencies_removed=_missing(old.dependencies, new.dependencies),
        urls_added=_missing(new.urls, old.urls),
        urls_removed=_missing(old.urls, new.urls),
        estimated=old.estimated or new.estimated,
    )


def _missing(these: Iterable[str], those: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(these) - set(those)))
