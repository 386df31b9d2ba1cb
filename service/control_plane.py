"""The service as a whole: the hosted consumer, its prober, the metrics and the REST interface."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from consumers.clock import SystemClock
from consumers.errors import ConfigurationError, SluiceError
from consumers.heap import GivingBack
from consumers.lag import LagPolicy
from consumers.loop.reports import RunReport
from consumers.paimon.maintain.maintainer import TableReport
from consumers.ports import ControlStore, Observer
from service import wiring
from service.api import pages
from service.api.app import create_app
from service.api.authenticator import Authenticator
from service.api.proxies import TrustedProxies
from service.api.server import ApiServer
from service.api.services import Services
from service.api.sessions import SessionFile, Sessions
from service.api.tokens import DEFAULT_TOKEN_FILE, NewTokens, Role, handout_of, load_tokens
from service.host.hosting import ConsumerView, Host, HostedConsumer
from service.host.operations import Operations, Operator
from service.host.supervisor import Incarnation, Supervisor
from service.host.upkeep import Upkeep, must_commit
from service.observe.activity import ConsumerActivity, Observers
from service.observe.events import EventBus
from service.observe.prober import Probe, Prober
from service.observe.telemetry import ConsumerTelemetry, Telemetry, TimedSink
from service.paimon_library import PaimonLibrary
from service.settings import Settings

_log = logging.getLogger(__name__)

_UPKEEP_GRACE_S = 5.0


class ControlPlane:
    """Hosts the configured consumer and serves its control plane.

    Args:
        settings: of the service.
        observer: told what the consumer does, beside metrics and status.
        folder: where a token file goes that the settings do not place: the settings file's folder.

    Raises:
        ConfigurationError: a table, an address, the TLS files or the token file do not fit.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, settings: Settings, observer: Observer, folder: Path) -> None:
        self._settings = settings
        self._observer = observer
        self._clock = SystemClock()
        self._closing = ExitStack()
        api = settings.api
        # Every check that can fail on the settings comes before anything starts.
        _check_tls(settings)
        wiring.build_source(settings)
        wiring.build_sink(settings).close()
        control = wiring.build_control(settings)
        libraries = {settings.consumer.id: PaimonLibrary(settings)}
        given = {
            role: secret.get_secret_value() for role in Role if (secret := getattr(api.tokens, role.word)) is not None
        }
        token_file = Path(api.token_file) if api.token_file is not None else folder / DEFAULT_TOKEN_FILE
        tokens, new_tokens = load_tokens(token_file, given)
        self.token_note = _token_note(token_file, new_tokens, has_given=bool(given))
        # Tokens that are given are known to all processes of the service, which then know each other's sessions.
        sessions = (
            SessionFile(secret="\x1f".join(given.values()))
            if given
            else SessionFile(token_file.with_name(token_file.stem + ".sessions.json"))
        )
        self._telemetry = Telemetry(self._clock)
        self._server = ApiServer(api)
        self._closing.callback(self._server.close)
        try:
            metrics = self._telemetry.serve(api.metrics_port, api.metrics_host)
        except OSError as error:
            self._closing.close()
            raise ConfigurationError(
                f"metrics cannot be served on {api.metrics_host}:{api.metrics_port}: {error.strerror}; set another "
                "metrics_port in [api]"
            ) from error
        self._closing.callback(metrics.close)
        self.metrics_url = f"http://{api.metrics_host}:{metrics.port}/metrics"
        self.host = self._build_host(control)
        self._operations = Operations(
            self.host,
            libraries,
            drain_timeout_s=settings.consumer.drain_timeout_s,
            shard=wiring.shard(settings),
        )
        self._upkeep = self._build_upkeep()
        services = Services(
            host=self.host,
            operations=self._operations,
            libraries=libraries,
            auth=Authenticator(tokens, self._clock, Sessions(tokens, self._clock, sessions)),
            version=version("sluice-video-curation"),
            started_at=self._clock.now(),
            secure_cookies=api.tls_key is not None or api.insecure_behind_proxy,
            proxies=TrustedProxies(api.trusted_proxies),
            upkeep=self._upkeep,
        )
        self._heap = GivingBack()
        self._app = create_app(
            services,
            allowed_hosts=_names(settings),
            has_tls=api.tls_key is not None,
            further=(pages.make_router(settings.profile),),
        )

    @property
    def url(self) -> str:
        """Where the control plane is reached from this machine."""
        return self._server.url

    def start(self) -> None:
        """Start consumer and API.

        Raises:
            StoreUnavailableError: the control table did not answer.
        """
        self.host.start()
        self._heap.start()
        if self._upkeep is not None:
            self._upkeep.start()
        self._server.start(self._app)

    def close(self, drain_timeout_s: float | None = None) -> RunReport | None:
        """Drain the consumer, then end the API, which answers until then; return the consumer's last report.

        Args:
            drain_timeout_s: longest wait for the videos in flight; None is the settings'.
        """
        if self.host.is_started:
            if self._upkeep is not None and not self._upkeep.close(_UPKEEP_GRACE_S):
                _log.warning("maintenance of the tables does not end; what it has begun is completed by a later round")
            self.host.close(self._settings.consumer.drain_timeout_s if drain_timeout_s is None else drain_timeout_s)
            self._operations.close()
        self._heap.close()
        self._closing.close()
        return self.host.consumers[self._settings.consumer.id].supervisor.last_report

    def _build_upkeep(self) -> Upkeep | None:
        settings, own = self._settings, self._settings.maintenance
        if not own.enabled:
            return None
        telemetry = self._telemetry.consumer(settings.consumer.id)
        telemetry.maintained(0, 0)
        telemetry.takedowns_overdue(0)

        def on_round(reports: Sequence[TableReport]) -> None:
            telemetry.maintained(
                sum(report.expired.num_snapshots for report in reports),
                sum(report.expired.num_bytes + report.orphans.num_bytes for report in reports),
            )
            # Another process at it knows how far they are.
            if reports:
                telemetry.takedowns_overdue(sum(len(report.takedowns.overdue) for report in reports))
            if settings.consumer.id in must_commit(reports):
                self._restart_for_takedowns()

        return Upkeep(
            lambda is_stopped: wiring.maintenance(settings, is_stopped),
            self._clock,
            own.interval_s,
            on_round=on_round,
            on_failure=telemetry.maintenance_failed,
        )

    def _restart_for_takedowns(self) -> None:
        """Have the consumer, which has rested for as long as snapshots are kept, begin anew: that is a commit."""
        consumer = self.host.consumers[self._settings.consumer.id]
        reason = "its newest commit keeps a snapshot with bytes that were taken down"
        try:
            self._operations.restart(consumer, Operator("maintenance", "this service"), reason)
        except SluiceError as error:
            # The next round asks again.
            _log.warning("consumer %s: %s, and could not be restarted: %s", consumer.consumer_id, reason, error)

    def _build_host(self, control: ControlStore) -> Host:
        settings, clock = self._settings, self._clock
        consumer_id = settings.consumer.id
        events = EventBus(clock)
        telemetry = self._telemetry.consumer(consumer_id)
        telemetry.build(version("sluice-video-curation"), settings.profile.name, settings.profile.fingerprint)
        activity = ConsumerActivity(clock, lambda kind, data: events.publish(kind, consumer_id, data))
        observers = Observers(self._observer, activity, telemetry)
        hosted = HostedConsumer(
            consumer_id=consumer_id,
            supervisor=Supervisor(consumer_id, lambda: self._incarnate(observers, activity, telemetry), clock),
            activity=activity,
            prober=Prober(
                lambda: wiring.progress_reader(settings),
                clock,
                activity.totals,
                interval_s=settings.api.probe_interval_s,
                on_probe=_publisher(telemetry),
            ),
            on_view=_StatePublisher(telemetry, activity),
        )
        # A row that waits for the commit that was asked for is no backlog.
        least_s = 2 * settings.consumer.commit_interval_s
        policy = LagPolicy(
            current_within_s=max(settings.api.current_within_s, least_s),
            stalled_after_s=max(settings.api.stalled_after_s, least_s),
        )
        return Host(
            {consumer_id: hosted},
            control,
            clock,
            events,
            policy=policy,
            poll_interval_s=settings.api.control_poll_interval_s,
        )

    def _incarnate(self, observers: Observers, activity: ConsumerActivity, telemetry: ConsumerTelemetry) -> Incarnation:
        pool = wiring.build_pool(self._settings)
        activity.begin(pool.report)
        sink = TimedSink(wiring.build_sink(self._settings), telemetry, self._clock)
        processor = wiring.build_processor(self._settings, pool, observers, sink)

        def start() -> None:
            pool.start()
            telemetry.pool_capacity(pool.capacity)

        def close() -> None:
            pool.close()
            sink.close()

        return Incarnation(processor, start, close)


