"""Everything a lock names that can be fetched."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from hublock.core.digest import Digest
from hublock.core.lockfile import HuggingFaceFile, Lock

HUGGING_FACE = "https://huggingface.co"
LONGEST_LISTING = 32 << 20
"""Bytes of what Hugging Face tells of one revision, its files among it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedFile:
    """A file, where it came from and what it must be."""

    url: str
    digest: Digest
    size: int


def locked_addresses(lock: Lock) -> Iterator[LockedFile]:
    """Yield every URL of ``lock`` once; several may be those of one file."""
    yield from dict.fromkeys(_all(lock))


def locked_files(lock: Lock) -> Iterator[LockedFile]:
    """Yield every file of ``lock`` that is fetched by URL, each digest once."""
    seen = set()
    for file in _all(lock):
        if file.digest not in seen:
            seen.add(file.digest)
            yield file


def locked_content(lock: Lock) -> Iterator[LockedFile]:
    """Yield every file of ``lock``, also those that users hand in (``url`` is their name then), each digest once."""
    seen = set()
    for file in locked_files(lock):
        seen.add(file.digest)
        yield file
    for model in lock.models:
        for given in model.inputs:
            if given.digest not in seen:
                seen.add(given.digest)
                yield LockedFile(url=given.name, digest=given.digest, size=given.size)


def locked_digests(lock: Lock) -> frozenset[Digest]:
    """Return the digests of every tree and file that ``lock`` names."""
    return frozenset(repo.digest for repo in lock.repos) | {file.digest for file in locked_content(lock)}


def cache_key(lock: Lock) -> str:
    """Return a name for the store's content that ``lock`` needs: the same for two locks that name the same bytes."""
    listed = "".join(f"{digest}\n" for digest in sorted(locked_digests(lock)))
    return f"hublock-v1-{hashlib.sha256(listed.encode('ascii')).hexdigest()[:32]}"


def _all(lock: Lock) -> Iterator[LockedFile]:
    for model in lock.models:
        for weights in model.weights:
            yield LockedFile(url=weights.url, digest=weights.digest, size=weights.size)
        for file in model.hf:
            yield LockedFile(url=address(file), digest=file.digest, size=file.size)
    for named in lock.weights:
        yield LockedFile(url=named.url, digest=named.digest, size=named.size)


def address(file: HuggingFaceFile) -> str:
    """Return the URL of a Hugging Face file at its locked commit."""
    return hugging_face_file(file.repo, file.type, file.commit, file.file)


def hugging_face_api(repo: str, type: str, revision: str) -> str:
    """Return the URL at which Hugging Face tells commit and files of a revision, which may hold slashes.

    A file's own URL tells its commit only before it redirects to where the bytes are.
    """
    return f"{HUGGING_FACE}/api/{type}s/{repo}/revision/{quote(revision, safe='')}"


def hugging_face_file(repo: str, type: str, revision: str, file: str) -> str:
    """Return the URL of a file at a revision; its name may hold what means something else in a URL (``#``, ``?``)."""
    return f"{hugging_face_folder(repo, type)}/resolve/{quote(revision, safe='')}/{quote(file)}"


def hugging_face_folder(repo: str, type: str) -> str:
    """Return the URL below which Hugging Face serves a repository; ``type`` is model, dataset or space."""
    return f"{HUGGING_FACE}/{repo}" if type == "model" else f"{HUGGING_FACE}/{type}s/{repo}"
