"""A tree's identity is git's, and a tree that could do harm has none."""

import base64
import json
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hublock.core.digest import Digest
from hublock.core.names import decode, encode
from hublock.core.tree import (
    Entry,
    Listing,
    SourceFile,
    blob_id,
    check_files,
    digest_of,
    tree_id,
)
from hublock.errors import UnsafeArchive
from tests.forge import git, git_environment

VECTORS = Path(__file__).parents[1] / "data" / "tree" / "vectors.json"
"""Trees and their ids in both object formats, as plain git computed them; see :func:`by_git`."""


def vectors() -> Iterator[tuple[str, list[SourceFile], str, str]]:
    for name, vector in json.loads(VECTORS.read_text()).items():
        files = [
            SourceFile(path=decode(unquote_to_bytes(path)), mode=mode, data=base64.b64decode(data))
            for path, mode, data in vector["files"]
        ]
        yield name, files, vector["git-sha1"], vector["git-sha256"]


def by_git(files: list[SourceFile], algorithm: str, folder: Path) -> str:
    """Compute a tree's id with nothing but git's own commands."""
    git("init", "--quiet", "--bare", f"--object-format={algorithm}", folder)
    rows = b""
    for file in files:
        blob = git("--git-dir", folder, "hash-object", "-w", "--stdin", "--no-filters", data=file.data).strip()
        rows += b"%s %s\t%s\0" % (file.mode.encode(), blob, encode(file.path))
    git("--git-dir", folder, "update-index", "-z", "--index-info", data=rows)
    return git("--git-dir", folder, "write-tree").decode().strip()


CASES = [pytest.param(files, sha1, sha256, id=name) for name, files, sha1, sha256 in vectors()]


@pytest.mark.parametrize(("files", "sha1", "sha256"), CASES)
def test_a_tree_has_the_ids_of_the_vectors(files: list[SourceFile], sha1: str, sha256: str) -> None:
    assert tree_id(((f.path, f.mode, blob_id(f.data, "sha1")) for f in files), "sha1") == sha1
    assert digest_of(files) == Digest("git-sha256", sha256)
    assert digest_of(reversed(files)) == Digest("git-sha256", sha256)


@pytest.mark.parametrize(("files", "sha1", "sha256"), CASES)
def test_the_vectors_are_what_git_computes(files: list[SourceFile], sha1: str, sha256: str, tmp_path: Path) -> None:
    assert by_git(files, "sha1", tmp_path / "1") == sha1
    assert by_git(files, "sha256", tmp_path / "256") == sha256


SHELL = (
    "T=$(mktemp -d); git init -q --bare --object-format=sha256 $T; "
    "echo '* -text -eol -ident -filter -working-tree-encoding' >$T/info/attributes; "
    "git --git-dir=$T --work-tree=. -c core.bare=false -c core.autocrlf=false -c core.fileMode=true "
    "-c core.symlinks=true -c core.protectNTFS=false add -Af . && git --git-dir=$T write-tree; rm -rf $T"
)
"""The line of the README, run in a folder that holds a tree and nothing else."""


@pytest.mark.parametrize(("files", "sha1", "sha256"), CASES)
def test_the_shell_line_of_the_readme_gives_the_digest(
    files: list[SourceFile], sha1: str, sha256: str, tmp_path: Path
) -> None:
    import subprocess

    for file in files:
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + encode(file.path)))
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.mode == "120000":
            path.symlink_to(os.fsdecode(file.data))
        else:
            path.write_bytes(file.data)
            path.chmod(0o755 if file.mode == "100755" else 0o644)
    done = subprocess.run(["sh", "-c", SHELL], cwd=tmp_path, env=git_environment({}), capture_output=True, text=True)
    assert done.stdout.strip() == sha256, done.stderr


def test_a_listing_knows_its_digest_and_survives_writing() -> None:
    for _, files, _, sha256 in vectors():
        listing = Listing.of(
            Entry(path=f.path, mode=f.mode, blob=blob_id(f.data), size=len(f.data)) for f in reversed(files)
        )
        assert listing.digest == Digest("git-sha256", sha256)
        assert Listing.parse(listing.to_bytes()) == listing
        assert listing.size == sum(len(f.data) for f in files)
        assert set(listing.by_path) == {f.path for f in files}


@pytest.mark.parametrize("data", [b"x", b"100644 aa 1\tpath", b"100644 aa\tpath\0", b"100644 aa one\tp\0", b"\0"])
def test_what_is_no_listing_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Listing.parse(data)


