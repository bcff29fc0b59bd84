"""What a command is given: somewhere to speak, the settings, and the way to the project."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hublock.cli.console import Console, put
from hublock.core.nearest import nearest
from hublock.errors import InputError, NotLocked
from hublock.settings import Settings

if TYPE_CHECKING:
    from hublock.actions.context import Context
    from hublock.actions.project import Project
    from hublock.core.lockfile import Lock


class Parser(argparse.ArgumentParser):
    """A parser of one command, which refuses words as hublock does."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            InputError: always.
        """
        negative = message == "argument --arg: expected one argument"
        hint = "--arg=VALUE where it begins with a dash, such as --arg=-1e-3; " if negative else ""
        raise InputError(f"{self.prog}: {message}", hint=f"{hint}{self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse leaves what a pipe or disk does not take to the end of Python, which shows where it stood
        stream = file or sys.stderr
        if message and stream:
            put(message.removesuffix("\n"), stream)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += nearest(str(value), action.choices or ())
            raise

    def refuse(self, word: str) -> NoReturn:
        """Refuse a word that the command does not take.

        Raises:
            InputError: always.
        """
        known = (option for action in vars(self)["_actions"] for option in action.option_strings)
        options = [option for option in known if option.startswith("--")]
        near = nearest(word.partition("=")[0], options, prefix="--") if word.startswith("-") else ""
        self.error(f"unexpected argument {word}{near}" if word else "unexpected empty argument")


def repeatable(parser: argparse.ArgumentParser, option: str, *, help: str, metavar: str, type: Any = str) -> None:
    """Add an option that may be given several times."""
    parser.add_argument(
        option, action="append", default=[], metavar=metavar, type=type, help=f"{help} (may be repeated)"
    )


def sentence(summary: str) -> str:
    """Return what a command does, as its own help begins."""
    return f"{summary[0].upper()}{summary[1:]}."


def given(text: str) -> str:
    """Return an argument that must hold something: a variable of a script that is not set is no choice.

    Raises:
        ArgumentTypeError: it is empty.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _folder(text: str) -> Path:
    return Path(given(text))


def common_options() -> Parser:
    """Return the options of every command; one that is not given leaves no trace, so no later default undoes it."""
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--project", metavar="PATH", type=_folder, help="the project folder (default: search upward)")
    volume = common.add_mutually_exclusive_group()
    volume.add_argument("-q", "--quiet", dest="verbosity", action="store_const", const=-1, help="print errors only")
    volume.add_argument("-v", "--verbose", dest="verbosity", action="store_const", const=1, help="print more")
    return common


@dataclass(frozen=True, kw_only=True)
class Face:
    """The surroundings of one command."""

    console: Console
    settings: Settings
    cwd: Path
    home: Path
    environ: Mapping[str, str]
    """The environment, for programs that a command starts."""
    version: str = ""
    """hublock's own, for reports that name their maker."""

    @cached_property
    def context(self) -> "Context":
        """Settings, store and network, for the actions."""
        from hublock.actions.context import Context

        return Context(settings=self.settings, progress=self.console)

    @cached_property
    def project(self) -> "Project":
        """The project of this command.

        Raises:
            NotLocked: there is none above the current folder.
            InputError: the folder a user named does not exist.
        """
        from hublock.actions.project import LOCK, MANIFEST

        found = self._found()
        if found is None:
            raise NotLocked(f"neither {MANIFEST} nor {LOCK} in {self.cwd} or above it", hint="hublock init")
        if not (found.manifest.exists() or found.lock.exists()):
            raise NotLocked(f"neither {MANIFEST} nor {LOCK} in {found.folder}", hint="hublock init")
        return found

    def warn_if_stale(self, lock: "Lock", *, refuse: bool = False) -> None:
        """Warn of each way in which ``lock`` does not answer the manifest, if there is one.

        Raises:
            StaleLock: there is such a way, and it shall be refused.
            NotLocked: there is no manifest, and it shall be refused what does not answer it.
        """
        from hublock.core.plan import plan

        project = self.project
        known = refuse or project.manifest.exists()
        reasons = plan(project.read_manifest(), lock).reasons if known else ()
        if reasons and refuse:
            raise project.stale(reasons)
        for reason in reasons:
            self.console.warn(f"{project.lock.name} is stale: {reason}")

    @property
    def new_project(self) -> "Project":
        """The project of this command, or one to begin in the current folder."""
        from hublock.actions.project import Project

        return self._found() or Project.at(self.cwd)

    def _found(self) -> "Project | None":
        from hublock.actions.project import find_project, open_project

        return open_project(self.settings.project) if self.settings.project else find_project(self.cwd, self.home)
