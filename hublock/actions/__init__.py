"""What hublock does, one verb a file."""
