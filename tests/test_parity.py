"""torch.hub's signatures, release by release: whatever one of them accepts, hublock accepts, and understands alike."""

import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch.hub

import hublock

RELEASES = tuple(f"2.{minor}" for minor in range(4, 15))
"""Read from the hub.py of the first and last wheel of each: 2.4.0 and 2.4.1 … 2.12.0 and 2.12.1, 2.13.0, 2.14.1."""

SINCE_2_4 = {
    "list": "(github, force_reload=False, skip_validation=False, trust_repo=None, verbose=True)",
    "help": "(github, model, force_reload=False, skip_validation=False, trust_repo=None)",
    "load": (
        "(repo_or_dir, model, *args, source='github', trust_repo=None, force_reload=False, verbose=True,"
        " skip_validation=False, **kwargs)"
    ),
    "load_state_dict_from_url": (
        "(url, model_dir=None, map_location=None, progress=True, check_hash=False, file_name=None, weights_only=False)"
    ),
    "download_url_to_file": "(url, dst, hash_prefix=None, progress=True)",
    "get_dir": "()",
    "set_dir": "(d)",
}
SINCE_2_11 = SINCE_2_4 | {
    "list": "(github, force_reload=False, skip_validation=False, trust_repo='check', verbose=True)",
    "help": "(github, model, force_reload=False, skip_validation=False, trust_repo='check')",
    "load": (
        "(repo_or_dir, model, *args, source='github', trust_repo='check', force_reload=False, verbose=True,"
        " skip_validation=False, **kwargs)"
    ),
}
TABLE = {release: SINCE_2_11 if int(release[2:]) >= 11 else SINCE_2_4 for release in RELEASES}
EVERY = [(release, name) for release in RELEASES for name in TABLE[release]]

OPTIONAL_HERE = {("load", "model")}
"""A name alone loads a locked model."""
WITHOUT_EFFECT = {"trust_repo"}
"""The reviewed lock is the trust decision, so it does not matter that the default has changed."""


def signature(text: str) -> inspect.Signature:
    made: dict[str, Callable[..., Any]] = {}
    exec(f"def function{text}: ...", made)
    return inspect.signature(made["function"])


def calls(signature: inspect.Signature) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Yield one call for each way to pass each parameter: by position, by keyword, not at all; and others beside."""
    named = [item for item in signature.parameters.values() if item.kind == item.POSITIONAL_OR_KEYWORD]
    options = [item.name for item in signature.parameters.values() if item.kind == item.KEYWORD_ONLY]
    kinds = {item.kind for item in signature.parameters.values()}
    for count in range(len(named) + 1):
        given, rest = named[:count], named[count:]
        args: tuple[Any, ...] = tuple(f"<{item.name}>" for item in given)
        required = {item.name: f"<{item.name}>" for item in rest if item.default is item.empty}
        optional = [item.name for item in rest if item.default is not item.empty] + options
        for chosen in itertools.chain.from_iterable(
            itertools.combinations(optional, size) for size in range(len(optional) + 1)
        ):
            yield args, required | {name: f"<{name}>" for name in chosen}
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        yield (*(f"<{item.name}>" for item in named), 1, None), {"entry": 2, "use": 3, **dict.fromkeys(options)}


@pytest.mark.parametrize(("release", "name"), EVERY)
def test_every_call_that_a_release_accepts_means_the_same_here(release: str, name: str) -> None:
    theirs, ours = signature(TABLE[release][name]), inspect.signature(getattr(hublock, name))

    tried = 0
    for args, kwargs in calls(theirs):
        assert ours.bind(*args, **kwargs).arguments == theirs.bind(*args, **kwargs).arguments
        tried += 1
    assert tried >= 1


@pytest.mark.parametrize(("release", "name"), EVERY)
def test_parameters_of_every_release_have_their_place_kind_and_default(release: str, name: str) -> None:
    theirs, ours = signature(TABLE[release][name]).parameters, inspect.signature(getattr(hublock, name)).parameters

    assert list(theirs) == [key for key in ours if key in theirs]
    for key, parameter in theirs.items():
        assert ours[key].kind == parameter.kind, key
        if (name, key) not in OPTIONAL_HERE and key not in WITHOUT_EFFECT:
            assert ours[key].default == parameter.default, key
    added = {key: parameter for key, parameter in ours.items() if key not in theirs}
    assert {parameter.kind for parameter in added.values()} <= {inspect.Parameter.KEYWORD_ONLY}
    assert set(added) == ({"verify"} if name == "load" else set())


def test_the_table_is_what_the_installed_torch_says() -> None:
    release = ".".join(torch.__version__.split(".")[:2])
    installed = {name: inspect.signature(getattr(torch.hub, name)) for name in torch.hub.__all__}
    plain = {
        name: found.replace(
            parameters=[item.replace(annotation=item.empty) for item in found.parameters.values()],
            return_annotation=inspect.Signature.empty,
        )
        for name, found in installed.items()
    }

    # a release that is newer than the table must still have the signatures of the last one
    assert {name: str(found) for name, found in plain.items()} == TABLE.get(release, TABLE[RELEASES[-1]])


def test_defaults_are_those_of_the_newest_release() -> None:
    for name, text in TABLE[RELEASES[-1]].items():
        for key, parameter in signature(text).parameters.items():
            if (name, key) not in OPTIONAL_HERE:
                assert inspect.signature(getattr(hublock, name)).parameters[key].default == parameter.default
