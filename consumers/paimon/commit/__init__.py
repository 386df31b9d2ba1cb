"""The exactly-once promise: ledger and clips, published once and fenced, and what is read back after a crash.

Begin with :mod:`consumers.paimon.commit.sink`.
"""
