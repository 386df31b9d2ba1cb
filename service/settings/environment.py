"""Which ``SLUICE_*`` variables mean something, and what is wrong with one that does not."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable

PREFIX = "SLUICE_"

NOT_SETTINGS = frozenset({"SLUICE_CONFIG", "SLUICE_URL", "SLUICE_TOKEN", "SLUICE_TOKEN_FILE"})
"""Variables of the command line: where the settings are, and how a running service is reached."""

# Kubernetes tells the pods of a namespace where its Services are; one that is called "sluice", or "sluice-" and more,
# gives such names, with its SERVICE_HOST always among them.
_SERVICE_LINK = re.compile(
    r"(SLUICE_(?:[A-Z0-9]+_)*?)(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?)?)"
)


def unknown_variables(names: Iterable[str], known: Collection[str]) -> list[str]:
    """Return one line for each variable that has Sluice's prefix and no meaning; never its value: it may be a secret.

    Args:
        names: of all variables; their case does not matter, as it does not for settings.
        known: every variable that is a setting, a section, or a map below one, in capitals. What stands below a map
            is left to the settings' own check.
    """
    given = {name.upper(): name for name in names if name.upper().startswith(PREFIX)}
    lines = []
    for upper, name in sorted(given.items()):
        link = _SERVICE_LINK.fullmatch(upper)
        if upper in NOT_SETTINGS or (link and f"{link[1]}SERVICE_HOST" in given):
            continue
        section = upper.removeprefix(PREFIX).split("__")[0]
        if upper in known or ("__" in upper and PREFIX + section in known):
            continue
        close = difflib.get_close_matches(upper, sorted({*known, *NOT_SETTINGS}), n=1, cutoff=0.8)
        advice = f"did you mean {close[0]}?" if close else "unset it, or correct its name"
        lines.append(
            f"variable {name}: there is no such setting; {advice} (a variable is SLUICE_, the section, two "
            "underscores, the key)"
        )
    return lines
