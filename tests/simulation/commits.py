"""Publishing in a simulation: pypaimon's own loop of attempts, over files in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from pypaimon.snapshot.snapshot import Snapshot
from pypaimon.write.file_store_commit import CommitFailRetryResult, FileStoreCommit, SuccessResult

from tests.simulation.storage import SNAPSHOT, Add, FileRef, Mark, Remove, Storage, Tree


class SimulatedFolder:
    """Implements :class:`~consumers.paimon.commit.publish.SnapshotFolder`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def create(self, name: str, content: bytes, if_: Callable[[], bool]) -> bool:
        return if_() and bool(self._storage.operate("publish", lambda: self._storage.create(name, content)))

    def read(self, name: str) -> bytes | None:
        found: bytes | None = self._storage.operate("read_back", lambda: self._storage.folder.get(name))
        return found

    def exists(self, name: str) -> bool:
        return bool(self._storage.operate("exists", lambda: name in self._storage.folder))

    def names(self) -> list[str]:
        return list(self._storage.operate("names", lambda: list(self._storage.folder)))

    def delete(self, name: str) -> None:
        self._storage.operate("take_back", lambda: self._storage.folder.pop(name))

    def replace(self, name: str, content: bytes) -> None:
        self._storage.operate("hint", lambda: self._storage.folder.update({name: content}))


class SimulatedCatalogCommit:
    """A catalog's server, which publishes on top of the snapshot that is named and on no other."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def commit(self, base_uuid: str | None, snapshot: Any, statistics: Any) -> bool:
        return bool(self._storage.operate("publish", lambda: self._swap(base_uuid, snapshot)))

    def _swap(self, base_uuid: str | None, snapshot: Any) -> bool:
        latest = self._storage.latest()
        if (latest and latest.uuid) != base_uuid or snapshot.id != (latest.id if latest else 0) + 1:
            return False
        return self._storage.create(f"{SNAPSHOT}{snapshot.id}", self._storage.make(snapshot))

    def __enter__(self) -> SimulatedCatalogCommit:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""


class SimulatedCommit(FileStoreCommit):  # type: ignore[misc]
    """pypaimon's loop of attempts over our files.

    Args:
        storage: the table's files.
        snapshot_manager: of the table.
        commit_user: who commits.
    """

    def __init__(self, storage: Storage, snapshot_manager: Any, commit_user: str) -> None:
        self.commit_user, self._storage = commit_user, storage
        self.snapshot_manager = snapshot_manager
        self.table = SimpleNamespace(identifier=storage.name)
        self.snapshot_commit: Any = None
        self.commit_callbacks: list[Any] = []
        self.commit_max_retries, self.commit_timeout = 100, 30_000
        self.conflict_detection = SimpleNamespace()
        self.manifest_list_manager = None
        self.rollback = None

    def commit(self, messages: Sequence[Any], commit_identifier: int, snapshot_properties: Any = None) -> None:
        is_overwrite = any(isinstance(entry, Mark) for entry in messages)
        self._try_commit(
            commit_kind="OVERWRITE" if is_overwrite else "APPEND",
            commit_identifier=commit_identifier,
            commit_entries_plan=lambda latest: list(messages),
            detect_conflicts=is_overwrite,
            snapshot_properties=snapshot_properties,
            allow_empty_commit=True,
        )

    def _try_commit_once(
        self,
        retry_result: Any,
        commit_kind: str,
        commit_entries: Sequence[Any],
        commit_identifier: int,
        latest_snapshot: Any,
        snapshot_properties: Any = None,
        **others: Any,
    ) -> Any:
        if self._is_duplicate_commit(retry_result, latest_snapshot, commit_identifier, commit_kind):
            return SuccessResult()
        base = self._storage.operate("manifests", lambda: self._storage.tree(latest_snapshot))
        files, next_row_id = self._after(base.files, commit_entries, latest_snapshot)
        snapshot_id = latest_snapshot.id + 1 if latest_snapshot else 1
        name = f"manifest-list-{self._storage.world.uuid4()}"
        added = frozenset(entry.file.name for entry in commit_entries if isinstance(entry, Add))
        try:
            tree = {name: Tree(base.files, added, files)}
            self._storage.operate("write_manifests", lambda: self._storage.trees.update(tree))
        except Exception as error:
            raise RuntimeError(f"Failed to prepare snapshot: {error}") from error
        snapshot = Snapshot(
            version=3,
            id=snapshot_id,
            schema_id=0,
            base_manifest_list=name,
            delta_manifest_list=f"{name}-delta",
            total_record_count=sum(ref.num_rows for ref in files.values()),
            delta_record_count=0,
            commit_user=self.commit_user,
            commit_identifier=commit_identifier,
            commit_kind=commit_kind,
            time_millis=int(self._storage.world.time() * 1000),
            next_row_id=next_row_id,
            properties=dict(snapshot_properties) if snapshot_properties else None,
        )
        try:
            with self.snapshot_commit:
                base_uuid = latest_snapshot.uuid if latest_snapshot else None
                if self.snapshot_commit.commit(base_uuid, snapshot, []):
                    return SuccessResult()
                return CommitFailRetryResult(latest_snapshot, None)
        except Exception as error:
            return CommitFailRetryResult(latest_snapshot, error, commit_result_may_be_uncertain=True)

    def _after(
        self, before: dict[str, FileRef], entries: Sequence[Any], latest: Any
    ) -> tuple[dict[str, FileRef], int | None]:
        """Return the files after a commit on top of ``before``, and the next row id.

        Raises:
            RuntimeError: a file is gone, or has another deletion vector than the commit was made for.
        """
        files = dict(before)
        is_tracked = self._storage.spec.options.get("row-tracking.enabled") == "true"
        next_row_id = ((latest and latest.next_row_id) or 0) if is_tracked else None
        for entry in entries:
            known = files.get(entry.file.name)
            if isinstance(entry, Add):
                files[entry.file.name] = replace(entry.file, first_row_id=next_row_id)
                if next_row_id is not None:
                    next_row_id += entry.file.num_rows
            elif known is None or known.deleted != entry.file.deleted:
                raise RuntimeError(f"File deletion conflicts detected! Give up committing. {entry.file.name}")
            elif isinstance(entry, Remove):
                del files[entry.file.name]
            else:
                files[entry.file.name] = replace(known, deleted=entry.deleted)
        return files, next_row_id

    def _commit_retry_wait(self, retry_count: int) -> None:
        self._storage.world.rest(min(0.01 * 2**retry_count, 1.0))
