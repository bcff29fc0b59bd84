"""The command line: parse, run one command, turn an error into a sentence and an exit code."""

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from hublock.cli.console import Console
from hublock.cli.face import Face, Parser, common_options, sentence
from hublock.core.nearest import nearest
from hublock.errors import HublockError, InputError, StoreError
from hublock.settings import Settings, home

COMMANDS = {
    name: import_module(f"hublock.cli.{name.replace('-', '_')}")
    for name in (
        "init", "add", "remove", "lock", "sync", "verify", "outdated", "update", "diff", "run", "list", "help",
        "merge-driver", "bundle", "cache",
    )
}  # fmt: skip
"""Each command's module: its SUMMARY and EXAMPLES, and how to ``configure`` its parser and ``run`` it."""
INTERRUPTED, OWN_BUG = 130, 70

EPILOG = """\
examples:
  hublock add pytorch/vision:v0.20.1 resnet18 --kwarg weights=IMAGENET1K_V1
  hublock sync            fetch what hub.lock names, elsewhere
  hublock verify          in CI: is the lock current and the store intact?

exit codes:
  0 fine                  1 differs (stale lock)         2 wrong command, manifest, lock, repository or ref
  3 integrity failure     4 not locked or not in store   5 transfer failed, may be retried
  6 cannot be run here    7 store cannot be written      70 a bug in hublock     130 interrupted
"""


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    from hublock import __version__

    parser = Parser(
        prog="hublock",
        parents=[common_options()],
        description="The reproducibility lockfile for PyTorch Hub.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-V", "--version", action="version", version=f"hublock {__version__}", help="print the version and exit"
    )
    parser.set_defaults(run=None, parser=parser, verbosity=0, project=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    # not those of the parser above, which its defaults have changed
    common = common_options()
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name,
            parents=[common],
            help=module.SUMMARY,
            description=sentence(module.SUMMARY),
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.configure(command)
        command.set_defaults(run=module.run, parser=command)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read a command line.

    Raises:
        InputError: it is none of hublock's.
    """
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        raise InputError(f"there is no command {argv[0]}{nearest(argv[0], COMMANDS)}", hint="hublock --help")
    if argv[:1] == ["help"] and (len(argv) == 1 or argv[1] in COMMANDS):
        argv = [*argv[1:], "--help"]
    arguments, rest = build_parser().parse_known_args(argv)
    if rest:
        arguments.parser.refuse(rest[0])
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # what the terminal's encoding cannot hold is shown all the same
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    out, err = (stream or Path(os.devnull).open("w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    console = Console(out, err, os.environ)
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        if arguments.run is None:
            arguments.parser.print_help(err)
            return InputError.exit_code
        console = Console(out, err, os.environ, verbosity=arguments.verbosity, project=arguments.project)
        face = _face(arguments, console, os.environ)
        code: int = arguments.run(arguments, face)
    except HublockError as error:
        console.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        console.error(HublockError("interrupted; nothing was half-written"))
        return INTERRUPTED
    except OSError as error:
        # of a file that no room expected to be unreadable; a bug in none of them
        what = error.filename if error.filename is not None else "a file"
        console.error(StoreError(f"{what} cannot be used: {error.strerror or error}", hint=f"check {what}"))
        return StoreError.exit_code
    except Exception as error:  # noqa: BLE001
        import traceback

        console.error(HublockError(f"this is a bug in hublock: {type(error).__name__}: {error}"))
        for line in traceback.format_exc().splitlines():
            console.say(line)
        return OWN_BUG
    return code


def _face(arguments: argparse.Namespace, console: Console, environ: Mapping[str, str]) -> Face:
    settings = Settings.from_mapping(environ, mirrors=_configured_mirrors())
    if arguments.project:
        settings = replace(settings, project=arguments.project.absolute())
    if getattr(arguments, "jobs", None):
        settings = replace(settings, jobs=arguments.jobs)
    from hublock import __version__

    return Face(
        console=console,
        settings=settings,
        cwd=_cwd(),
        home=home(environ),
        environ=environ,
        version=__version__,
    )


def _cwd() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise InputError("the current folder was removed", hint="cd to another one") from None


def _configured_mirrors() -> dict[str, str]:
    """Read ``[mirrors]`` of the user's config file: ``"https://from/" = "https://to/"``."""
    import platformdirs

    from hublock.actions.textfiles import read_text

    try:
        path = Path(platformdirs.user_config_dir("hublock", appauthor=False)) / "config.toml"
        text = read_text(path)
    except (RuntimeError, FileNotFoundError):
        # who has no home has no file there
        return {}
    # most have none, and wait for no reader of it
    from hublock.core import tables
    from hublock.core.toml import read_toml

    hint = f'write [mirrors] in {path} and below it "https://from/" = "https://to/", and nothing else'
    cells = read_toml(text, file=str(path), refusal=InputError, hint=hint).members()
    for key, cell in cells.items():
        if key != "mirrors":
            raise cell.refuse(f"unknown key{nearest(key, ['mirrors'])}")
    return {key: tables.text(cell) for key, cell in cells["mirrors"].members().items()} if cells else {}
