"""How bytes arrive: HTTP, downloads, and git."""
