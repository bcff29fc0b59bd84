"""What the manifest wants against what the lock answers."""

from dataclasses import replace

import pytest

from hublock.core.digest import Digest
from hublock.core.lockfile import Input, Lock, Model, NamedWeights, Repo, TreeWeights, Weights
from hublock.core.manifest import Manifest, WantedModel, WantedWeights
from hublock.core.plan import assemble, plan, under_new_names

SHA = Digest("sha256", "a" * 64)
WEIGHTS = Weights(url="https://example.org/w.pth", digest=SHA, size=1, pickle="tensors")
MODEL = Model(name="net", entrypoint="net", kwargs={"pretrained": True}, weights=(WEIGHTS,))
REPO = Repo(
    id="Someone/Repo:v1",
    ref="refs/tags/v1",
    commit="c" * 40,
    tree=Digest("git-sha1", "d" * 40),
    digest=Digest("git-sha256", "e" * 64),
    models=(MODEL,),
)
LOCK = Lock(repos=(REPO,))
LOADING = replace(REPO, models=(replace(MODEL, repos=("in/ner",)),))
NESTED = replace(REPO, id="in/ner", models=())
WANTED = WantedModel(name="net", repo="someone/repo:v1", entrypoint="net", kwargs={"pretrained": True})


def manifest(*models: WantedModel, weights: tuple[WantedWeights, ...] = ()) -> Manifest:
    return Manifest(models=models, weights=weights)


def test_a_lock_that_answers_is_current_whatever_the_case_of_owner_and_name() -> None:
    assert plan(manifest(WANTED), LOCK).reasons == ()
    assert plan(manifest(WANTED), LOCK).keep == ("net",)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (replace(WANTED, name="other"), "model other is not locked yet"),
        (
            replace(WANTED, repo="someone/repo:V1"),
            "model net is locked from Someone/Repo:v1, the manifest wants someone/repo:V1",
        ),
        (replace(WANTED, entrypoint="big"), "model net is locked with entry point net, the manifest wants big"),
        (replace(WANTED, kwargs={"pretrained": 1}), "model net is locked with other arguments"),
        (replace(WANTED, args=(1,)), "model net is locked with other arguments"),
        (replace(WANTED, inputs=("best.pt",)), "model net is locked with other input files"),
        (replace(WANTED, urls=("https://x/y",)), "model net is declared in one file and traced in the other"),
    ],
)
def test_each_way_to_be_stale_is_named(wanted: WantedModel, reason: str) -> None:
    assert reason in plan(manifest(wanted), LOCK).reasons
    assert [pending.wanted for pending in plan(manifest(wanted), LOCK).trace] == [wanted]


def test_other_requires_make_the_lock_stale_without_a_new_trace() -> None:
    todo = plan(manifest(replace(WANTED, requires=("torch>=2.4",))), LOCK)

    assert todo.reasons == ("model net is locked with other `requires`",)
    assert todo.trace == ()


@pytest.mark.parametrize(
    ("lock", "reason"),
    [
        (Lock(repos=(REPO, NESTED)), "repository in/ner is locked but nothing loads it"),
        (Lock(repos=(LOADING, NESTED)), "repository in/ner is locked as loaded by none"),
        (
            Lock(repos=(LOADING, replace(NESTED, via=("other/repo",)))),
            "repository in/ner is locked as loaded by other/repo",
        ),
        (Lock(repos=(LOADING,)), "model net loads in/ner, which the lock does not hold"),
    ],
)
def test_a_lock_holds_what_its_models_load_and_nothing_else(lock: Lock, reason: str) -> None:
    assert plan(manifest(WANTED), lock).reasons == (reason,)
    assert plan(manifest(WANTED), Lock(repos=(LOADING, replace(NESTED, via=("Someone/Repo:v1",))))).reasons == ()


def test_a_commit_that_may_be_unreachable_is_locked_as_one() -> None:
    wanted = replace(WANTED, allow_unreachable=True)
    reason = "repository Someone/Repo:v1 is not locked as one whose commit may be unreachable"
    assert plan(manifest(wanted), LOCK).reasons == (reason,)
    assert plan(manifest(wanted), Lock(repos=(replace(REPO, allow_unreachable=True),))).reasons == ()


