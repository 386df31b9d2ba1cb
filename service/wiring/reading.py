"""What people look up and change: audit, ledger, clips, control, progress, positions, shards."""

from __future__ import annotations

import random
from datetime import timedelta
from functools import partial

from consumers.media.clip_check import ClipChecker
from consumers.paimon.commit.reposition import Repositioner
from consumers.paimon.commit.rescale import Rescaler, RescaleReport
from consumers.paimon.commit.takedown import TakedownStore
from consumers.paimon.control import PaimonControlStore
from consumers.paimon.reading.audit import audit as audit_tables
from consumers.paimon.reading.audit_clips import DeepCheck
from consumers.paimon.reading.audit_report import AuditReport
from consumers.paimon.reading.clips import ClipReader
from consumers.paimon.reading.ledger import LedgerReader
from consumers.paimon.reading.progress import PaimonProgress
from consumers.paimon.reading.story import StoryReader
from consumers.paimon.reading.tags import Tags
from consumers.paimon.reading.takedowns import TakedownReader
from consumers.ports import ControlStore, ProgressReader
from service.settings import Settings
from service.wiring.named import catalog_config, raw_columns, shard, table_names


def audit(settings: Settings, *, deep: bool = False, sample: int | None = None) -> AuditReport:
    """Compare the tables for the configured consumer.

    Args:
        settings: of the service.
        deep: look for the bytes of every clip, and decode some.
        sample: how many, drawn at random; None is all.

    Raises:
        ConfigurationError: a table is missing.
        StoreUnavailableError: the store did not answer.
    """
    compare = partial(
        audit_tables,
        catalog_config(settings),
        table_names(settings),
        settings.consumer.id,
        columns=raw_columns(settings),
    )
    if not deep:
        return compare()
    with ClipChecker(settings.limits) as checker:
        # Which clips are drawn is not a secret.
        return compare(deep=DeepCheck(checker.problem, sample, random.Random()))  # noqa: S311


def ledger_reader(settings: Settings) -> LedgerReader:
    """Return a reader of the configured consumer's ledger rows.

    Raises:
        ConfigurationError: a table is missing.
    """
    return LedgerReader(catalog_config(settings), table_names(settings), settings.consumer.id)


def clip_reader(settings: Settings, tag: str | None = None) -> ClipReader:
    """Return a reader of the curated table as it is, or as a tag names it.

    Raises:
        ConfigurationError: the table is missing, or has no such tag.
    """
    return ClipReader(catalog_config(settings), settings.tables.curated, tag=tag)


def dataset_tags(settings: Settings) -> Tags:
    """Return the tags of the curated table.

    Raises:
        ConfigurationError: the table is missing.
        StoreUnavailableError: the store did not answer.
    """
    return Tags(catalog_config(settings), settings.tables.curated)


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


def takedown_reader(settings: Settings) -> TakedownReader:
    """Return what looks takedowns up.

    Raises:
        ConfigurationError: a table is missing.
        StoreUnavailableError: the store did not answer.
    """
    own = settings.maintenance
    within = timedelta(seconds=own.purge_s) if own.enabled else None
    return TakedownReader(catalog_config(settings), table_names(settings), within)


def takedown_store(settings: Settings) -> TakedownStore:
    """Return the takedowns of the control table.

    Raises:
        ConfigurationError: the table is missing or does not fit.
        StoreUnavailableError: the store did not answer.
    """
    return TakedownStore(catalog_config(settings), settings.tables.control)


def rescale(settings: Settings, count: int) -> RescaleReport:
    """Divide the configured consumer into ``count`` shards.

    Raises:
        ConfigurationError: the number is out of range, the consumer has never run, or a table is missing.
        StoreUnavailableError: the store did not answer.
    """
    return Rescaler(catalog_config(settings), table_names(settings), settings.consumer.id).rescale(count)
