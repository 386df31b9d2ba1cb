"""The ``sluice`` command, one file per command. Begin with :mod:`service.cli.main`. Prints; decides nothing."""
