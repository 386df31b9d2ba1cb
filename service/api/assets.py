"""What the page is made of: its templates, and the style and scripts that browsers fetch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from schemas.object_names import object_name, readable
from service.api import wording

_LONGEST_TEXT = 2000
_MEDIA_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file for browsers; ``tag`` changes with its bytes, so that its URL may be kept for ever."""

    data: bytes
    media_type: str
    tag: str


@cache
def assets() -> dict[str, Asset]:
    """Return every file for browsers by name. Whatever else is asked for does not exist."""
    found = {}
    for item in files("service.api").joinpath("static").iterdir():
        suffix = "." + item.name.rpartition(".")[2]
        if suffix in _MEDIA_TYPES:
            data = item.read_bytes()
            found[item.name] = Asset(data, _MEDIA_TYPES[suffix], hashlib.sha256(data).hexdigest()[:12])
    return found


def asset_url(name: str) -> str:
    """Return the URL of a file for browsers."""
    return f"/static/{name}?v={assets()[name].tag}"


def _cut(value: Any) -> Any:
    """Return ``value``, of a text that nobody reads to its end the beginning: names in tables have no bound."""
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return value[:_LONGEST_TEXT] + "…" if is_text and len(value) > _LONGEST_TEXT else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("service.api", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_cut,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset_url"] = asset_url
    environment.filters.update(
        {
            "ago": lambda at: wording.ago(at, datetime.now(UTC)),
            "span": wording.span,
            "count": wording.count,
            "size": wording.size,
            "number": wording.number,
            "rate": wording.rate,
            "label": wording.label,
            "with_code": wording.with_code,
            "object_name": object_name,
            "readable": readable,
            "utc": lambda at: f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        }
    )
    return environment


def render(template: str, **values: Any) -> str:
    """Return a template with ``values``, each of them escaped."""
    return _environment().get_template(template).render(**values)
