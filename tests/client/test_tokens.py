"""Asking for a token while the license is on its way: waiting for a grant that comes, not for one that does not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from rochdale.access_broker.v1 import access_broker_pb2, access_broker_pb2_grpc
from rochdale.billing.v1 import billing_pb2, billing_pb2_grpc
from rochdale.client import tokens as tokens_module
from rochdale.client.market import SERVICES, Market
from rochdale.client.refusals import MarketError
from rochdale.client.tokens import issue_token, license_tokens
from rochdale.licensing.v1 import licensing_pb2, licensing_pb2_grpc

LICENSE = "licenses/lic_01JABCDEFGHJKMNPQRSTVWXYZ0"


class Services(  # type: ignore[misc]  # two of the three have a GetKeySet, which nobody calls here
    access_broker_pb2_grpc.AccessBrokerServiceServicer,
    billing_pb2_grpc.BillingServiceServicer,
    licensing_pb2_grpc.LicensingServiceServicer,
):
    """Broker, billing and licensing in a state that the test sets."""

    grant_after = 0
    state = licensing_pb2.LICENSE_STATE_ACTIVE
    price_minor = 0
    paid = False

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def IssueToken(self, request: Any, context: Any) -> access_broker_pb2.IssuedToken:
        self.asked.append(request)
        if len(self.asked) <= self.grant_after:
            refuse(context)
        issued = access_broker_pb2.IssuedToken(token="token-1", gateway_url="http://127.0.0.1:8443")
        issued.expire_time.FromSeconds(int(time.time()) + 900)
        issued.scope.datasets.add(dataset="cooperatives/valley-health/datasets/randhie")
        return issued

    def GetLicense(self, request: Any, context: Any) -> licensing_pb2.License:
        if not self.state:
            refuse(context)
        license = licensing_pb2.License(name=request.name, state=self.state)
        license.terms.price.amount_minor = self.price_minor
        return license

    def ListOrders(self, request: Any, context: Any) -> billing_pb2.ListOrdersResponse:
        state = billing_pb2.ORDER_STATE_PAID if self.paid else billing_pb2.ORDER_STATE_OPEN
        return billing_pb2.ListOrdersResponse(orders=[billing_pb2.Order(license=request.license, state=state)])


def refuse(context: Any) -> None:
    """As the market does, with a google.rpc.Status."""
    from google.protobuf import any_pb2
    from google.rpc import error_details_pb2, status_pb2
    from grpc_status import rpc_status

    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason="NOT_FOUND", domain="rochdale.market"))
    status = status_pb2.Status(code=grpc.StatusCode.NOT_FOUND.value[0], message="Not here.", details=[detail])
    context.abort_with_status(rpc_status.to_status(status))


@pytest.fixture
def services() -> Services:
    return Services()  # type: ignore[abstract]  # nobody calls the rest


@pytest.fixture
def market(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Market]:
    monkeypatch.delenv("ROCHDALE_KEY_FILE", raising=False)
    monkeypatch.setattr(tokens_module, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(tokens_module, "_GRANT_SECONDS", 0.3)
    server = grpc.server(ThreadPoolExecutor(4))
    access_broker_pb2_grpc.add_AccessBrokerServiceServicer_to_server(services, server)
    billing_pb2_grpc.add_BillingServiceServicer_to_server(services, server)
    licensing_pb2_grpc.add_LicensingServiceServicer_to_server(services, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    (tmp_path / "market.json").write_text(json.dumps({"version": 1, "services": dict.fromkeys(SERVICES, address)}))
    with Market.open(tmp_path / "market.json") as opened:
        yield opened
    server.stop(None).wait()


def test_a_grant_that_follows_its_license_is_waited_for(market: Market, services: Services) -> None:
    services.grant_after = 3
    assert issue_token(market, LICENSE).token == "token-1"
    assert len({request.request_id for request in services.asked}) == 1


def test_a_paid_license_that_is_not_active_yet_is_waited_for(market: Market, services: Services) -> None:
    services.grant_after, services.price_minor, services.paid = 3, 100, True
    services.state = licensing_pb2.LICENSE_STATE_AGREED
    assert issue_token(market, LICENSE).token == "token-1"


def test_an_unpaid_license_is_said_at_once(market: Market, services: Services) -> None:
    services.grant_after, services.price_minor = 1000, 100
    services.state = licensing_pb2.LICENSE_STATE_AGREED
    with pytest.raises(MarketError) as refused:
        issue_token(market, LICENSE)
    assert refused.value.reason == "LICENSE_NOT_PAID"
    assert "rochdale order pay lic_" in refused.value.message


@pytest.mark.parametrize("state", [licensing_pb2.LICENSE_STATE_TERMINATED, licensing_pb2.LICENSE_STATE_UNSPECIFIED])
def test_what_will_not_come_is_not_waited_for(
    market: Market, services: Services, state: licensing_pb2.LicenseState.ValueType
) -> None:
    services.grant_after, services.state = 1000, state
    with pytest.raises(MarketError) as refused:
        issue_token(market, LICENSE)
    assert refused.value.reason == "NOT_FOUND"
    assert len(services.asked) == 1


def test_waiting_ends(market: Market, services: Services) -> None:
    services.grant_after = 1000
    with pytest.raises(MarketError) as refused:
        issue_token(market, LICENSE)
    assert refused.value.reason == "NOT_FOUND"


def test_a_job_asks_for_the_scope_it_was_given(market: Market, services: Services) -> None:
    token = license_tokens(market, LICENSE.removeprefix("licenses/"), columns=["site"]).current()
    assert token.datasets == ("cooperatives/valley-health/datasets/randhie",)
    assert list(services.asked[0].columns) == ["site"]
    assert services.asked[0].license == LICENSE
