"""Numbers, times and codes as people read them."""

from __future__ import annotations

from datetime import datetime

from markupsafe import Markup, escape

_LABELS = {
    "scene_segmentation": "Scene segmentation",
    "duration_filter": "Duration filter",
    "frame_extraction": "Frame extraction",
    "nsfw_filter": "NSFW filter",
    "motion_filter": "Motion filter",
    "aesthetic_filter": "Aesthetic filter",
    "nsfw_probability": "NSFW probability",
    "motion_mean_magnitude": "Motion",
    "duration_s": "Duration, s",
    "rms_contrast": "RMS contrast",
    "stream_copy": "Copied unchanged",
    "h264": "Encoded again",
    "edit_list": "Copied, with an edit list",
    "reference": "Reference only",
}
_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")


def label(code: str) -> str:
    """Return a stage, score, state or reason code as words: ``motion_below_min`` is "Motion below min"."""
    if code in _LABELS:
        return _LABELS[code]
    words = code.replace("_", " ")
    return "NSFW" + words[4:] if words.startswith("nsfw") else words.capitalize()


def with_code(text: str) -> Markup:
    """Return ``text`` escaped, with what is between backticks marked as code."""
    parts = (escape(part) for part in text.split("`"))
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def count(value: float) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,.0f}".replace(",", "\u202f")


def number(value: float) -> str:
    """Return a score: three significant digits, and no exponent for what is readable without one."""
    if value == 0:
        return "0"
    return f"{value:.3g}" if 0.001 <= abs(value) < 1000 else count(value) if abs(value) >= 1000 else f"{value:.1e}"


def rate(value: float) -> str:
    """Return a rate per second with as many digits as say something."""
    if value == 0:
        return "0"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else count(value)


def size(num_bytes: float) -> str:
    """Return bytes in decimal units."""
    for unit in _SIZES:
        if abs(num_bytes) < 1000 or unit == _SIZES[-1]:
            break
        num_bytes /= 1000
    return f"{num_bytes:.0f} {unit}" if unit == "B" or num_bytes >= 100 else f"{num_bytes:.1f} {unit}"


def span(seconds: float) -> str:
    """Return a length of time in its two largest units."""
    if seconds == 0:
        return "0 s"
    if seconds < 0.00005:
        return "< 0.1 ms"
    if seconds < 0.1:
        return f"{1000 * seconds:.{0 if seconds >= 0.001 else 1}f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit_s, unit, next_s, next_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit_s:
            rest = whole % unit_s // next_s
            return f"{whole // unit_s} {unit} {rest} {next_unit}" if rest else f"{whole // unit_s} {unit}"
    return f"{whole} s"


def ago(at: datetime, now: datetime) -> str:
    """Return how long ago something was; a clock that is a little ahead does not matter."""
    seconds = max(0.0, (now - at).total_seconds())
    return "just now" if seconds < 2 else f"{span(round(seconds))} ago"
