import time
import tomllib
from pathlib import Path

import pytest

from hublock.core import toml
from hublock.core.canonical import dump_lock
from hublock.core.digest import Digest
from hublock.core.lockfile import Lock, Model, Repo
from hublock.core.lockreader import parse_lock
from hublock.core.tables import Source, quote
from hublock.errors import InputError, InvalidLock, InvalidReference, UnsupportedLockVersion

DATA = Path(__file__).parents[1] / "data" / "locks"
BAD = sorted((DATA / "bad").rglob("*.lock"))
GOOD = sorted((DATA / "good").rglob("*.lock"))


def read(text: str) -> Lock:
    return parse_lock(text, file="hub.lock")


def refusal(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        read(text)
    return caught.value


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_refuses_a_bad_lock_in_one_sentence_with_an_address_and_a_hint(path: Path) -> None:
    text = path.read_bytes().decode()
    error = refusal(text)
    assert text.splitlines()[0] == f"# expect: {error.message}"
    assert error.hint
    assert "delete" not in str(error)
    assert type(error) is (UnsupportedLockVersion if path.stem == "version-newer" else InvalidLock)


def test_no_refusal_shows_a_password() -> None:
    for path in BAD:
        text = path.read_bytes().decode()
        if "secret" in text or "token@" in text:
            assert "secret" not in str(refusal(text))
            assert "token@" not in str(refusal(text))


def test_no_refusal_prints_a_control_character() -> None:
    text = 'version = 1\n"a\\u001b[31mb" = 1\n'
    assert refusal(text).message == 'hub.lock: "a\\x1b[31mb": unknown key'


@pytest.mark.parametrize("key", ["a" * 81, "a" * 3_000_000])
def test_no_refusal_is_as_long_as_a_key(key: str) -> None:
    assert refusal(f"version = 1\n{key} = 1\n").message == f'hub.lock: "{"a" * 80}…": unknown key'


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_reads_a_good_lock(path: Path) -> None:
    text = path.read_bytes().decode()
    assert read(text) == read(text.replace("\n", "\r\n"))


def test_reads_every_key() -> None:
    lock = read((DATA / "good" / "full.lock").read_bytes().decode())
    local, nested, vision = lock.repos
    assert (lock.version, lock.environment) == (1, "exact")
    assert (nested.via, nested.allow_unreachable) == (("pytorch/vision:v0.20.1",), True)
    assert [row.path for row in nested.submodules] == ["third_party/a", "third_party/b"]
    assert nested.tree_weights[0].pickle == ("collections.Counter", "models.yolo.Model")
    assert vision.dependencies == ("torch", "PIL")
    resnet, plain = vision.models
    assert resnet.kwargs == {"weights": "IMAGENET1K_V1"}
    assert resnet.requires == ("torch>=2.4,<3", "numpy; python_version < '3.13'")
    assert resnet.traced_with == ("numpy==2.1.0", "torch==2.13.0")
    assert (resnet.traced, resnet.isolation, resnet.writes_tree) == ("confirmed", "netns+landlock", True)
    assert resnet.state == Digest("sha256", "8" * 64)
    assert (resnet.repos, resnet.tolerated) == (
        ("facebookresearch/dinov2",),
        ("https://api.github.com", "subprocess:fc-list"),
    )
    assert [row.size for row in resnet.weights] == [46830571, 12]
    assert (resnet.hf[0].commit, resnet.hf[0].pickle) == ("e5" * 20, ("builtins.set",))
    assert (resnet.replies[0].method, resnet.replies[0].status) == ("GET", 200)
    assert resnet.inputs[0].name == "best.pt"
    assert (plain.traced, plain.entrypoint) == ("unconfirmed", "resnet18")
    assert local.models[0].args[-3:] == (
        {"python": "(1, None)"},
        {"object": "torch.float16"},
        {"object": "torch.device('cuda:0')"},
    )
    assert lock.weights[0].url == "https://example.org/backbone-1a2b3c4d.pth"


def test_a_newer_version_is_told_before_anything_else_in_the_file() -> None:
    error = refusal("version = 7\nrepo = 1\nfuture = true\n")
    assert isinstance(error, UnsupportedLockVersion)
    assert error.message == "hub.lock: version: is 7, and this hublock reads only 1"
    assert error.hint == "upgrade hublock: pip install -U hublock"


def test_conflict_markers_are_named_with_their_line() -> None:
    text = dump_lock(Lock()) + "<<<<<<< ours\n=======\n>>>>>>> theirs\n"
    assert refusal(text).message == "hub.lock: line 3: holds git conflict markers"


def test_refuses_a_file_that_is_too_large() -> None:
    assert refusal("#" * (toml.LARGEST + 1)).message == "hub.lock: is larger than 16 MiB"


HOSTILE = {
    "dotted key": "a" + ".a" * 20_000 + " = 1",
    "dotted key with spaces": "a" + " . a" * 20_000 + " = 1",
    "dotted key of quoted parts": '"a"' + '."a"' * 20_000 + " = 1",
    "dotted header": "[" + "a." * 20_000 + "a]",
    "dotted key in a table": "x = { a" + ".a" * 20_000 + " = 1 }",
    "dotted key after a comment": '# "\na' + ".a" * 20_000 + " = 1",
    "dotted key after an apostrophe in a string": 'x = "it\'s"\na' + ".a" * 20_000 + " = 1",
    "dotted key after a long string": 'x = """a"" \\""""""\na' + ".a" * 20_000 + " = 1",
    "dotted key after a long literal": "x = '''a''\\'''''\na" + ".a" * 20_000 + " = 1",
    "nested arrays": "a = " + "[" * 20_000,
    "nested tables": "a = " + "{ a = " * 20_000,
    "nested arrays over lines": "a = " + "[\n" * 20_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_refuses_what_would_be_slow_before_tomllib_sees_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def called(_: str) -> object:
        raise AssertionError("tomllib was called")

    monkeypatch.setattr(tomllib, "loads", called)
    assert "nests deeper than" in refusal(text).message or "holds a key of more than" in refusal(text).message


def test_structure_inside_strings_and_comments_is_not_counted() -> None:
    source = Source("f", InvalidLock, "h")
    for quiet in (
        "# " + "[" * 99,
        'a = "' + "[." * 99 + '"',
        "a = '" + "{." * 99 + "'",
        'a = """\n' + '["\n' * 99 + '"""',
        "a = '''" + "['" * 99 + "'''",
        "a = [" + "1.5, " * 99 + "]",
    ):
        toml.bound(quiet, source)
        assert tomllib.loads(quiet) is not None


@pytest.mark.parametrize(
    "text",
    [
        "[a.b.c.d.e.f.g.h]\n" * 100_000,
        "x = " + "9" * 1_000_000,
        "x = 0x" + "f" * 1_000_000,
        'x = "' + "\\u0041" * 200_000,
        "x = [" + "[]," * 300_000 + "]",
        "x = '''" + "'" * 1_000_000,
        "\n".join(f"[[repo]]\nk{n} = 1" for n in range(50_000)),
    ],
    ids=["headers", "integer", "hex", "escapes", "items", "quotes", "tables"],
)
def test_large_nonsense_is_refused_in_bounded_time(text: str) -> None:
    started = time.monotonic()
    refusal(text)
    assert time.monotonic() - started < 20


def lock_of(*ids: str) -> Lock:
    return Lock(
        repos=tuple(
            Repo(
                id=identity,
                ref="HEAD",
                commit="0" * 40,
                tree=Digest("git-sha1", "0" * 40),
                digest=Digest("git-sha256", "0" * 64),
                models=(Model(name=f"of {identity}", entrypoint="m"),),
            )
            for identity in ids
        )
    )


def test_a_repository_is_found_whatever_the_case_of_its_github_name() -> None:
    lock = lock_of("PyTorch/Vision:v1", "./Local")
    found = lock.repo("pytorch/vision:v1")
    assert found is not None
    assert found.id == "PyTorch/Vision:v1"
    assert lock.repo("pytorch/vision") is None
    assert lock.repo("pytorch/vision:V1") is None
    assert lock.repo("./local") is None
    with pytest.raises(InvalidReference):
        lock.repo("vision")


def test_a_model_is_found_by_its_name() -> None:
    lock = lock_of("a/b", "c/d")
    found = lock.by_name.get("of c/d")
    assert found is not None
    assert found[0].id == "c/d"
    assert "of" not in lock.by_name


def test_equal_locks_are_equal_whatever_the_order_they_were_found_in() -> None:
    assert lock_of("a/b", "c/d") == lock_of("c/d", "a/b")


def test_quote_escapes_and_shortens() -> None:
    assert quote('a"b\\c') == '"a\\"b\\\\c"'
    assert quote("\x1b\u202eü") == '"\\x1b\\u202eü"'
    assert quote("x" * 100) == '"' + "x" * 80 + '…"'
