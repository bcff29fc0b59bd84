"""How a repository is imported: verified bytes, under a name of its own."""
