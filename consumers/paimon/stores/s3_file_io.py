"""pypaimon's file system on S3 with half the requests, and with a patience of seconds.

pyarrow looks at an object before it reads it, looks for the folder before it writes (S3 has none), and writes the
smallest file in three requests. Paimon's metadata are many small files, so that most of the time of a commit or a start
goes into such requests. Here metadata are read and written in one request each; data files go the old way.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError
from pyarrow.fs import AwsDefaultS3RetryStrategy, S3FileSystem
from pypaimon.filesystem.pyarrow_file_io import PyArrowFileIO

from consumers.paimon.stores.s3 import explain, open_s3

if TYPE_CHECKING:
    from obstore.store import S3Store

# By Paimon's layout of a table these are files, never folders, and small enough to be held in memory.
_FILE = re.compile(r"^(?:(?:snapshot|schema)-\d+|LATEST|EARLIEST)$")
_MANIFEST = re.compile(r"^(?:index-)?manifest-")


def lean(file_io: Any) -> Any:
    """Return the same file system with fewer requests where it is pypaimon's for S3; any other as it is."""
    is_s3 = type(file_io) is PyArrowFileIO and isinstance(file_io.filesystem, S3FileSystem) and not file_io._is_oss
    return LeanS3FileIO("s3://", file_io.properties) if is_s3 else file_io


class LeanS3FileIO(PyArrowFileIO):  # type: ignore[misc]
    """See the module. Picklable.

    Args:
        path: any S3 URI.
        catalog_options: Paimon's options, for endpoint and keys.
    """

    def __init__(self, path: str, catalog_options: Any) -> None:
        super().__init__(path, catalog_options)
        self._stores: dict[str, S3Store] = {}
        self._existing_folders: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_stores": {}}

    def _create_s3_retry_config(self, *_: int) -> dict[str, Any]:
        # By itself it would try for minutes, deaf to a stop. This strategy waits 25 ms before the first retry, where
        # the standard one waits half a second; the eighth is over after some 6 s, as with four of the standard's.
        strategy = AwsDefaultS3RetryStrategy(max_attempts=8)
        return {"request_timeout": 20, "connect_timeout": 5, "retry_strategy": strategy}

    def read_file_utf8(self, path: str) -> str:
        """Return the content of a small file.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: the store did not answer.
        """
        return self._get(path).decode()

    def exists(self, path: str) -> bool:
        """Return whether there is such a file or folder.

        Raises:
            OSError: the store did not answer.
        """
        name = path.rpartition("/")[2]
        if _FILE.match(name):
            return self._has_file(path)
        if path in self._existing_folders:
            return True
        is_there = bool(super().exists(path))
        # Tables do not lose this folder; where one is dropped, the files are found to be missing one by one.
        if is_there and name == "snapshot":
            self._existing_folders.add(path)
        return is_there

    def new_input_stream(self, path: str) -> Any:
        """Return a stream; that of a manifest is read whole."""
        if _MANIFEST.match(path.rpartition("/")[2]):
            return io.BytesIO(self._get(path))
        return super().new_input_stream(path)

    def new_output_stream(self, path: str) -> Any:
        """Return a stream; what is written to a manifest's is sent when it closes without an exception."""
        if _MANIFEST.match(path.rpartition("/")[2]):
            return _SmallFile(*self._place(path))
        return self.filesystem.open_output_stream(self.to_filesystem_path(path))

    def _get(self, path: str) -> bytes:
        store, key = self._place(path)
        try:
            return bytes(obstore.get(store, key).bytes())
        except FileNotFoundError:
            raise
        except BaseError as error:
            raise OSError(f"{path}: {explain(error)}") from error

    def _has_file(self, path: str) -> bool:
        store, key = self._place(path)
        try:
            obstore.head(store, key)
        except FileNotFoundError:
            return False
        except BaseError as error:
            raise OSError(f"{path}: {explain(error)}") from error
        return True

    def _place(self, path: str) -> tuple[S3Store, str]:
        bucket, _, key = self.to_filesystem_path(path).partition("/")
        store = self._stores.get(bucket)
        if store is None:
            store = self._stores[bucket] = open_s3(f"s3://{bucket}/", self.properties.to_map()).store
        return store, key


class _SmallFile(io.BytesIO):
    def __init__(self, store: S3Store, key: str) -> None:
        super().__init__()
        self._store = store
        self._key = key

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None:
            super().close()
        else:
            self.close()

    def close(self) -> None:
        if self.closed:
            return
        content = self.getvalue()
        super().close()
        try:
            obstore.put(self._store, self._key, content, use_multipart=False)
        except BaseError as failure:
            raise OSError(f"{self._key}: {explain(failure)}") from failure
