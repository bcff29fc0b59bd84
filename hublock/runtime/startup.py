"""How a Python that is started learns whom it answers to: a folder in front of its path (see ``hublock.startup``)."""

import os
from pathlib import Path

FOLDER = str(Path(__file__).parents[1] / "startup")
"""The folder whose ``sitecustomize`` every Python that has it on ``PYTHONPATH`` imports as it starts."""


def put_first(folder: str, path: str) -> str:
    """Return a search path as environments hold it, with ``folder`` before what is in ``path``."""
    # an empty word among others stands for the current folder
    others = path.split(os.pathsep) if path else []
    return os.pathsep.join([folder, *[other for other in others if other != folder]])
