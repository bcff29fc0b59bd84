"""What ``hublock run`` puts into every Python that a script starts: torch.hub answers from the lock there too."""
