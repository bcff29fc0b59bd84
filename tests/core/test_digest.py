import pytest
from hypothesis import given
from hypothesis import strategies as st

from hublock.core.digest import LENGTHS, Digest
from tests.core.strategies import digests


@given(st.sampled_from(list(LENGTHS)).flatmap(digests))
def test_parse_is_the_inverse_of_str(digest: Digest) -> None:
    assert Digest.parse(str(digest)) == digest


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a digest is written scheme:hex, not ''"),
        ("0" * 64, f"a digest is written scheme:hex, not '{'0' * 64}'"),
        ("md5:" + "0" * 32, "unknown digest scheme 'md5', expected one of sha256, git-sha1, git-sha256"),
        ("sha256:" + "0" * 63, "a sha256 digest has 64 lower-case hex digits"),
        ("sha256:" + "0" * 65, "a sha256 digest has 64 lower-case hex digits"),
        ("sha256:" + "0" * 64 + "\n", "a sha256 digest has 64 lower-case hex digits"),
        ("git-sha1:" + "A" * 40, "a git-sha1 digest has 40 lower-case hex digits"),
        ("git-sha256:" + "g" * 64, "a git-sha256 digest has 64 lower-case hex digits"),
        ("sha256: " + "0" * 63, "a sha256 digest has 64 lower-case hex digits"),
        ("sha256:" + "\u0660" * 64, "a sha256 digest has 64 lower-case hex digits"),
    ],
)
def test_refuses_what_is_no_digest(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Digest.parse(text)
    assert str(caught.value) == problem
