"""Findings and changes as text, for people and for machines."""
