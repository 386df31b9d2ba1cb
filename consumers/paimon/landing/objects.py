"""From what a person types (files, folders, globs, URIs) to the objects that are meant."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import obstore
import pyarrow.fs as pafs
from pypaimon.common.file_io import FileIO
from pypaimon.common.options import Options

from consumers.errors import ConfigurationError, SluiceError
from consumers.media.allow_list import file_uri, local_path
from consumers.paimon.stores.pinned import s3_version, status_version
from consumers.paimon.stores.s3 import S3Location, explain, is_s3, list_pages, open_s3
from schemas.object_version import ObjectVersion

if TYPE_CHECKING:
    from obstore import ObjectMeta

MEDIA_SUFFIXES = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".m2v",
        ".ts",
        ".mts",
        ".m2ts",
        ".wmv",
        ".flv",
        ".3gp",
        ".ogv",
        ".mxf",
        ".vob",
        ".asf",
    }
)
"""What the names of videos end in."""


_NO_OBJECT = "there is no such object; name objects, for folders and patterns are what `sluice ingest` takes"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object in a store. ``etag`` changes when the object does; it is ``size-mtime_ns`` where there is none."""

    uri: str
    size_bytes: int
    etag: str
    landed_at: datetime

    @property
    def path(self) -> Path | None:
        """The local path, or None for an object on another storage."""
        return local_path(self.uri)


def expand(
    items: Sequence[str], options: Mapping[str, str] | None = None, *, any_name: bool = False
) -> Iterator[ObjectInfo]:
    """Yield the objects that ``items`` name, each once, in natural order within an item (``clip2`` before ``clip10``).

    Args:
        items: files, folders (searched recursively for :data:`MEDIA_SUFFIXES`), globs, ``s3://`` objects and prefixes.
        options: catalog options, for the object store's endpoint and keys.
        any_name: take a file that is named by itself whatever its name ends in.

    Raises:
        ConfigurationError: an item does not exist, is no video by its name, or names a folder or glob without any.
    """
    seen: set[str] = set()
    for item in items:
        found = False
        path = local_path(item)
        for info in _local(item, path) if path is not None else _remote(item, options or {}):
            found = True
            if not (any_name or is_media(info.uri)):
                raise ConfigurationError(
                    f"{item}: is no video by its name ({_suffixes()}); nothing was registered (--any takes it all the "
                    "same)"
                )
            if info.uri not in seen:
                seen.add(info.uri)
                yield info
        if not found:
            raise ConfigurationError(f"{item}: no video file there; a folder is searched for {_suffixes()}")


def named(uris: Sequence[str], options: Mapping[str, str]) -> Iterator[ObjectInfo]:
    """Yield the objects of exactly these names, each once: no folder is searched and no pattern filled in.

    Args:
        uris: of objects.
        options: catalog options, for the object store's endpoint and keys.

    Raises:
        ConfigurationError: one is no object, or cannot be read.
    """
    for uri in dict.fromkeys(uris):
        path = local_path(uri)
        if path is None:
            yield _one(uri, options)
        elif path.is_file():
            yield file_info(path)
        else:
            raise ConfigurationError(f"{uri}: {_NO_OBJECT}")


def _one(uri: str, options: Mapping[str, str]) -> ObjectInfo:
    try:
        if is_s3(uri):
            location = open_s3(uri, options)
            if location.key:
                return s3_info(location, obstore.head(location.store, location.key))
        else:
            status = FileIO.get(uri, Options(dict(options))).get_file_status(uri)
            if status.type == pafs.FileType.File:
                return _remote_info(uri, status)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{uri}: {_NO_OBJECT}") from error
    except SluiceError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{uri}: cannot be read: {' '.join(explain(error).split())}") from error
    raise ConfigurationError(f"{uri}: {_NO_OBJECT}")


def _local(item: str, path: Path) -> Iterator[ObjectInfo]:
    if path.is_file():
        yield file_info(path)
    elif path.is_dir():
        yield from map(file_info, _media_files(path.rglob("*")))
    elif glob.has_magic(str(path)):
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207  absolute patterns
        if not matches:
            raise ConfigurationError(f"{item}: the pattern matches nothing")
        yield from map(file_info, _media_files(matches))
    else:
        raise ConfigurationError(f"{item}: does not exist; give a file, a folder, a glob or an s3:// URI")


def _media_files(paths: Any) -> list[Path]:
    return sorted(
        (path for path in paths if is_media(path.name) and path.is_file()),
        key=lambda path: _natural(str(path)),
    )


def file_info(path: Path) -> ObjectInfo:
    """Return what the disk says of one file.

    Raises:
        ConfigurationError: it is not there (any more), or cannot be read.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    landed_at = datetime.fromtimestamp(stat.st_mtime_ns // 1000 / 1e6, UTC)
    return ObjectInfo(file_uri(path), stat.st_size, ObjectVersion.of_file(stat).etag, landed_at)


def _remote(item: str, options: Mapping[str, str]) -> Iterator[ObjectInfo]:
    try:
        found = list(_on_s3(open_s3(item, options)) if is_s3(item) else walk(item, options))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{item}: does not exist") from error
    except SluiceError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{item}: cannot be read: {' '.join(explain(error).split())}") from error
    yield from sorted(found, key=lambda info: _natural(info.uri))


def _on_s3(location: S3Location) -> Iterator[ObjectInfo]:
    if location.key:
        with suppress(FileNotFoundError):
            yield s3_info(location, obstore.head(location.store, location.key))
            return
    for page in list_pages(location):
        yield from (s3_info(location, meta) for meta in page if is_media(meta["path"]))


def s3_info(location: S3Location, meta: ObjectMeta) -> ObjectInfo:
    """Return what a listing says of one object of S3."""
    version = s3_version(meta)
    landed_at = meta["last_modified"].astimezone(UTC)
    return ObjectInfo(location.uri(meta["path"]), version.size_bytes, version.etag, landed_at)


def walk(item: str, options: Mapping[str, str]) -> Iterator[ObjectInfo]:
    """Yield the object ``item``, or the media files below it, through pypaimon's file system for its scheme.

    Raises:
        FileNotFoundError: there is no such object or folder.
        Exception: what the store raised.
    """
    file_io = FileIO.get(item, Options(dict(options)))
    status = file_io.get_file_status(item)
    if status.type == pafs.FileType.File:
        yield _remote_info(item, status)
        return
    root = f"{urlparse(item).scheme}://"
    pending = [item]
    while pending:
        folder = pending.pop()
        for entry in file_io.list_status(folder):
            if entry.type == pafs.FileType.Directory:
                # The empty, '.' and '..' parts of an odd key lead back to where one is, or above.
                if entry.base_name not in {"", ".", ".."} and len(root + entry.path) > len(folder.rstrip("/")):
                    pending.append(root + entry.path)
            elif is_media(entry.path):
                yield _remote_info(root + entry.path, entry)


def is_media(name: str) -> bool:
    """Return whether a file or object of this name is looked at where a folder is searched."""
    return PurePosixPath(name).suffix.lower() in MEDIA_SUFFIXES


def _remote_info(uri: str, status: Any) -> ObjectInfo:
    landed_at = status.mtime.astimezone(UTC)
    version = status_version(status)
    return ObjectInfo(uri, version.size_bytes, version.etag, landed_at)


def _natural(text: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"([0-9]+)", text)]


def _suffixes() -> str:
    return ", ".join(sorted(MEDIA_SUFFIXES))
