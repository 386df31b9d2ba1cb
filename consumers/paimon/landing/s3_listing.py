"""Listing a prefix of S3 whatever its keys look like.

obstore reads no page that holds a key with an empty part, ``.`` or ``..`` between slashes. pyarrow reads them, but has
no way to begin behind a key and knows no etags. So a page that fails is put together again: pyarrow names its keys,
obstore describes each of those that can be read, and the listing goes on behind the one that cannot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import InvalidPathError
from pyarrow.fs import FileSelector, FileType
from pypaimon.common.options import Options

from consumers.errors import ConfigurationError
from consumers.paimon.stores.s3 import S3Location, list_pages
from consumers.paimon.stores.s3_file_io import LeanS3FileIO

if TYPE_CHECKING:
    from obstore import ObjectMeta

_NAMED = re.compile(r'Path "(.*?)"')
_ODD = frozenset({"", ".", ".."})
_PER_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """Some keys in their order.

    Attributes:
        objects: those that can be read.
        unreadable: keys that cannot; no client of ours would reach their bytes.
        behind: where a listing goes on behind the last of ``unreadable``.
    """

    objects: Sequence[ObjectMeta]
    unreadable: tuple[str, ...] = ()
    behind: str | None = None


def is_readable(key: str) -> bool:
    """Return whether ``key`` has no empty part, ``.`` or ``..`` between its slashes; one slash may end it."""
    return _ODD.isdisjoint(key.removesuffix("/").split("/"))


def list_all(location: S3Location, options: Mapping[str, str], after: str | None = None) -> Iterator[Page]:
    """Yield what lies under ``location`` as :func:`~consumers.paimon.stores.s3.list_pages` does, past the unreadable.

    A page that holds such keys costs a listing of the folder that its keys have in common, and a request for each of
    its objects: at most 1,000.

    Raises:
        FileNotFoundError: there is no such bucket.
        ConfigurationError: a key cannot be read for another reason.
        Exception: what else the store raised.
    """
    listed: dict[str, list[str]] = {}
    while True:
        try:
            for objects in list_pages(location, after):
                yield Page(objects)
                after = objects[-1]["path"]
            return
        except ConfigurationError as error:
            cause = error.__cause__
            if not isinstance(cause, InvalidPathError):
                raise
            folder = _common_folder(location.key, after, cause)
            if folder not in listed:
                listed[folder] = list(_keys(location, options, folder))
            keys = [key for key in listed[folder] if after is None or key > after]
            before = list(takewhile(is_readable, keys))
            bad = [*takewhile(lambda key: not is_readable(key), keys[len(before) :])]
            if not bad:
                raise
        for start in range(0, len(before), _PER_PAGE):
            part = before[start : start + _PER_PAGE]
            yield Page([obstore.head(location.store, key) for key in part])
        after = _behind(bad[-1])
        yield Page((), tuple(bad), after)


def _common_folder(root: str, after: str | None, error: Exception) -> str:
    """Return the folder that holds everything from ``after`` to the key that ``error`` names."""
    named = _NAMED.search(str(error))
    if named is None or after is None or is_readable(named[1]):
        return root
    pairs = zip(after.split("/")[:-1], named[1].split("/")[:-1], strict=False)
    shared = [first for first, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
    folder = "/".join(shared)
    return folder if folder.startswith(root) and is_readable(folder) else root


def _keys(location: S3Location, options: Mapping[str, str], folder: str) -> Iterator[str]:
    """Yield the keys of all objects below ``folder``, in the order of S3."""
    filesystem = LeanS3FileIO("s3://", Options(dict(options))).filesystem
    prefix = f"{location.bucket}/"
    found = filesystem.get_file_info(FileSelector(prefix + folder, recursive=True, allow_not_found=True))
    return iter(sorted(info.path.removeprefix(prefix) for info in found if info.type == FileType.File))


def _behind(key: str) -> str:
    """Return what sorts behind every key that begins with the unreadable part of ``key``, and can be read itself."""
    parts = key.split("/")
    index = next(index for index, part in enumerate(parts) if part in _ODD)
    # "0" is the character after "/"; a blank is the first that may follow where nothing does.
    return "/".join([*parts[:index], parts[index] + ("0" if index < len(parts) - 1 else " ")])
