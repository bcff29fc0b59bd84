"""The child in which an entry point runs once, and the line to its parent."""
