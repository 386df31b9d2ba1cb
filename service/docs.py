"""The references that are generated: ``docs/metrics.md``, ``docs/configuration.md`` and ``docs/tables.md``.

``python -m service.docs`` writes them; ``python -m service.docs --check`` exits 1 when one is stale.
"""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from consumers.metrics.names import FOREIGN, METRICS
from consumers.metrics.types import Metric
from schemas.meanings import MEANINGS
from schemas.tables import CONTROL, CURATED, LEDGER, RAW, TableSpec
from service.settings import Settings

FOLDER = Path(__file__).resolve().parents[1] / "docs"
_COMMAND = "`python -m service.docs`"

_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def metrics_reference() -> str:
    """Return ``docs/metrics.md``."""
    lines = [
        "# Metrics",
        "",
        f"Generated from `consumers/metrics/names.py` by {_COMMAND}; do not edit.",
        "",
        "`/metrics` answers on a port of its own. Every series carries `consumer`; a stage is one of the codes in",
        "`schemas/records.py`. Counters, histograms and states exist at 0 from the start; series marked *when known*",
        "appear with their first measurement, because 0 would be a claim. *Exploration* marks what no rule and no",
        "dashboard uses.",
    ]
    for group, metrics in groupby(METRICS, key=lambda metric: metric.group):
        lines += ["", f"## {group}", "", "| metric | type | unit | further labels | meaning |", "|---|---|---|---|---|"]
        lines += [_metric_row(metric) for metric in metrics]
    lines += ["", "## Of others", "", "| metric | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in FOREIGN.items()]
    return "\n".join(lines) + "\n"


def _metric_row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels if label != "consumer")
    meaning = metric.help
    if metric.buckets:
        meaning += " Buckets: " + ", ".join(f"{bound:g}" for bound in metric.buckets) + "."
    if not metric.starts_at_zero:
        meaning += " *When known.*"
    if metric.exploration_only:
        meaning += " *Exploration.*"
    return f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {meaning} |"


def configuration_reference() -> str:
    """Return ``docs/configuration.md``."""
    lines = [
        "# Configuration",
        "",
        f"Generated from `service/settings/sections.py` by {_COMMAND}; do not edit.",
        "",
        "Settings come from `sluice.toml` (`--config`, else `$SLUICE_CONFIG`, else the working directory) and from the",
        "environment; a variable wins over the file. A variable is `SLUICE_`, the section, `__`, and the key, in",
        "capitals: `replicas` in `[pool]` is `SLUICE_POOL__REPLICAS`. Lists and maps are written there as JSON. A",
        "setting that is unknown, mistyped or out of range stops the start with exit code 2 and a line that names it.",
        "",
        "Secrets belong in the environment (`SLUICE_CATALOG__OPTIONS`), never in a file that others read.",
    ]
    for path, model in _sections(Settings):
        lines += ["", f"## `[{path}]`", "", (model.__doc__ or "").strip(), ""]
        lines += ["| key | type | default | range | meaning |", "|---|---|---|---|---|"]
        lines += [
            _setting_row(path, name, info) for name, info in model.model_fields.items() if not _models(info.annotation)
        ]
    return "\n".join(lines) + "\n"


