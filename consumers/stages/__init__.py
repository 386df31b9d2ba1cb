"""The seven stages, one file each, and their composition over one decode pass."""
