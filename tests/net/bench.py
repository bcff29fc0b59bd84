"""A forge, a store and a downloader between them, and what the tests of downloads ask of the three."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hublock.core.digest import Digest
from hublock.core.progress import Progress, Task
from hublock.errors import HublockError
from hublock.net.download import Downloader, Fetched, Wanted
from hublock.net.transport import HttpTransport
from hublock.store.store import Store
from tests.forge import Forge

ROOT = Path(__file__).parents[2]
URL = "https://a.org/net-1a2b3c4d.pth"
DATA = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)


def sha256(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).hexdigest())


class Heard(Progress):
    """Remembers what was said, and how far each task came."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: list[Counted] = []

    def task(self, label: str, total: int | None = None) -> Task:
        self.tasks.append(Counted(label))
        return self.tasks[-1]

    def say(self, message: str) -> None:
        self.lines.append(f"say {message}")

    def warn(self, message: str) -> None:
        self.lines.append(f"warn {message}")

    def note(self, message: str) -> None:
        self.lines.append(f"note {message}")


class Counted(Task):
    def __init__(self, label: str) -> None:
        self.label, self.done = label, 0

    def advance(self, amount: int) -> None:
        self.done += amount


class Bench:
    """A forge, a store and a downloader between them."""

    def __init__(self, forge: Forge, folder: Path) -> None:
        self.forge, self.folder = forge, folder
        self.store = Store(folder / "cache")
        self.heard = Heard()
        self.naps: list[float] = []

    def downloader(self, **options: Any) -> Downloader:
        """Return a new downloader, as another process would have it."""
        settings = options.pop("settings", None) or self.forge.settings()
        transport = HttpTransport(settings, idle_timeout=options.pop("idle", 0.3))
        return Downloader(transport, self.store, progress=self.heard, sleep=self.naps.append, **options)

    def fetch(self, wanted: Wanted, **options: Any) -> Fetched:
        return self.downloader(**options).fetch(wanted)

    def refuses(self, wanted: Wanted, kind: type[HublockError], **options: Any) -> str:
        with pytest.raises(kind) as raised:
            self.fetch(wanted, **options)
        if wanted.digest is not None:
            assert self.store.blob(wanted.digest) is None
        return str(raised.value)

    def asked(self) -> list[str | None]:
        """Return the ranges that were asked for so far."""
        return [request.headers.get("range") for request in self.forge.requests]

    def partial(self) -> list[str]:
        return [path.name for path in (self.store.root / "v1" / "partial").iterdir()]


def wanted(data: bytes = DATA, *, size: bool = True) -> Wanted:
    return Wanted(url=URL, digest=sha256(data), size=len(data) if size else None)


SCRIPT = """
import os, sys
from pathlib import Path
from hublock.core.digest import Digest
from hublock.errors import HublockError
from hublock.net import parts, transfer
from hublock.net.download import Downloader, Wanted
from hublock.net.transport import HttpTransport
from hublock.settings import Settings
from hublock.store.store import Store
transfer.WORTH_FACTS = 1
cache, mirrors, digest, *urls = sys.argv[1:]
settings = Settings.from_mapping({**os.environ, "HUBLOCK_CACHE_DIR": cache, "HUBLOCK_MIRRORS": mirrors})
downloader = Downloader(HttpTransport(settings), Store(Path(cache)), jobs=settings.jobs)
wanted = Digest.parse(digest) if digest != "-" else None
try:
    for item in downloader.fetch_all([Wanted(url=url, digest=wanted) for url in urls]):
        print(item.digest, item.came_from)
except HublockError as error:
    print(type(error).__name__, error)
"""


def start(
    bench: Bench, digest: str, *urls: str, wrap: tuple[str, ...] = (), cache: str | None = None
) -> "subprocess.Popen[str]":
    command = [*wrap, sys.executable, "-c", SCRIPT, cache or str(bench.store.root), bench.forge.mirrors, digest, *urls]
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
