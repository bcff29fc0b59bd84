"""The functions of torch.hub that run code of a repository, as that code itself calls them: a load within a load."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

from hublock.errors import HublockError
from hublock.runtime import environment
from hublock.runtime.repository import Repository, namespace
from hublock.runtime.strict import downloads, local, made, placing, surroundings
from hublock.runtime.strict.objects import filled
from hublock.runtime.strict.scope import Scope
from hublock.runtime.strict.swap import Function


def call_entrypoint(
    repository: Repository, hubconf: ModuleType, entrypoint: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Call an entry point of a hubconf.py that ``import_hubconf`` has returned.

    Raises:
        EntrypointNotFound: hubconf.py has no such entry point.
        InputError: the tree has no object that an argument names.
    """
    from hublock.runtime import entrypoints

    found: Function = entrypoints.find(hubconf, entrypoint, repository.id)
    return found(*filled(list(args), repository, hubconf), **filled(dict(kwargs), repository, hubconf))


def call_of(entrypoint: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return what tells a call from others; where an argument is no plain value, it equals none."""
    plain = _is_plain([*args, kwargs])
    return repr((entrypoint, [*args], sorted(kwargs.items()))) if plain else uuid4().hex


def _is_plain(value: object) -> bool:
    if type(value) is dict:
        return _is_plain([*value, *value.values()])
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))  # type: ignore[call-overload]
    kind = type(value)
    # a device or a data type, whose repr is its name
    is_torch = kind.__module__ == "torch" and kind.__name__ in ("device", "dtype", "Size")
    return is_torch or isinstance(value, str | bytes | int | float | None)


def import_hubconf(scope: Scope, repository: Repository, call: str) -> ModuleType:
    """Import the hubconf.py of a repository, whose code belongs to ``scope`` from then on, for one ``call`` of it."""
    from hublock.runtime import isolation

    used = namespace(repository), call
    if used not in scope.packages:
        scope.adopt(repository)
        scope.packages[used] = isolation.begin(repository, call, alone=scope.alone)
        placing.show_repository(scope.hub_dir, repository.id, repository.root)
    package = scope.packages[used]
    if isolation.take_hubconf(package):
        try:
            return _import(scope, repository, package)
        except BaseException:
            isolation.give_hubconf_back(package)
            raise
    first = None
    try:
        with made.forgotten(package):
            first = _import(scope, repository, package)
            return isolation.run_anew(package)
    except Exception as error:
        if first is None or isinstance(error, HublockError):
            raise
        # torch.hub would fail, as where names are registered that are taken by then; the first run serves as well
        return _import(scope, repository, package)


def _import(scope: Scope, repository: Repository, package: str) -> ModuleType:
    from hublock.runtime import isolation

    surroundings.make_again(scope, package)
    try:
        hubconf = isolation.import_hubconf(repository, package)
    except BaseException:
        made.forget(package)
        raise
    # another load may just have imported it
    surroundings.make_again(scope, package)
    return hubconf


LOOK = "look"
"""Stands for the call of whoever only looks into hubconf.py."""


def _load(
    scope: Scope,
    _original: Function,
    /,  # an entry point may have a parameter of such a name
    repo_or_dir: str,
    model: str,
    *args: Any,
    source: str = "github",
    **kwargs: Any,
) -> Any:
    for accepted in ("trust_repo", "force_reload", "verbose", "skip_validation"):
        kwargs.pop(accepted, None)
    repository = _nested(scope, repo_or_dir, source)
    hubconf = import_hubconf(scope, repository, call_of(model, args, kwargs))
    return call_entrypoint(repository, hubconf, model, args, kwargs)


def _nested(scope: Scope, repo_or_dir: str, source: str = "github") -> Repository:
    if source.lower() == "local":
        return local.inside(scope, Path(repo_or_dir))
    if source.lower() != "github":
        raise ValueError(f'Unknown source: "{source}". Allowed values: "github" | "local".')
    repository = scope.ask(f"https://github.com/{repo_or_dir}", lambda answers: answers.repo(repo_or_dir))
    check_dependencies(repository)
    return repository


def check_dependencies(repository: Repository) -> None:
    """Look for what hubconf.py names before anything is imported; a top-level load has been checked by its caller.

    Raises:
        MissingDependency: packages are missing; all are named.
    """
    from hublock.core.hubconf import read_hubconf

    source = (repository.root / "hubconf.py").read_bytes()
    environment.check(
        dependencies=read_hubconf(source, file=f"hubconf.py of {repository.id}").dependencies,
        trees_own=repository.listing.top_names,
        of=repository.id,
    )


def _list(scope: Scope, _original: Function, github: str, *_rest: Any, **_options: Any) -> list[str]:
    from hublock.runtime import entrypoints

    return entrypoints.names(import_hubconf(scope, _nested(scope, github), LOOK))


def _help(scope: Scope, _original: Function, github: str, model: str, *_rest: Any, **_options: Any) -> str | None:
    from hublock.runtime import entrypoints

    repository = _nested(scope, github)
    found: Callable[..., Any] = entrypoints.find(import_hubconf(scope, repository, LOOK), model, repository.id)
    return found.__doc__


FUNCTIONS: dict[str, Function] = {
    "load": _load,
    "list": _list,
    "help": _help,
    "get_dir": downloads.get_dir,
    "set_dir": downloads.set_dir,
    "download_url_to_file": downloads.download_url_to_file,
    "load_state_dict_from_url": downloads.load_state_dict_from_url,
}
