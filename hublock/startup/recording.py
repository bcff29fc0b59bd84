"""While ``hublock lock -- COMMAND`` runs a script: what it asks torch.hub for is locked first, then answered.

The locking runs in a process of its own (this module as a program), so that the script's process never holds the way
to the network.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from hublock.errors import HublockError, IncompleteTrace, NotLocked, UnlockedDownload

WITHOUT = "HUBLOCK_RUN_WITHOUT"
"""The PYTHONPATH as it was before `hublock lock` put its own folder first."""
HOW = "HUBLOCK_RUN_RECORD"
"""How `hublock lock` was told to trace, as JSON."""


def activate() -> None:
    """Answer every torch.hub call of this process from the lock; what is not in it is locked first."""
    from hublock import hub
    from hublock.runtime import torchhub

    answers = hub.instead(allow_local=False)

    def load(repo_or_dir: str, model: str, *args: Any, **kwargs: Any) -> Any:
        if str(kwargs.get("source")).lower() == "local":
            raise hub.unvouched(repo_or_dir)
        return _locked_first(
            lambda: answers["load"](repo_or_dir, model, *args, **kwargs),
            lambda: _wish(repo_or_dir, model, args, kwargs),
        )

    def fetching(function: Callable[..., Any]) -> Callable[..., Any]:
        def fetch(url: str, *args: Any, **kwargs: Any) -> Any:
            return _locked_first(lambda: function(url, *args, **kwargs), lambda: {"url": url})

        return fetch

    def describing(function: Callable[..., Any]) -> Callable[..., Any]:
        def describe(github: str, *args: Any, **kwargs: Any) -> Any:
            try:
                return function(github, *args, **kwargs)
            except NotLocked:
                raise NotLocked(
                    f"{github} is not locked, and only loading a model adds to the lock",
                    hint=f"hublock add {quote(github)} ENTRYPOINT",
                ) from None

        return describe

    instead: dict[str, Callable[..., Any]] = {
        "load": load,
        "list": describing(answers["list"]),
        "help": describing(answers["help"]),
        "download_url_to_file": fetching(answers["download_url_to_file"]),
        "load_state_dict_from_url": fetching(answers["load_state_dict_from_url"]),
    }
    torchhub.activate(instead)


def _wish(repo: str, model: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    from hublock.core.arguments import encode

    ours = {"source", "trust_repo", "force_reload", "verbose", "skip_validation"}
    return {
        "reference": repo,
        "entrypoint": model,
        "args": [encode(value) for value in args],
        "kwargs": {key: encode(value) for key, value in kwargs.items() if key not in ours},
    }


def _locked_first(answer: Callable[[], Any], wished: Callable[[], Mapping[str, Any]]) -> Any:
    try:
        return answer()
    except (NotLocked, UnlockedDownload):
        wish = wished()
        done = subprocess.run(
            [sys.executable, "-m", "hublock.startup.recording"],
            input=json.dumps(wish),
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.environ.get(WITHOUT, "")},
        )
        if done.returncode:
            what = wish.get("url") or f"{wish['reference']} {wish['entrypoint']}"
            raise IncompleteTrace(
                f"{what} could not be locked (exit code {done.returncode})", hint="see the error above"
            ) from None
        return answer()


def main() -> int:
    """Lock the wish on standard input, in the project that ``HUBLOCK_PROJECT`` names."""
    from hublock.actions.add import Wish, add_models, add_weights
    from hublock.actions.context import Context
    from hublock.actions.project import open_project
    from hublock.actions.trace import TraceOptions
    from hublock.cli import tracing
    from hublock.cli.console import Console
    from hublock.settings import Settings

    console = Console(sys.stdout, sys.stderr, os.environ)
    wish = json.loads(sys.stdin.read())
    options = TraceOptions(**json.loads(os.environ[HOW]))
    try:
        context = Context(settings=Settings.from_mapping(os.environ), progress=console)
        project = open_project(Path(os.environ["HUBLOCK_PROJECT"]))
        if "url" in wish:
            url = wish["url"]
            done = add_weights(Path(url).stem, url, project, context, options=options, recorded=True)
            for item in done.lock.weights if done.changed else ():
                if item.url == url:
                    console.done("Locked", f"{item.name}: {url}")
            return 0
        asked = Wish(
            reference=wish["reference"],
            entrypoints=(wish["entrypoint"],),
            args=tuple(wish["args"]),
            kwargs=wish["kwargs"],
            recorded=True,
        )
        added = add_models(asked, project, context, options=options)
    except HublockError as error:
        console.error(error)
        return error.exit_code
    if added.locking:
        tracing.report(added.locking, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
