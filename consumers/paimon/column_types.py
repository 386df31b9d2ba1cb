"""Types of columns compared as types: one type has several spellings, and each engine writes its own.

Any change of a table's schema by Java spells all of its types anew: ``TIMESTAMP(6) WITH LOCAL TIME ZONE`` where
pypaimon wrote ``TIMESTAMP_LTZ(6)``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pypaimon.schema.data_types import ArrayType, AtomicType, MapType, MultisetType, RowType, VectorType

_ATOMIC = re.compile(
    r"(?P<name>[A-Z_]+(?: PRECISION)?) ?"
    r"(?:\( ?(?P<sizes>\d+(?: ?, ?\d+)*) ?\))? ?"
    r"(?P<zone>WITH LOCAL TIME ZONE|WITHOUT TIME ZONE)?"
)
_MAX_LENGTH = 2**31 - 1
_SYNONYMS = {
    "STRING": ("VARCHAR", (_MAX_LENGTH,)),
    "BYTES": ("VARBINARY", (_MAX_LENGTH,)),
    "INTEGER": ("INT", ()),
    "DOUBLE PRECISION": ("DOUBLE", ()),
    "NUMERIC": ("DECIMAL", ()),
    "DEC": ("DECIMAL", ()),
}
_DEFAULT_SIZES = {
    "CHAR": (1,),
    "VARCHAR": (1,),
    "BINARY": (1,),
    "VARBINARY": (1,),
    "DECIMAL": (10, 0),
    "TIME": (0,),
    "TIMESTAMP": (6,),
    "TIMESTAMP_LTZ": (6,),
}
_ZONES = {"WITH LOCAL TIME ZONE": "TIMESTAMP_LTZ", "WITHOUT TIME ZONE": "TIMESTAMP"}


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column's type in the one form that all of its spellings have in common.

    Attributes:
        name: ``VARCHAR``, ``TIMESTAMP_LTZ``, ``ARRAY`` ...; ``VARCHAR`` for STRING, ``VARBINARY`` for BYTES.
        sizes: length, or precision and scale; with the defaults of those that were left out.
        fields: what it is made of, by name: the fields of a ROW, ``element``, ``key`` and ``value``.
        is_nullable: whether it may be null. Keys of a MAP never are.
    """

    name: str
    sizes: tuple[int, ...] = ()
    fields: tuple[tuple[str, ColumnType], ...] = ()
    is_nullable: bool = True

    @classmethod
    def of(cls, data_type: Any) -> ColumnType:
        """Return the form of a pypaimon data type; one that is not understood is itself, as it is spelled."""
        is_nullable = bool(data_type.nullable)
        if isinstance(data_type, AtomicType):
            name, sizes = _atomic(data_type.type)
            return cls(name, sizes, is_nullable=is_nullable)
        if isinstance(data_type, RowType):
            return cls("ROW", (), tuple((part.name, cls.of(part.type)) for part in data_type.fields), is_nullable)
        if isinstance(data_type, MapType):
            key = cls.of(data_type.key)
            key = cls(key.name, key.sizes, key.fields, is_nullable=False)
            return cls("MAP", (), (("key", key), ("value", cls.of(data_type.value))), is_nullable)
        if isinstance(data_type, VectorType):
            return cls("VECTOR", (data_type.length,), (("element", cls.of(data_type.element)),), is_nullable)
        if isinstance(data_type, ArrayType | MultisetType):
            name = "ARRAY" if isinstance(data_type, ArrayType) else "MULTISET"
            return cls(name, (), (("element", cls.of(data_type.element)),), is_nullable)
        return cls(str(data_type), is_nullable=is_nullable)

    def takes(self, needed: ColumnType) -> bool:
        """Return whether a column of this type can hold whatever one of type ``needed`` can."""
        return (
            (self.name, self.sizes) == (needed.name, needed.sizes)
            and (self.is_nullable or not needed.is_nullable)
            and [name for name, _ in self.fields] == [name for name, _ in needed.fields]
            and all(mine.takes(its) for (_, mine), (_, its) in zip(self.fields, needed.fields, strict=True))
        )


def _atomic(spelled: str) -> tuple[str, tuple[int, ...]]:
    text = " ".join(spelled.upper().split())
    match = _ATOMIC.fullmatch(text)
    if match is None:
        return text, ()
    name, zone = match["name"], match["zone"]
    sizes = tuple(int(size) for size in match["sizes"].split(",")) if match["sizes"] else ()
    if zone is not None:
        if name != "TIMESTAMP":
            return text, ()
        name = _ZONES[zone]
    if name in _SYNONYMS:
        name, implied = _SYNONYMS[name]
        sizes = sizes or implied
    defaults = _DEFAULT_SIZES.get(name, ())
    return name, sizes + defaults[len(sizes) :]
