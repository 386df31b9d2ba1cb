"""What the routes work with, typed and replaceable in tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, cast

from fastapi import Depends, Request

from schemas.api_types import ConsumerId
from service.api.authenticator import Authenticator
from service.api.problems import unknown_consumer
from service.api.proxies import TrustedProxies
from service.host.hosting import Host, HostedConsumer
from service.host.operations import Operations
from service.host.upkeep import Upkeep
from service.library import Library


@dataclass(frozen=True, slots=True)
class Services:
    """Everything behind the API.

    Attributes:
        host: the consumers of this process.
        operations: what operators can do to them.
        libraries: what the tables say of each consumer, by its id.
        auth: who is asking.
        version: of Sluice.
        started_at: when the service started.
        heartbeat_s: silence after which the event stream says that it is alive.
        secure_cookies: whether the page is reached by TLS only.
        proxies: whose word on a caller's address counts.
        upkeep: what maintains the tables, None where another engine does.
    """

    host: Host
    operations: Operations
    libraries: Mapping[str, Library]
    auth: Authenticator
    version: str
    started_at: datetime
    heartbeat_s: float = 15.0
    secure_cookies: bool = False
    proxies: TrustedProxies = field(default_factory=TrustedProxies)
    upkeep: Upkeep | None = None

    def library_of(self, consumer: HostedConsumer) -> Library:
        """Return what the tables say of a consumer."""
        return self.libraries[consumer.consumer_id]

    @property
    def library(self) -> Library:
        """What the raw and the curated table say, which all consumers share."""
        return next(iter(self.libraries.values()))


def services_of(request: Request) -> Services:
    """Return what the application was made with."""
    return cast(Services, request.app.state.services)


# Dependencies are coroutines where they never wait: a plain function costs a change of threads for each.
async def get_services(request: Request) -> Services:
    """Return what the application was made with."""
    return services_of(request)


async def get_consumer(consumer_id: ConsumerId, services: Annotated[Services, Depends(get_services)]) -> HostedConsumer:
    """Return the consumer that a path names.

    Raises:
        ApiError: it is not hosted here.
    """
    return named_consumer(consumer_id, services)


def named_consumer(consumer_id: str, services: Services) -> HostedConsumer:
    """Return a consumer by its id.

    Raises:
        ApiError: it is not hosted here.
    """
    consumer = services.host.consumers.get(consumer_id)
    if consumer is None:
        raise unknown_consumer(consumer_id)
    return consumer


ServicesDep = Annotated[Services, Depends(get_services)]
ConsumerDep = Annotated[HostedConsumer, Depends(get_consumer)]
