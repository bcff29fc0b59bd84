import pytest
from hypothesis import given
from hypothesis import strategies as st

from hublock.core.reference import Reference, key_of
from hublock.errors import InvalidReference
from tests.core.strategies import REFERENCES


@pytest.mark.parametrize(
    ("text", "kind", "location", "ref"),
    [
        ("pytorch/vision", "github", "pytorch/vision", None),
        ("pytorch/vision:v0.20.1", "github", "pytorch/vision", "v0.20.1"),
        ("PyTorch/Vision:refs/heads/main", "github", "PyTorch/Vision", "refs/heads/main"),
        ("o/r:feature/a-b", "github", "o/r", "feature/a-b"),
        ("git+https://example.org/team/r.git@v1", "git", "git+https://example.org/team/r.git", "v1"),
        ("git+https://example.org:8443/r", "git", "git+https://example.org:8443/r", None),
        ("git+http://localhost/r", "git", "git+http://localhost/r", None),
        ("git+ssh://git@example.org/r@main", "git", "git+ssh://git@example.org/r", "main"),
        ("git+file:///srv/r.git@main", "git", "git+file:///srv/r.git", "main"),
        ("./r", "local", "./r", None),
        ("../a/r", "local", "../a/r", None),
        (".", "local", ".", None),
        ("/srv/r", "local", "/srv/r", None),
        ("~/r", "local", "~/r", None),
        ("C:\\r", "local", "C:\\r", None),
    ],
)
def test_reads_the_three_spellings_and_gives_back_what_was_typed(
    text: str, kind: str, location: str, ref: str | None
) -> None:
    reference = Reference.parse(text)
    assert (reference.kind, reference.location, reference.ref) == (kind, location, ref)
    assert str(reference) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vision",
        "a/b/c",
        "-a/b",
        "a/-b",
        "a/b:",
        "a/b:v 1",
        "a/b:v..1",
        "a/b:-v",
        "a/b:/v",
        "a/b:v/",
        "a/b:v.lock",
        "a/b:v.lock/x",
        "a/b:a//b",
        "a/b:a/.b",
        "a/b:v@{1}",
        "a/b:v^1",
        "a/b:v~1",
        "a/b:v*",
        "a/b:v\n",
        "a/b\n",
        "./a\n",
        "/srv/a\x1bb",
        "~/a\x7fb",
        "ä/b",
        "https://github.com/a/b",
        "git+https://example.org",
        "git+https://example.org/",
        "git+https:///r",
        "git+https://example.org/r?x=1",
        "git+https://example.org/r?",
        "git+https://example.org/r#x",
        "git+https://example.org/r@",
        "git+https://exam\nple.org/r",
        "git+https://[::1/r",
        "git+https://example.org:port/r",
        "git+file://host/r",
        "git+ftp://example.org/r",
    ],
)
def test_refuses_what_names_no_repository(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "git+https://me:secret@example.org/r",
        "git+https://secret@example.org/r",
        "git+https://:secret@example.org/r",
        "git+ssh://git:secret@example.org/r",
        "git+https://me:secret@example.org:port/r",
    ],
)
def test_refuses_credentials_and_does_not_show_them(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert "secret" not in str(caught.value)


@given(REFERENCES)
def test_parse_is_the_inverse_of_str(text: str) -> None:
    assert str(Reference.parse(text)) == text


@given(st.text(max_size=30) | st.text("abg+hts:/@.~?#[]\n -", max_size=30).map("git+https://{}".format))
def test_any_other_text_is_read_back_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert str(reference) == text


def test_github_ignores_the_case_of_names_but_not_of_refs() -> None:
    assert key_of("PyTorch/Vision:v1") == key_of("pytorch/vision:v1")
    assert key_of("pytorch/vision:v1") != key_of("pytorch/vision:V1")
    assert key_of("pytorch/vision") != key_of("pytorch/vision:main")
    assert key_of("./A") != key_of("./a")


def test_the_same_repository_at_another_ref() -> None:
    assert str(Reference.parse("a/b:v1").at("v2")) == "a/b:v2"
    assert str(Reference.parse("git+https://h/r@v1").at(None)) == "git+https://h/r"
