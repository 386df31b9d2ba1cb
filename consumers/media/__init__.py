"""Reading, decoding and cutting video with PyAV. Knows of no table and no pool.

Begin with :mod:`consumers.media.decode` and :mod:`consumers.media.cut`.
"""
