import re
from pathlib import Path

from hublock.core.digest import Digest
from hublock.store.layout import Layout, key_name

BLOB = Digest("sha256", "ab" * 32)
TREE = Digest("git-sha256", "cd" * 32)


def test_everything_lies_below_the_version_of_the_store() -> None:
    layout = Layout(Path("cache"))
    paths = [
        layout.blob(BLOB),
        layout.blob_stamp(BLOB),
        layout.tree(TREE),
        layout.lock("k"),
        layout.partial,
        layout.tag,
    ]
    assert [path.relative_to("cache/v1").as_posix() for path in paths] == [
        f"blobs/sha256/ab/{'ab' * 32}",
        f"blobs/sha256/ab/{'ab' * 32}.stamp",
        f"trees/git-sha256/cd/{'cd' * 32}",
        f"locks/{key_name('k')}.lock",
        "partial",
        "CACHEDIR.TAG",
    ]


def test_names_are_lower_case_whatever_the_key() -> None:
    for key in ("https://Example.org/A?b#c", "sha256:ab", "ä\udcff", "con", "../../etc", ""):
        assert re.fullmatch(r"[0-9a-f]{32}", key_name(key))


def test_two_keys_never_share_a_name() -> None:
    assert key_name("https://a.org/x") != key_name("https://a.org/X")
