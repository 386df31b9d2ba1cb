"""What a watch looks at next: pure logic, without any I/O."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class WatchState:
    """How far the listing of a prefix has come; kept across restarts.

    Attributes:
        after: the next listing begins behind this key; None is the beginning.
        relisted_at: when the last listing from the beginning began; None if there was none.
    """

    after: str | None = None
    relisted_at: datetime | None = None

    def is_relisting_due(self, now: datetime, interval_s: float) -> bool:
        """Return whether keys out of order are to be looked for at ``now``."""
        return self.relisted_at is None or now - self.relisted_at >= timedelta(seconds=interval_s)

    def advanced(self, after: str | None) -> WatchState:
        """Return the state once everything up to the listing's end is registered."""
        return replace(self, after=after)

    def relisted(self, after: str | None, began_at: datetime) -> WatchState:
        """Return the state once everything of a listing from the beginning is registered."""
        return WatchState(after, began_at)

    def to_json(self) -> str:
        """Return the form in which it is stored."""
        return json.dumps({"after": self.after, "relisted_at": self.relisted_at and self.relisted_at.isoformat()})

    @classmethod
    def from_json(cls, text: str) -> WatchState:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: ``text`` is something else.
        """
        try:
            raw = json.loads(text)
            at = None if raw["relisted_at"] is None else datetime.fromisoformat(raw["relisted_at"]).astimezone(UTC)
            return cls(None if raw["after"] is None else str(raw["after"]), at)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not the state of a watch: {text!r} ({error})") from error


class KeyCursor:
    """Finds where the next listing begins: a fixed number of keys before the end of this one.

    Keys mostly grow with time (dates, counters), but not strictly: the last few are listed again each time, and so a
    key that sorts a little before the newest one is seen. One that sorts further back is left to a relisting.

    Args:
        after: where this listing begins.
        look_back: how many keys are listed again.
    """

    def __init__(self, after: str | None, look_back: int) -> None:
        self._after = after
        self._last: deque[str] = deque(maxlen=look_back + 1)

    def saw(self, keys: Iterable[str]) -> None:
        """Take the next keys of the listing, in its order."""
        self._last.extend(keys)

    @property
    def next_after(self) -> str | None:
        """Where the next listing begins once this one is at its end."""
        return self._last[0] if len(self._last) == self._last.maxlen else self._after


@dataclass(frozen=True, slots=True)
class Sighting:
    """Size and time of modification of a file at one look."""

    size_bytes: int
    mtime_ns: int


class SettleTracker:
    """Decides whether a file is complete: size and time of modification have not changed for a while.

    Args:
        settle_s: for how long.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._since: dict[str, tuple[Sighting, float]] = {}

    @property
    def pending(self) -> tuple[str, ...]:
        """Files that have been seen and are not complete yet."""
        return tuple(self._since)

    def look(self, path: str, sighting: Sighting, now_s: float, age_s: float | None = None) -> bool:
        """Return whether the file at ``path`` is complete; it is forgotten then, and pending otherwise.

        Args:
            path: the file.
            sighting: what it looks like now.
            now_s: a clock that never goes back.
            age_s: time since its last modification, for a file that was there before anybody looked; None if it came
                later, where only our own looks count: the clock of a network disk may be another.
        """
        known = self._since.get(path)
        if known is None or known[0] != sighting:
            is_old = known is None and age_s is not None and age_s >= self._settle_s
            if not is_old and self._settle_s > 0:
                self._since[path] = (sighting, now_s)
                return False
        elif now_s - known[1] < self._settle_s:
            return False
        self._since.pop(path, None)
        return True

    def forget(self, path: str) -> None:
        """The file is gone."""
        self._since.pop(path, None)


class FolderTimes:
    """Which folders have to be read again: those whose time of modification is new, or too fresh to be trusted.

    A file added within the same tick of the disk's clock as the last reading would not change the folder's time.
    """

    # FAT, the coarsest of those in use, counts in steps of two seconds.
    _COARSEST_TICK_NS = 2_000_000_000

    def __init__(self) -> None:
        self._read_at: dict[str, int | None] = {}

    @property
    def folders(self) -> tuple[str, ...]:
        """Every folder that is known."""
        return tuple(self._read_at)

    def is_due(self, folder: str, mtime_ns: int) -> bool:
        """Return whether the content of ``folder`` may differ from the last reading."""
        known = self._read_at.get(folder)
        return known is None or known != mtime_ns

    def read(self, folder: str, mtime_ns: int, now_ns: int) -> None:
        """Note that ``folder``, of this time of modification, is read at ``now_ns`` (both of the wall clock)."""
        is_fresh = now_ns - mtime_ns < self._COARSEST_TICK_NS
        self._read_at[folder] = None if is_fresh else mtime_ns

    def add(self, folder: str) -> None:
        """Note a folder that has not been read yet."""
        self._read_at.setdefault(folder, None)

    def forget(self, folder: str) -> None:
        """The folder is gone."""
        self._read_at.pop(folder, None)

    def forget_times(self) -> None:
        """Have every folder read again."""
        self._read_at = dict.fromkeys(self._read_at)
