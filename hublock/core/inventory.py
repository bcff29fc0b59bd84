"""Everything a lock names that can be fetched."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from urllib.parse import quote

from hublock.core.digest import Digest
from hublock.core.lockfile import HuggingFaceFile, Input, Lock, Model, NamedWeights, Pickle, Weights

HUGGING_FACE = "https://huggingface.co"


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedFile:
    """A file, where it came from and what it must be."""

    url: str
    digest: Digest
    size: int
    pickle: Pickle
    owner: str
    """The first model, or weights, that has it."""


def addresses_of(models: Iterable[Model], weights: Iterable[NamedWeights] = ()) -> list[LockedFile]:
    """Return every URL that hosts must serve, each once; several may be those of one file."""
    return _once(_fetched(models, weights), attrgetter("url"))


def locked_files(lock: Lock) -> list[LockedFile]:
    """Return every file of ``lock`` that is fetched by URL, each digest once."""
    return _once(_fetched(lock.models, lock.weights), attrgetter("digest"))


def locked_content(lock: Lock) -> list[LockedFile]:
    """Return every file of ``lock``, also those that users hand in (``url`` is their name then), each digest once."""
    return _once(locked_rows(lock), attrgetter("digest"))


def locked_rows(lock: Lock) -> Iterator[LockedFile]:
    """Yield what :func:`locked_content` returns, once for every row that ``lock`` has of it."""
    yield from _fetched(lock.models, lock.weights)
    for model in lock.models:
        yield from (_locked(row, row.name, model.name) for row in model.inputs)


def locked_digests(lock: Lock) -> frozenset[Digest]:
    """Return the digests of every tree and file that ``lock`` names."""
    return frozenset(repo.digest for repo in lock.repos) | {file.digest for file in locked_content(lock)}


def cache_key(lock: Lock) -> str:
    """Return a name for the store's content that ``lock`` needs: the same for two locks that name the same bytes."""
    listed = "".join(f"{digest}\n" for digest in sorted(locked_digests(lock)))
    return f"hublock-v1-{hashlib.sha256(listed.encode('ascii')).hexdigest()[:32]}"


def _once(files: Iterable[LockedFile], key: Callable[[LockedFile], Hashable]) -> list[LockedFile]:
    found: dict[Hashable, LockedFile] = {}
    for file in files:
        found.setdefault(key(file), file)
    return list(found.values())


def _fetched(models: Iterable[Model], weights: Iterable[NamedWeights]) -> Iterator[LockedFile]:
    for model in models:
        yield from (_locked(row, row.url, model.name) for row in model.weights)
        yield from (_locked(row, address(row), model.name) for row in model.hf)
    yield from (_locked(row, row.url, row.name) for row in weights)


def _locked(row: Weights | HuggingFaceFile | Input | NamedWeights, url: str, owner: str) -> LockedFile:
    return LockedFile(url=url, digest=row.digest, size=row.size, pickle=row.pickle, owner=owner)


def address(file: HuggingFaceFile) -> str:
    """Return the URL of a Hugging Face file at its locked commit."""
    return hugging_face_file(file.repo, file.type, file.commit, file.file)


def hugging_face_file(repo: str, type: str, revision: str, file: str) -> str:
    """Return the URL of a file at a revision; its name may hold what means something else in a URL (``#``, ``?``)."""
    return f"{hugging_face_folder(repo, type)}/resolve/{quote(revision, safe='')}/{quote(file)}"


def hugging_face_folder(repo: str, type: str) -> str:
    """Return the URL below which Hugging Face serves a repository; ``type`` is model, dataset or space."""
    return f"{HUGGING_FACE}/{repo}" if type == "model" else f"{HUGGING_FACE}/{type}s/{repo}"
