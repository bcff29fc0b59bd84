"""How two locks differ, in the words of a reviewer; where their entries stand; how that is shown."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from hublock.core.canonical import dump_lock
from hublock.core.changes import Change, compare
from hublock.core.digest import Digest
from hublock.core.lockfile import Input, Lock, Model, NamedWeights, Repo, Weights
from hublock.core.lockreader import parse_lock
from hublock.core.places import places
from hublock.core.validators import claims
from hublock.report import markdown, text
from tests.core.strategies import LOCKS

FULL = (Path(__file__).parent.parent / "data" / "locks" / "good" / "full.lock").read_text()
LOCK = parse_lock(FULL, file="full.lock")
OTHER = "e" * 64
REPO = Repo(
    id="a/b",
    ref="refs/heads/main",
    commit="0" * 40,
    tree=Digest("git-sha1", "0" * 40),
    digest=Digest("git-sha256", "1" * 64),
)


def changed(old: str, new: str) -> tuple[Change, ...]:
    assert old in FULL
    return compare(LOCK, parse_lock(FULL.replace(old, new), file="changed.lock"))


@settings(max_examples=40)
@given(LOCKS)
def test_a_lock_does_not_differ_from_itself(lock: Lock) -> None:
    assert compare(lock, lock) == ()


@settings(max_examples=40)
@given(LOCKS, LOCKS)
def test_locks_that_do_not_differ_are_written_alike(old: Lock, new: Lock) -> None:
    # what a model or repository says of itself may be spelled otherwise; nothing else goes unseen
    if compare(old, new) == ():
        assert dump_lock(old).lower() == dump_lock(new).lower()


@pytest.mark.parametrize(
    ("old", "new", "entry", "what", "alarming"),
    [
        ('environment = "exact"\n', "", "lock", "environment", False),
        ("3ac97aa9", "3ac97aa8", "repository pytorch/vision:v0.20.1", "commit", False),
        ("7777777777", "7777777778", "repository pytorch/vision:v0.20.1", "digest", True),
        ("refs/tags/v0.20.1", "refs/heads/v0.20.1", "repository pytorch/vision:v0.20.1", "ref", False),
        ("allow-unreachable = true\n", "", "repository facebookresearch/dinov2", "allow-unreachable", True),
        ('save.pth", pickle = "tensors"', 'save.pth", pickle = ["os.system"]', "repository facebookresearch/dinov2",
         "tree-weights weights/save.pth", True),
        ('"IMAGENET1K_V1"', '"IMAGENET1K_V2"', "model resnet18", "arguments", False),
        ("8" * 64, OTHER, "model resnet18", "state", True),
        ("9" * 64, OTHER, "model resnet18", "file https://download.pytorch.org/models/resnet18-f37072fd.pth", True),
        ("a" * 64, OTHER, "model resnet18", "file owner/name@main: pytorch_model.bin", True),
        ("c" * 64, OTHER, "model resnet18", "input best.pt", True),
        ("writes-tree = true\n", "", "model resnet18", "writes-tree", False),
        ("netns+landlock", "guard", "model resnet18", "isolation", False),
        ("torch>=2.4,<3", "torch>=2.5", "model resnet18", "requires torch>=2.4,<3", False),
        ("subprocess:fc-list", "subprocess:sh", "model resnet18", "tolerated subprocess:sh", True),
        ("d" * 64, OTHER, "weights backbone", "file https://example.org/backbone-1a2b3c4d.pth", True),
    ],
)  # fmt: skip
def test_names_what_changed_and_whether_to_look_twice(
    old: str, new: str, entry: str, what: str, alarming: bool
) -> None:
    assert (entry, what, alarming) in [(c.entry, c.what, c.alarming) for c in changed(old, new)]


def test_a_new_file_that_may_run_code_is_alarming() -> None:
    found = compare(Lock(), LOCK)

    assert [change.what for change in found if change.alarming] == [
        "unpickles collections.Counter in tree-weights weights/extra.pt",
        "unpickles models.yolo.Model in tree-weights weights/extra.pt",
        "unpickles builtins.set in file owner/name@main: pytorch_model.bin",
    ]


def test_other_bytes_at_a_known_url_are_alarming_whichever_entry_names_it_now() -> None:
    url = "https://example.org/net.pth"
    old, new = (Weights(url=url, digest=Digest("sha256", mark * 64), size=1, pickle="none") for mark in "12")
    named = NamedWeights(name="n", url=url, digest=new.digest, size=1, pickle="none")

    def of(name: str, file: Weights) -> Lock:
        model = Model(name=name, entrypoint="m", weights=(file,))
        return Lock(repos=(replace(REPO, models=(model,)),))

    for now, entry in ((of("renamed", new), "model renamed"), (Lock(weights=(named,)), "weights n")):
        rows = {
            (change.kind, change.entry, change.what, change.alarming): change for change in compare(of("m", old), now)
        }
        assert rows["removed", "model m", f"file {url}", False].old == f"{old.digest}, 1 bytes, pickle none"
        found = rows["changed", entry, f"file {url}", True]
        assert (found.old, found.new) == (f"{old.digest}, 1 bytes, pickle none", f"{new.digest}, 1 bytes, pickle none")
    assert [c.kind for c in compare(of("m", old), of("renamed", old)) if c.what] == ["removed", "added"]


def test_an_input_that_is_named_like_a_url_hides_nothing() -> None:
    url = "https://example.org/net.pth"
    old, new = (Weights(url=url, digest=Digest("sha256", mark * 64), size=1, pickle="none") for mark in "12")
    given = Input(name=url, digest=old.digest, size=1, pickle="none")
    locks = [
        Lock(repos=(replace(REPO, models=(Model(name="m", entrypoint="m", weights=(file,), inputs=inputs),)),))
        for file, inputs in ((old, ()), (new, (given,)))
    ]

    assert [(c.kind, c.what, c.alarming) for c in compare(*locks)] == [
        ("changed", f"file {url}", True),
        ("added", f"input {url}", False),
    ]


def test_a_name_that_a_pickle_gains_is_shown_whole_beside_any_number_of_others() -> None:
    names = [f"builtins.{'a' * 60}{number}" for number in range(8)]
    was, now = (f"pickle = {json.dumps(sorted(given))}" for given in (names, [*names, "posix.system"]))
    old = FULL.replace('pickle = "tensors"', was)
    found = compare(*(parse_lock(text, file="f") for text in (old, old.replace(was, now))))

    gained = "unpickles posix.system in file https://example.org/backbone-1a2b3c4d.pth"
    assert f"  ! {gained}" in list(text.changes(found))
    assert f"| ⚠ `weights backbone` | `{gained}` |  |  |\n" in markdown.report(found, ())
    back = compare(*(parse_lock(text, file="f") for text in (old.replace(was, now), old)))
    assert f"  - {gained}" in list(text.changes(back))


@pytest.mark.parametrize("length", [10, 200, 299, 300, 5000])
def test_a_long_value_is_cut_around_its_first_difference(length: int) -> None:
    change = Change(
        kind="changed", entry="model m", what="arguments", old="x" * length + "old", new="x" * length + "new"
    )

    _, line = text.changes([change])

    for shown in (line, markdown.report([change], ())):
        assert "xold" in shown
        assert "xnew" in shown
        assert ("…" in shown) == (length > 297)
    assert len(line) < 700


def test_what_is_cut_behind_the_difference_is_marked() -> None:
    change = Change(kind="added", entry="model m", what="arguments", new="x" * 301)

    assert list(text.changes([change]))[1] == f"  + arguments: {'x' * 300}…"


def test_a_state_that_changes_with_the_code_is_expected() -> None:
    state = Digest("sha256", "2" * 64)
    repo = replace(REPO, models=(Model(name="m", entrypoint="m", state=Digest("sha256", "3" * 64)),))
    models = (replace(repo.models[0], state=state),)
    alone = compare(Lock(repos=(repo,)), Lock(repos=(replace(repo, models=models),)))
    moved = replace(repo, models=models, commit="1" * 40, digest=Digest("git-sha256", "4" * 64))

    assert [(change.what, change.alarming) for change in alone] == [("state", True)]
    assert ("state", False) in [(c.what, c.alarming) for c in compare(Lock(repos=(repo,)), Lock(repos=(moved,)))]


def test_places_name_the_line_of_every_entry_and_file() -> None:
    lines = FULL.splitlines()
    found = places(FULL)

    for name in (
        "facebookresearch/dinov2",
        "resnet18",
        "backbone",
        "https://example.org/head.pt?download=1",
        "best.pt",
    ):
        assert f'"{name}"' in lines[found[name] - 1]
    hub = "https://huggingface.co/owner/name/resolve/e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5/pytorch_model.bin"
    assert "pytorch_model.bin" in lines[found[hub] - 1]


def test_text_groups_changes_below_their_entry() -> None:
    lines = list(text.changes(changed("9" * 64, OTHER)))

    assert lines[0] == "~ model resnet18"
    assert lines[1].startswith("  ! file https://download.pytorch.org/models/resnet18-f37072fd.pth: sha256:9999")
    assert list(text.changes(compare(LOCK, Lock())))[2] == f"- repository ./models/local: {'a1' * 32}"


def test_markdown_warns_and_shows_nothing_as_markup() -> None:
    comment = markdown.report(changed("9" * 64, OTHER), ())

    assert comment.startswith("### `hub.lock`: 1 entry changed\n\n> [!WARNING]\n")
    assert (
        "| ⚠ `model resnet18` | `file https://download.pytorch.org/models/resnet18-f37072fd.pth` | `sha256:9999"
        in comment
    )
    assert markdown.report((), ()) == "`hub.lock` pins what it pinned before.\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", "`a`"),
        ("", ""),
        ("a|b", "`a\\|b`"),
        ("`a``b", "``` `a``b ```"),
        ("<img src=x>@you\n# head", r"`<img src=x>@you\n# head`"),
    ],
)
def test_code_cannot_be_left(value: str, shown: str) -> None:
    assert markdown.code(value) == shown


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"ETag": f'"{"A" * 64}"'}, {"sha256": "a" * 64}),
        ({"ETag": f'W/"{"a" * 64}"'}, {}),
        ({"ETag": f'"{"a" * 32}"', "X-Linked-ETag": f'"{"b" * 64}"'}, {"md5": "a" * 32, "sha256": "b" * 64}),
        ({"ETag": f'"{"a" * 32}-6"'}, {}),
        ({"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, {"md5": "0" * 32}),
        ({"Content-MD5": "nonsense!"}, {}),
        ({"x-goog-hash": "crc32c=AAAAAA==,md5=AAAAAAAAAAAAAAAAAAAAAA=="}, {"md5": "0" * 32}),
        ({"Repr-Digest": f"sha-256=:{'A' * 43}=:"}, {"sha256": "0" * 64}),
        ({"Digest": f"SHA-256={'A' * 43}="}, {"sha256": "0" * 64}),
    ],
)  # fmt: skip
def test_claims_of_content_are_read_from_the_headers(headers: dict[str, str], expected: dict[str, str]) -> None:
    assert claims(headers) == expected
