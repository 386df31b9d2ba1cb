"""The data plane: sources, stages, worker pools, the exactly-once sink and the loop that drives them."""
