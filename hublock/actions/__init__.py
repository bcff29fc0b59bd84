"""What hublock does: the verbs, one a file, and what several of them need."""
