"""The raw table as a source: by row id, or change by change. Begin with :mod:`consumers.paimon.source.sources`."""
