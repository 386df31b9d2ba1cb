"""The closed list of metrics, with their types and buckets. Begin with :mod:`consumers.metrics.names`.

Says what is measured; who exports it is ``service.observe``.
"""
