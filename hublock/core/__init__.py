"""Values and decisions: no disk, no network, no clock, no environment, no print."""
