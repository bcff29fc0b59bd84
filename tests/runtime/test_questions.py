"""The line between a trace child and its parent, with both ends in one process."""

import multiprocessing
import os
import pickle
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hublock.core.digest import Digest
from hublock.errors import HublockError, IncompleteTrace, LoadError, TransferError, UnlockedDownload
from hublock.runtime.tracing.asking import AskedAnswers
from hublock.runtime.tracing.questions import answer
from hublock.runtime.tracing.relay import Afar
from hublock.runtime.tracing.scratch import Scratch
from hublock.runtime.tracing.wire import BadMessage, Channel, read_entrypoint, read_error, texts, write_error
from tests.runtime.answering import Shelf
from tests.runtime.conftest import MakeRepository

URL = "https://files.example/a.bin"


@pytest.fixture
def scratch(repository: MakeRepository) -> Iterator[Scratch]:
    with Scratch(repository("def net(): pass\n")) as made:
        yield made


@pytest.fixture
def asked(shelf: Shelf, scratch: Scratch) -> Iterator[AskedAnswers]:
    """Answers that travel from ``shelf`` over two pipes."""
    there, back = os.pipe(), os.pipe()
    child = Channel(os.fdopen(back[0], "rb"), os.fdopen(there[1], "wb"))
    parent = Channel(os.fdopen(there[0], "rb"), os.fdopen(back[1], "wb"))

    def serve() -> None:
        while (question := parent.receive()) is not None:
            try:
                parent.send({"answer": answer(question, shelf, scratch)})
            except HublockError as error:
                parent.send({"error": write_error(error)})

    thread = threading.Thread(target=serve)
    thread.start()
    yield AskedAnswers(child)
    child.close()
    thread.join()
    parent.close()


def test_answers_of_every_kind_travel(asked: AskedAnswers, shelf: Shelf, scratch: Scratch, tmp_path: Path) -> None:
    pickled = shelf.put(URL, b"\x80\x02cmodels\nNet\n)R.")
    commit = "c" * 40
    shelf.hugging_face["o/n", "model", "main", "a.bin"] = (commit, pickled)
    shelf.replies["GET", "https://api.example/"] = (404, b"\x00\xff")
    shelf.tree["owner/repo", "w.pt"] = "tensors"
    (scratch.cwd / "mine").write_bytes(b"\x80\x02cmodels\nNet\n)R.")

    file = asked.fetch(URL)
    assert (file.digest, file.size, file.pickle) == (pickled.digest, pickled.size, ("models.Net",))
    assert file.path.read_bytes() == pickled.path.read_bytes()
    assert asked.hf("o/n", "model", "main", "a.bin") == (commit, file)
    assert asked.hf_files("o/n", "model", "main") == (commit, ("a.bin",))
    assert asked.reply("GET", "https://api.example/") == (404, b"\x00\xff")
    assert asked.reply("HEAD", "https://api.example/") is None
    assert asked.pickle_of("owner/repo", "w.pt") == "tensors"
    assert asked.pickle_of("owner/repo", "x.pt") is None
    found = asked.input(scratch.cwd / "mine")
    assert found is not None
    assert (found.path, found.digest) == (scratch.cwd / "mine", pickled.digest)


def test_a_file_of_the_tree_that_code_makes_a_program_is_written(scratch: Scratch) -> None:
    assert not scratch.was_written()
    (scratch.repository.root / "hubconf.py").chmod(0o755)
    assert scratch.was_written()


def test_what_code_puts_beside_its_tree_is_written_too(scratch: Scratch) -> None:
    # the folder above hubconf.py, which in the store holds the listing and the stamps of the tree
    (scratch.repository.root / ".." / "net.pth").write_bytes(b"weights")
    assert scratch.was_written()


def test_a_file_that_the_child_could_not_read_is_copied(asked: AskedAnswers, shelf: Shelf, scratch: Scratch) -> None:
    stored = shelf.put(URL, b"bytes")
    assert not any(stored.path.is_relative_to(folder) for folder in scratch.readable)
    assert asked.fetch(URL).path.is_relative_to(scratch.root)


def test_a_nested_tree_arrives_as_one_copy(asked: AskedAnswers, shelf: Shelf, repository: MakeRepository) -> None:
    nested = repository("def part(): pass\n", {"deep/data.txt": "x"}, name="other/nested")
    shelf.repos["other/nested"] = nested
    first, again = asked.repo("other/nested"), asked.repo("other/nested")
    assert first == again
    assert (first.id, first.digest, first.listing) == (nested.id, nested.digest, nested.listing)
    assert first.root != nested.root
    assert (first.root / "deep/data.txt").read_text() == "x"


