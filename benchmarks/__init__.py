"""Measurements: each command prints JSON lines and compares two things in one run."""
