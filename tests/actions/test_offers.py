"""What a stored repository offers."""

from pathlib import Path

import pytest

from hublock.actions.offers import NOTE, recall, remember
from hublock.core.hubconf import EntryPoint
from hublock.core.tree import FILE, SourceFile
from hublock.store.store import Store

SOURCE = b'def net(width=4):\n    """A network."""\n'
MADE = EntryPoint(name="made", signature="(*args)", doc=None, parameters=("args",))


def test_what_a_trace_saw_is_recalled(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tree = store.add_tree([SourceFile(path="hubconf.py", mode=FILE, data=SOURCE)])

    remember(tree, [MADE], store)

    assert recall(tree, "someone/net", store).entrypoints == (MADE,)


@pytest.mark.parametrize("note", [b"", b"{", b"\xff", b"null", b"[1]", b'[{"name": "x"}]', b'[{"parameters": 1}]'])
def test_a_damaged_note_is_as_good_as_none(tmp_path: Path, note: bytes) -> None:
    store = Store(tmp_path)
    tree = store.add_tree([SourceFile(path="hubconf.py", mode=FILE, data=SOURCE)])
    store.note(tree.digest, NOTE, note)

    assert [entry.name for entry in recall(tree, "someone/net", store).entrypoints] == ["net"]
