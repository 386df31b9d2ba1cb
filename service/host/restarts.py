"""When a consumer that failed is started again. Pure logic, time is passed in."""

from __future__ import annotations

MAX_RESTART_DELAY_S = 600.0
STABLE_AFTER_S = 600.0
"""A run that lasted so long was a good one: the next failure counts as the first."""


def restart_delay_s(num_failures: int) -> float:
    """Return the delay after the ``num_failures``-th failure in a row (from 1): ``n * n + n`` s, at most 10 minutes."""
    return min(MAX_RESTART_DELAY_S, float(num_failures * num_failures + num_failures))


class RestartState:
    """Counts failures in a row."""

    def __init__(self, stable_after_s: float = STABLE_AFTER_S) -> None:
        self._stable_after_s = stable_after_s
        self.num_in_a_row = 0
        self.num_restarts = 0

    def failed(self, ran_for_s: float) -> float:
        """Note the failure of a run that lasted ``ran_for_s``; return the delay before the next, in seconds."""
        self.num_in_a_row = 1 if ran_for_s >= self._stable_after_s else self.num_in_a_row + 1
        self.num_restarts += 1
        return restart_delay_s(self.num_in_a_row)

    def forgive(self) -> None:
        """Start to count anew: a person has asked for a restart."""
        self.num_in_a_row = 0
