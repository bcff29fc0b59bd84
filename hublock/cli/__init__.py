"""The command line: one command a file, one mouth (console)."""
