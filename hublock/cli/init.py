"""``hublock init``."""

import argparse

from hublock.cli.face import Face

SUMMARY = "begin a project: write an empty hub.toml"
EXAMPLES = "  hublock init"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def run(_arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from hublock.actions.init import init_project
    from hublock.actions.project import Project

    project = Project.at(face.settings.project or face.cwd)
    init_project(project)
    face.console.done("Created", str(project.manifest))
    face.console.hint("hublock add OWNER/REPO ENTRYPOINT")
    return 0
