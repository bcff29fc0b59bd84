import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hublock.core import edits
from hublock.core.manifest import Manifest, WantedModel, WantedWeights, edit_manifest, keep_home, parse_manifest
from hublock.errors import InvalidManifest
from tests.core.strategies import ENTRYPOINTS, KEYWORDS, NAMES, REFERENCES, VALUES, words

DATA = Path(__file__).parents[1] / "data" / "manifests"
BAD = sorted((DATA / "bad").rglob("*.toml"))
GOOD = sorted((DATA / "good").rglob("*.toml"))

RESNET = WantedModel(name="resnet18", repo="pytorch/vision:v1", entrypoint="resnet18", kwargs={"weights": "V1"})
BACKBONE = WantedWeights(name="backbone", url="https://example.org/backbone.pth")

COMMENTED = """\
# what this paper takes from the hub
environment = "exact"  # never drift

# the first
[models.a]
repo = "o/r:v1"  # pinned
kwargs = { x = 1 }
# a trailing thought

# --- a section ---

# the second
[models.b]
repo = "o/r"
[models.b.kwargs]
y = [
    1,  # one
]

[weights.w]
url = "https://example.org/w.pth"
# the end
"""


def read(text: str, *, embedded: bool = False) -> Manifest:
    return parse_manifest(text, file="pyproject.toml" if embedded else "hub.toml", embedded=embedded)


def embedded(path: Path) -> bool:
    return path.parent.name == "embedded"


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_refuses_a_bad_manifest_in_one_sentence_with_an_address_and_a_hint(path: Path) -> None:
    text = path.read_bytes().decode()
    with pytest.raises(InvalidManifest) as caught:
        read(text, embedded=embedded(path))
    assert text.splitlines()[0] == f"# expect: {caught.value.message}"
    assert caught.value.hint
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_reads_a_good_manifest(path: Path) -> None:
    text = path.read_bytes().decode()
    assert read(text, embedded=embedded(path)) == read(text.replace("\n", "\r\n"), embedded=embedded(path))


def test_reads_every_key() -> None:
    manifest = read((DATA / "good" / "full.toml").read_bytes().decode())
    assert manifest.environment == "exact"
    resnet, other, local = manifest.models
    assert resnet == WantedModel(
        name="resnet18",
        repo="pytorch/vision:v0.20.1",
        entrypoint="resnet18",
        kwargs={
            "weights": "IMAGENET1K_V1",
            "dtype": {"object": "torch.float16"},
            "device": {"object": "torch.device('cpu')"},
            "size": {"python": "(224, 224)"},
        },
        requires=("torch>=2.4,<3", "torchvision @ https://example.org/torchvision.whl"),
        allow_pickle=("models.yolo.Model",),
        tolerate=("https://api.github.com", "subprocess:fc-list"),
    )
    assert (other.name, other.entrypoint, other.allow_unreachable) == ("résnet.18", "resnet18", True)
    assert other.args == (1, 2.5, float("inf"), True, "x", [1, {"a": 1}])
    assert other.inputs == ("weights/best.pt", "../shared/head.pt")
    assert other.urls == ("https://example.org/a.pth", "http://localhost:8000/b.pth")
    assert (local.name, local.repo, local.kwargs) == ("local", "./models/local", {"width": 0.5})
    assert manifest.weights == (WantedWeights(name="backbone", url="https://example.org/backbone-1a2b3c4d.pth"),)


def test_both_homes_hold_the_same() -> None:
    text = edit_manifest(edit_manifest("", embedded=False, add=RESNET), embedded=False, add=BACKBONE)
    home = edit_manifest(edit_manifest("", embedded=True, add=RESNET), embedded=True, add=BACKBONE)
    assert read(text) == read(home, embedded=True) == Manifest(models=(RESNET,), weights=(BACKBONE,))


def test_a_pyproject_without_our_tables_is_an_empty_manifest() -> None:
    assert read('[project]\nname = "x"\n', embedded=True) == Manifest()
    assert read("", embedded=True) == Manifest()


