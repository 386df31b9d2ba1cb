"""What all of the REST interface's models are made from: their bases, and the ids and texts in them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

ConsumerId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
ClipId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
# Row ids are 64-bit in the tables.
RowId = Annotated[int, Field(ge=0, le=2**63 - 1)]
Reason = Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Out(BaseModel):
    """Of an answer."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class In(BaseModel):
    """Of a request; what it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
