"""One consumer: its lease, source, sink, pool and loop."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

from consumers.clock import SystemClock
from consumers.errors import ConfigurationError, SourceChangedError
from consumers.loop.breaker import BreakerPolicy
from consumers.loop.commit_policy import CommitPolicy
from consumers.loop.config import ProcessorConfig
from consumers.loop.processor import Processor
from consumers.loop.retry import RetryPolicy
from consumers.members.lease import Holder, LeaseKeeper
from consumers.paimon.catalog import load_table, open_catalog
from consumers.paimon.commit.generation import remembered
from consumers.paimon.commit.lease import PaimonLeases
from consumers.paimon.commit.only_consumer import check_only_consumer
from consumers.paimon.commit.rescale import Rescaler
from consumers.paimon.commit.run_notes import PaimonRunNotes
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.staging import PaimonStaging
from consumers.paimon.reading.known_rows import KnownRows
from consumers.paimon.source.changelog_source import ChangelogSource
from consumers.paimon.source.guard import OnExpired
from consumers.paimon.source.row_source import RowIdSource
from consumers.paimon.source.sources import open_source, protector
from consumers.paimon.stores.blobs import PaimonBlobOpener
from consumers.paimon.tables import has_row_ids
from consumers.pool.container import memory_limit
from consumers.pool.inline import InlinePool
from consumers.pool.memory_plan import plan_workers
from consumers.ports import Observer, Sink, Source, VideoProcessor, WorkerPool
from consumers.stages.curate import VideoCurator
from consumers.stages.decoder import choose_decoder
from schemas.object_version import OnReplaced
from schemas.shards import Shard
from schemas.source_mark import generation_of
from service.host.members import Member, lease_name
from service.models import WithLocalModels, model_pools
from service.settings import AUTO, Settings
from service.wiring.named import allow_list, catalog_config, raw_columns, shard, table_names

_log = logging.getLogger(__name__)


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
        on_replaced=OnReplaced(settings.input.on_replaced),
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
        name = _shard_name(consumer, part)
        what = f"consumer {consumer}" + ("" if part.is_whole else f", shard {part}")
    leases = PaimonLeases(catalog_config(settings), settings.tables.control)
    keeper = LeaseKeeper(leases.of(name), what, SystemClock(), on_wait=on_wait)
    keeper.acquire(take_over=take_over)
    with closing(keeper):
        yield


def _shard_name(consumer: str, part: Shard) -> str:
    return f"{consumer}.{part.index}of{part.count}"


def build_source(settings: Settings) -> RowIdSource | ChangelogSource:
    """Return the raw table as a source, as it is.

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


def _consumer_source(settings: Settings) -> Source:
    """Return the raw table as the consumer reads it: rows that it knows already are told as such."""
    source = build_source(settings)
    if not isinstance(source, RowIdSource):
        return source
    return KnownRows(
        source,
        catalog_config(settings),
        table_names(settings),
        settings.consumer.id,
        raw_columns(settings),
        shard=shard(settings),
    )


def reading_note(settings: Settings) -> str:
    """Return in a sentence how the raw table is read, and what of its changes is not seen.

    Raises:
        ConfigurationError: the table is missing.
        StoreUnavailableError: the store did not answer.
    """
    config = catalog_config(settings)
    name = f"{config.database}.{settings.tables.raw}"
    if has_row_ids(load_table(open_catalog(config), config, settings.tables.raw)):
        return (
            f"{name} is read by row id: new and deleted rows are seen, an UPDATE of a row's video is not (delete the "
            "row and register the video anew)"
        )
    return f"{name} is read change by change"


def build_sink(settings: Settings) -> Sink:
    """Return the ledger and curated tables as a sink.

    Raises:
        ConfigurationError: a table is missing or does not fit, or its storage cannot publish safely; or another
            consumer curates the raw table into these tables.
    """
    config, part = catalog_config(settings), shard(settings)
    if not settings.consumer.second_consumer:
        check_only_consumer(config, table_names(settings), settings.consumer.id)
    protect = protector(config, settings.tables.raw, settings.consumer.id, part)
    return PaimonSink(
        config,
        table_names(settings),
        settings.consumer.id,
        settings.profile,
        shard=part,
        has_gaps=protect is not None,
        generation=_accepted_generation(settings) if settings.consumer.accept_new_table else 1,
        is_only=not settings.consumer.second_consumer,
        on_committed=protect,
    )


def _accepted_generation(settings: Settings) -> int:
    """Return which table of its name the raw table is by now: one more than is remembered, where it has changed."""
    config, names = catalog_config(settings), table_names(settings)
    source_name, mark = remembered(config, names, settings.consumer.id)
    generation = generation_of(source_name, f"{config.database}.{names.raw}") or 1
    source = _consumer_source(settings)
    source.resume(source_name, mark)
    try:
        source.head()
    except SourceChangedError as error:
        _log.warning("accepted as a new table: %s", error)
        return generation + 1
    return generation


def build_pool(settings: Settings) -> WorkerPool:
    """Return the worker pool, not started."""
    num_cpus = os.cpu_count() or 1
    replicas = settings.pool.replicas or num_cpus
    part = shard(settings)
    factory = processor_factory(settings)
    models = model_pools(settings)
    if settings.pool.kind == "inline":
        return InlinePool(factory if models is None else WithLocalModels(factory, models.models), num_workers=replicas)
    worker_bytes = settings.pool.worker_memory_bytes
    if settings.pool.address is None:
        planned = plan_workers(
            memory_limit(),
            num_cpus=num_cpus,
            num_workers=settings.pool.replicas,
            worker_bytes=worker_bytes,
            object_store_bytes=settings.pool.object_store_bytes,
            num_models=0 if models is None else models.num_processes,
        )
        replicas, worker_bytes = planned.num_workers, planned.worker_bytes
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
            worker_memory_bytes=worker_bytes,
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
    catalog, shard_name = catalog_config(settings), _shard_name(consumer.id, shard(settings))
    return Processor(
        _consumer_source(settings),
        sink or build_sink(settings),
        pool,
        SystemClock(),
        config=config,
        observer=observer,
        run_notes=PaimonRunNotes(catalog, settings.tables.control, shard_name),
    )
