"""How fast hublock hashes its store again, beside ``openssl dgst -sha256`` over the same files.

Run it as ``python tests/benchmarks/verify.py [--files 4] [--megabytes 250] [--folder DIR]``. Both get all cores, one
file a worker. The last line is the check of files that look unchanged, which reads none of them.
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hublock.store.store import Store

MB = 1_000_000


def timed(work: Callable[[Path], object], paths: Iterable[Path], workers: int) -> float:
    """Return the seconds it takes to do ``work`` on every path."""
    began = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, paths))
    return time.perf_counter() - began


def openssl(path: Path) -> None:
    subprocess.run(["openssl", "dgst", "-sha256", path], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--megabytes", type=int, default=250, help="of each file")
    parser.add_argument("--folder", type=Path, help="where the store is made")
    given = parser.parse_args()
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="hublock-bench-") as folder:
        store = Store(Path(folder))
        digests = [store.add_blob(os.urandom(given.megabytes * MB)) for _ in range(given.files)]
        paths = {path: digest for digest in digests if (path := store.blob(digest))}

        def deep(path: Path) -> None:
            store.check_blob(paths[path])

        def shallow(path: Path) -> None:
            store.check_blob(paths[path], deep=False)

        # a first pass, so that both read from memory
        timed(deep, paths, cores)
        theirs = min(timed(openssl, paths, cores) for _ in range(3))
        ours = min(timed(deep, paths, cores) for _ in range(3))
        stamps = min(timed(shallow, paths, 1) for _ in range(3))
    total = given.files * given.megabytes / 1000
    print(f"{given.files} x {given.megabytes} MB on {cores} cores")
    print(f"  openssl          {theirs:6.2f} s  {total / theirs:5.2f} GB/s")
    print(f"  hublock, deep    {ours:6.2f} s  {total / ours:5.2f} GB/s, {theirs / ours:.2f} x the speed of openssl")
    print(f"  hublock, stamps  {stamps * 1e6 / given.files:6.0f} us a file")


if __name__ == "__main__":
    main()
