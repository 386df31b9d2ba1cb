"""Worker pools: where the stages run."""
