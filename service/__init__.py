"""Composition root, settings and command line: the top floor."""