def test_adds_to_nothing() -> None:
    assert edit_manifest("", embedded=False, add=RESNET) == (
        '[models.resnet18]\nrepo = "pytorch/vision:v1"\nkwargs = { weights = "V1" }\n'
    )
    assert edit_manifest("", embedded=True, add=BACKBONE) == (
        '[tool.hublock.weights.backbone]\nurl = "https://example.org/backbone.pth"\n'
    )


def test_writes_every_key_that_is_not_its_default() -> None:
    model = WantedModel(
        name="a.b",
        repo="o/r",
        entrypoint="net",
        args=(1, 2.0, True, "ü", [{"python": "None"}]),
        kwargs={"d": {"x y": 1}, "e": {}},
        requires=("torch>=2",),
        allow_pickle=("a.B",),
        allow_unreachable=True,
        tolerate=("https://api.github.com",),
        inputs=("best.pt",),
        urls=("https://example.org/x",),
    )
    assert edit_manifest("", embedded=False, add=model) == (
        """\
[models."a.b"]
repo = "o/r"
entrypoint = "net"
args = [1, 2.0, true, "ü", [{ python = "None" }]]
kwargs = { d = { "x y" = 1 }, e = {} }
requires = ["torch>=2"]
allow-pickle = ["a.B"]
allow-unreachable = true
tolerate = ["https://api.github.com"]
inputs = ["best.pt"]
urls = ["https://example.org/x"]
"""
    )


def test_adds_behind_the_other_models_and_touches_nothing_else() -> None:
    text = edit_manifest(COMMENTED, embedded=False, add=RESNET)
    before, behind = COMMENTED.split("[weights.w]")
    added = '[models.resnet18]\nrepo = "pytorch/vision:v1"\nkwargs = { weights = "V1" }\n\n'
    assert text == f"{before}{added}[weights.w]{behind}"


def test_adds_at_the_end_where_there_are_no_siblings() -> None:
    text = '# only a comment\nenvironment = "exact"'
    assert edit_manifest(text, embedded=False, add=BACKBONE) == (
        f'{text}\n\n[weights.backbone]\nurl = "https://example.org/backbone.pth"\n'
    )


def test_adds_to_a_pyproject_beside_our_other_tables() -> None:
    text = '[tool.hublock.weights.w]\nurl = "https://h/w"\n\n[tool.ruff]\nline-length = 9\n'
    added = '[tool.hublock.models.resnet18]\nrepo = "pytorch/vision:v1"\nkwargs = { weights = "V1" }\n\n'
    assert edit_manifest(text, embedded=True, add=RESNET) == text.replace("[tool.ruff]", f"{added}[tool.ruff]")


def test_removes_the_whole_table_with_its_own_comments_only() -> None:
    removed = edit_manifest(COMMENTED, embedded=False, remove="a")
    assert removed == COMMENTED.replace(
        '# the first\n[models.a]\nrepo = "o/r:v1"  # pinned\nkwargs = { x = 1 }\n# a trailing thought\n\n', ""
    )
    removed = edit_manifest(COMMENTED, embedded=False, remove="b")
    start, end = COMMENTED.index("# the second"), COMMENTED.index("[weights.w]")
    assert removed == COMMENTED[:start] + COMMENTED[end:]
    removed = edit_manifest(COMMENTED, embedded=False, remove="w")
    assert removed == COMMENTED[: end - 1]


def test_the_comment_that_begins_a_file_outlives_the_first_table() -> None:
    text = '# licence\n[models.a]\nrepo = "o/r"\n'
    assert edit_manifest(text, embedded=False, remove="a") == "# licence\n"


def test_changes_only_the_keys_that_differ() -> None:
    changed = WantedModel(name="a", repo="o/r:v1", entrypoint="a", kwargs={"x": 2}, allow_pickle=("a.B",))
    assert edit_manifest(COMMENTED, embedded=False, add=changed) == COMMENTED.replace(
        "kwargs = { x = 1 }\n# a trailing thought\n",
        'kwargs = { x = 2 }\n# a trailing thought\nallow-pickle = ["a.B"]\n',
    )
    same = WantedModel(name="b", repo="o/r", entrypoint="b", kwargs={"y": [1]})
    assert edit_manifest(COMMENTED, embedded=False, add=same) == COMMENTED


