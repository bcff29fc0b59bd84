"""The functions of torch.hub that run code of a repository, as that code itself calls them: a load within a load."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hublock.runtime import environment
from hublock.runtime.repository import Repository, namespace
from hublock.runtime.strict import downloads, local, placing
from hublock.runtime.strict.objects import filled
from hublock.runtime.strict.scope import Scope
from hublock.runtime.strict.swap import Function


def call_entrypoint(
    scope: Scope, repository: Repository, entrypoint: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Call an entry point inside ``scope``.

    Raises:
        EntrypointNotFound: hubconf.py has no such entry point.
    """
    from hublock.runtime import entrypoints

    found: Function = entrypoints.find(import_hubconf(scope, repository), entrypoint, repository.id)
    package = scope.packages[namespace(repository)]
    return found(*filled(list(args), package), **filled(dict(kwargs), package))


def import_hubconf(scope: Scope, repository: Repository) -> Any:
    """Import the hubconf.py of a repository, whose code belongs to ``scope`` from then on."""
    from hublock.runtime import isolation

    name = namespace(repository)
    if name not in scope.packages:
        scope.adopt(repository)
        scope.packages[name] = isolation.begin(repository, scope.call)
        placing.show_repository(scope.hub_dir, repository.id, repository.root)
    return isolation.import_hubconf(repository, scope.packages[name])


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
    return call_entrypoint(scope, _nested(scope, repo_or_dir, source), model, args, kwargs)


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
    hubconf = import_hubconf(scope, _nested(scope, github))
    return [name for name in dir(hubconf) if callable(getattr(hubconf, name)) and not name.startswith("_")]


def _help(scope: Scope, _original: Function, github: str, model: str, *_rest: Any, **_options: Any) -> str | None:
    from hublock.runtime import entrypoints

    repository = _nested(scope, github)
    found: Callable[..., Any] = entrypoints.find(import_hubconf(scope, repository), model, repository.id)
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
