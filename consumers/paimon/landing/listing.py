"""Looking at a place again and again, at the cost of what is new there: S3, disk, and the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from consumers.clock import Clock
from consumers.errors import ConfigurationError, SluiceError
from consumers.media.allow_list import local_path
from consumers.paimon.landing.objects import ObjectInfo, file_info, is_media, s3_info, walk
from consumers.paimon.landing.plan import FolderTimes, KeyCursor, SettleTracker, Sighting
from consumers.paimon.landing.s3_listing import list_all
from consumers.paimon.stores.s3 import S3Location, explain, is_s3, open_s3

_PAGE = 1000


class Listing(Protocol):
    """One watched place."""

    location: str

    def pages(self, after: str | None, is_known: Callable[[ObjectInfo], bool]) -> Iterator[list[ObjectInfo]]:
        """Yield complete media objects that ``is_known`` does not hold, some at a time.

        Objects that exist and cannot be read, for their names, are among them.

        Args:
            after: where a listing by key begins; None is the beginning, and looks at everything anew.
            is_known: whether an object needs no second look.

        Raises:
            FileNotFoundError: the place is gone.
            Exception: what the store raised.
        """
        ...

    @property
    def next_after(self) -> str | None:
        """Where the listing after the one that has ended begins; None for a place that has no such order."""
        ...


def open_listing(
    location: str, options: Mapping[str, str], clock: Clock, *, settle_s: float, look_back: int
) -> Listing:
    """Return how to watch ``location``.

    Args:
        location: a folder on disk, or the URI of a bucket or a prefix.
        options: catalog options, for the object store's endpoint and keys.
        clock: time, for what is not complete yet.
        settle_s: how long a file on disk has to stay the same to count as complete.
        look_back: keys of S3 that are listed again each time.

    Raises:
        ConfigurationError: there is no such folder or bucket, or it cannot be read.
    """
    path = local_path(location)
    if path is not None:
        if not path.is_dir():
            what = "is not a folder" if path.exists() else "does not exist"
            raise ConfigurationError(f"{location}: {what}; --watch takes a folder, or the URI of a bucket or prefix")
        return _DiskListing(path, clock, settle_s)
    listing = _S3Listing(location, options, look_back) if is_s3(location) else _WalkListing(location, options)
    try:
        # Objects may come later; the bucket has to be there.
        listing.probe()
    except FileNotFoundError as error:
        raise ConfigurationError(f"{location}: there is no such bucket or folder; create it, then watch it") from error
    except SluiceError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{location}: cannot be read: {' '.join(explain(error).split())}") from error
    return listing


class _S3Listing:
    """Lists in the order of keys. Objects appear whole: an upload under way, in parts or not, is not listed."""

    def __init__(self, location: str, options: Mapping[str, str], look_back: int) -> None:
        self.location = location
        self._opened = open_s3(location, options)
        self._options = options
        self._look_back = look_back
        self._cursor = KeyCursor(None, look_back)
        self._behind = ""

    def probe(self) -> None:
        for _page in list_all(self._opened, self._options):
            return

    def pages(self, after: str | None, is_known: Callable[[ObjectInfo], bool]) -> Iterator[list[ObjectInfo]]:
        self._cursor = KeyCursor(after, self._look_back)
        self._behind = ""
        for page in list_all(self._opened, self._options, after):
            self._cursor.saw(meta["path"] for meta in page.objects)
            # What cannot be read costs much to list; not again with each look.
            self._behind = page.behind or self._behind
            found = [s3_info(self._opened, meta) for meta in page.objects if is_media(meta["path"])]
            found += [_unreadable(self._opened, key) for key in page.unreadable if is_media(key)]
            yield [info for info in found if not is_known(info)]

    @property
    def next_after(self) -> str | None:
        return max(self._cursor.next_after or "", self._behind) or None


def _unreadable(location: S3Location, key: str) -> ObjectInfo:
    return ObjectInfo(location.uri(key), 0, "", datetime.fromtimestamp(0, UTC))


class _WalkListing:
    """Lists everything each time: what pypaimon's file systems can do, for OSS and others."""

    next_after = None

    def __init__(self, location: str, options: Mapping[str, str]) -> None:
        self.location = location
        self._options = options

    def probe(self) -> None:
        for _info in walk(self.location, self._options):
            return

    def pages(self, after: str | None, is_known: Callable[[ObjectInfo], bool]) -> Iterator[list[ObjectInfo]]:
        page: list[ObjectInfo] = []
        for info in walk(self.location, self._options):
            if not is_known(info):
                page.append(info)
            if len(page) >= _PAGE:
                yield page
                page = []
        yield page


class _DiskListing:
    """Reads folders whose time of modification has changed, and waits until a file does not change any more."""

    def __init__(self, root: Path, clock: Clock, settle_s: float) -> None:
        self._root = os.path.abspath(root)  # noqa: PTH100  (Path.absolute keeps "..")
        self.location = self._root
        self._clock = clock
        self._folders = FolderTimes()
        self._tracker = SettleTracker(settle_s)
        self._is_first = True

    @property
    def next_after(self) -> str | None:
        """A file is new by its folder's time, not by its name."""
        return self._root

    def pages(self, after: str | None, is_known: Callable[[ObjectInfo], bool]) -> Iterator[list[ObjectInfo]]:
        if after is None:
            self._folders.forget_times()
        waiting = self._tracker.pending
        page: list[ObjectInfo] = []
        for path in self._candidates(waiting):
            info = self._complete(path, is_known)
            if info is not None:
                page.append(info)
            if len(page) >= _PAGE:
                yield page
                page = []
        yield page
        self._is_first = False

    def _candidates(self, waiting: tuple[str, ...]) -> Iterator[str]:
        """Yield files that wait, and media files of folders that have changed, each once."""
        yield from waiting
        seen = frozenset(waiting)
        self._folders.add(self._root)
        pending = list(self._folders.folders)
        while pending:
            folder = pending.pop()
            try:
                mtime_ns = Path(folder).stat().st_mtime_ns
                if not self._folders.is_due(folder, mtime_ns):
                    continue
                # Noted before it is read: what comes in between changes the time once more.
                self._folders.read(folder, mtime_ns, int(self._clock.now().timestamp() * 1e9))
                known = frozenset(self._folders.folders)
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            if entry.path not in known:
                                self._folders.add(entry.path)
                                pending.append(entry.path)
                        elif entry.path not in seen and is_media(entry.name) and entry.is_file():
                            yield entry.path
            except FileNotFoundError:
                if folder == self._root:
                    raise
                self._folders.forget(folder)

    def _complete(self, path: str, is_known: Callable[[ObjectInfo], bool]) -> ObjectInfo | None:
        try:
            info = file_info(Path(path))
            mtime_ns = int(info.etag.rpartition("-")[2])
        except ConfigurationError:
            self._tracker.forget(path)
            return None
        if is_known(info):
            self._tracker.forget(path)
            return None
        age_s = self._clock.now().timestamp() - mtime_ns / 1e9 if self._is_first else None
        sighting = Sighting(info.size_bytes, mtime_ns)
        return info if self._tracker.look(path, sighting, self._clock.monotonic_s(), age_s) else None
