from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.proxies import TrustedProxies

_addresses = st.ip_addresses().map(str)


@given(_addresses, st.lists(_addresses, max_size=4))
def test_nobody_can_claim_an_address_where_no_proxy_is_named(peer: str, forwarded: list[str]) -> None:
    assert TrustedProxies().origin(peer, forwarded) == peer


@given(st.lists(_addresses, max_size=4), st.ip_addresses(v=4, network="203.0.113.0/24").map(str))
def test_what_a_caller_claims_before_the_proxy_adds_his_address_does_not_count(claimed: list[str], caller: str) -> None:
    proxies = TrustedProxies(["10.0.0.0/8"])
    assert proxies.origin("10.1.2.3", [", ".join([*claimed, caller])]) == caller
    assert proxies.origin("10.1.2.3", [*claimed, caller]) == caller


def test_chain_of_named_proxies_is_followed() -> None:
    proxies = TrustedProxies(["10.0.0.0/8", "2001:db8::/32"])
    assert proxies.origin("10.0.0.1", ["192.0.2.7, 2001:db8::1, 10.0.0.2"]) == "192.0.2.7"


@pytest.mark.parametrize("header", ["", "unknown", "192.0.2.7:443", "'; drop", "_hidden"])
def test_what_is_no_address_is_nobody(header: str) -> None:
    assert TrustedProxies(["10.0.0.1"]).origin("10.0.0.1", [header]) == "10.0.0.1"


def test_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="house"):
        TrustedProxies(["house"])
