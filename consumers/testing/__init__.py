"""In-memory stand-ins for the ports, for tests of anything that drives them.

They keep the same contracts as the real adapters and pass the same suites: a :class:`FakeSink` fences, writes its
ledger before its curated table, and can lose its answer or its process between the two.
"""

from consumers.testing.clock import FakeClock
from consumers.testing.control import FakeControlStore
from consumers.testing.leases import FakeLeaseStore
from consumers.testing.outcomes import failed_outcome, kept_outcome, make_video, rejected_outcome
from consumers.testing.pool import FakePool
from consumers.testing.runs import FakeRunNotes
from consumers.testing.sink import FakeSink, FakeTables, SimulatedCrashError, SinkFault
from consumers.testing.source import FakeSource
from consumers.testing.staging import FakeStaging, FakeStore

__all__ = [
    "FakeClock",
    "FakeControlStore",
    "FakeLeaseStore",
    "FakePool",
    "FakeRunNotes",
    "FakeSink",
    "FakeSource",
    "FakeStaging",
    "FakeStore",
    "FakeTables",
    "SimulatedCrashError",
    "SinkFault",
    "failed_outcome",
    "kept_outcome",
    "make_video",
    "rejected_outcome",
]
