"""How fast ``hublock verify`` hashes its store again, beside ``openssl dgst -sha256`` over the same files.

Run it as ``python tests/benchmarks/verify.py [--files 4] [--megabytes 1000] [--folder DIR]``. Both are whole commands
and get all cores (openssl: as many at a time, a file each). The last rows are ``verify`` of files that look unchanged,
which reads none of them: once of these files, once of a thousand.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hublock.core.canonical import dump_lock
from hublock.core.digest import Digest
from hublock.core.lockfile import Lock, NamedWeights
from hublock.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
MB = 1_000_000
MANY = 1000


def project(folder: Path, count: int, size: int) -> list[Path]:
    """Make a project that locks ``count`` files of random bytes, with a store that holds them; return the files."""
    store = Store(folder / "store")
    digests = [store.add_blob(os.urandom(size)) for _ in range(count)]
    rows = [weights(number, digest, size) for number, digest in enumerate(digests)]
    (folder / "hub.lock").write_text(dump_lock(Lock(weights=tuple(rows))), encoding="ascii")
    (folder / "hub.toml").write_text("".join(f'[weights.{row.name}]\nurl = "{row.url}"\n' for row in rows))
    return [path for digest in digests if (path := store.blob(digest))]


def weights(number: int, digest: Digest, size: int) -> NamedWeights:
    """Return what the lock says of one file."""
    url = f"https://example.org/{number}.bin"
    return NamedWeights(name=f"file{number}", url=url, digest=digest, size=size, pickle="none")


def verify(folder: Path, *options: str) -> None:
    """Run ``hublock verify`` in a project."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HUBLOCK_CACHE_DIR": str(folder / "store")}
    command = [sys.executable, "-m", "hublock", "verify", "--quiet", *options]
    subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)


def openssl(paths: list[Path], cores: int) -> None:
    """Hash every file, as many at a time as there are cores."""

    def one(path: Path) -> None:
        subprocess.run(["openssl", "dgst", "-sha256", path], check=True, stdout=subprocess.DEVNULL)

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(one, paths))


def best(work: Callable[[], object]) -> float:
    """Return the seconds that the fastest of three runs takes."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--megabytes", type=int, default=1000, help="of each file")
    parser.add_argument("--folder", type=Path, help="where the stores are made")
    given = parser.parse_args()
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="hublock-bench-") as name:
        few, many = Path(name, "few"), Path(name, "many")
        few.mkdir()
        many.mkdir()
        paths = project(few, given.files, given.megabytes * MB)
        project(many, MANY, 1000)
        # a first pass, so that both read from memory and every file has its stamp
        verify(few, "--deep")
        verify(many, "--deep")
        theirs, ours = best(lambda: openssl(paths, cores)), best(lambda: verify(few, "--deep"))
        stamps, thousand = best(lambda: verify(few)), best(lambda: verify(many))
    total = given.files * given.megabytes / 1000
    print(f"{given.files} x {given.megabytes} MB on {cores} cores, whole commands")
    print(f"  openssl                {theirs:6.2f} s  {total / theirs:5.2f} GB/s")
    print(f"  hublock verify --deep  {ours:6.2f} s  {total / ours:5.2f} GB/s, {theirs / ours:.2f} x openssl's speed")
    print(f"  hublock verify         {stamps:6.2f} s  {theirs / stamps:.0f} x openssl's speed")
    print(f"  hublock verify         {thousand:6.2f} s  of {MANY} files of 1 kB")


if __name__ == "__main__":
    main()
