import fractions
from enum import Flag, StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hublock.core.arguments import Value, encode, evaluate, literal, parse_keywords, parse_word, same, show, show_call
from hublock.core.fields import value as read_value
from hublock.core.tables import Cell, Source
from hublock.errors import InputError, InvalidManifest
from tests.core.strategies import PYTHON, VALUES


def no_object(name: str) -> object:
    raise AssertionError(f"asked for {name}")


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("1", 1),
        ("-1", -1),
        ("1.5", 1.5),
        ("True", True),
        ("true", True),
        ("FALSE", False),
        ("None", {"python": "None"}),
        ("none", {"python": "None"}),
        ("null", {"python": "None"}),
        ("IMAGENET1K_V1", "IMAGENET1K_V1"),
        ("'1'", "1"),
        ("[1, 'a']", [1, "a"]),
        ("{'a': [1]}", {"a": [1]}),
        ("(1,2)", {"python": "(1, 2)"}),
        ("(1,)", {"python": "(1,)"}),
        ("[1, None]", [1, {"python": "None"}]),
        ("{1, 2}", {"python": "{1, 2}"}),
        ("set()", {"python": "set()"}),
        ("b'x'", {"python": "b'x'"}),
        ("1+2j", {"python": "(1+2j)"}),
        ("...", {"python": "..."}),
        ("{1: 2}", {"python": "{1: 2}"}),
        ("{'python': 'None'}", {"python": "{'python': 'None'}"}),
        ("18446744073709551616", {"python": "18446744073709551616"}),
        ("1e999", float("inf")),
        ("(1e999, -1e999)", {"python": "(1e999, -1e999)"}),
        ("inf", "inf"),
        ("nan", "nan"),
        ("torch.float16", "torch.float16"),
        ("open('x')", "open('x')"),
        ("1 if True else 2", "1 if True else 2"),
        ("", ""),
        (" spaced out ", " spaced out "),
        ("a=b", "a=b"),
        ("[1,", "[1,"),
        ("\\d", "\\d"),
        ("'\\d'", "\\d"),
        ("(" * 500, "(" * 500),
        ("\0", "\0"),
    ],
)
def test_reads_a_typed_word(typed: str, value: Value) -> None:
    assert repr(parse_word(typed)) == repr(value)


@pytest.mark.parametrize(
    ("typed", "key", "value"),
    [
        ("weights=IMAGENET1K_V1", "weights", "IMAGENET1K_V1"),
        ("pretrained=true", "pretrained", True),
        ("n=1", "n", 1),
        ("n:=1", "n", "1"),
        ("n:=none", "n", "none"),
        ("n:=", "n", ""),
        ("n=", "n", ""),
        ("n=a=b", "n", "a=b"),
        ("n=:=b", "n", ":=b"),
        ("größe=2", "größe", 2),
    ],
)
def test_reads_a_typed_keyword(typed: str, key: str, value: Value) -> None:
    assert parse_keywords([typed]) == {key: value}


@pytest.mark.parametrize("typed", ["", "n", "=1", ":=1", "1n=1", "a b=1", "a.b=1", "--n=1"])
def test_refuses_a_keyword_without_name_or_value(typed: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_keywords([typed])
    assert caught.value.hint == "write --kwarg NAME=VALUE or --kwarg NAME:=TEXT"


@given(PYTHON)
def test_evaluate_is_the_inverse_of_encode(value: object) -> None:
    again = evaluate(encode(value), no_object)
    assert type(again) is type(value)
    assert repr(again) == repr(value)


@given(PYTHON)
def test_what_encode_gives_the_manifest_accepts(value: object) -> None:
    encoded = encode(value)
    cell = Cell(encoded, Source("hub.toml", InvalidManifest, ""))
    assert repr(read_value(cell)) == repr(encoded)


@given(st.text(max_size=20))
def test_a_typed_word_never_fails(typed: str) -> None:
    evaluate(parse_word(typed), no_object)


def test_objects_are_left_to_the_caller_wherever_they_stand() -> None:
    value: Value = [{"a": {"object": "torch.float16"}}]
    assert evaluate(value, str.upper) == [{"a": "TORCH.FLOAT16"}]


def test_a_table_with_more_keys_or_other_values_is_just_a_table() -> None:
    for value in ({"python": "None", "x": 1}, {"python": 1}, {"object": ["a.b"]}):
        assert evaluate(value, no_object) == value  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["open(1)", "a", "(", "__import__('os')", "[x for x in ()]", "f'{1}'", "1" * 5000])
