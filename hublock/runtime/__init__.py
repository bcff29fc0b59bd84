"""How foreign code runs: verified, isolated, answered from the lock. A guard-rail, not a sandbox."""
