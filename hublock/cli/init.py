"""``hublock init``."""

import argparse

from hublock.cli.face import Face

SUMMARY = "begin a project: write an empty hub.toml"
EXAMPLES = """\
  hublock init
  hublock init --merge-driver   in any project: let git merge hub.lock by entry"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--merge-driver", action="store_true", help="only let this clone merge hub.lock by entry")


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from hublock.actions.init import ATTRIBUTE, init_project, lacks_merge_driver, set_merge_driver
    from hublock.actions.project import Project, find_project, open_project

    named = face.settings.project
    project = open_project(named) if named else Project.at(face.cwd)
    if arguments.merge_driver:
        path = set_merge_driver(project)
        face.console.done("Set up", f"{path}: {ATTRIBUTE}; every other clone needs this command once")
        return 0
    outer = find_project(project.folder, face.home)
    init_project(project)
    face.console.done("Created", str(project.manifest))
    if outer is not None and not outer.folder.samefile(project.folder):
        face.console.warn(f"{outer.folder} is a project too: below {project.folder}, commands use this one now")
    face.console.hint("hublock add OWNER/REPO ENTRYPOINT")
    if lacks_merge_driver(project):
        face.console.hint(f"hublock init --merge-driver writes `{ATTRIBUTE}` into .gitattributes")
    return 0
