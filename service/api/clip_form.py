"""The form above the wall of clips: what was typed, what it asks for, and what of it cannot be meant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from service.library import ClipQuery

BOUNDS = {
    "min_motion": "Motion at least",
    "min_quality": "Quality at least",
    "min_aesthetic": "Aesthetic at least",
    "max_nsfw": "NSFW at most",
}
"""Fields of scores, with their labels."""

DAYS = {"since": "From day", "until": "To day"}
"""Fields of days in UTC, both inclusive, with their labels."""


@dataclass(frozen=True, slots=True)
class ClipForm:
    """What was typed into the form.

    Attributes:
        values: as it was typed, by field.
        query: what it asks for; a field that cannot be read does not restrict.
        problems: one sentence for each field that cannot be read.
    """

    values: Mapping[str, str]
    query: ClipQuery
    problems: tuple[str, ...]

    @property
    def is_filtered(self) -> bool:
        """Return whether anything was typed."""
        return any(self.values.values())


def read_form(typed: Mapping[str, str], before: int | None) -> ClipForm:
    """Return what ``typed`` asks for.

    Args:
        typed: text by field: ``text``, and those of :data:`BOUNDS` and :data:`DAYS`.
        before: the cursor of the page.
    """
    values = {name: typed.get(name, "").strip() for name in ("text", *DAYS, *BOUNDS)}
    problems = []
    bounds: dict[str, float | None] = {}
    for name, label in BOUNDS.items():
        bounds[name] = _number(values[name])
        if values[name] and bounds[name] is None:
            problems.append(
                f"“{label}” wants a number, such as 0.5, and was given “{values[name]}”: it restricts nothing."
            )
    days: dict[str, datetime | None] = {}
    for name, label in DAYS.items():
        days[name] = _day(values[name])
        if values[name] and days[name] is None:
            problems.append(
                f"“{label}” wants a day, such as 2026-05-31, and was given “{values[name]}”: it restricts nothing."
            )
    since, until = days["since"], days["until"]
    query = ClipQuery(
        before=before,
        since=since,
        until=None if until is None else until + timedelta(days=1),
        text=values["text"] or None,
        min_motion=bounds["min_motion"],
        min_quality=bounds["min_quality"],
        min_aesthetic=bounds["min_aesthetic"],
        max_nsfw=bounds["max_nsfw"],
    )
    return ClipForm(values, query, tuple(problems))


def _number(text: str) -> float | None:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _day(text: str) -> datetime | None:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    # The last day of all has none after it.
    return day if day.year < 9999 else None
