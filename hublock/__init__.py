"""hublock: the reproducibility lockfile for PyTorch Hub.

``hublock.load`` is ``torch.hub.load``, answered strictly from the ``hub.lock`` of the project: it runs only bytes whose
digest is in that lock, or stops before running anything.
"""

__version__ = "0.1.0"
