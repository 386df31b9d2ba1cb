"""Worker pools: where the stages run, on Ray or in threads; the only place of Ray. Knows of no table.

Begin with :mod:`consumers.pool.worker`, what every pool does with a task, then :mod:`consumers.pool.ray_serve`.
"""
