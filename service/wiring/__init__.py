"""The only place that puts real adapters together: a file for each part of the work, all reached as ``wiring.name``."""

from service.wiring.consuming import (
    build_pool,
    build_processor,
    build_sink,
    build_source,
    lease,
    member,
    processor_factory,
    reading_note,
)
from service.wiring.landing import create_tables, find_objects, name_objects, register, registrar, watchers
from service.wiring.maintaining import maintenance
from service.wiring.named import allow_list, catalog_config, raw_columns, shard, table_names, with_shard
from service.wiring.reading import (
    audit,
    build_control,
    clip_reader,
    dataset_tags,
    ledger_reader,
    progress_reader,
    repositioner,
    rescale,
    story_reader,
    takedown_reader,
    takedown_store,
)

__all__ = [
    "allow_list",
    "audit",
    "build_control",
    "build_pool",
    "build_processor",
    "build_sink",
    "build_source",
    "catalog_config",
    "clip_reader",
    "create_tables",
    "dataset_tags",
    "find_objects",
    "lease",
    "ledger_reader",
    "maintenance",
    "member",
    "name_objects",
    "processor_factory",
    "progress_reader",
    "raw_columns",
    "reading_note",
    "register",
    "registrar",
    "repositioner",
    "rescale",
    "shard",
    "story_reader",
    "table_names",
    "takedown_reader",
    "takedown_store",
    "watchers",
    "with_shard",
]