def _sections(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every section below ``model`` that has keys of its own, with its dotted path."""
    for name, info in model.model_fields.items():
        for nested in _models(info.annotation):
            path = f"{prefix}{name}"
            if any(not _models(field.annotation) for field in nested.model_fields.values()):
                yield path, nested
            yield from _sections(nested, f"{path}.")


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _setting_row(path: str, name: str, info: FieldInfo) -> str:
    default = "required" if info.is_required() else _show(info.get_default(call_default_factory=True))
    meaning = (info.description or "").replace("|", "\\|")
    variable = f"SLUICE_{path}__{name}".replace(".", "__").upper()
    return (
        f"| `{name}`<br>`{variable}` | {_type_name(info.annotation)} | {default} | "
        f"{_range(info.metadata + _inner_bounds(info.annotation))} | {meaning} |"
    )


def _inner_bounds(annotation: Any) -> list[Any]:
    """Return the bounds of ``Annotated`` parts, as in ``Annotated[float, Field(ge=0)] | None``."""
    if get_origin(annotation) is Annotated:
        return [bound for item in get_args(annotation)[1:] for bound in getattr(item, "metadata", [item])]
    return [bound for part in get_args(annotation) for bound in _inner_bounds(part)]


def _range(bounds: list[Any]) -> str:
    words = []
    for bound in bounds:
        words += [
            f"{word} {getattr(bound, key):g}" for key, word in _BOUNDS.items() if getattr(bound, key, None) is not None
        ]
        if getattr(bound, "pattern", None):
            words.append(f"`{bound.pattern}`".replace("|", "\\|"))
        if getattr(bound, "min_length", None):
            words.append("not empty")
        if getattr(bound, "max_length", None):
            words.append(f"at most {bound.max_length} characters")
    return ", ".join(words)


def _show(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return "none"
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    return f"`{value}`"


def _type_name(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(part) for part in parts if part is not type(None))
    if origin is Annotated:
        return _type_name(parts[0])
    if origin is tuple:
        return f"list of {_type_name(parts[0])}"
    if origin is dict:
        return f"map of {_type_name(parts[0])} to {_type_name(parts[1])}"
    choices = parts if origin is Literal else _members(annotation)
    if choices:
        return " \\| ".join(f'`"{choice}"`' for choice in choices)
    plain = {
        str: "text",
        SecretStr: "secret text",
        int: "integer",
        float: "number",
        bool: "boolean",
    }
    return plain[origin or annotation]


def _members(annotation: Any) -> list[str]:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(member.value) for member in annotation]
    return []


_PURPOSES = {
    RAW.role: "What there is to curate, one row for each version of a video. Yours; `sluice init` makes this shape.",
    CURATED.role: "The product, one row for each clip that was kept. Clips of a video that is taken down go.",
    LEDGER.role: "What became of each raw row, kept or not: nothing that was read is unaccounted for.",
    CONTROL.role: "What operators want of each consumer, and what they did.",
}


def tables_reference() -> str:
    """Return ``docs/tables.md``."""
    lines = [
        "# Tables",
        "",
        f"Generated from `schemas/tables.py` and `schemas/meanings.py` by {_COMMAND}; do not edit.",
        "",
        "Types are Paimon's; a column without *null* is NOT NULL. Fields of lists and structs follow their column,",
        "behind a dot. How to read the tables: [reading.md](reading.md).",
    ]
    for spec in (RAW, CURATED, LEDGER, CONTROL):
        lines += ["", f"## {spec.role}", "", _PURPOSES[spec.role], "", _shape(spec), ""]
        lines += ["| column | type | unit | meaning |", "|---|---|---|---|"]
        meanings = MEANINGS[spec.role]
        for name, field in _columns(spec.schema):
            meaning = meanings[name]
            kind = f"`{_paimon_type(field.type)}`" + (", null" if field.nullable else "")
            added = " *Not in tables of earlier versions.*" if name in spec.later else ""
            lines.append(f"| `{name}` | {kind} | {meaning.unit} | {meaning.text}{added} |")
    return "\n".join(lines) + "\n"


def _shape(spec: TableSpec) -> str:
    kind = f"Primary key {_names(spec.primary_keys)}" if spec.primary_keys else "An append table"
    partitions = f", partitioned by {_names(spec.partition_keys)}" if spec.partition_keys else ""
    options = ", ".join(f"`{name} = {value}`" for name, value in spec.options.items())
    return f"{kind}{partitions}. Options: {options}."


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f"`{column}`" for column in columns)


def _columns(fields: Iterable[pa.Field], prefix: str = "") -> Iterator[tuple[str, pa.Field]]:
    """Yield every column, and behind it the fields of what it is made of, with their dotted names."""
    for field in fields:
        yield f"{prefix}{field.name}", field
        inner = field.type.value_type if pa.types.is_list(field.type) else field.type
        if pa.types.is_struct(inner):
            yield from _columns(inner, f"{prefix}{field.name}.")


def _paimon_type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"ARRAY<{_paimon_type(kind.value_type)}>"
    if pa.types.is_map(kind):
        return f"MAP<{_paimon_type(kind.key_type)}, {_paimon_type(kind.item_type)}>"
    return "ROW" if pa.types.is_struct(kind) else _PAIMON_TYPES[kind]


_PAIMON_TYPES = {
    pa.string(): "STRING",
    pa.int32(): "INT",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.binary(): "BYTES",
    pa.large_binary(): "BLOB",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP_LTZ(6)",
}

REFERENCES = {
    "metrics.md": metrics_reference,
    "configuration.md": configuration_reference,
    "tables.md": tables_reference,
}


def main() -> int:
    """Write the references, or check them; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m service.docs", description="Write the generated references.")
    parser.add_argument("--check", action="store_true", help="Write nothing; exit 1 when one is stale.")
    check = parser.parse_args().check
    stale = []
    for name, render in REFERENCES.items():
        path = FOLDER / name
        text = render()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            stale.append(f"docs/{name}")
        else:
            FOLDER.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"docs/{name}: written\n")
    if stale:
        sys.stderr.write(f"{', '.join(stale)}: stale; run `python -m service.docs` and commit the result\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
