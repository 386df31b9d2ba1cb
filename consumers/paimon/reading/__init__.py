"""What people look up: clips, the ledger, the story of a video, and the audit. Writes nothing.

Begin with :mod:`consumers.paimon.reading.ledger`.
"""
