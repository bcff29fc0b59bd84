"""The second maker of Answers: files that a test puts on a shelf."""

import hashlib
import io
import pickle as pickling
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from hublock.core.digest import Digest
from hublock.core.lockfile import Pickle
from hublock.core.pickles.scanning import scan
from hublock.errors import UnlockedDownload
from hublock.runtime import torchhub
from hublock.runtime.answers import File, check_prefix
from hublock.runtime.repository import Repository


def run(*args: Any, **options: Any) -> Any:
    """Load as ``torchhub.watch`` does, and return only what the entry point did."""
    return torchhub.watch(*args, **options).result


class Shelf:
    """Answers from files that the test puts on it, and remembers what was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, File] = {}
        self.repos: dict[str, Repository] = {}
        self.replies: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.hugging_face: dict[tuple[str, str, str, str], tuple[str, File]] = {}
        self.inputs: dict[Digest, Pickle] = {}
        self.tree: dict[tuple[str, str], Pickle] = {}
        self.asked: list[str] = []

    def put(self, url: str, data: bytes, pickle: Pickle | None = None) -> File:
        digest = Digest("sha256", hashlib.sha256(data).hexdigest())
        path = self.folder / digest.hex
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o444)
        verdict = scan(io.BytesIO(data)) if pickle is None else pickle
        self.files[url] = File(path=path, digest=digest, size=len(data), pickle=verdict)
        return self.files[url]

    def fetch(self, url: str, *, hash_prefix: str | None = None) -> File:
        self.asked.append(url)
        if url not in self.files:
            raise UnlockedDownload(f"nobody locked {url}", hint="hublock add OWNER/REPO ENTRYPOINT")
        check_prefix(url, self.files[url].digest, hash_prefix)
        return self.files[url]

    def repo(self, reference: str) -> Repository:
        self.asked.append(reference)
        if reference not in self.repos:
            raise UnlockedDownload(f"nobody locked {reference}")
        return self.repos[reference]

    def reply(self, method: str, url: str) -> tuple[int, bytes] | None:
        return self.replies.get((method, url))

    def hf(self, repo: str, repo_type: str, revision: str, file: str) -> tuple[str, File]:
        self.asked.append(f"hf:{repo}/{file}@{revision}")
        key = (repo, repo_type, revision, file)
        if key not in self.hugging_face:
            raise UnlockedDownload(f"nobody locked {file} of {repo}")
        return self.hugging_face[key]

    def hf_files(self, repo: str, repo_type: str, revision: str) -> tuple[str, tuple[str, ...]]:
        found = {key[3]: value[0] for key, value in self.hugging_face.items() if key[:3] == (repo, repo_type, revision)}
        if not found:
            raise UnlockedDownload(f"nobody locked {repo}")
        return next(iter(found.values())), tuple(sorted(found))

    def input(self, path: Path) -> File | None:
        data = path.read_bytes()
        digest = Digest("sha256", hashlib.sha256(data).hexdigest())
        known = {file.digest: file.pickle for file in self.files.values()} | self.inputs
        if digest not in known:
            return None
        return File(path=path, digest=digest, size=len(data), pickle=known[digest])

    def pickle_of(self, repo: str, path: str) -> Pickle | None:
        return self.tree.get((repo, path))


def saved(value: Any, **options: Any) -> bytes:
    """Return what torch.save writes."""
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def ones(count: int) -> bytes:
    """Return a checkpoint of one tensor, whose length tells it from others."""
    import torch

    return saved({"w": torch.ones(count)})


def legacy_zip(data: bytes) -> bytes:
    """Return a zip of one checkpoint, which torch.hub unpacks."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inner.pth", data)
    return buffer.getvalue()


def legacy_tar(values: list[float]) -> bytes:
    """Write a checkpoint as torch did before 0.1.10: a tar of storages, tensors and a pickle that refers to them."""
    import torch

    storages = pickling.dumps(1, 2) + pickling.dumps((0, "cpu", torch.FloatStorage), 2)
    storages += struct.pack(f"<q{len(values)}f", len(values), *values) + pickling.dumps([], 2)
    tensors = pickling.dumps(1, 2) + pickling.dumps((1, 0, torch.FloatTensor), 2)
    tensors += struct.pack("<i4xqqq", 1, len(values), 1, 0)

    class Pickler(pickling.Pickler):
        def persistent_id(self, obj: object) -> object:
            return 1 if obj == "tensor" else None

    pickled = io.BytesIO()
    Pickler(pickled, 2).dump({"w": "tensor"})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (("storages", storages), ("tensors", tensors), ("pickle", pickled.getvalue())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