def test_changes_a_subtable_into_an_inline_table() -> None:
    changed = WantedModel(name="b", repo="o/r", entrypoint="b", kwargs={"y": True})
    bare = COMMENTED.replace("  # one", "")
    text = edit_manifest(bare, embedded=False, add=changed)
    start, end = bare.index("[models.b.kwargs]"), bare.index("\n[weights.w]")
    assert text == bare[:start] + "kwargs = { y = true }\n" + bare[end:]


def test_refuses_a_change_that_would_lose_a_comment() -> None:
    with pytest.raises(InvalidManifest, match=r"hub.toml: models.b: is laid out in a way that cannot be edited safely"):
        edit_manifest(COMMENTED, embedded=False, add=WantedModel(name="b", repo="o/r", entrypoint="b"))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("text", "gained"),
    [
        ('[models]\n# base\na = { repo = "o/r" }  # keep\n', ' allow-pickle = ["a.B"]'),
        ('models = { a = { repo = "o/r" }, b = { repo = "o/r" } }  # both\n', ' allow-pickle = ["a.B"]'),
        ('# top\n[models]\na.repo = "o/r"  # why\n# other\nb.repo = "o/r"\n', 'a.allow-pickle = ["a.B"]\n'),
        ('models.a.repo = "o/r"  # why\n\n[models.a.kwargs]\nx = 1  # one\n', 'models.a.allow-pickle = ["a.B"]\n'),
        ('[models.a]\nrepo = "o/r"\nallow-pickle = ["z.Z",  # last\n    "b.B",  # why\n]\n', '    "a.B",\n'),
    ],
)  # fmt: skip
def test_consent_is_written_beside_every_comment(text: str, gained: str, newline: str) -> None:
    text, gained = text.replace("\n", newline), gained.replace("\n", newline)
    model = next(model for model in read(text).models if model.name == "a")
    edited = edit_manifest(text, embedded=False, add=replace(model, allow_pickle=(*model.allow_pickle, "a.B")))

    before, found, after = edited.partition(gained)
    assert found
    assert re.sub(r"[\s,]", "", before + after) == re.sub(r"[\s,]", "", text)
    assert edits.comments(edited) == edits.comments(text)
    assert edits.line_ending(edited) == newline


def test_keeps_the_line_endings_of_windows() -> None:
    windows = COMMENTED.replace("\n", "\r\n")
    for change in ({"add": RESNET}, {"add": BACKBONE}, {"remove": "a"}, {"remove": "b"}, {"remove": "w"}):
        expected = edit_manifest(COMMENTED, embedded=False, **change)
        assert edit_manifest(windows, embedded=False, **change) == expected.replace("\n", "\r\n")


def test_keeps_line_endings_that_are_mixed() -> None:
    mixed = '# one\r\n# two\n[models.a]\r\nrepo = "o/r"\n'
    assert edit_manifest(mixed, embedded=False, add=RESNET).startswith(mixed)


