"""What a locked call may do, and what is proven of its result."""

from pathlib import Path

import pytest

from hublock.actions.load import Call, load
from hublock.core.digest import Digest
from hublock.core.lockfile import Lock, Model, Repo
from hublock.core.matching import match
from hublock.core.tree import SourceFile
from hublock.errors import UnlockedDownload
from hublock.store.store import Store

HUBCONF = b"""
import torch
def net(url=None):
    try:
        return url and torch.hub.load_state_dict_from_url(url)
    except OSError:
        return "random"
"""


def test_what_the_locked_call_tolerates_excuses_no_file_of_another_call(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tree = store.add_tree([SourceFile(path="hubconf.py", mode="100644", data=HUBCONF)])
    url = "https://example.org/large.pth"
    locked = Model(name="net", entrypoint="net", kwargs={"url": url}, tolerated=("https://example.org",))
    repo = Repo(
        id="a/one:v1",
        ref="refs/tags/v1",
        commit="0" * 40,
        tree=Digest("git-sha1", "0" * 40),
        digest=tree.digest,
        models=(locked,),
    )
    lock = Lock(repos=(repo,))

    def call(name: str, entrypoint: str | None, **kwargs: object) -> object:
        return load(Call(match=match(lock, name, entrypoint, file="hub.lock"), kwargs=kwargs), lock, store)

    assert call("net", None) == "random"
    assert call("a/one:v1", "net", url=url) == "random"
    assert call("a/one:v1", "net") is None
    with pytest.raises(UnlockedDownload, match=r"other\.pth"):
        call("net", None, url="https://example.org/other.pth")
