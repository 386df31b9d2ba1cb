"""The top floor: settings, what puts adapters together, consumers hosted, command line and control plane.

Begin with :mod:`service.cli.run` and :mod:`service.wiring`. May import everything below; engines only through wiring.
"""
