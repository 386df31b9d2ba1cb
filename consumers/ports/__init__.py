"""The seams of the data plane, as protocols. Every implementation of one port passes the same contract suite."""

from consumers.ports.control import (
    BreakerState,
    CommitMark,
    ControlStore,
    Observer,
    ProgressReader,
    Retention,
    RowOrigin,
)
from consumers.ports.pool import BlobOpener, BlobStream, VideoProcessor, WorkerPool
from consumers.ports.runs import RunNote, RunNotes
from consumers.ports.sink import ClipStaging, CommitBatch, CommitReceipt, Recovered, Sink
from consumers.ports.source import Source, SourceHead

__all__ = [
    "BlobOpener",
    "BlobStream",
    "BreakerState",
    "ClipStaging",
    "CommitBatch",
    "CommitMark",
    "CommitReceipt",
    "ControlStore",
    "Observer",
    "ProgressReader",
    "Recovered",
    "Retention",
    "RowOrigin",
    "RunNote",
    "RunNotes",
    "Sink",
    "Source",
    "SourceHead",
    "VideoProcessor",
    "WorkerPool",
]
