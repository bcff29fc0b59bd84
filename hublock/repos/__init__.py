"""The package below which hub repositories are imported.

Importing it registers the finder, so a spawned worker or an unpickling in a fresh process needs nothing else.
"""

from hublock.runtime import isolation

isolation.install()
