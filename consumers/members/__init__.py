"""Who runs what: leases, attendance and the division of one table into shards. Pure logic over the ports.

Begin with :mod:`consumers.members.lease`.
"""
