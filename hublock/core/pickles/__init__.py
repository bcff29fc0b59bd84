"""What a checkpoint would run when it is unpickled, told without unpickling it."""
