"""One consumer's life: poll, admit, collect, commit. Begin with :mod:`consumers.loop.processor`.

Knows the ports, never an engine or a table behind them.
"""
