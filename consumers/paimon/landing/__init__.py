"""What appears in a store becomes a row of the raw table, once. Begin with :mod:`consumers.paimon.landing.watch`."""
