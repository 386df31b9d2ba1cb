"""Which version of an object it is: what rows say of it, what stores say, and when the two contradict each other.

A row's ``etag`` has one of these forms, by the way it came to be:

- a store's own etag, without quotes: ``d41d8cd98f00b204e9800998ecf8427e``, and with ``-N`` behind it where the object
  was uploaded in N parts;
- ``size-time``, where there is none: on disk, and through file systems that tell none; the time in nanoseconds;
- anything else, in a table that somebody else fills.

Only what has the same form is compared, so that a form nobody knows condemns no video.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

_DIGEST = re.compile(r"[0-9a-f]{32}")
_PARTS = re.compile(r"[0-9a-f]{32}-[0-9]{1,5}")
_SIZE_AND_TIME = re.compile(r"[0-9]{1,19}-[0-9]{1,20}")


class _Stat(Protocol):
    @property
    def st_size(self) -> int: ...

    @property
    def st_mtime_ns(self) -> int: ...


class OnReplaced(StrEnum):
    """What becomes of a row whose object is not the one any more that the row tells of."""

    FAIL = "fail"
    """A dead letter, that says what was found."""
    TAKE_NEW = "take_new"
    """It is curated as it is now, and the ledger says so."""


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object: its length in bytes, and an etag in the form in which rows carry it."""

    size_bytes: int
    etag: str

    @classmethod
    def of_file(cls, stat: _Stat) -> ObjectVersion:
        """Return the version of a file on disk."""
        return cls(stat.st_size, size_and_time(stat.st_size, stat.st_mtime_ns))

    @property
    def content_key(self) -> str | None:
        """What objects of the same bytes share; None where the etag is not made of the content.

        An upload in parts has an etag of its own, so the same bytes in other parts go unnoticed; so does everything in
        a store that encrypts with keys of its own or gives no digest.
        """
        etag = normal_etag(self.etag)
        return f"{etag}/{self.size_bytes}" if _form(etag) in {"digest", "parts"} else None

    def contradiction(self, size_bytes: int | None, etag: str | None) -> str | None:
        """Return in words how this is another version than a row tells of; None where nothing says so.

        Args:
            size_bytes: what the row says, None or below 1 where it does not.
            etag: what the row says, in any form; None or empty where it does not.
        """
        if size_bytes is not None and size_bytes > 0 and size_bytes != self.size_bytes:
            return f"it has {self.size_bytes} bytes, and the row says {size_bytes}"
        told, found = normal_etag(etag or ""), normal_etag(self.etag)
        if told and told != found and _form(told) == _form(found) is not None:
            return f"its etag is {found}, and the row says {told}"
        return None


def size_and_time(size_bytes: int, mtime_ns: int) -> str:
    """Return the etag of an object in a place that gives none."""
    return f"{size_bytes}-{mtime_ns}"


def normal_etag(etag: str) -> str:
    """Return ``etag`` without the quotes, and the mark of a weak one, that HTTP puts around it; lower case if hex."""
    bare = etag.strip().removeprefix("W/").strip('"')
    lower = bare.lower()
    return lower if _form(lower) is not None else bare


def _form(etag: str) -> str | None:
    """Return which form an etag has; None for one that says nothing to others.

    One of an upload in parts is no digest of the content, so that the same bytes have another one in each form.
    """
    if _DIGEST.fullmatch(etag):
        return "digest"
    if _PARTS.fullmatch(etag):
        return "parts"
    return "size and time" if _SIZE_AND_TIME.fullmatch(etag) else None
