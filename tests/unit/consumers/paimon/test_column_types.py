from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pypaimon.schema.data_types import DataTypeParser

from consumers.paimon.column_types import ColumnType

_SPELLINGS = [
    ("STRING", "VARCHAR(2147483647)"),
    ("BYTES", "VARBINARY(2147483647)"),
    ("TIMESTAMP_LTZ(6)", "TIMESTAMP(6) WITH LOCAL TIME ZONE", "TIMESTAMP_LTZ"),
    ("TIMESTAMP_LTZ(3)", "TIMESTAMP(3) WITH LOCAL TIME ZONE"),
    ("TIMESTAMP(6)", "TIMESTAMP", "TIMESTAMP(6) WITHOUT TIME ZONE"),
    ("TIMESTAMP(9)", "TIMESTAMP(9) WITHOUT TIME ZONE"),
    ("DECIMAL(10, 0)", "DECIMAL", "DECIMAL(10)", "DECIMAL(10,0)", "NUMERIC(10, 0)", "DEC(10)"),
    ("DECIMAL(12, 2)", "DECIMAL(12,2)", "DECIMAL( 12 , 2 )"),
    ("INT", "INTEGER"),
    ("VARCHAR(10)", "VARCHAR( 10 )", "varchar(10)"),
    ("CHAR(1)", "CHAR"),
    ("BINARY(1)", "BINARY"),
    ("TIME(0)", "TIME"),
    ("TIME(3)",),
    ("BIGINT",),
    ("DOUBLE",),
    ("BOOLEAN",),
    ("BLOB",),
    ("DATE",),
]
"""Each line is one type."""

_Written = Any


def _written(spelled: str, is_nullable: bool) -> str:
    return spelled if is_nullable else f"{spelled} NOT NULL"


@st.composite
def _pairs(draw: st.DrawFn, depth: int = 2) -> tuple[_Written, _Written]:
    """One type as two engines may write it into a schema."""
    is_nullable = draw(st.booleans())
    kind = draw(st.sampled_from(("atomic", "ARRAY", "MAP", "ROW") if depth else ("atomic",)))
    if kind == "atomic":
        spellings = st.sampled_from(draw(st.sampled_from(_SPELLINGS)))
        return _written(draw(spellings), is_nullable), _written(draw(spellings), is_nullable)
    head = _written(kind, is_nullable)
    if kind == "ROW":
        parts = draw(st.lists(_pairs(depth - 1), min_size=1, max_size=3))
        fields = [
            # Java tells ids of its own, descriptions, and leaves "nullable" out.
            [{"id": i + 7 * side, "name": f"f{i}", "type": part[side]} for i, part in enumerate(parts)]
            for side in (0, 1)
        ]
        one = {"type": head, "fields": fields[0], "nullable": is_nullable}
        other = {"type": head, "fields": [{**field, "description": "what it is"} for field in fields[1]]}
        return one, other
    inner = draw(_pairs(depth - 1))
    if kind == "ARRAY":
        return {"type": head, "element": inner[0], "nullable": is_nullable}, {"type": head, "element": inner[1]}
    one, other = ({"type": head, "key": key, "value": inner[i]} for i, key in enumerate(("STRING NOT NULL", "STRING")))
    return one, other


def _type(written: _Written) -> ColumnType:
    return ColumnType.of(DataTypeParser.parse_data_type(written))


@given(_pairs())
def test_spellings_of_one_type_are_one_type(pair: tuple[_Written, _Written]) -> None:
    one, other = _type(pair[0]), _type(pair[1])
    assert one == other
    assert one.takes(other)
    assert other.takes(one)


@given(st.sampled_from(_SPELLINGS), st.sampled_from(_SPELLINGS), st.data())
def test_two_types_are_two_in_every_spelling_and_wherever_they_stand(
    first: tuple[str, ...], second: tuple[str, ...], data: st.DataObject
) -> None:
    one, other = (data.draw(st.sampled_from(spellings)) for spellings in (first, second))
    wrap = data.draw(
        st.sampled_from(
            [
                lambda inner: inner,
                lambda inner: {"type": "ARRAY", "element": inner},
                lambda inner: {"type": "MAP", "key": "STRING", "value": inner},
                lambda inner: {"type": "ROW", "fields": [{"id": 0, "name": "f", "type": inner}]},
            ]
        )
    )
    assert (_type(wrap(one)) == _type(wrap(other))) == (first == second)
    assert _type(wrap(one)).takes(_type(wrap(other))) == (first == second)


def test_column_that_may_be_null_takes_one_that_must_not_and_never_the_other_way_round() -> None:
    for wrap in (lambda inner: inner, lambda inner: {"type": "ARRAY", "element": inner}):
        may, must = _type(wrap("INT")), _type(wrap("INTEGER NOT NULL"))
        assert may.takes(must)
        assert not must.takes(may)


def test_fields_of_a_row_are_told_apart_by_name_and_order() -> None:
    a, b = {"id": 0, "name": "a", "type": "INT"}, {"id": 1, "name": "b", "type": "INT"}
    whole = _type({"type": "ROW", "fields": [a, b]})
    assert not whole.takes(_type({"type": "ROW", "fields": [b, a]}))
    assert not whole.takes(_type({"type": "ROW", "fields": [a]}))
