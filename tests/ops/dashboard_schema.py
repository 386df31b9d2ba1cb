"""Validates a dashboard against Grafana's schema, as grafana-foundation-sdk generates it into Python classes.

Its reader is lenient, so two things are added: a field that does not come back when the dashboard is written again is
unknown to the schema, and every value is held against the type that its field declares.
"""

import json
import types
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

# Fields of the Prometheus data source's own annotation editor, which the dashboard schema leaves open.
_DATASOURCE_FIELDS = {"step", "titleFormat", "useValueForTime"}


def problems(board: dict[str, Any]) -> list[str]:
    """Return what does not fit the schema; empty when all does."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    parsed = Dashboard.from_json(board)
    written = json.loads(json.dumps(parsed, cls=JSONEncoder))
    unknown = [f"{path}: no such field" for path in _lost(board, written, "")]
    return unknown + list(_mistyped(parsed, ""))


def _lost(given: Any, written: Any, path: str) -> Iterator[str]:
    if isinstance(given, dict):
        for key, value in given.items():
            where = f"{path}.{key}"
            if not isinstance(written, dict) or key not in written:
                if not (".annotations." in where and key in _DATASOURCE_FIELDS):
                    yield where
            else:
                yield from _lost(value, written[key], where)
    elif isinstance(given, list):
        for index, value in enumerate(given):
            yield from _lost(value, written[index] if index < len(written) else None, f"{path}[{index}]")


def _mistyped(item: Any, path: str) -> Iterator[str]:
    if isinstance(item, list):
        for index, value in enumerate(item):
            yield from _mistyped(value, f"{path}[{index}]")
    if not type(item).__module__.startswith("grafana_foundation_sdk.models") or isinstance(item, Enum):
        return
    module = vars(__import__("sys").modules[type(item).__module__])
    for name, declared in typing.get_type_hints(type(item), globalns=module).items():
        value = getattr(item, name, None)
        if not _fits(value, declared):
            yield f"{path}.{name}: {value!r} is not {declared}"
        yield from _mistyped(value, f"{path}.{name}")


def _fits(value: Any, declared: Any) -> bool:
    origin, parts = get_origin(declared), get_args(declared)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is list:
        return isinstance(value, list) and all(_fits(item, parts[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict)
    if declared in (Any, object):
        return True
    if isinstance(declared, type) and issubclass(declared, Enum):
        return value in [member.value for member in declared]
    if declared is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if declared is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if getattr(declared, "_is_protocol", False):
        return value is not None
    return isinstance(value, declared)
