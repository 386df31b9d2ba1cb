"""Everything that touches pypaimon; here stands what its rooms share: catalog, tables, scans, snapshots, wishes.

Begin with :mod:`consumers.paimon.tables`, then the rooms: ``landing``, ``source``, ``commit``, ``reading``, ``stores``.
"""