class _StatePublisher:
    """Passes a consumer's state, and that of its pool, on to its metrics."""

    def __init__(self, telemetry: ConsumerTelemetry, activity: ConsumerActivity) -> None:
        self._telemetry = telemetry
        self._activity = activity
        self._num_restarts = 0

    def __call__(self, view: ConsumerView, is_new_state: bool) -> None:
        """Publish one view."""
        telemetry, status = self._telemetry, view.status
        if is_new_state:
            telemetry.state_entered(status.observed.value)
        telemetry.desired_state(view.desired.state.value)
        if view.verdict is not None:
            telemetry.verdict(view.verdict.value)
        if status.processor is not None:
            telemetry.status(status.processor)
        telemetry.pool(self._activity.look())
        while self._num_restarts < status.num_restarts:
            self._num_restarts += 1
            telemetry.restarted()
        telemetry.beat()


def _publisher(telemetry: ConsumerTelemetry) -> Callable[[Probe | None], None]:
    def publish(probe: Probe | None) -> None:
        if probe is None:
            telemetry.lag_probe_failed()
            return
        own = probe.last_commit
        telemetry.lag_probed(
            num_records=probe.lag.records,
            age_s=probe.lag.seconds,
            position_offset=probe.watermark,
            head_offset=probe.head.next_offset,
            num_bytes=probe.lag.num_bytes,
            num_snapshots=probe.lag.snapshots,
            headroom_s=probe.lag.headroom_s,
            shard=None if own is None else str(own.share.shard),
            num_records_of_shard=0 if own is None else probe.num_waiting(own),
        )

    return publish


def _token_note(file: Path, new: NewTokens | None, *, has_given: bool) -> str:
    """Say where tokens for the control plane are."""
    if has_given:
        return "those of the settings, [api.tokens]"
    if new is not None:
        return f"{new.handout} (hand them out, then delete it)"
    handout = handout_of(file)
    left = f"{handout}, which is to be deleted once they are handed out" if handout.exists() else "handed out before"
    return f"{left}; their hashes are in {file}, and `sluice token` makes further ones"


def _check_tls(settings: Settings) -> None:
    for name in ("tls_certificate", "tls_key"):
        path = getattr(settings.api, name)
        if path is not None and not Path(path).is_file():
            raise ConfigurationError(f"setting api.{name}: there is no file {path}")


def _names(settings: Settings) -> set[str]:
    host = settings.api.host
    return {f"[{host}]" if ":" in host else host, *settings.api.allowed_hosts}
