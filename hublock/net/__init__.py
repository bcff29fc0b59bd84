"""How bytes arrive: HTTP, git, downloads."""
