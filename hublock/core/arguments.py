"""Arguments of entry points: what is typed, what TOML can hold, and the Python values they stand for.

TOML has no None, tuple, set, bytes, complex or long integer: ``{ python = "None" }`` holds a Python literal, and
``{ object = "torch.float16" }`` names an attribute of torch or of the repository itself, or a device of torch:
``{ object = "torch.device('cuda:0')" }``.
"""

import ast
import math
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum

from hublock.core.syntax import parse
from hublock.errors import InputError

Value = str | int | float | bool | list["Value"] | dict[str, "Value"]
"""A TOML value; a table whose only key is ``python`` or ``object`` stands for what TOML cannot say."""

LONGEST = 65536
"""The longest literal that is read, in characters."""

_OBJECT = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", re.ASCII)
_DEVICE = re.compile(r"torch\.device\('([a-z]+(?::[0-9]+)?)'\)")
_WORDS: dict[str, object] = {"true": True, "false": False, "none": None, "null": None}


def parse_word(text: str) -> Value:
    """Read one ``--arg``: a Python literal, else true, false, none or null in any case, else the bare string."""
    folded = text.strip().lower()
    if folded in _WORDS:
        return encode(_WORDS[folded])
    try:
        return encode(literal(text.strip()))
    except InputError:
        return text


def parse_keywords(texts: Iterable[str]) -> dict[str, Value]:
    """Read every ``--kwarg``: ``K=V``, V as in :func:`parse_word`, or ``K:=TEXT`` for a string.

    Raises:
        InputError: one of them has no ``=``, or its K is not a Python name; or two have the same K.
    """
    found: dict[str, Value] = {}
    for text in texts:
        key, equals, word = text.partition("=")
        forced = key.endswith(":")
        key = key.removesuffix(":").strip()
        if not equals or not key.isidentifier():
            hint = "write --kwarg NAME=VALUE or --kwarg NAME:=TEXT"
            raise InputError(f"{text!r} is not a keyword argument", hint=hint)
        if key in found:
            raise InputError(f"--kwarg {key} is given twice", hint=f"write --kwarg {key}=VALUE once")
        found[key] = encode(word) if forced else parse_word(word)
    return found


def evaluate(value: Value, resolve_object: Callable[[str], object]) -> object:
    """Return the Python value that ``value`` stands for; ``resolve_object`` answers ``{ object = "…" }``.

    Raises:
        InputError: a ``{ python = "…" }`` does not hold a literal.
    """
    if isinstance(value, list):
        return [evaluate(item, resolve_object) for item in value]
    if not isinstance(value, dict):
        return value
    special = marked(value)
    if special is None:
        return {key: evaluate(item, resolve_object) for key, item in value.items()}
    kind, text = special
    return literal(text) if kind == "python" else resolve_object(text)


def encode(value: object) -> Value:
    """Return what stands for a Python value in manifest and lock.

    Raises:
        InputError: no literal, no name of torch and no member of an enumeration stands for it.
    """
    if isinstance(value, list) and type(value) is list:
        return [encode(item) for item in value]
    if type(value) is dict and all(type(key) is str and _plain(key) for key in value) and marked(value) is None:
        return {key: encode(item) for key, item in value.items()}
    if _plain(value):
        return value  # type: ignore[return-value]
    name = _object_name(value)
    return {"object": name} if name else {"python": _source(value)}


def show(value: Value) -> str:
    """Return ``value`` as Python source, for messages."""
    if isinstance(value, list):
        return f"[{', '.join(map(show, value))}]"
    if isinstance(value, dict):
        special = marked(value)
        if special:
            return special[1]
        return "{" + ", ".join(f"{key!r}: {show(item)}" for key, item in value.items()) + "}"
    return _literal_source(value) if isinstance(value, float) else repr(value)


def in_json(value: Value) -> Value:
    """Return ``value`` for JSON, which has no infinity: there it is a literal."""
    if isinstance(value, list):
        return [in_json(item) for item in value]
    if isinstance(value, dict):
        return {key: in_json(item) for key, item in value.items()}
    return {"python": _literal_source(value)} if isinstance(value, float) and math.isinf(value) else value


def show_call(entrypoint: str, args: Iterable[Value], kwargs: Mapping[str, Value]) -> str:
    """Return the call as Python source, for messages."""
    words = [*map(show, args), *(f"{key}={show(item)}" for key, item in kwargs.items())]
    return f"{entrypoint}({', '.join(words)})"


