"""How what foreign code asks for is answered or refused, in one process."""
