"""A consumer's loop on fakes: no time passes but that which the test lets pass."""

import threading
from contextlib import contextmanager

from consumers.loop.breaker import BreakerPolicy
from consumers.loop.commit_policy import CommitPolicy
from consumers.loop.config import ProcessorConfig
from consumers.loop.processor import Processor
from consumers.loop.reports import SilentObserver
from consumers.loop.retry import RetryPolicy
from consumers.testing import FakeClock, FakeSink, FakeTables

NO_DELAY = RetryPolicy(base_s=0, max_s=0)
# Here a mix of failures is what is tested; the breaker has tests of its own in test_breaker.py.
ALL_MUST_FAIL = BreakerPolicy(min_videos=1000, min_share=1)
CONFIG = ProcessorConfig(
    commit=CommitPolicy(interval_s=10),
    retry=NO_DELAY,
    breaker=ALL_MUST_FAIL,
    store_base_s=0,
    store_max_s=0,
    store_give_up_after_s=5,
)


class Recorder(SilentObserver):
    """Lets a test wait for what the loop tells."""

    def __init__(self):
        self.changed = threading.Condition()
        self.num_finished = 0
        self.num_committed = 0
        self.retries = []

    def retried(self, video, attempt, reason, delay_s):
        with self.changed:
            self.retries.append((video.row_id, attempt, reason))
            self.changed.notify_all()

    def finished(self, video):
        with self.changed:
            self.num_finished += 1
            self.changed.notify_all()

    def committed(self, batch, receipt):
        with self.changed:
            self.num_committed += len(batch.videos)
            self.changed.notify_all()

    def wait_for(self, predicate):
        with self.changed:
            assert self.changed.wait_for(lambda: predicate(self), 10), vars(self)


class Rig:
    """A processor on fakes; :meth:`running` has it run in a thread."""

    def __init__(self, source, pool, config=CONFIG, tables=None, faults=()):
        self.source, self.pool, self.clock = source, pool, FakeClock()
        self.tables = tables or FakeTables()
        self.sink = FakeSink(self.tables, faults)
        self.recorder = Recorder()
        self.processor = Processor(source, self.sink, pool, self.clock, config=config, observer=self.recorder)
        self.clock.on_advance.append(self.processor.wake)
        self.report = None
        self.error = None

    def run(self):
        return self.processor.run(until_caught_up=True)

    def _target(self):
        try:
            self.report = self.processor.run()
        except Exception as error:
            self.error = error

    @contextmanager
    def running(self, raises=None):
        thread = threading.Thread(target=self._target, daemon=True)
        thread.start()
        yield self
        self.processor.request_stop()
        thread.join(10)
        assert not thread.is_alive()
        if raises is not None:
            assert isinstance(self.error, raises)
        elif self.error is not None:
            raise self.error

    def wait_for_phase(self, phase):
        assert self.processor.wait_until(lambda status: status.phase is phase, 10), self.processor.snapshot()

    def settle(self):
        """Return when the loop has looked at everything there is: a round that began before the wake-up may be open."""
        for _ in range(2):
            before = self.processor.snapshot()
            self.processor.wake()
            assert self.processor.wait_until(lambda status, before=before: status is not before, 10)
