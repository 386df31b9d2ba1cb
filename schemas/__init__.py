"""Records, positions, profiles and table schemas: the vocabulary that every other package shares.

Ground floor: imports the standard library, pyarrow and pydantic, and nothing else of the project. Begin with
:mod:`schemas.records` and :mod:`schemas.positions`.
"""
