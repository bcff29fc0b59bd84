"""The manifest: what the project wants. ``hub.toml``, or ``[tool.hublock]`` in ``pyproject.toml``."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from shlex import quote
from typing import Any, get_args

from hublock.core import arguments, edits, fields, tables
from hublock.core.arguments import Value
from hublock.core.lockfile import Environment
from hublock.core.nearest import nearest
from hublock.core.tables import Cell, distinct, record
from hublock.core.toml import read_toml
from hublock.errors import InvalidManifest

HINT = "correct it, then hublock lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedModel:
    """``[models.NAME]``: one entry point with its arguments."""

    name: str
    repo: str
    entrypoint: str
    """The name, unless the table says otherwise."""
    args: tuple[Value, ...] = ()
    kwargs: Mapping[str, Value] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    allow_pickle: tuple[str, ...] = ()
    allow_unreachable: bool = False
    tolerate: tuple[str, ...] = ()
    """Refusals the model may live with: ``https://host`` or ``subprocess:name``."""
    inputs: tuple[str, ...] = ()
    """Paths, relative to the manifest, of files the user hands in."""
    urls: tuple[str, ...] = ()
    """Declared instead of traced, for a model that cannot run here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedWeights:
    """``[weights.NAME]``: a file that a script loads by URL itself."""

    name: str
    url: str
    allow_pickle: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Everything the project wants."""

    environment: Environment = "warn"
    models: tuple[WantedModel, ...] = ()
    weights: tuple[WantedWeights, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all models and weights."""
        return (*(model.name for model in self.models), *(item.name for item in self.weights))


def parse_manifest(text: str, *, file: str, embedded: bool) -> Manifest:
    """Read a manifest, strictly; one that is ``embedded`` is ``[tool.hublock]`` of a pyproject.toml.

    Raises:
        InvalidManifest: the text is not TOML, or anything in it is not as the schema says.
    """
    root = read_toml(text, file=file, refusal=InvalidManifest, hint=HINT)
    for key in ("tool", "hublock") if embedded else ():
        root = root.members().get(key) or root.at(key, {})
    manifest = _MANIFEST(root)
    taken = {model.name for model in manifest.models}
    for weights in manifest.weights:
        if weights.name in taken:
            cell = root.members()["weights"].members()[weights.name]
            raise cell.refuse(f"{tables.quote(weights.name)} is also the name of a model")
    return manifest


def edit_manifest(
    text: str, *, embedded: bool, add: WantedModel | WantedWeights | None = None, remove: str | None = None
) -> str:
    """Return ``text`` with one table more, or one less; comments, order and line endings stay.

    A table of that name that is already there is changed in place.

    Args:
        text: the whole file, empty for a file that does not exist yet.
        embedded: whether the tables stand under ``tool.hublock``.
        add: what to put in.
        remove: the name of what to take out; it must be there.

    Raises:
        InvalidManifest: ``text`` is no manifest, has no such name, or is laid out in a way that only a person can edit.
    """
    file = "pyproject.toml" if embedded else "hub.toml"
    before = parse_manifest(text, file=file, embedded=embedded)
    kind, name, expected = _goal(before, add, remove, file)
    path = ("tool", "hublock", kind, name) if embedded else (kind, name)
    values = None if add is None else _written(add)
    if values is not None:
        _check_value(file, path, values, embedded=embedded)
    for way in (edits.splice, edits.rewrite, edits.exchange):
        try:
            after = way(text, path, values)
            found = parse_manifest(after, file=file, embedded=embedded)
        except (LookupError, ValueError, InvalidManifest):
            continue
        kept = add is None or edits.comments(text) <= edits.comments(after)
        if kept and _agree(found, expected) and _rest(after, embedded) == _rest(text, embedded):
            return after
    raise InvalidManifest(
        f"{file}: {kind}.{name}: is laid out in a way that cannot be edited safely",
        hint="edit the file by hand, then hublock lock",
    )


def keep_home(text: str) -> str:
    """Return a pyproject.toml, of which the last of our tables may be gone, with an empty ``[tool.hublock]``."""
    if "hublock" in tomllib.loads(text).get("tool", {}):
        return text
    newline = edits.line_ending(text)
    return f"{text}{newline if text else ''}[tool.hublock]{newline}"


def _check_value(file: str, path: tuple[str, ...], values: dict[str, Any], *, embedded: bool) -> None:
    """Refuse what would not be read back, wherever it stood."""
    hint = f"correct the command: {file} is as it was"
    try:
        parse_manifest(edits.splice("", path, values), file=file, embedded=embedded)
    except ValueError as error:
        raise InvalidManifest(f"{file}: {'.'.join(path)}: cannot be written, because {error}", hint=hint) from None
    except InvalidManifest as error:
        raise InvalidManifest(error.message, hint=hint if error.hint == HINT else error.hint) from None


def _goal(
    before: Manifest, add: WantedModel | WantedWeights | None, remove: str | None, file: str
) -> tuple[str, str, Manifest]:
    """Return which table to edit (``models`` or ``weights``, and the name) and what the manifest must then be."""
    name = add.name if add else remove
    models = tuple(model for model in before.models if model.name != name)
    weights = tuple(row for row in before.weights if row.name != name)
    if add and len(models) + len(weights) < len(before.models) + len(before.weights):
        other = "weights" if isinstance(add, WantedModel) else "models"
        if any(row.name == name for row in getattr(before, other)):
            raise InvalidManifest(
                f"{file}: {other}.{name}: has that name already",
                hint=f"hublock remove {quote(add.name)}, or add under another --name",
            )
    if isinstance(add, WantedModel):
        return "models", add.name, replace(before, models=(*models, add))
    if isinstance(add, WantedWeights):
        return "weights", add.name, replace(before, weights=(*weights, add))
    kind = "models" if models != before.models else "weights"
    if name is None or (models == before.models and weights == before.weights):
        raise InvalidManifest(
            f"{file}: holds neither a model nor weights named {name}{nearest(name or '', before.names)}",
            hint="hublock list",
        )
    return kind, name, replace(before, models=models, weights=weights)


def _written(wanted: WantedModel | WantedWeights) -> dict[str, Any]:
    """Return the keys and values of a table as written: what is the default is left out."""
    values = {f.name.replace("_", "-"): getattr(wanted, f.name) for f in dataclass_fields(wanted) if f.name != "name"}
    if isinstance(wanted, WantedModel) and wanted.entrypoint == wanted.name:
        del values["entrypoint"]
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items() if value}


def _agree(left: Manifest, right: Manifest) -> bool:
    """Tell whether two manifests want the same, whatever the order of their tables."""
    if _sorted(left) != _sorted(right):
        return False
    return all(map(is_same, _sorted(left).models, _sorted(right).models))


def is_same(left: WantedModel, right: WantedModel) -> bool:
    """Tell whether two models are wanted alike: True is no 1, which Python's own comparison takes it for."""
    given = ([*model.args, dict(model.kwargs)] for model in (left, right))
    return left == right and arguments.same(*given)


def _sorted(manifest: Manifest) -> Manifest:
    return replace(
        manifest,
        models=tuple(sorted(manifest.models, key=lambda model: model.name)),
        weights=tuple(sorted(manifest.weights, key=lambda weights: weights.name)),
    )


def _rest(text: str, embedded: bool) -> str:
    """Return everything that is not ours, in one comparable text: the order of tables means nothing in TOML."""
    if not embedded:
        return ""
    whole = tomllib.loads(text)
    whole.setdefault("tool", {}).pop("hublock", None)
    return json.dumps(whole, sort_keys=True, default=repr)


def _models(cell: Cell) -> tuple[WantedModel, ...]:
    return tuple(_model(name, below) for name, below in cell.members().items())


def _model(name: str, cell: Cell) -> WantedModel:
    fields.name(replace(cell, value=name))
    if "entrypoint" not in cell.members():
        fields.entrypoint(cell.at("entrypoint", name))
    read = record(
        WantedModel,
        given={"name": name, "entrypoint": name},
        repo=fields.reference,
        entrypoint=fields.entrypoint,
        args=fields.arguments_of,
        kwargs=fields.keywords,
        requires=distinct(fields.requirement),
        allow_pickle=distinct(tables.text),
        allow_unreachable=tables.boolean,
        tolerate=distinct(fields.tolerated),
        inputs=distinct(fields.relative),
        urls=distinct(fields.url),
    )
    return read(cell)


def _weights(cell: Cell) -> tuple[WantedWeights, ...]:
    return tuple(_item(name, below) for name, below in cell.members().items())


def _item(name: str, cell: Cell) -> WantedWeights:
    given = {"name": fields.name(replace(cell, value=name))}
    return record(WantedWeights, given=given, url=fields.url, allow_pickle=distinct(tables.text))(cell)


_MANIFEST = record(Manifest, environment=tables.one_of(*get_args(Environment)), models=_models, weights=_weights)
