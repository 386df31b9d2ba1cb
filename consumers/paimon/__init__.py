"""Everything that touches pypaimon: the source, the sink, the tables and the commit protocol."""
