"""An archive is read as git wrote it, or refused."""

import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hublock.core.tree import digest_of
from hublock.errors import UnsafeArchive
from hublock.store.unpack import read_archive
from tests.forge import Executable, Forge, Gitlink, Link, git
from tests.net.archives import FOLDER, HUBCONF, archive, below, good, malicious

MALICIOUS = malicious()


@pytest.mark.parametrize("data", good().values(), ids=good().keys())
def test_reads_what_git_could_write(data: bytes) -> None:
    files = read_archive(data)
    with zipfile.ZipFile(BytesIO(data)) as other:
        expected = sorted(other.read(info) for info in other.infolist() if not info.is_dir())
    assert sorted(file.data for file in files) == expected


def test_there_are_more_than_a_hundred_malicious_archives() -> None:
    assert len(MALICIOUS) >= 150
    assert len(set(MALICIOUS.values())) == len(MALICIOUS)


@pytest.mark.parametrize("data", MALICIOUS.values(), ids=MALICIOUS.keys())
def test_refuses_a_malicious_archive(data: bytes) -> None:
    with pytest.raises(UnsafeArchive):
        read_archive(data)


def test_refuses_every_bomb_in_little_memory(tmp_path: Path) -> None:
    """In a process that may not hold 400 MB."""
    for number, (name, data) in enumerate(MALICIOUS.items()):
        if "bomb" in name:
            (tmp_path / f"{number}.zip").write_bytes(data)
    script = (
        "import resource, sys, pathlib\n"
        "import hublock.store.unpack as unpack, hublock.errors as errors\n"
        "resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try:\n        unpack.read_archive(path.read_bytes())\n"
        "    except errors.UnsafeArchive:\n        print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["refused"] * 4, done.stderr


def test_a_refusal_names_the_entry() -> None:
    with pytest.raises(UnsafeArchive) as caught:
        read_archive(archive([HUBCONF, below(b"net.py", crc=1)]))
    assert caught.value.message == "'model-1234567/net.py' does not have the size or checksum it says"


@pytest.mark.parametrize(("limit", "value"), [("MAX_FILES", 1), ("MAX_FILE", 3), ("MAX_TREE", 20)])
def test_a_tree_too_large_is_refused(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    data = archive([HUBCONF, below(b"a"), below(b"b")])
    assert len(read_archive(data)) == 3
    monkeypatch.setattr(f"hublock.core.names.{limit}", value)
    with pytest.raises(UnsafeArchive):
        read_archive(data)


def test_what_git_archives_hashes_to_its_tree(forge: Forge) -> None:
    files = {
        "hubconf.py": "x\n",
        "run.sh": Executable("#!/bin/sh\n"),
        "link": Link("dir/ä.txt"),
        "dir/ä.txt": "1",
        b"latin-\xe4": "2",
        "empty": "",
        "sub": Gitlink("1" * 40),
        "large": bytes(100_000),
    }
    repo = forge.repo("someone/model", files)
    data = git("--git-dir", repo.path, "archive", "--format=zip", "--prefix=model-main/", "main")
    found = digest_of(read_archive(data))
    streamed = git(
        "--git-dir", repo.path, "archive", "--format=zip", "--prefix=model-main/", "main",
        config={"core.bigFileThreshold": "1k"},
    )  # fmt: skip
    assert streamed != data  # git writes large files with a data descriptor
    assert digest_of(read_archive(streamed)) == found
    twin = forge.repo(
        "someone/twin", {name: content for name, content in files.items() if name != "sub"}, object_format="sha256"
    )
    assert found.hex == twin.git("rev-parse", "main^{tree}")


WHOLE = archive([FOLDER, HUBCONF, below(b"x/y"), below("ä".encode(), method=0)])


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_damage_is_refused_or_read_as_zipfile_does(changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for at, value in changes:
        data[at] = value
    try:
        files = read_archive(bytes(data))
    except UnsafeArchive:
        return
    with zipfile.ZipFile(BytesIO(data)) as other:
        expected = sorted(other.read(info) for info in other.infolist() if not info.is_dir())
    assert sorted(file.data for file in files) == expected
