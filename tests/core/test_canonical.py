import itertools
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from hublock.core.canonical import HEADER, dump_lock, is_canonical
from hublock.core.digest import Digest
from hublock.core.lockfile import Lock, Model, NamedWeights, Repo, Weights
from hublock.core.lockreader import parse_lock
from tests.core.strategies import LOCKS

GOOD = Path(__file__).parents[1] / "data" / "locks" / "good"
WRITTEN = sorted(GOOD.glob("*.lock"))
OTHERWISE = sorted(GOOD.glob("not-canonical/*.lock"))


def read(text: str) -> Lock:
    return parse_lock(text, file="hub.lock")


@given(LOCKS)
@settings(max_examples=150)
def test_any_lock_is_written_in_ascii_lines_that_end_in_lf_and_reads_back_equal(lock: Lock) -> None:
    text = dump_lock(lock)
    assert text.isascii()
    assert text.startswith(HEADER)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert all(line.isprintable() for line in text.split("\n"))
    tomllib.loads(text)
    again = read(text)
    assert again == lock
    assert dump_lock(again) == text
    assert is_canonical(text)


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_a_good_lock_is_written_as_it_stands(path: Path) -> None:
    text = path.read_bytes().decode()
    assert dump_lock(read(text)) == text
    assert is_canonical(text)


@pytest.mark.parametrize("path", OTHERWISE, ids=lambda path: path.stem)
def test_the_same_lock_written_otherwise_is_not_canonical(path: Path) -> None:
    text = path.read_bytes().decode()
    assert not is_canonical(text)
    assert is_canonical(dump_lock(read(text)))


def test_line_endings_of_a_windows_checkout_do_not_make_a_lock_uncanonical() -> None:
    text = (GOOD / "full.lock").read_bytes().decode()
    assert is_canonical(text.replace("\n", "\r\n"))


def test_what_is_no_lock_is_not_canonical() -> None:
    assert not is_canonical("version = 1")
    assert not is_canonical("nonsense")


def model(name: str, *urls: str) -> Model:
    rows = tuple(
        Weights(url=url, digest=Digest("sha256", f"{n:064x}"), size=n, pickle="tensors") for n, url in enumerate(urls)
    )
    return Model(
        name=name, entrypoint=name, weights=rows, tolerated=("subprocess:b", "https://a"), repos=("b/b", "a/a")
    )


def repo(identity: str, *models: Model) -> Repo:
    return Repo(
        id=identity,
        ref="HEAD",
        commit="0" * 40,
        tree=Digest("git-sha1", "0" * 40),
        digest=Digest("git-sha256", "0" * 64),
        models=models,
        via=("z/z", "a/a"),
    )


def test_any_order_of_entries_gives_the_same_bytes() -> None:
    models = [model(name, "https://b/1", "https://a/2") for name in ("x", "Y", "a-1")]
    repos = [repo("b/b", *models), repo("A/b"), repo("./c")]
    texts = {
        dump_lock(Lock(repos=(replace(one, models=order), two, three)))
        for one, two, three in itertools.permutations(repos)
        for order in itertools.permutations(models)
        if one.id == "b/b"
    }
    assert len(texts) == 1


def test_keyword_arguments_are_sorted_at_every_depth() -> None:
    def text(kwargs: dict[str, object]) -> str:
        entry = Model(name="m", entrypoint="m", kwargs=kwargs)  # type: ignore[arg-type]
        return dump_lock(Lock(repos=(repo("a/b", entry),)))

    assert text({"b": 1, "a": {"y": 1, "x": 2}}) == text({"a": {"x": 2, "y": 1}, "b": 1})


def test_each_row_of_a_table_gets_a_line_of_its_own() -> None:
    text = dump_lock(Lock(repos=(repo("a/b", model("m", "https://a/1", "https://a/2")),)))
    lines = [line for line in text.splitlines() if "https://a/" in line]
    assert [line[:12] for line in lines] == ["    { url = "] * 2
    assert all(line.endswith(" },") for line in lines)


def test_defaults_and_empty_arrays_are_left_out_but_for_how_a_model_was_traced() -> None:
    text = dump_lock(Lock(repos=(repo("a/b", Model(name="m", entrypoint="m")),)))
    assert text.split("[[repo.model]]\n")[1] == 'name = "m"\nentrypoint = "m"\ntraced = "confirmed"\n'
    assert "environment" not in text
    assert "allow-unreachable" not in text


def test_the_version_is_kept_on_rewrite() -> None:
    assert "version = 1\n" in dump_lock(read("version = 1\n"))


def test_refuses_to_write_a_lone_surrogate() -> None:
    row = NamedWeights(name="w", url="https://a/\udc80", digest=Digest("sha256", "0" * 64), size=0, pickle="none")
    with pytest.raises(ValueError, match=r"lone surrogate U\+DC80"):
        dump_lock(Lock(weights=(row,)))
