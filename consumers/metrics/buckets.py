"""Bounds of the histograms' buckets: seconds, counts and ratios, from what is usual to what is bad."""

from __future__ import annotations

# From a metadata read (10 ms) to a film (an hour).
STAGE_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0)
# Ten milliseconds on disk, seconds on an object store under conflict.
COMMIT_S = (0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
# A commit interval (10 s) at best, a day of backlog at worst.
LATENCY_S = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
WAIT_S = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
BATCH_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
ATTEMPTS = (2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0, 100.0)
# Bare decode of 360p costs 0.013, of 1080p 0.13 CPU seconds per second of video.
COST_RATIOS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
