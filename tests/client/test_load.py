"""A DataFrame through the real delta-sharing client: what happens when the client, the table or the gateway says no."""

from __future__ import annotations

import sys
import time
from typing import Any, cast

import pytest
from bad_gateway import BadGateway

from rochdale.client import load as load_module
from rochdale.client.load import load
from rochdale.client.market import Market
from rochdale.client.refusals import MarketError
from rochdale.client.renewal import Renewable
from rochdale.client.tokens import AccessToken

RANDHIE = "cooperatives/valley-health/datasets/randhie"


def opens(monkeypatch: pytest.MonkeyPatch, gateway_url: str, *datasets: str, token: str = "token-1") -> Any:
    """Tokens as the broker would give them. Returns something in the place of a market that nobody asks."""
    issued = AccessToken(token, time.time() + 900, gateway_url, datasets)
    monkeypatch.setattr(load_module, "license_tokens", lambda *args, **more: Renewable(lambda: issued))
    return object()


def test_without_the_client_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "delta_sharing", None)
    with pytest.raises(MarketError) as refused:
        load("lic_1", market=cast(Market, object()))
    assert refused.value.reason == "DELTA_SHARING_MISSING"
    assert "pip install delta-sharing" in refused.value.message


def test_the_gateways_words_come_through_the_client(monkeypatch: pytest.MonkeyPatch, gateway: BadGateway) -> None:
    market = opens(monkeypatch, gateway.url, RANDHIE)
    with pytest.raises(MarketError) as refused:
        load("lic_1", market=market)
    assert (refused.value.reason, refused.value.message) == ("NOT_FOUND", "There is no such file.")
    asked = gateway.requests[-1]
    assert asked[1].startswith("/delta-sharing/shares/valley-health/schemas/data/tables/randhie")
    assert asked[2]["authorization"] == "Bearer token-1"
    market = opens(monkeypatch, gateway.url, RANDHIE, token="ended")
    with pytest.raises(MarketError) as refused:
        load("lic_1", market=market)
    assert refused.value.reason == "TOKEN_EXPIRED"


def test_of_several_tables_one_must_be_named(monkeypatch: pytest.MonkeyPatch, gateway: BadGateway) -> None:
    market = opens(monkeypatch, gateway.url, RANDHIE, RANDHIE + "-2")
    with pytest.raises(MarketError) as refused:
        load("lic_1", market=market)
    assert refused.value.reason == "DATASET_NOT_NAMED"


def test_no_token_goes_where_it_could_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    market = opens(monkeypatch, "http://gateway.example:8443", RANDHIE)
    with pytest.raises(MarketError) as refused:
        load("lic_1", market=market)
    assert refused.value.reason == "GATEWAY_NOT_ENCRYPTED"
