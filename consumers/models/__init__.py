"""Real models for the NSFW, aesthetic and caption stages. The only package that imports torch and transformers.

Needs the ``models`` extra. Importing this package, or :mod:`consumers.models.base`, imports neither. Begin
with the latter.
"""
