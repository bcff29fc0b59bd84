"""What a Python below ``hublock run``, or of a load, imports as it starts: torch.hub answers from the lock there."""
