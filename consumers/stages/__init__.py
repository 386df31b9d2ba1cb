"""The seven stages, one file each, and their composition over one decode pass. Knows of no table and no pool.

Begin with :mod:`consumers.stages.curate`.
"""
