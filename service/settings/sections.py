"""The sections of the settings file, and what each setting may be."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    SettingsConfigDict,
)

from schemas.profile import Limits, Profile
from schemas.shards import Shard

AUTO = "auto"


_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


Bytes = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CatalogSettings(_Section):
    """The Paimon catalog."""

    warehouse: str = Field(min_length=1, description="Warehouse root: a folder, or s3://bucket/prefix.")
    options: dict[str, str] = Field(
        default_factory=dict, repr=False, description="Further catalog options, such as s3.endpoint. Never shown."
    )


class TableSettings(_Section):
    """Names of the four tables, all in one database."""

    database: str = Field("sluice", pattern=_NAME, description="Paimon database.")
    raw: str = Field("raw_videos", pattern=_NAME, description="The table that is tailed.")
    curated: str = Field("curated_clips", pattern=_NAME, description="Where kept clips go.")
    ledger: str = Field("curation_ledger", pattern=_NAME, description="What became of each raw row.")
    control: str = Field("sluice_control", pattern=_NAME, description="Desired state and audit trail.")


class RawColumnSettings(_Section):
    """Which column of the raw table holds what. Unmapped optional columns are not read."""

    video: str = Field("video", min_length=1, description="BLOB, BYTES of serialized descriptors, or STRING of URIs.")
    video_id: str | None = Field("video_id", description="Id of a video; without it the row id is used.")
    size_bytes: str | None = Field(
        "size_bytes", description="Object size in bytes, for the in-flight bound; compared with the object."
    )
    etag: str | None = Field("etag", description="Version of the object, as its store tells it.")
    metadata: tuple[str, ...] = Field(("metadata",), description="Columns passed on as text; a map is spread.")

    @field_validator("video_id", "size_bytes", "etag")
    @classmethod
    def _empty_is_unmapped(cls, value: str | None) -> str | None:
        return value or None


class ConsumerSettings(_Section):
    """The consumer loop."""

    id: str = Field("default", pattern=_NAME, description="Identity of the consumer: its position belongs to this id.")
    shard: str = Field(
        "0/1",
        pattern=r"^\d{1,4}/(\d{1,4}|auto)$",
        description="Which part of the rows this process does, as i/n: those whose row id divided by n leaves i. The "
        "number of shards is changed with `sluice rescale`. i/auto: this process is number i, and there are as many "
        "shards as such processes; it changes as they come and go.",
    )
    on_expired: Literal["fail", "earliest"] = Field(
        "fail",
        description="Only for raw tables that are read change by change: what to do when changes expired unread. fail "
        "stops with an error; earliest goes on with the oldest that are left and logs which are lost.",
    )
    accept_new_table: bool = Field(
        False,
        description="Go on although the raw table was rolled back, or dropped and made anew, since it was read: every "
        "row that it holds is curated, from the first on, and what was curated before is kept apart. Without it that "
        "is an error. `sluice run --accept-new-table` sets it for once.",
    )
    second_consumer: bool = Field(
        False,
        description="Begin although another consumer curates the same raw table into the same tables: each clip will "
        "stand there once for each of them, under one id. Without it that is an error. `sluice run --second-consumer` "
        "sets it for once.",
    )
    poll_interval_s: float = Field(1.0, gt=0, le=3600, description="Wait between looks at the raw table when idle.")
    max_in_flight_videos: int | None = Field(None, ge=1, description="Videos at once; none is the pool's capacity.")
    max_in_flight_bytes: Bytes = Field(2 * 1024**3, description="Bytes of sources and of finished clips held at once.")
    commit_interval_s: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="Longest wait of a finished video for its commit. While there is nothing else to do, the first few "
        "are committed at once; a steady trickle makes one commit in such a time.",
    )
    commit_max_clips: int = Field(500, ge=1, description="Commit at once when so many kept clips wait.")
    commit_max_bytes: Bytes = Field(512 * 1024**2, description="Commit at once when so many clip bytes wait.")
    max_attempts: int = Field(5, ge=1, description="Attempts at a video that fails for a passing reason.")
    max_worker_deaths: int = Field(
        3,
        ge=1,
        description="A video that killed its worker so often is a poison video, and one that was tried alone when the "
        "service itself died so often.",
    )
    breaker_min_videos: int = Field(
        5, ge=2, description="So many different videos that fail for a passing reason hold intake: the fault is ours."
    )
    breaker_window_s: float = Field(120.0, gt=0, le=86400, description="How far back those failures count.")
    breaker_probe_max_s: float = Field(
        300.0, ge=5, le=86400, description="Longest wait between two videos that probe whether the fault is gone."
    )
    read_chunk_rows: int = Field(1000, ge=1, description="Rows of the raw table read at a time.")
    drain_timeout_s: float = Field(60.0, gt=0, description="Longest wait for videos in flight when stopping.")
    store_outage_s: float = Field(
        300.0, ge=0, description="How long a store that does not answer is waited for before the consumer fails."
    )

    @field_validator("shard")
    @classmethod
    def _shard_exists(cls, value: str) -> str:
        index, _, count = value.partition("/")
        return f"{int(index)}/{AUTO}" if count == AUTO else str(Shard.parse(value))

    @property
    def member(self) -> int | None:
        """The number of this process where the number of shards follows the processes; None where it is fixed."""
        index, _, count = self.shard.partition("/")
        return int(index) if count == AUTO else None


class ModelPoolSettings(_Section):
    """How one model stage runs in the Ray pool; without effect where the stage has no model."""

    replicas: int = Field(1, ge=1, le=4096, description="Worker processes that hold the model.")
    max_replicas: int | None = Field(
        None, ge=1, le=4096, description="Ray Serve adds workers up to so many under load; none is a fixed number."
    )
    max_batch: int = Field(16, ge=1, le=4096, description="Most clips in one batch.")
    linger_s: float = Field(0.05, ge=0, le=60, description="Longest wait for a batch to fill, in seconds.")
    gpus: float | None = Field(
        None,
        ge=0,
        le=64,
        description="GPUs for a worker: a fraction up to 1, or a whole number; none is a share of a GPU where there "
        "is one, and the CPU elsewhere; 0 is the CPU.",
    )
    cpus: float = Field(1.0, ge=0, le=1024, description="CPUs that Ray reserves for a worker, and threads of torch.")
    resources: dict[str, float] = Field(
        default_factory=dict, description="Custom resources of Ray that a worker needs, to choose nodes."
    )
    batch_timeout_s: float = Field(300.0, gt=0, description="A worker whose batch takes longer is replaced.")

    @model_validator(mode="after")
    def _makes_sense(self) -> ModelPoolSettings:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas ({self.max_replicas}) is below replicas ({self.replicas})")
        if self.gpus is not None and self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus is a fraction up to 1 or a whole number, not {self.gpus:g}")
        return self


class PoolSettings(_Section):
    """Where the stages run."""

    kind: Literal["ray", "inline"] = Field("ray", description="ray: worker processes on Ray Serve; inline: threads.")
    address: str | None = Field(
        None,
        description="Head of an existing Ray cluster, host:port; none starts an embedded Ray. Its token is taken from "
        "RAY_AUTH_TOKEN or the file RAY_AUTH_TOKEN_PATH, with RAY_AUTH_MODE=token.",
    )
    replicas: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Workers; none is one for each CPU of this machine, as far as its memory has room.",
    )
    cpus_per_replica: float = Field(1.0, gt=0, description="CPUs that Ray reserves for a worker.")
    worker_memory_bytes: int | None = Field(
        None,
        ge=1024**3,
        description="Private memory of a worker, of which it needs 0.4 GB at rest; a video that needs more fails as "
        "out_of_memory. None is a share of what the container (or machine) has beside the service, 4 GiB at most; more "
        "than fits into the container is refused. Not in the inline pool.",
    )
    object_store_bytes: Bytes = Field(512 * 1024**2, description="Object store memory of an embedded Ray.")
    decoder: Literal["cpu", "auto", "nvdec"] = Field(
        "cpu",
        description="cpu; or, where a worker's machine has an NVIDIA GPU: auto decodes with NVDEC the codecs for which "
        "a probe at its start finds no difference to the CPU at all, nvdec those for which it finds none in whole "
        "videos, and refuses to start without. No part of the profile; `sluice models check` tells what a machine has.",
    )
    max_waiting_clips: int = Field(
        8, ge=1, le=256, description="Clips of one video that may be with the models at once; bounds memory."
    )
    nsfw: ModelPoolSettings = ModelPoolSettings()
    aesthetic: ModelPoolSettings = ModelPoolSettings()
    captioner: ModelPoolSettings = ModelPoolSettings()


class TokenSettings(_Section):
    """Bearer tokens given directly, best by environment (SLUICE_API__TOKENS__ADMIN). At least 20 characters each."""

    read: SecretStr | None = Field(None, min_length=20, description="May look.")
    operate: SecretStr | None = Field(None, min_length=20, description="May look, pause, resume, replay, register.")
    admin: SecretStr | None = Field(None, min_length=20, description="May do everything.")


class ApiSettings(_Section):
    """The control plane that `sluice run` serves."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8765, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    metrics_host: str = Field("127.0.0.1", min_length=1, description="Address on which Prometheus scrapes.")
    metrics_port: int = Field(9765, ge=0, le=65535, description="Port on which Prometheus scrapes; 0 takes a free one.")
    token_file: str | None = Field(
        None, min_length=1, description="File with hashed tokens; none is sluice-tokens.json beside the settings."
    )
    tokens: TokenSettings = TokenSettings()
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Host names under which callers may reach it, besides its address and the loopback names."
    )
    insecure_behind_proxy: bool = Field(
        False, description="Listen on other than loopback without TLS: a proxy in front of it ends TLS."
    )
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Addresses and networks of proxies whose X-Forwarded-For tells the caller's address."
    )
    tls_certificate: str | None = Field(None, min_length=1, description="PEM file with the certificate chain.")
    tls_key: str | None = Field(None, min_length=1, description="PEM file with the private key.")
    max_connections: int = Field(
        512, ge=8, le=65536, description="Connections to the control plane at a time; a page that is open takes one."
    )
    probe_interval_s: float = Field(2.0, gt=0, le=3600, description="Time between two measurements of the lag.")
    control_poll_interval_s: float = Field(1.0, gt=0, le=60, description="Time between two looks at the control table.")
    current_within_s: float = Field(
        60.0, gt=0, description="A backlog younger than this is none; nor is one younger than two commit_interval_s."
    )
    stalled_after_s: float = Field(
        300.0, gt=0, description="Time with work and no commit that counts as stalled; two commit_interval_s at least."
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for text in values:
            ipaddress.ip_network(text, strict=False)
        return values

    @model_validator(mode="after")
    def _secure(self) -> ApiSettings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together: set both, or neither")
        if self.tls_key is None and not self.insecure_behind_proxy and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from other machines and there is no TLS: set tls_certificate and "
                "tls_key, or insecure_behind_proxy = true (--insecure-behind-proxy) where a proxy ends TLS, or listen "
                "on 127.0.0.1"
            )
        return self


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class InputSettings(_Section):
    """Which objects may be read."""

    allow: tuple[str, ...] = Field(
        (), description="Allowed prefixes besides the warehouse: folders, file:// or s3:// URIs."
    )
    on_replaced: Literal["fail", "take_new"] = Field(
        "fail",
        description="What becomes of a row whose object was replaced since the row was written, by the row's size and "
        "etag. fail: a dead letter; take_new: what is there now is curated, and the ledger says so.",
    )


