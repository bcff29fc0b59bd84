"""How source comes: from a reference to a commit, and from a commit to its proven files."""
