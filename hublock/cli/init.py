"""``hublock init``."""

import argparse

from hublock.cli.face import Face

SUMMARY = "begin a project: write an empty hub.toml"
EXAMPLES = """\
  hublock init
  hublock init --merge-driver   in any project: let git merge hub.lock by entry"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--merge-driver", action="store_true", help="let git merge hub.lock by entry, in this clone")


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from hublock.actions.init import ATTRIBUTE, init_project, lacks_merge_driver, set_merge_driver
    from hublock.actions.project import Project

    project = Project.at(face.settings.project or face.cwd)
    if not (arguments.merge_driver and (project.embedded or project.manifest.exists())):
        init_project(project)
        face.console.done("Created", str(project.manifest))
    if arguments.merge_driver:
        path = set_merge_driver(project)
        face.console.done("Set up", f"{path}: {ATTRIBUTE}; every other clone needs this command once")
    face.console.hint("hublock add OWNER/REPO ENTRYPOINT")
    if lacks_merge_driver(project):
        face.console.hint(f"hublock init --merge-driver writes `{ATTRIBUTE}` into .gitattributes")
    return 0
