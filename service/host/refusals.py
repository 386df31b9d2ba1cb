"""Why an operator's wish is not granted."""

from __future__ import annotations

from consumers.errors import SluiceError


class WrongStateError(SluiceError):
    """The consumer's state does not allow this."""


class StalePlanError(SluiceError):
    """The position has changed since it was looked at."""
