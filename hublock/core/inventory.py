"""Everything a lock names that can be fetched."""

from collections.abc import Iterator
from dataclasses import dataclass

from hublock.core.digest import Digest
from hublock.core.lockfile import Lock

HUGGING_FACE = "https://huggingface.co"


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedFile:
    """A file, where it came from and what it must be."""

    url: str
    digest: Digest
    size: int


def locked_files(lock: Lock) -> Iterator[LockedFile]:
    """Yield every file of ``lock`` that is fetched by URL, each digest once."""
    seen = set()
    for file in _all(lock):
        if file.digest not in seen:
            seen.add(file.digest)
            yield file


def _all(lock: Lock) -> Iterator[LockedFile]:
    for model in (model for repo in lock.repos for model in repo.models):
        for weights in model.weights:
            yield LockedFile(url=weights.url, digest=weights.digest, size=weights.size)
        for reply in model.replies:
            yield LockedFile(url=reply.url, digest=reply.digest, size=reply.size)
        for file in model.hf:
            url = f"{hugging_face_folder(file.repo, file.type)}/resolve/{file.commit}/{file.file}"
            yield LockedFile(url=url, digest=file.digest, size=file.size)
    for named in lock.weights:
        yield LockedFile(url=named.url, digest=named.digest, size=named.size)


def hugging_face_folder(repo: str, type: str) -> str:
    """Return the URL below which Hugging Face serves a repository; ``type`` is model, dataset or space."""
    return f"{HUGGING_FACE}/{repo}" if type == "model" else f"{HUGGING_FACE}/{type}s/{repo}"