ODD = {
    "inline": 'models = { a = { repo = "o/r" } }  # all\n',
    "inline under a header": '[models]  # all\na = { repo = "o/r" }  # one\n',
    "dotted": 'models.a.repo = "o/r"  # all\n',
    "dotted, with a table below": 'models.a.repo = "o/r"  # all\n[models.a.kwargs]\nx = 1\n',
    "several dotted": 'models.a.repo = "o/r"\nmodels.b.repo = "o/r"  # all\n',
    "dotted under a header": '[models]\na.repo = "o/r"  # all\n',
    "out of order": '[models.a]\nrepo = "o/r"\n[weights.w]\nurl = "https://h/w"  # all\n[models.b]\nrepo = "o/r"\n',
    "header-like strings": '[models.a]\nrepo = "o/r"\nargs = ["""\n[models.x]\n# all""", \'\'\'\n[models.y]\'\'\']\n',
    "header-like rows": '[models.a]\nrepo = "o/r"\nargs = [\n[1],  # all\n["x"]\n]\n',
    "strings with other line separators": '[models.a]\nrepo = "o/r"\nargs = ["\u2028[models.x]\x85"]\n# all\n',
    "spaced header": '  [ models . "a" ]  # all\nrepo = "o/r"\n',
    "no last line end": '# all\n[models.a]\nrepo = "o/r"',
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_edits_every_layout(text: str) -> None:
    before = read(text)
    added = edit_manifest(text, embedded=False, add=RESNET)
    assert {model.name for model in read(added).models} == {*(model.name for model in before.models), "resnet18"}
    assert "all" in added
    assert read(edit_manifest(added, embedded=False, remove="resnet18")) == before
    removed = read(edit_manifest(text, embedded=False, remove="a"))
    assert removed.models == tuple(model for model in before.models if model.name != "a")
    assert removed.weights == before.weights
    [model] = [replace(model, repo="x/y", entrypoint="z") for model in before.models if model.name == "a"]
    changed = edit_manifest(text, embedded=False, add=model)
    assert model in read(changed).models
    assert edits.comments(changed) == edits.comments(text)


@pytest.mark.parametrize(
    "text",
    [
        '[tool]\nhublock = { models = { a = { repo = "o/r" } } }\n[project]\nname = "p"\n',
        '[project]\nname = "p"\n[tool.hublock]\nmodels.a.repo = "o/r"\n[tool.ruff]\nx = [1, 2]  # all\n',
        'project.name = "p"\ntool.hublock.models.a.repo = "o/r"\ntool.ruff.x = 1\n',
    ],
)
def test_edits_every_layout_of_a_pyproject_and_keeps_the_rest(text: str) -> None:
    def rest(text: str) -> Any:
        table = tomllib.loads(text)
        table.get("tool", {}).pop("hublock", None)
        return table

    added = edit_manifest(text, embedded=True, add=RESNET)
    assert [model.name for model in read(added, embedded=True).models] == ["a", "resnet18"]
    assert rest(added) == rest(text)
    removed = edit_manifest(added, embedded=True, remove="a")
    assert [model.name for model in read(removed, embedded=True).models] == ["resnet18"]
    assert rest(removed) == rest(text)


@pytest.mark.parametrize("rest", ['[project]\nname = "p"\n', '[project]\nname = "p"\n\n[tool.ruff]\nx = 1\n'])
def test_removes_the_table_that_begins_a_pyproject(rest: str) -> None:
    text = f'[tool.hublock.models.a]\nrepo = "o/r"\n\n{rest}'
    assert edit_manifest(text, embedded=True, remove="a") == rest


def test_only_lf_ends_a_line() -> None:
    text = '[models.a]\nrepo = "o/r"\nargs = ["\u2028\x85\x0b"]\n\n[models.b]\nrepo = "o/r"\n'.replace("\x0b", "\u2029")
    assert edits.splice(text, ("models", "a"), None) == '[models.b]\nrepo = "o/r"\n'
    assert edits.splice(text, ("models", "b"), None) == text.partition("\n[models.b]")[0]


def test_refuses_to_remove_what_is_not_there_and_offers_the_nearest() -> None:
    with pytest.raises(InvalidManifest) as caught:
        edit_manifest(COMMENTED.replace("models.a", "models.resnet18"), embedded=False, remove="resnet")
    told = "hub.toml: holds neither a model nor weights named resnet; did you mean resnet18?"
    assert (caught.value.message, caught.value.hint) == (told, "hublock list")


def test_refuses_to_write_what_could_not_be_read_again() -> None:
    wrong: list[tuple[WantedModel | WantedWeights, str]] = [
        (WantedModel(name="a/b", repo="o/r", entrypoint="a"), 'models."a/b": expected a name'),
        (WantedModel(name="n", repo="/abs", entrypoint="n"), 'models.n.repo: "/abs" is an absolute path'),
        (WantedModel(name="n", repo="o/r", entrypoint="n", args=(float("nan"),)), "models.n.args[0]: nan cannot"),
        (
            WantedModel(name="n", repo="o/r", entrypoint="n", args=("\udc80",)),
            "models.n: cannot be written, because TOML",
        ),
        (WantedWeights(name="n", url="https://me:secret@h/x"), "weights.n.url: the URL holds a user name or password"),
    ]
    for value, start in wrong:
        with pytest.raises(InvalidManifest) as caught:
            edit_manifest(COMMENTED, embedded=False, add=value)
        assert caught.value.message.startswith(f"hub.toml: {start}")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text, path, values: (
            text.replace("[tool.ruff]", "[tool.rough]") + '[tool.hublock.weights.backbone]\nurl="x"'
        ),
        lambda text, path, values: edits.splice(text, path, values).replace("[tool.ruff]", "[tool.rough]"),
        lambda text, path, values: edits.splice(text, path, {"url": "https://example.org/another.pth"}),
        lambda text, path, values: text,
        lambda text, path, values: edits.splice(text, path, values) + "[",
    ],
)
def test_refuses_an_edit_that_did_more_or_less_than_was_asked(damage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "[tool.ruff]\nline-length = 9\n"
    expected = edit_manifest(text, embedded=True, add=BACKBONE)
    damaged = damage(text, ("tool", "hublock", "weights", "backbone"), {"url": BACKBONE.url})
    assert damaged != expected
    splice = edits.splice
    monkeypatch.setattr(edits, "splice", lambda given, *how: damaged if given == text else splice(given, *how))
    monkeypatch.setattr(edits, "rewrite", lambda *_: damaged)
    monkeypatch.setattr(edits, "exchange", lambda *_: damaged)
    with pytest.raises(InvalidManifest) as caught:
        edit_manifest(text, embedded=True, add=BACKBONE)
    assert caught.value.message == (
        "pyproject.toml: weights.backbone: is laid out in a way that cannot be edited safely"
    )


def test_refuses_a_name_that_the_other_kind_has() -> None:
    with pytest.raises(InvalidManifest, match=r"hub.toml: models.a: has that name already"):
        edit_manifest(COMMENTED, embedded=False, add=WantedWeights(name="a", url="https://h/a"))


def test_refuses_to_edit_a_manifest_that_is_not_valid() -> None:
    with pytest.raises(InvalidManifest, match="unknown key"):
        edit_manifest("colour = 1\n", embedded=False, add=RESNET)


MODELS = st.builds(
    WantedModel,
    name=ENTRYPOINTS,
    repo=REFERENCES,
    entrypoint=ENTRYPOINTS,
    args=st.lists(VALUES, max_size=2).map(tuple),
    kwargs=KEYWORDS,
    requires=words(st.sampled_from(["torch>=2", "numpy"])),
    allow_pickle=words(NAMES),
    allow_unreachable=st.booleans(),
)


@given(st.lists(MODELS, max_size=4, unique_by=lambda model: model.name), st.booleans(), st.booleans())
def test_any_models_can_be_added_and_removed_again(models: list[WantedModel], home: bool, windows: bool) -> None:
    text = start = "# begin\r\n[tool.x]\r\ny = 1 # z\r\n" if windows and home else "# begin\n" * (not home)
    for model in models:
        text = edit_manifest(text, embedded=home, add=model)
    assert list(read(text, embedded=home).models) == models
    for model in models:
        text = edit_manifest(text, embedded=home, remove=model.name)
    assert text == start


@pytest.mark.parametrize("text", ["", '[project]\nname = "p"\n', '[project]\r\nname = "p"\r\n'])
def test_a_pyproject_stays_the_home_of_the_manifest_when_its_last_table_goes(text: str) -> None:
    kept = keep_home(text)

    assert kept.startswith(text)
    assert kept.count("\n") - kept.count("\r\n") in (0, kept.count("\n"))
    assert (tomllib.loads(kept)["tool"], read(kept, embedded=True)) == ({"hublock": {}}, Manifest())
    added = edit_manifest(kept, embedded=True, add=RESNET)
    assert keep_home(added) == added


def test_conflict_markers_of_a_manifest_are_a_persons_to_merge() -> None:
    with pytest.raises(InvalidManifest, match="line 1: holds git conflict markers") as caught:
        read("<<<<<<< ours\n=======\n>>>>>>> theirs\n")
    assert caught.value.hint == "merge both sides of each conflict by hand, then hublock lock"