def same(left: Value, right: Value) -> bool:
    """Tell whether two values stand for the same Python value, types included: True is not 1, and 1 is not 1.0."""
    left, right = _settled(left), _settled(right)
    if type(left) is not type(right):
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return repr(left) == repr(right)


def marked(value: dict[str, Value]) -> tuple[str, str] | None:
    """Return ``("python" | "object", text)`` if ``value`` stands for what TOML cannot say, else None."""
    if len(value) == 1:
        ((key, text),) = value.items()
        if key in ("python", "object") and isinstance(text, str):
            return key, text
    return None


def literal(text: str) -> object:
    """Evaluate a Python literal: never more than ``ast.literal_eval`` does.

    Raises:
        InputError: ``text`` is none.
    """
    if len(text) > LONGEST:
        raise InputError(f"a literal of {len(text)} characters is too long")
    try:
        # as literal_eval does, for which a leading blank is no indentation
        return ast.literal_eval(parse(text.lstrip(" \t"), mode="eval"))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        shown = text if len(text) < 60 else text[:60] + "…"
        raise InputError(f"{shown!r} is not a Python literal") from None


def is_object_path(text: str) -> bool:
    """Tell whether ``text`` may stand in ``{ object = "…" }``: names joined by dots, none private, or a device."""
    if device_named(text):
        return True
    return bool(_OBJECT.fullmatch(text)) and not any(part.startswith("_") for part in text.split("."))


def device_named(text: str) -> str | None:
    """Return what ``{ object = "torch.device('…')" }`` calls a device; None if it is another object."""
    found = _DEVICE.fullmatch(text)
    return found and found[1]


def _plain(value: object) -> bool:
    """Tell whether TOML itself can hold ``value``; it has integers of 64 bits and Unicode scalar values only."""
    if type(value) is str:
        return not re.search("[\ud800-\udfff]", value)
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return type(value) is bool or (type(value) is float and not math.isnan(value))


def _object_name(value: object) -> str | None:
    """Name a class, function, dtype, layout, memory format or device of torch, or any member of an enumeration.

    That may be one of the repository's, or of an installed package that it holds.
    """
    kind = type(value)
    if kind.__module__ == "torch" and kind.__name__ == "device":
        return f"torch.device('{value}')"
    if kind.__module__ == "torch" and kind.__name__ in ("dtype", "layout", "memory_format"):
        return str(value)
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    path = ""
    if isinstance(value, Enum):
        path = f"{kind.__module__}.{kind.__qualname__}.{value.name}"
    elif isinstance(module, str) and isinstance(name, str) and module.split(".")[0] == "torch":
        path = f"{module}.{name}"
    return path if is_object_path(path) else None


def _source(value: object) -> str:
    """Write ``value`` as a literal that evaluates to itself."""
    text = _literal_source(value)
    try:
        again = literal(text)
    except InputError:
        again = None
    if type(again) is not type(value) or _literal_source(again) != text:
        raise _unsayable(value)
    return text


def _literal_source(value: object) -> str:
    if type(value) is float and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    if type(value) is tuple:
        return f"({', '.join(map(_literal_source, value))}{',' if len(value) == 1 else ''})"
    if type(value) is list:
        return f"[{', '.join(map(_literal_source, value))}]"
    if type(value) is set:
        return f"{{{', '.join(sorted(map(_literal_source, value)))}}}" if value else "set()"
    if type(value) is dict:
        return f"{{{', '.join(f'{_literal_source(key)}: {_literal_source(item)}' for key, item in value.items())}}}"
    if value is ...:
        return "..."
    if value is None or type(value) in (bool, int, str, bytes, complex, float):
        return ascii(value)
    raise _unsayable(value)


def _unsayable(value: object) -> InputError:
    return InputError(
        f"an argument of type {type(value).__name__} cannot be written down",
        hint='use a Python literal, or { object = "torch.NAME" } in the manifest',
    )


def _settled(value: Value) -> Value:
    """Replace a literal by what TOML itself says for it, where it can: ``{ python = "[1]" }`` is ``[1]``."""
    special = marked(value) if isinstance(value, dict) else None
    if special is None or special[0] != "python":
        return value
    try:
        return encode(literal(special[1]))
    except InputError:
        return value