class WatchSettings(_Section):
    """`sluice ingest --watch`."""

    poll_interval_s: float = Field(5.0, gt=0, le=86400, description="Time between two looks at a place.")
    settle_s: float = Field(
        5.0, ge=0, le=86400, description="A file on disk is complete when size and time have not changed for so long."
    )
    look_back_objects: int = Field(
        1000, ge=0, le=1_000_000, description="Objects of S3 listed again each time, for keys that sort before others."
    )
    relist_interval_s: float = Field(
        3600.0, gt=0, description="Time between two listings from the beginning, for what came out of order."
    )


_A_DAY_S = 86_400.0


class MaintenanceSettings(_Section):
    """Keeping ledger, curated and control table in order."""

    enabled: bool = Field(
        True, description="Maintain the tables while the service runs; off where Flink or Spark does it."
    )
    interval_s: float = Field(3600.0, ge=1, le=7 * 86400, description="Time between two rounds.")
    keep_snapshots_s: float = Field(
        3 * 86400.0, ge=3600, description="Snapshots younger than that stay, so that readers of them find their files."
    )
    keep_snapshots_min: int = Field(100, ge=10, description="So many of the newest snapshots stay, however old.")
    keep_snapshots_max: int = Field(
        100_000,
        ge=100,
        description="No more snapshots than that stay, however young; they are read one by one at times.",
    )
    purge_within_s: float | None = Field(
        None,
        gt=0,
        description="By then after a takedown the bytes of its clips are off the store; if not set, a day after "
        "`keep_snapshots_s`.",
    )

    @property
    def purge_s(self) -> float:
        """By when after a takedown the bytes of its clips are off the store, in seconds."""
        return self.keep_snapshots_s + _A_DAY_S if self.purge_within_s is None else self.purge_within_s

    @model_validator(mode="after")
    def _purges_in_time(self) -> MaintenanceSettings:
        least_s = self.keep_snapshots_s + 2 * self.interval_s
        if self.enabled and self.purge_within_s is not None and self.purge_within_s < least_s:
            raise ValueError(
                f"purge_within_s is {self.purge_within_s:g}, but snapshots that hold the bytes stay for "
                f"keep_snapshots_s, {self.keep_snapshots_s:g}: give at least {least_s:g} (two rounds more), or keep "
                "snapshots for less"
            )
        return self


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="SLUICE_", env_nested_delimiter="__", hide_input_in_errors=True
    )

    catalog: CatalogSettings
    tables: TableSettings = TableSettings()
    raw_columns: RawColumnSettings = RawColumnSettings()
    consumer: ConsumerSettings = ConsumerSettings()
    pool: PoolSettings = PoolSettings()
    input: InputSettings = InputSettings()
    watch: WatchSettings = WatchSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    api: ApiSettings = ApiSettings()
    profile: Profile = Profile()
    limits: Limits = Limits()
