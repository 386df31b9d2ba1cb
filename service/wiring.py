"""The only place that puts real adapters together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from consumers.clock import SystemClock
from consumers.errors import ConfigurationError, UriNotAllowedError
from consumers.loop.breaker import BreakerPolicy
from consumers.loop.commit_policy import CommitPolicy
from consumers.loop.processor import Processor, ProcessorConfig
from consumers.loop.retry import RetryPolicy
from consumers.media.allow_list import AllowList
from consumers.members.lease import Holder, LeaseKeeper
from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.commit.lease import PaimonLeases
from consumers.paimon.commit.reposition import Repositioner
from consumers.paimon.commit.rescale import Rescaler, RescaleReport
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.staging import PaimonStaging
from consumers.paimon.control import PaimonControlStore
from consumers.paimon.landing.listing import open_listing
from consumers.paimon.landing.objects import ObjectInfo, expand
from consumers.paimon.landing.raw_writer import RegisterReport, Registrar
from consumers.paimon.landing.raw_writer import register as register_objects
from consumers.paimon.landing.state import WatchStates
from consumers.paimon.landing.watch import Watcher
from consumers.paimon.reading.audit import AuditReport
from consumers.paimon.reading.audit import audit as audit_tables
from consumers.paimon.reading.clips import ClipReader
from consumers.paimon.reading.ledger import LedgerReader
from consumers.paimon.reading.progress import PaimonProgress
from consumers.paimon.reading.story import StoryReader
from consumers.paimon.source.changelog_source import OnExpired
from consumers.paimon.source.sources import open_source, protector
from consumers.paimon.stores.blobs import PaimonBlobOpener
from consumers.paimon.tables import CreatedTables, RawColumns, TableNames
from consumers.paimon.tables import create_tables as create_paimon_tables
from consumers.pool.inline import InlinePool
from consumers.ports import ControlStore, Observer, ProgressReader, Sink, Source, VideoProcessor, WorkerPool
from consumers.stages.curate import VideoCurator
from consumers.stages.decoder import choose_decoder
from schemas.shards import Shard
from service.host.members import Member, lease_name
from service.models import WithLocalModels, model_pools
from service.settings import AUTO, Settings


def catalog_config(settings: Settings) -> CatalogConfig:
    """Return how to reach the catalog."""
    return CatalogConfig(
        {**settings.catalog.options, "warehouse": settings.catalog.warehouse}, settings.tables.database
    )


def table_names(settings: Settings) -> TableNames:
    """Return the names of the four tables."""
    tables = settings.tables
    return TableNames(raw=tables.raw, curated=tables.curated, ledger=tables.ledger, control=tables.control)


def raw_columns(settings: Settings) -> RawColumns:
    """Return which column of the raw table holds what."""
    columns = settings.raw_columns
    return RawColumns(
        video_id=columns.video_id,
        video=columns.video,
        size_bytes=columns.size_bytes,
        etag=columns.etag,
        metadata=columns.metadata,
    )


def create_tables(settings: Settings, *, create_warehouse: bool) -> CreatedTables:
    """Create the tables that are missing.

    Raises:
        ConfigurationError: the warehouse cannot be opened, or an existing table does not fit.
    """
    config = catalog_config(settings)
    catalog = open_catalog(config, create=create_warehouse)
    return create_paimon_tables(catalog, config, table_names(settings), raw_columns(settings))


def shard(settings: Settings) -> Shard:
    """Return which part of the rows this process does.

    Raises:
        ConfigurationError: it follows the number of processes, and only a running service knows.
    """
    if settings.consumer.member is not None:
        raise ConfigurationError(
            f"setting consumer.shard: is {settings.consumer.shard}, and this command needs a fixed one: give "
            "SLUICE_CONSUMER__SHARD as i/n, or ask the running service (SLUICE_URL and SLUICE_TOKEN)"
        )
    return Shard.parse(settings.consumer.shard)


def with_shard(settings: Settings, part: Shard) -> Settings:
    """Return ``settings`` for a process that does ``part``."""
    return settings.model_copy(update={"consumer": settings.consumer.model_copy(update={"shard": str(part)})})


def member(settings: Settings) -> Member:
    """Return the member of a consumer that this process is, where the number of shards follows the processes.

    Raises:
        ConfigurationError: the number of shards is fixed, the raw table cannot be shared, or a table is missing.
        StoreUnavailableError: the store did not answer.
    """
    config, index = catalog_config(settings), settings.consumer.member
    if index is None:
        raise ConfigurationError(f"setting consumer.shard: is {settings.consumer.shard}; members have i/{AUTO}")
    protector(config, settings.tables.raw, settings.consumer.id, Shard(index, index + 1))
    rescaler = Rescaler(config, table_names(settings), settings.consumer.id)
    leases = PaimonLeases(config, settings.tables.control)
    return Member(settings.consumer.id, index, rescaler, leases, SystemClock())


def allow_list(settings: Settings) -> AllowList:
    """Return what may be read: the warehouse, and what the settings name."""
    config, named = catalog_config(settings), settings.input.allow
    # Where a REST catalog has a warehouse that it knows by a name, only it knows.
    return AllowList(named if config.is_name else (config.warehouse, *named))


def processor_factory(settings: Settings) -> Callable[..., VideoProcessor]:
    """Return a picklable factory of what a worker runs; it takes the models where the profile names any."""
    opener = PaimonBlobOpener(catalog_config(settings).options, allow_list(settings))
    staging = PaimonStaging(catalog_config(settings), settings.tables.curated, settings.consumer.id, shard(settings))
    return partial(
        VideoCurator,
        opener,
        settings.profile,
        settings.limits,
        SystemClock(),
        staging=staging,
        max_waiting_clips=settings.pool.max_waiting_clips,
        # Chosen in the worker: what it can decode with is a matter of its machine.
        choose_decoder=partial(choose_decoder, settings.pool.decoder),
    )


@contextmanager
def lease(
    settings: Settings,
    *,
    take_over: bool = False,
    on_wait: Callable[[Holder, float], None] = lambda holder, longest_s: None,
) -> Iterator[None]:
    """Hold the lease of the configured consumer and shard inside the block.

    Raises:
        AlreadyRunningError: another process holds it, and ``take_over`` was not said.
        ConfigurationError: the control table is missing.
        StoreUnavailableError: the store did not answer.
    """
    consumer, index = settings.consumer.id, settings.consumer.member
    if index is not None:
        name, what = lease_name(consumer, index), f"consumer {consumer}, member {index}"
    else:
        part = shard(settings)
        name = f"{consumer}.{part.index}of{part.count}"
        what = f"consumer {consumer}" + ("" if part.is_whole else f", shard {part}")
    leases = PaimonLeases(catalog_config(settings), settings.tables.control)
    keeper = LeaseKeeper(leases.of(name), what, SystemClock(), on_wait=on_wait)
    keeper.acquire(take_over=take_over)
    with closing(keeper):
        yield


def build_source(settings: Settings) -> Source:
    """Return the raw table as a source.

    Raises:
        ConfigurationError: the table is missing or does not fit.
    """
    return open_source(
        catalog_config(settings),
        settings.tables.raw,
        raw_columns(settings),
        chunk_rows=settings.consumer.read_chunk_rows,
        on_expired=OnExpired(settings.consumer.on_expired),
    )


def build_sink(settings: Settings) -> Sink:
    """Return the ledger and curated tables as a sink.

    Raises:
        ConfigurationError: a table is missing or does not fit, or its storage cannot publish safely.
    """
    config, part = catalog_config(settings), shard(settings)
    protect = protector(config, settings.tables.raw, settings.consumer.id, part)
    return PaimonSink(
        config,
        table_names(settings),
        settings.consumer.id,
        settings.profile,
        shard=part,
        has_gaps=protect is not None,
        on_committed=protect,
    )


def build_pool(settings: Settings) -> WorkerPool:
    """Return the worker pool, not started."""
    replicas = settings.pool.replicas or os.cpu_count() or 1
    part = shard(settings)
    factory = processor_factory(settings)
    models = model_pools(settings)
    if settings.pool.kind == "inline":
        return InlinePool(factory if models is None else WithLocalModels(factory, models.models), num_workers=replicas)
    # Importing Ray takes a second that an inline pool does not need.
    from consumers.pool.ray_serve import RayPoolConfig, RayServePool  # noqa: PLC0415

    return RayServePool(
        factory,
        RayPoolConfig(
            # Shards may share one cluster.
            app_name=f"sluice-{settings.consumer.id}" + ("" if part.is_whole else f"-{part.index}-of-{part.count}"),
            address=settings.pool.address,
            num_replicas=replicas,
            num_cpus_per_replica=settings.pool.cpus_per_replica,
            object_store_bytes=settings.pool.object_store_bytes,
            worker_memory_bytes=settings.pool.worker_memory_bytes,
        ),
        models,
    )


def build_processor(settings: Settings, pool: WorkerPool, observer: Observer, sink: Sink | None = None) -> Processor:
    """Return the consumer loop over the real source, and ``sink`` or the real one.

    Raises:
        ConfigurationError: a table is missing or does not fit.
    """
    consumer = settings.consumer
    config = ProcessorConfig(
        commit=CommitPolicy(
            interval_s=consumer.commit_interval_s,
            max_clips=consumer.commit_max_clips,
            max_bytes=consumer.commit_max_bytes,
        ),
        breaker=BreakerPolicy(
            # More than are in flight at once could fail only after the first ones were dead-lettered.
            min_videos=max(2, min(consumer.breaker_min_videos, consumer.max_in_flight_videos or pool.capacity)),
            window_s=consumer.breaker_window_s,
            probe_max_s=consumer.breaker_probe_max_s,
        ),
        retry=RetryPolicy(max_attempts=consumer.max_attempts, max_worker_deaths=consumer.max_worker_deaths),
        max_in_flight_videos=consumer.max_in_flight_videos,
        max_in_flight_bytes=consumer.max_in_flight_bytes,
        deadline_s=settings.limits.deadline_s,
        poll_interval_s=consumer.poll_interval_s,
        drain_timeout_s=consumer.drain_timeout_s,
        store_give_up_after_s=consumer.store_outage_s,
    )
    return Processor(
        build_source(settings), sink or build_sink(settings), pool, SystemClock(), config=config, observer=observer
    )


def find_objects(settings: Settings, locations: Sequence[str]) -> list[ObjectInfo]:
    """Return the objects that ``locations`` name.

    Raises:
        ConfigurationError: a location does not exist, holds no video file, or may not be read by the workers.
    """
    allowed = allow_list(settings)
    objects = list(expand(locations, catalog_config(settings).options))
    for item in objects:
        try:
            allowed.check(item.uri)
        except UriNotAllowedError as error:
            raise ConfigurationError(
                f"{error}\nnothing was registered: add its folder or prefix to allow in [input], then try again"
            ) from error
    return objects


def register(
    settings: Settings, objects: Iterable[ObjectInfo], on_progress: Callable[[int], None] | None = None
) -> RegisterReport:
    """Append a row to the raw table for each object that has none.

    Raises:
        ConfigurationError: the raw table is missing or was not made by ``sluice init``.
        StoreUnavailableError: the store did not answer.
    """
    return register_objects(catalog_config(settings), settings.tables.raw, objects, on_progress=on_progress)


@contextmanager
def watchers(settings: Settings, locations: Sequence[str]) -> Iterator[list[Watcher]]:
    """Yield what follows each of ``locations``, and keep how far they have come at the end.

    Raises:
        ConfigurationError: a location does not exist, or lies outside of what workers may read; or a table is missing.
        StoreUnavailableError: the store did not answer.
    """
    config, clock, allowed = catalog_config(settings), SystemClock(), allow_list(settings)
    listings = [
        open_listing(
            location,
            config.options,
            clock,
            settle_s=settings.watch.settle_s,
            look_back=settings.watch.look_back_objects,
        )
        for location in locations
    ]
    for listing in listings:
        try:
            allowed.check(listing.location)
        except UriNotAllowedError as error:
            raise ConfigurationError(f"{error}\nadd it to allow in [input], then try again") from error
    with ExitStack() as stack:
        registrar = stack.enter_context(closing(Registrar(config, settings.tables.raw)))
        states = stack.enter_context(closing(WatchStates(config, settings.tables.control)))
        interval_s = settings.watch.relist_interval_s
        yield [
            stack.enter_context(
                closing(Watcher(listing, registrar, states, allowed, clock, relist_interval_s=interval_s))
            )
            for listing in listings
        ]


def audit(settings: Settings) -> AuditReport:
    """Compare the tables for the configured consumer.

    Raises:
        ConfigurationError: a table is missing.
        StoreUnavailableError: the store did not answer.
    """
    return audit_tables(
        catalog_config(settings), table_names(settings), settings.consumer.id, columns=raw_columns(settings)
    )


def ledger_reader(settings: Settings) -> LedgerReader:
    """Return a reader of the configured consumer's ledger rows.

    Raises:
        ConfigurationError: a table is missing.
    """
    return LedgerReader(catalog_config(settings), table_names(settings), settings.consumer.id)


def clip_reader(settings: Settings) -> ClipReader:
    """Return a reader of the curated table.

    Raises:
        ConfigurationError: the table is missing.
    """
    return ClipReader(catalog_config(settings), settings.tables.curated)


def build_control(settings: Settings) -> ControlStore:
    """Return the control table.

    Raises:
        ConfigurationError: the table is missing or does not fit, or its storage cannot publish safely.
    """
    return PaimonControlStore(catalog_config(settings), settings.tables.control)


def progress_reader(settings: Settings) -> ProgressReader:
    """Return a reader of how far the configured consumer is.

    Raises:
        ConfigurationError: a table is missing or does not fit.
    """
    return PaimonProgress(
        catalog_config(settings),
        table_names(settings),
        settings.consumer.id,
        raw_columns(settings),
        shard(settings),
    )


def story_reader(settings: Settings) -> StoryReader:
    """Return a reader of single videos' stories and dead letters.

    Raises:
        ConfigurationError: the ledger is missing.
    """
    return StoryReader(catalog_config(settings), table_names(settings), settings.consumer.id)


def repositioner(settings: Settings) -> Repositioner:
    """Return what moves the configured consumer's position.

    Raises:
        ConfigurationError: a table is missing.
    """
    return Repositioner(catalog_config(settings), table_names(settings), settings.consumer.id, shard(settings))


def rescale(settings: Settings, count: int) -> RescaleReport:
    """Divide the configured consumer into ``count`` shards.

    Raises:
        ConfigurationError: the number is out of range, the consumer has never run, or a table is missing.
        StoreUnavailableError: the store did not answer.
    """
    return Rescaler(catalog_config(settings), table_names(settings), settings.consumer.id).rescale(count)