def test_refuses_to_evaluate_more_than_a_literal(text: str) -> None:
    with pytest.raises(InputError, match="is not a Python literal"):
        evaluate({"python": text}, no_object)


def test_refuses_a_literal_that_is_too_long_or_too_deep() -> None:
    with pytest.raises(InputError, match="too long"):
        literal("'" + "a" * 70_000 + "'")
    with pytest.raises(InputError, match="is not a Python literal"):
        literal("-" * 60_000 + "1")


class Colour(StrEnum):
    RED = "red"


class Traits(Flag):
    FAST = 1
    LIGHT = 2


@pytest.mark.parametrize(
    "value",
    [
        object(),
        fractions.Fraction(1),
        Traits.FAST | Traits.LIGHT,
        float("nan"),
        (float("nan"),),
        len,
        [object()],
        frozenset(),
    ],
)
def test_refuses_to_encode_what_no_literal_says(value: object) -> None:
    with pytest.raises(InputError, match="cannot be written down"):
        encode(value)


def test_encodes_the_members_of_enumerations() -> None:
    assert encode([Colour.RED, Traits.FAST]) == [
        {"object": f"{__name__}.Colour.RED"},
        {"object": f"{__name__}.Traits.FAST"},
    ]


def test_encodes_what_torch_names() -> None:
    dtype = type("dtype", (), {"__module__": "torch", "__repr__": lambda self: "torch.float16"})()
    layer = type("ReLU", (), {"__module__": "torch.nn.modules.activation"})
    assert encode(dtype) == {"object": "torch.float16"}
    assert encode(layer) == {"object": "torch.nn.modules.activation.ReLU"}
    device = type("device", (), {"__module__": "torch", "__str__": lambda self: "cuda:0"})()
    assert encode(device) == {"object": "torch.device('cuda:0')"}
    with pytest.raises(InputError):
        encode(type("Own", (), {"__module__": "__main__"}))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (True, 1),
        (1, 1.0),
        (0, False),
        ("1", 1),
        ([1], [True]),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"a": 1, "b": 1}),
        ([1], [1, 1]),
        ({"python": "(1,)"}, [1]),
        ({"python": "(1,)"}, {"python": "(1.0,)"}),
        ({"python": "None"}, "None"),
        ({"object": "torch.float16"}, {"object": "torch.float32"}),
        (0.0, -0.0),
    ],
)
def test_values_of_different_types_are_not_the_same(left: Value, right: Value) -> None:
    assert not same(left, right)
    assert not same(right, left)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"python": "(1,2)"}, {"python": "( 1, 2 )"}),
        ({"python": "[1, None]"}, [1, {"python": "None"}]),
        ({"python": "{2, 1}"}, {"python": "{1, 2}"}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (float("inf"), {"python": "1e999"}),
    ],
)
def test_values_that_stand_for_the_same_are_the_same(left: Value, right: Value) -> None:
    assert same(left, right)


def test_what_is_no_literal_is_the_same_as_itself_only() -> None:
    assert same({"python": "open()"}, {"python": "open()"})
    assert not same({"python": "open()"}, {"python": "exit()"})


@given(VALUES)
def test_a_value_is_the_same_as_itself(value: Value) -> None:
    assert same(value, value)


def test_shows_values_as_python_source() -> None:
    assert show([1, "a", {"python": "(1, 2)"}, {"object": "torch.float16"}, {"k": True}]) == (
        "[1, 'a', (1, 2), torch.float16, {'k': True}]"
    )
    assert (
        show_call("resnet18", (1,), {"weights": "V1", "x": {"python": "None"}}) == "resnet18(1, weights='V1', x=None)"
    )
