"""Merging locks by entry."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from hublock.core.canonical import dump_lock
from hublock.core.conflicts import sides, with_markers
from hublock.core.digest import Digest
from hublock.core.lockfile import HuggingFaceFile, Lock, Model, NamedWeights, Repo, Weights
from hublock.core.lockreader import parse_lock
from hublock.core.merging import agreed, both_traces, merge_locks
from tests.core.strategies import LOCKS


def sha(mark: str) -> Digest:
    return Digest("sha256", mark * 64)


def model(name: str, **keys: Any) -> Model:
    return Model(name=name, entrypoint=name, **keys)


def repo(id: str, *models: Model, at: str = "0") -> Repo:
    tree, digest = Digest("git-sha1", at * 40), Digest("git-sha256", at * 64)
    return Repo(id=id, ref="refs/heads/main", commit=at * 40, tree=tree, digest=digest, models=models)


def weights(name: str, mark: str = "a", url: str = "") -> NamedWeights:
    return NamedWeights(name=name, url=url or f"https://e.org/{name}", digest=sha(mark), size=1, pickle="none")


def file(mark: str) -> tuple[Weights, ...]:
    return (Weights(url="https://e.org/file", digest=sha(mark), size=1, pickle="none"),)


def lock(*repos: Repo, named: tuple[NamedWeights, ...] = (), **keys: Any) -> Lock:
    return Lock(repos=repos, weights=named, **keys)


A, B, C = model("a"), model("b"), model("c")
BASE = lock(repo("o/x", A), named=(weights("w"),))


@pytest.mark.parametrize(
    ("ours", "theirs", "merged"),
    [
        (BASE, BASE, BASE),
        (lock(repo("o/x", A, B)), BASE, lock(repo("o/x", A, B))),
        (BASE, Lock(), Lock()),
        (
            lock(repo("o/x", A, B), named=BASE.weights),
            lock(repo("o/x", A, C), named=BASE.weights),
            lock(repo("o/x", A, B, C), named=BASE.weights),
        ),
        (
            lock(repo("o/x", A), repo("o/y", B), named=BASE.weights),
            lock(repo("o/x", A), repo("o/z", C), named=BASE.weights),
            lock(repo("o/x", A), repo("o/y", B), repo("o/z", C), named=BASE.weights),
        ),
        (
            lock(repo("o/x", A, at="1"), named=BASE.weights),
            lock(repo("o/x", A), named=(weights("w", "b"),)),
            lock(repo("o/x", A, at="1"), named=(weights("w", "b"),)),
        ),
        (
            lock(repo("o/x", A), named=BASE.weights, environment="exact"),
            lock(repo("o/x", A)),
            lock(repo("o/x", A), environment="exact"),
        ),
        (lock(repo("o/x", A, at="1")), lock(repo("o/x", A, at="1")), lock(repo("o/x", A, at="1"))),
        (lock(repo("o/x", B), named=BASE.weights), BASE, lock(repo("o/x", B), named=BASE.weights)),
    ],
)  # fmt: skip
def test_what_one_side_changed_is_taken_from_it(ours: Lock, theirs: Lock, merged: Lock) -> None:
    for left, right in ((ours, theirs), (theirs, ours)):
        found = merge_locks(BASE, left, right)
        assert (found.conflicts, found.ours, found.theirs) == ((), merged, merged)


NESTED = model("n", repos=("o/deep",))


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "conflicts"),
    [
        # two pins, two arguments, two digests
        (BASE, lock(repo("o/x", A, at="1")), lock(repo("o/x", A, at="2")), ("o/x",)),
        (BASE, lock(repo("o/x", replace(A, args=(1,)))), lock(repo("o/x", replace(A, args=(2,)))), ("o/x",)),
        (BASE, lock(named=(weights("w", "b"),)), lock(named=(weights("w", "c"),)), ("w",)),
        # changed on one side, removed on the other
        (BASE, lock(repo("o/x", A, at="1")), Lock(), ("o/x",)),
        # a model that was traced at the commit that the other side moved away from
        (BASE, lock(repo("o/x", A, at="1")), lock(repo("o/x", A, B)), ("o/x",)),
        # one name for two things, one URL with two digests or two sizes
        (Lock(), lock(repo("o/x", A)), lock(repo("o/y", A)), ("o/x", "o/y")),
        (Lock(), lock(repo("o/x", A)), lock(named=(weights("a"),)), ("o/x", "a")),
        (Lock(), lock(repo("o/x", model("a", weights=file("a")))), lock(repo("o/y", model("b", weights=file("b")))),
         ("o/x", "o/y")),
        (Lock(), lock(repo("o/x", model("a", weights=file("a")))),
         lock(named=(replace(weights("w", "a", "https://e.org/file"), size=2),)), ("o/x", "w")),
        (Lock(), lock(named=(replace(weights("2", "a", "https://e.org/file"), size=2),)),
         lock(named=(weights("00", "a", "https://e.org/file"), weights("1", "a", "https://e.org/file"))),
         ("00", "1", "2")),
        # a model whose nested repository the other side moved
        (lock(repo("o/deep"), repo("o/z", NESTED)),
         lock(repo("o/deep", at="1"), repo("o/z", replace(NESTED, args=(1,)))),
         lock(repo("o/deep"), repo("o/y", model("m", repos=("o/deep",))), repo("o/z", NESTED)), ("o/y",)),
    ],
)  # fmt: skip
def test_what_both_sides_changed_is_a_conflict(
    base: Lock, ours: Lock, theirs: Lock, conflicts: tuple[str, ...]
) -> None:
    for left, right in ((ours, theirs), (theirs, ours)):
        found = merge_locks(base, left, right)
        assert found.conflicts == conflicts
        assert "<<<<<<< ours\n" in with_markers(dump_lock(found.ours), dump_lock(found.theirs))


@settings(max_examples=40)
@given(LOCKS)
def test_merging_with_oneself_changes_nothing_but_who_loads_whom(one: Lock) -> None:
    found = merge_locks(one, one, one)

    assert found.ours == found.theirs
    assert {model.name for repo in found.ours.repos for model in repo.models} <= {
        model.name for repo in one.repos for model in repo.models
    }
    for conflict in found.conflicts:
        # any lock may load a repository that it does not have; no lock that hublock wrote does
        assert any(model.repos for repo in one.repos for model in repo.models), conflict


@settings(max_examples=40)
@given(LOCKS, LOCKS, LOCKS)
def test_a_merge_without_conflicts_is_a_lock_from_either_side(base: Lock, ours: Lock, theirs: Lock) -> None:
    found, other = merge_locks(base, ours, theirs), merge_locks(base, theirs, ours)

    assert sorted(found.conflicts) == sorted(other.conflicts)
    if not found.conflicts:
        assert found.ours == found.theirs == other.ours
        assert parse_lock(dump_lock(found.ours), file="merged.lock") == found.ours


def test_agreed_keeps_every_pin_that_is_not_contested() -> None:
    ours = lock(repo("o/same", A), repo("o/two", B, at="1"), repo("o/mine", C), named=(weights("w"), weights("v")))
    theirs = lock(repo("o/same", A), repo("o/two", B, at="2"), named=(weights("w", "b"), weights("v")))

    kept, contested = agreed(ours, theirs)

    assert kept == lock(repo("o/mine", C), repo("o/same", A), named=(weights("v"),))
    assert contested == ("o/two", "w")


def test_agreed_keeps_the_pin_of_a_repository_of_which_one_model_is_contested() -> None:
    kept, contested = agreed(lock(repo("o/x", A, B)), lock(repo("o/x", A, replace(B, args=(1,)))))

    assert (kept, contested) == (lock(repo("o/x", A)), ("b",))


def test_agreed_drops_a_model_whose_nested_repository_is_contested() -> None:
    ours = lock(repo("o/deep", at="1"), repo("o/x", NESTED))
    theirs = lock(repo("o/deep", at="2"), repo("o/x", NESTED))

    kept, contested = agreed(ours, theirs)

    assert (kept, contested) == (lock(repo("o/x")), ("o/deep", "n"))


@settings(max_examples=40)
@given(LOCKS, LOCKS)
def test_marks_can_be_read_again(ours: Lock, theirs: Lock) -> None:
    left, right = dump_lock(ours), dump_lock(theirs)

    assert sides(with_markers(left, right)) == (None if left == right else (left, right))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n", None),
        ("a\n=======\nb\n", None),
        ("a\n<<<<<<< HEAD\nb\n=======\nc\n>>>>>>> topic\nd\n", ("a\nb\nd\n", "a\nc\nd\n")),
        ("<<<<<<< ours\nb\n||||||| 1234\no\n=======\nc\n>>>>>>> theirs\n", ("b\n", "c\n")),
        ("<<<<<<< ours\r\nb\r\n=======\r\nc\r\n>>>>>>> theirs\r\n", ("b\r\n", "c\r\n")),
        ("<<<<<<<\n=======\nc\n>>>>>>>\n", ("", "c\n")),
    ],
)
def test_sides_of_what_git_leaves(text: str, expected: tuple[str, str] | None) -> None:
    assert sides(text) == expected


def test_a_merged_full_lock_keeps_its_bytes() -> None:
    text = (Path(__file__).parent.parent / "data" / "locks" / "good" / "full.lock").read_text()
    full = parse_lock(text, file="full.lock")

    merge = merge_locks(full, full, full)
    assert with_markers(dump_lock(merge.ours), dump_lock(merge.theirs)) == text
    assert agreed(full, full) == (full, ())


def test_a_second_trace_adds_to_the_first_and_removes_nothing() -> None:
    def hosted(kind: str) -> HuggingFaceFile:
        commit = "0" * 40
        return HuggingFaceFile(
            repo="o/n", type=kind, revision="main", commit=commit, file="f", digest=sha("a"), size=1, pickle="none"
        )

    first = model("net", hf=(hosted("model"),), weights=file("a"), state=sha("1"), traced="confirmed", writes_tree=True)
    second = model("net", hf=(hosted("dataset"),), tolerated=("https://e.org",), state=sha("2"))

    both = both_traces(first, second)

    assert both.hf == (hosted("dataset"), hosted("model"))
    assert (both.weights, both.tolerated, both.writes_tree) == (first.weights, second.tolerated, True)
    # one of the two says something else than the other
    assert both.state is None
