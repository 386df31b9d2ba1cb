"""The ``sluice`` command, one file per command. Begin with :mod:`service.cli.main`. Prints; decides nothing."""

from consumers import heap

# Before the commands are imported, and with them whatever starts threads.
heap.keep_small(large_apart=True)