def test_refusals_keep_class_message_and_hint(asked: AskedAnswers) -> None:
    with pytest.raises(UnlockedDownload) as caught:
        asked.fetch("https://files.example/other")
    assert caught.value.message == "nobody locked https://files.example/other"
    assert caught.value.hint == "hublock add OWNER/REPO ENTRYPOINT"


def test_another_process_asks_over_a_line_of_its_own(asked: AskedAnswers, shelf: Shelf) -> None:
    file = shelf.put("https://example.org/a", b"a", pickle="none")
    afar: AskedAnswers = pickle.loads(pickle.dumps(asked))
    farther: AskedAnswers = pickle.loads(pickle.dumps(afar))

    for answers in (asked, afar, farther):
        assert answers.fetch("https://example.org/a").digest == file.digest
        with pytest.raises(UnlockedDownload, match="nobody locked"):
            answers.fetch("https://example.org/b")


def test_a_trace_says_so_where_no_program_could_be_answered(
    asked: AskedAnswers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setitem(vars(multiprocessing.current_process())["_config"], "tempdir", None)
    afar: AskedAnswers = pickle.loads(pickle.dumps(asked))

    with pytest.raises(IncompleteTrace, match="a program that the entry point starts asks for a file") as caught:
        afar.fetch("https://example.org/a")
    assert caught.value.hint == "set TMPDIR to a folder with a shorter name"


def test_a_program_that_nobody_answers_any_more_sees_the_end() -> None:
    with pytest.raises(IncompleteTrace, match="does not answer its programs any more"):
        AskedAnswers(Afar("nobody-listens")).fetch("https://example.org/a")


def test_an_input_that_is_no_file_is_not_opened(asked: AskedAnswers, scratch: Scratch) -> None:
    os.mkfifo(scratch.cwd / "pipe")
    assert asked.input(scratch.cwd / "pipe") is None
    assert asked.input(scratch.cwd / "absent") is None
    assert asked.input(Path("/dev/zero")) is None


@pytest.mark.parametrize(
    "question",
    [
        {}, {"ask": []}, {"ask": "__class__"}, {"ask": "fetch"}, {"ask": "fetch", "url": 1}, {"ask": "hf", "repo": "a"},
        {"ask": "input", "path": "a\0b"}, {"ask": "input", "path": "\udcff"}, {"ask": "fetch", "url": "https://a.b/\ud800"},
        {"ask": "pickle_of", "repo": "a/b", "path": "\0"},
    ],
)  # fmt: skip
def test_what_is_no_question_is_refused(question: dict[str, object], shelf: Shelf, scratch: Scratch) -> None:
    with pytest.raises(BadMessage):
        answer(question, shelf, scratch)


@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT", "get", ""])
def test_a_method_that_may_change_something_elsewhere_is_refused(method: str, shelf: Shelf, scratch: Scratch) -> None:
    shelf.replies[method, URL] = (200, b"")
    with pytest.raises(BadMessage):
        answer({"ask": "reply", "method": method, "url": URL}, shelf, scratch)


@pytest.mark.parametrize("line", [b"[]\n", b"{\n", b"{}", b"\xff\n", b"[" * 200_000 + b"\n"])
def test_what_is_no_message_is_refused(line: bytes) -> None:
    reading, writing = os.pipe()

    def say() -> None:
        with os.fdopen(writing, "wb") as stream:
            stream.write(line)

    thread = threading.Thread(target=say)
    thread.start()
    channel = Channel(os.fdopen(reading, "rb"), os.fdopen(os.open(os.devnull, os.O_WRONLY), "wb"))
    with pytest.raises(BadMessage):
        channel.receive()
    thread.join()
    channel.close()


def test_an_unknown_error_becomes_a_load_error() -> None:
    assert type(read_error({"class": "TransferError", "message": "m", "hint": None})) is TransferError
    for name in ("SystemExit", "SEVERITY", "ClassVar"):
        assert type(read_error({"class": name, "message": "m", "hint": None})) is LoadError


def test_what_is_no_outcome_is_refused() -> None:
    for data in ("text", [1], None):
        with pytest.raises(BadMessage):
            texts(data)
    with pytest.raises(BadMessage):
        read_entrypoint({"name": "a", "signature": "", "doc": 1, "parameters": []})
    with pytest.raises(ValueError, match="scheme"):
        Digest.parse("md5:00")
