"""Maintenance of the tables on a schedule, in a thread of its own: never in the way of a commit."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from consumers.clock import Clock
from consumers.errors import AlreadyRunningError, SluiceError
from consumers.paimon.maintain.maintainer import Maintainer, TableReport

_log = logging.getLogger(__name__)

_FIRST_AFTER_S = 60.0
_SWEEP_INTERVAL_S = 86_400.0
_ROUNDS_REMEMBERED = 24


@dataclass(frozen=True, slots=True)
class Round:
    """A round of maintenance: when it ended, and what it did; nothing where another process was at it."""

    at: datetime
    reports: tuple[TableReport, ...]


class Upkeep:
    """Maintains the tables again and again, unless another process is at it.

    Args:
        maintenance: opens what maintains them, given what to ask whether to stop; holds the lease meanwhile.
        clock: time.
        interval_s: time between two rounds.
        on_round: told of each round that ended well, by whichever process, and of its own reports.
        on_failure: told that a round failed.
        first_after_s: wait before the first round, so that a start is not slowed down.
    """

    def __init__(
        self,
        maintenance: Callable[[Callable[[], bool]], AbstractContextManager[Maintainer]],
        clock: Clock,
        interval_s: float,
        *,
        on_round: Callable[[Sequence[TableReport]], None] = lambda reports: None,
        on_failure: Callable[[], None] = lambda: None,
        first_after_s: float = _FIRST_AFTER_S,
    ) -> None:
        self._maintenance = maintenance
        self._clock = clock
        self._interval_s = interval_s
        self._on_round = on_round
        self._on_failure = on_failure
        self._first_after_s = min(first_after_s, interval_s)
        self._rounds: deque[Round] = deque(maxlen=_ROUNDS_REMEMBERED)
        self._swept_at_s: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self, timeout_s: float | None = None) -> bool:
        """End between two steps; return whether the thread has ended in time."""
        self._stop.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The last 24 rounds that ended well, the newest first."""
        return tuple(reversed(self._rounds))

    def round(self) -> None:
        """Maintain the tables once; a fault is logged, and the next round tries again.

        Orphans are looked for in the first round and once a day after that, for it lists every file.
        """
        now_s = self._clock.monotonic_s()
        is_sweep_due = self._swept_at_s is None or now_s - self._swept_at_s >= _SWEEP_INTERVAL_S
        try:
            with self._maintenance(self._stop.is_set) as maintainer:
                reports = maintainer.run(sweep=is_sweep_due)
        except AlreadyRunningError:
            _log.debug("another process maintains the tables")
            reports = []
        except SluiceError as error:
            _log.warning("the tables could not be maintained, the next round tries again: %s", error)
            self._on_failure()
            return
        if reports and is_sweep_due:
            self._swept_at_s = now_s
        self._rounds.append(Round(self._clock.now(), tuple(reports)))
        self._on_round(reports)

    def _run(self) -> None:
        wait_s = self._first_after_s
        while not self._stop.wait(wait_s):
            try:
                self.round()
            except Exception:
                _log.exception("maintenance of the tables met a fault of its own, the next round tries again")
                self._on_failure()
            wait_s = self._interval_s


def must_commit(reports: Sequence[TableReport]) -> frozenset[str]:
    """Return the consumers whose newest markers lie in snapshots that hold bytes of takedowns, and keep them."""
    return frozenset(
        report.expired.resting for report in reports if report.takedowns.waiting and report.expired.resting is not None
    )


def said(report: TableReport, size: Callable[[float], str], *, dry: bool = False) -> str:
    """Return what was done to one table, or would be, in words.

    Args:
        report: of the table.
        size: writes a number of bytes.
        dry: nothing was done.
    """
    if report.left_alone is not None:
        return f"left alone: {report.left_alone}"
    parts = []
    if report.compacted.num_before:
        became = "would become" if dry else "became"
        parts.append(f"{report.compacted.num_before} data files {became} {report.compacted.num_after}")
    if report.purged.num_rows:
        lose = "would lose" if dry else "have lost"
        parts.append(f"{report.purged.num_rows} deleted rows {lose} their bytes in the newest snapshot")
    will = "would go" if dry else "gone"
    expired, orphans = report.expired, report.orphans
    parts.append(f"{expired.num_snapshots} snapshots with {expired.num_files} files ({size(expired.num_bytes)}) {will}")
    parts.append(f"{orphans.num_files} files that nothing referred to ({size(orphans.num_bytes)}) {will}")
    if expired.held_by is not None:
        parts.append(f"later ones stay for the {expired.held_by}")
    if report.takedowns.waiting:
        parts.append(
            f"bytes of {len(report.takedowns.waiting)} takedowns are still on the store, "
            f"{len(report.takedowns.overdue)} of them overdue"
        )
    return "; ".join(parts)