NAMES = st.text(st.characters(exclude_characters="/\0\\", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(PATHS, st.binary(max_size=20), max_size=6))
def test_a_listing_of_any_files_survives_writing(files: dict[str, bytes]) -> None:
    listing = Listing.of(
        Entry(path=path, mode="100644", blob=blob_id(data), size=len(data)) for path, data in files.items()
    )
    assert Listing.parse(listing.to_bytes()) == listing


def file(path: str, data: bytes = b"", mode: str = "100644") -> SourceFile:
    return SourceFile(path=path, mode=mode, data=data)


def link(path: str, target: str) -> SourceFile:
    return file(path, target.encode(), "120000")


@pytest.mark.parametrize(
    "paths",
    [
        ("a", "a"),
        ("a", "A"),
        ("Folder/x", "folder/y"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("a/b/c", "A/b"),
        ("\u00e9", "e\u0301"),
        ("stra\u00dfe", "STRASSE"),
        ("\u212a", "k"),
        ("x\u200d", "x"),
        ("a/b", "a/c", "a/B"),
    ],
)
def test_refuses_what_some_disk_cannot_hold_apart(paths: tuple[str, ...]) -> None:
    with pytest.raises(UnsafeArchive, match=r"take for one|twice"):
        check_files(file(path, bytes([number])) for number, path in enumerate(paths))
    with pytest.raises(UnsafeArchive, match=r"take for one|twice"):
        check_files(file(path, bytes([number])) for number, path in enumerate(reversed(paths)))


@pytest.mark.parametrize(
    ("one", "other", "fits"),
    [
        (file("a/x", b"1"), file("a/X", b"1"), True),
        (link("x", "a"), link("X", "a"), True),
        (file("x", b"1"), file("X", b"2"), False),
        (file("x", b"1"), file("x", b"1"), False),
        (file("x", b"1"), file("X", b"1", "100755"), False),
        (file("x", b"a"), link("X", "a"), False),
        (file("a/x"), file("A/y"), False),
        (file("a"), file("A/y"), False),
    ],
)
def test_only_files_that_are_alike_may_be_one_to_some_disk(one: SourceFile, other: SourceFile, fits: bool) -> None:
    for files in ([one, other], [other, one]):
        with nullcontext() if fits else pytest.raises(UnsafeArchive):
            check_files(files)


def test_accepts_names_that_only_look_alike() -> None:
    check_files(file(path) for path in ("a", "b/a", "b/c/a", "a.b", "ab", "b/A"[:2] + "d", "\u0430"))


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([link("a", "/etc/passwd")], "not a path inside"),
        ([link("a", "C:\\x")], "not a path inside"),
        ([link("a", "c:x")], "not a path inside"),
        ([link("a", "b\\..\\..\\c")], "not a path inside"),
        ([link("a", "")], "not a path inside"),
        ([link("a", "x\0y")], "not a path inside"),
        ([link("a", "x" * 5000)], "not a path inside"),
        ([link("a", "..")], "out of the tree"),
        ([link("a/b", "../../x")], "out of the tree"),
        ([link("a/b", "./.././../x")], "out of the tree"),
        ([link("a", "b/../../x"), file("b/c")], "out of the tree"),
        ([link("d/e/up", "../.."), link("out", "d/e/up/../x")], "out of the tree"),
        ([link("a", "b/x"), link("b", "c/.."), link("c", "../y")], "out of the tree"),
        ([link("a", "a")], "in a circle"),
        ([link("a", "b"), link("b", "a")], "in a circle"),
        ([link("a", "b/x"), link("b", "a/y")], "in a circle"),
        ([link("a", "b"), file("a/x")], "twice, or as a file and as a folder"),
    ],
)
def test_refuses_links_that_leave_the_tree(files: list[SourceFile], reason: str) -> None:
    with pytest.raises(UnsafeArchive, match=reason):
        check_files(files)


def test_accepts_links_that_stay_in_the_tree() -> None:
    check_files(
        [
            file("a/b/c"),
            link("to-file", "a/b/c"),
            link("to-folder", "a/b"),
            link("a/b/up", "../../a/./b//c"),
            link("through", "to-folder/up"),
            link("a/here", "."),
            link("a/root", ".."),
            link("dangling", "nothing/at/all"),
        ]
    )


@pytest.mark.parametrize(("limit", "value"), [("MAX_FILES", 2), ("MAX_FILE", 1), ("MAX_TREE", 2)])
def test_refuses_too_much(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    files = [file("a", b"12"), file("b/c", b"3")]
    check_files(files)
    monkeypatch.setattr(f"hublock.core.names.{limit}", value)
    with pytest.raises(UnsafeArchive, match="the tree holds"):
        check_files(files)


def write_vectors() -> None:
    """Write the vectors anew, with git: ``python -m tests.core.test_tree``."""
    import tempfile

    trees = {
        "one file": [file("hubconf.py", b"dependencies = []\n")],
        "an empty file": [file("empty")],
        "folders sort as if they ended in a slash": [
            file("a.b", b"1"), file("a/b", b"2"), file("a-b", b"3"), file("a0", b"4"), file("ab/c/d", b"5"),
        ],
        "exec bits": [file("run.sh", b"#!/bin/sh\n", "100755"), file("tools/x", b"", "100755"), file("plain", b"")],
        "links": [file("a/b", b"x"), link("to-file", "a/b"), link("a/up", "../a/b"), link("to-folder", "a")],
        "line ends and attributes": [
            file(".gitattributes", b"* text=auto eol=crlf\n*.bin filter=lfs ident\n"),
            file("crlf.txt", b"one\r\ntwo\r\n"), file("mixed.txt", b"one\r\ntwo\n"), file("x.bin", b"$Id$\n"),
        ],
        "odd names": [
            file("\u00e4 \u00f6.txt", b"1"), file(decode(b"latin-\xe4"), b"2"), file("quote\"'`$", b"3"),
            file("-dash", b"4"), file("e\u0301", b"5"), file("\u4e2d\u6587/\U0001f600", b"6"), file("a:b*?", b"7"),
        ],
        "ignored files": [file(".gitignore", b"*\n"), file("ignored.pyc", b"x"), file("__pycache__/y.pyc", b"z")],
        "an LFS pointer": [
            file("w.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n")
        ],
    }  # fmt: skip
    out = {}
    for name, files in trees.items():
        with tempfile.TemporaryDirectory() as folder:
            out[name] = {
                "files": [[quote_from_bytes(encode(f.path)), f.mode, base64.b64encode(f.data).decode()] for f in files],
                "git-sha1": by_git(files, "sha1", Path(folder) / "1"),
                "git-sha256": by_git(files, "sha256", Path(folder) / "256"),
            }
    VECTORS.parent.mkdir(parents=True, exist_ok=True)
    VECTORS.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    write_vectors()
