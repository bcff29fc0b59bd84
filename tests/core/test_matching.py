"""Which locked model a call means."""

from dataclasses import replace

import pytest

from hublock.core.digest import Digest
from hublock.core.lockfile import Lock, Model, NamedWeights, Repo
from hublock.core.matching import match
from hublock.errors import InputError, NotLocked

NET = Model(name="small", entrypoint="net", kwargs={"width": 8})
WIDE = Model(name="wide", entrypoint="net", kwargs={"width": 64})
OTHER = Model(name="other", entrypoint="other")
REPO = Repo(
    id="someone/Repo",
    ref="refs/heads/main",
    commit="c" * 40,
    tree=Digest("git-sha1", "d" * 40),
    digest=Digest("git-sha256", "e" * 64),
    models=(NET, WIDE, OTHER),
)
LOCK = Lock(repos=(REPO, replace(REPO, id="someone/Repo:v1", models=())))


def test_a_reference_and_an_entry_point_mean_every_locked_model_of_it() -> None:
    found = match(LOCK, "SOMEONE/repo", "net", file="hub.lock")

    assert (found.repo, found.models, found.named) == (REPO, (NET, WIDE), None)


def test_a_name_means_one_model_bounded_by_all_of_its_entry_point() -> None:
    found = match(LOCK, "wide", None, file="hub.lock")

    assert (found.named, found.models) == (WIDE, (NET, WIDE))


@pytest.mark.parametrize(
    ("name", "first"), [("someone/Repo", "load 'someone/Repo', 'other'"), ("nobody/x", "hublock list")]
)
def test_of_a_repository_without_an_entry_point_the_hint_names_one(name: str, first: str) -> None:
    with pytest.raises(NotLocked, match=f"has no model {name}") as caught:
        match(LOCK, name, None, file="hub.lock")
    assert caught.value.hint == f"{first}, or hublock add OWNER/REPO ENTRYPOINT"


def test_who_loads_a_file_as_a_model_is_told_how_files_are_loaded() -> None:
    url = "https://example.org/backbone.pth"
    file = NamedWeights(name="backbone", url=url, digest=Digest("sha256", "f" * 64), size=1, pickle="tensors")
    with pytest.raises(NotLocked) as caught:
        match(replace(LOCK, weights=(file,)), "backbone", None, file="hub.lock")
    assert caught.value.hint == f"hublock.load_state_dict_from_url('{url}'), or hublock add OWNER/REPO ENTRYPOINT"


def test_a_spelling_of_add_means_the_entry_point_of_the_default_branch() -> None:
    assert match(LOCK, "someone/repo:other", None, file="hub.lock").named == OTHER


def test_a_spelling_that_means_several_models_is_refused() -> None:
    with pytest.raises(InputError, match="someone/Repo:net is locked under several names: small, wide"):
        match(LOCK, "someone/Repo:net", None, file="hub.lock")


@pytest.mark.parametrize(
    ("reference", "entrypoint", "message"),
    [
        ("someone/repo:v2", "net", "hub.lock does not lock someone/repo:v2, but someone/Repo, someone/Repo:v1"),
        ("someone/Repo:V1", "net", "hub.lock does not lock someone/Repo:V1, but someone/Repo, someone/Repo:v1"),
        ("someone/Repp", "net", "hub.lock does not lock someone/Repp; did you mean someone/Repo or someone/Repo:v1?"),
        ("someone/Repo", "nat", "hub.lock does not lock the entry point nat of someone/Repo; it locks net, other"),
        (
            "someone/Repo:v1",
            "net",
            "hub.lock does not lock the entry point net of someone/Repo:v1; no model of it is locked",
        ),
        ("wade", None, "hub.lock has no model wade; did you mean wide?"),
        ("someone/repo:v1", None, "hub.lock has no model someone/repo:v1"),
    ],
)
def test_what_is_not_locked_is_said_with_what_is(reference: str, entrypoint: str | None, message: str) -> None:
    with pytest.raises(NotLocked) as caught:
        match(LOCK, reference, entrypoint, file="hub.lock")

    assert caught.value.message == message
    assert caught.value.hint