def test_a_checkpoint_in_a_tree_needs_the_consent_of_a_model_that_loads_it() -> None:
    nested = replace(NESTED, via=("Someone/Repo:v1",), tree_weights=(TreeWeights(path="w.pt", pickle=("models.Net",)),))
    lock = Lock(repos=(replace(LOADING, models=(*LOADING.models, replace(MODEL, name="two"))), nested))
    two = replace(WANTED, name="two")

    assert plan(manifest(WANTED, replace(two, allow_pickle=("models.Net",))), lock).reasons == (
        "model net needs consent to the pickle globals models.Net",
    )
    assert plan(manifest(replace(WANTED, allow_pickle=("models.Net",)), two), lock).reasons == ()


def test_pickle_globals_without_consent_make_the_lock_stale() -> None:
    model = replace(MODEL, weights=(replace(WEIGHTS, pickle=("models.Net",)),))
    lock = Lock(repos=(replace(REPO, models=(model,)),))

    assert plan(manifest(WANTED), lock).reasons == ("model net needs consent to the pickle globals models.Net",)
    assert plan(manifest(replace(WANTED, allow_pickle=("models.Net",))), lock).reasons == ()


def test_inputs_are_compared_by_name() -> None:
    model = replace(MODEL, inputs=(Input(name="best.pt", digest=SHA, size=1, pickle="tensors"),))
    lock = Lock(repos=(replace(REPO, models=(model,)),))

    assert plan(manifest(replace(WANTED, inputs=("best.pt",))), lock).reasons == ()


def test_what_nobody_wants_and_another_environment_are_named() -> None:
    extra = NamedWeights(name="backbone", url="https://x/y", digest=SHA, size=1, pickle="none")
    todo = plan(replace(manifest(), environment="exact"), replace(LOCK, weights=(extra,)))

    assert todo.reasons == (
        "model net is locked but no longer wanted",
        "weights backbone are locked but no longer wanted",
        'the lock says environment = "warn", the manifest "exact"',
    )


def test_weights_at_another_url_are_fetched_again() -> None:
    extra = NamedWeights(name="backbone", url="https://x/old", digest=SHA, size=1, pickle="none")
    wanted = WantedWeights(name="backbone", url="https://x/new")

    assert plan(manifest(weights=(wanted,)), Lock(weights=(extra,))).fetch == (wanted,)


def test_assembling_drops_what_nobody_wants_and_names_who_loads_what() -> None:
    nested = replace(REPO, id="inner/repo", models=())
    orphan = replace(REPO, id="orphan/repo", models=())
    outer = replace(MODEL, repos=("inner/repo",))

    lock = assemble(
        manifest(WANTED), repos=[REPO, nested, orphan], models={"net": ("Someone/Repo:v1", outer)}, weights=()
    )

    assert {repo.id: repo.via for repo in lock.repos} == {"someone/repo:v1": (), "inner/repo": ("someone/repo:v1",)}


def test_one_repository_typed_in_two_ways_is_one_entry() -> None:
    shout = replace(WANTED, name="loud", repo="SOMEONE/REPO:v1")
    models = {"net": ("someone/repo:v1", MODEL), "loud": ("SOMEONE/REPO:v1", replace(MODEL, name="loud"))}

    for order in ((WANTED, shout), (shout, WANTED)):
        lock = assemble(manifest(*order), repos=[REPO], models=models, weights=())
        assert [repo.id for repo in lock.repos] == ["SOMEONE/REPO:v1"]
        assert sorted(model.name for model in lock.repos[0].models) == ["loud", "net"]


def test_a_call_under_a_new_name_is_the_locked_one() -> None:
    other = replace(MODEL, name="other", kwargs={})
    lock = Lock(repos=(replace(REPO, models=(MODEL, other)),))
    renamed = replace(WANTED, name="backbone")

    found = under_new_names(manifest(renamed, replace(renamed, name="twin")), lock)

    assert found.models == (replace(MODEL, name="backbone"), other)
    assert plan(manifest(renamed), replace(found, repos=(replace(REPO, models=found.models[:1]),))).reasons == ()
    # one that keeps its name, has another call, or whose name was given to another call is no such call
    assert under_new_names(manifest(WANTED, renamed), lock) == lock
    assert under_new_names(manifest(replace(renamed, kwargs={"pretrained": 1})), lock) == lock
    assert under_new_names(manifest(replace(renamed, name="other")), lock) == lock
