"""The data plane: what reads the raw table, curates videos and commits what is kept. Knows no user interface.

Begin with :mod:`consumers.ports`, the seams, and :mod:`consumers.loop.processor`, the loop.
"""
