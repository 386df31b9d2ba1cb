"""A second auditor, written from what README and ARCHITECTURE promise, with none of the product's code.

The promise: every raw row ends with exactly one current ledger row (of its runs the latest), every clip that it keeps
stands in the curated table exactly once, with its bytes, and nothing else stands there. Where the raw table has a
primary key, the newest ledger row of a key says what holds, and clips of replaced and deleted videos are gone. Where it
has none, a row that was deleted has a further run that says so, and a row that got another id is in the ledger as moved
from the first, whose clips it keeps.

Tables are read by plain batch reads of pypaimon, as a user would. Videos are told apart by their URI: whoever uses this
gives every version of every video a URI of its own, so that neither row ids nor snapshots have to be believed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pypaimon import CatalogFactory
from pypaimon.table.row.blob import BlobDescriptor

MAX_EXAMPLES = 20


@dataclass(frozen=True)
class Tally:
    """What stands in the tables against what should.

    Attributes:
        rows: videos that stand in the raw table now.
        clips: clips in the curated table.
        missing: videos without a ledger row, or, with keys, whose newest ledger row tells of another version.
        duplicated: ledger rows beyond one for each video and run, and row ids beyond one for each video.
        stray: current ledger rows that tell of no video that ever landed, and moves of a row that the ledger lacks.
        clips_missing: clips that a standing video should have and that are not there, or have no bytes.
        clips_duplicated: clips beyond one for each clip id.
        clips_stray: clips of videos that do not stand, of older versions, or that the current ledger row did not keep.
        examples: a few of them, one sentence each.
    """

    rows: int
    clips: int
    missing: int
    duplicated: int
    stray: int
    clips_missing: int
    clips_duplicated: int
    clips_stray: int
    examples: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        counts = asdict(self)
        return not any(counts[name] for name in counts if name not in {"rows", "clips", "examples"})


@dataclass(frozen=True)
class Tables:
    """Which tables, of which consumer.

    Attributes:
        options: of the catalog, warehouse included.
        raw: full name, as the other tables'.
        key: columns of the raw table's primary key, as the ledger spells it; empty where it has none.
        uri: the raw table's column with the URI, or with a serialized descriptor of it.
    """

    options: Mapping[str, str]
    raw: str
    ledger: str
    curated: str
    consumer: str
    key: tuple[str, ...] = ()
    uri: str = "uri"


def tally(
    tables: Tables,
    landed: set[str] | None = None,
    num_clips: Callable[[str], int] | None = None,
    forgotten: Collection[str] = (),
) -> Tally:
    """Read the tables as they are now and compare them.

    Args:
        tables: which.
        landed: URIs of everything that ever stood in the raw table; None: what stands there and no more.
        num_clips: how many clips the video of a URI should have, whatever the ledger says.
        forgotten: URIs of videos that a raw table does not know any more because it was set back or made anew: what
            was curated of them may stay.
    """
    found = _Findings()
    standing = _standing(tables)
    ledger = [row for row in _read(tables, tables.ledger, _LEDGER_COLUMNS) if row["consumer"] == tables.consumer]
    curated = [row for row in _read(tables, tables.curated, _CURATED_COLUMNS) if row["consumer"] == tables.consumer]
    _count_repeated(tables, ledger, found)
    for clip_id, number in Counter(row["clip_id"] for row in curated).items():
        if number > 1:
            found.add("clips_duplicated", f"clip {clip_id}: stands {number} times", number - 1)
    newest = max((_generation(tables, row) for row in ledger), default=0)
    ledger, curated = ([row for row in rows if _generation(tables, row) == newest > 0] for rows in (ledger, curated))
    current = _current([row for row in ledger if row["source_uri"] not in forgotten], bool(tables.key), found)
    for identity, uri in standing.items():
        row = current.get(identity)
        if row is None:
            found.add("missing", f"{uri}: no ledger row")
        elif row["source_uri"] != uri or row["row_kind"] == "-D":
            found.add("missing", f"{uri}: the newest ledger row tells of {row['row_kind']} {row['source_uri']}")
    known = set(standing.values()) | (landed or set())
    for identity, row in current.items():
        if row["row_kind"] != "-D" and row["source_uri"] not in known:
            found.add("stray", f"{row['source_uri']}: in the ledger as {identity}, and never landed")
    should = _clips_that_should_stand(current, standing)
    copies = Counter(row["clip_id"] for row in curated)
    left = {row["clip_id"] for row in curated if row["source_uri"] in forgotten}
    for clip_id, number in copies.items():
        if clip_id not in should and clip_id not in left:
            found.add("clips_stray", f"clip {clip_id}: no standing video keeps it", number)
    for clip_id, uri in should.items():
        if clip_id not in copies:
            found.add("clips_missing", f"clip {clip_id} of {uri}: not in the curated table")
    for row in curated:
        if row["cut_method"] != "reference" and not row["clip"]:
            found.add("clips_missing", f"clip {row['clip_id']}: has no bytes")
    if num_clips is not None:
        per_video = Counter(should.values())
        for uri in standing.values():
            lacking = num_clips(uri) - per_video[uri]
            if lacking > 0:
                found.add("clips_missing", f"{uri}: should have {lacking} more clips", lacking)
            elif lacking < 0:
                found.add("clips_stray", f"{uri}: has {-lacking} clips too many", -lacking)
    return Tally(rows=len(standing), clips=len(curated), **found.counts, examples=tuple(found.examples[:MAX_EXAMPLES]))


_LEDGER_COLUMNS = (
    "consumer",
    "source_table",
    "source_row_id",
    "source_key",
    "source_uri",
    "row_kind",
    "run",
    "clips",
)
_MOVED = "=>"
_CURATED_COLUMNS = ("consumer", "source_table", "source_uri", "clip_id", "cut_method", "clip")


def _generation(tables: Tables, row: Mapping[str, Any]) -> int:
    """Return which table of the raw table's name a row is of: 1, or the number behind its name; 0 for other names.

    What was curated of a table that was set back or made anew is kept apart: it may stand once, and nothing is missing.
    """
    name, _, number = row["source_table"].partition("#")
    return int(number or 1) if name == tables.raw else 0


class _Findings:
    def __init__(self) -> None:
        kinds = ("missing", "duplicated", "stray", "clips_missing", "clips_duplicated", "clips_stray")
        self.counts = dict.fromkeys(kinds, 0)
        self.examples: list[str] = []

    def add(self, kind: str, example: str, number: int = 1) -> None:
        self.counts[kind] += number
        self.examples.append(f"{kind}: {example}")


def _read(tables: Tables, name: str, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    builder = CatalogFactory.create(dict(tables.options)).get_table(name).new_read_builder()
    builder = builder.with_projection(list(columns))
    splits = builder.new_scan().plan().splits()
    return list(builder.new_read().to_arrow(splits).to_pylist()) if splits else []


def _standing(tables: Tables) -> dict[str, str]:
    """Return the URI of each video in the raw table, by what the ledger should know it by: its key, or its URI."""
    columns = tuple(dict.fromkeys((*tables.key, tables.uri)))
    standing = {}
    for row in _read(tables, tables.raw, columns):
        value = row[tables.uri]
        uri = BlobDescriptor.deserialize(value).uri if isinstance(value, bytes) else str(value)
        standing["/".join(str(row[name]) for name in tables.key) or uri] = uri
    return standing


def _count_repeated(tables: Tables, ledger: list[dict[str, Any]], found: _Findings) -> None:
    runs = Counter(
        (row["source_table"], row["source_row_id"], row["run"], row["source_uri"])
        for row in ledger
        if _generation(tables, row)
    )
    for (source, row_id, run, uri), number in runs.items():
        if number > 1:
            found.add("duplicated", f"{uri}: {number} ledger rows for row {row_id} of {source}, run {run}", number - 1)


def _current(ledger: list[dict[str, Any]], has_keys: bool, found: _Findings) -> dict[str, dict[str, Any]]:
    """Return the ledger row that holds for each video, and count videos that were processed twice on the way."""
    places: defaultdict[str, set[int]] = defaultdict(set)
    current: dict[str, dict[str, Any]] = {}
    first_rows = {(row["source_row_id"], row["source_uri"]) for row in ledger if row["row_kind"] != _MOVED}
    for row in sorted(ledger, key=lambda row: (row["source_row_id"], row["run"])):
        if row["row_kind"] == _MOVED:
            first_id = int(row["source_key"].removeprefix("row:"))
            if (first_id, row["source_uri"]) not in first_rows:
                found.add("stray", f"{row['source_uri']}: moved from row {first_id}, which the ledger lacks")
            continue
        if has_keys:
            identity = "/".join(part.strip('"') for part in row["source_key"].strip("[]").split(", "))
        else:
            identity = row["source_uri"]
        if row["row_kind"] != "-D":
            places[row["source_uri"]].add(row["source_row_id"])
        current[identity] = row
    for uri, row_ids in places.items():
        if len(row_ids) > 1 and not has_keys:
            found.add("duplicated", f"{uri}: processed as rows {sorted(row_ids)}", len(row_ids) - 1)
    return current


def _clips_that_should_stand(current: Mapping[str, Mapping[str, Any]], standing: Mapping[str, str]) -> dict[str, str]:
    return {
        clip["clip_id"]: row["source_uri"]
        for identity, row in current.items()
        if standing.get(identity) == row["source_uri"] and row["row_kind"] != "-D"
        for clip in row["clips"] or ()
        if clip["kept"]
    }
