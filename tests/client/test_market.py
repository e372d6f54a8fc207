"""Sessions, retries and refusals against a real gRPC server in this process that answers as the contract says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from rochdale.client import market as market_module
from rochdale.client.keys import make_secret, write_key_file
from rochdale.client.market import Market, open_channel, read_addresses
from rochdale.client.refusals import MarketError
from rochdale.client.renewal import Renewable
from rochdale.identity.v1 import identity_pb2, identity_pb2_grpc


def refuse(context: grpc.ServicerContext, code: grpc.StatusCode, reason: str, message: str, **facts: str) -> None:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="rochdale.market", metadata=facts))
    status = status_pb2.Status(code=code.value[0], message=message, details=[detail])
    context.abort_with_status(rpc_status.to_status(status))


class Identity(identity_pb2_grpc.IdentityServiceServicer):
    """Issues session-1, session-2, …; accepts those in `valid`; is away for a while if told so."""

    def __init__(self) -> None:
        self.issued = 0
        self.valid = {f"Bearer session-{n}" for n in range(1, 100)}
        self.away = 0
        self.seen: list[Any] = []
        self.lock = threading.Lock()
        self.lives_seconds = 900

    def IssueSession(self, request: Any, context: grpc.ServicerContext) -> identity_pb2.Session:
        with self.lock:
            self.issued += 1
            session = identity_pb2.Session(token=f"session-{self.issued}", roles=[identity_pb2.ROLE_BUYER])
        time.sleep(0.02)
        session.organization.name = "organizations/lab"
        session.expire_time.FromSeconds(int(time.time()) + self.lives_seconds)
        return session

    def VerifyOrganization(self, request: Any, context: grpc.ServicerContext) -> identity_pb2.Organization:
        self.seen.append(request)
        with self.lock:
            self.away -= 1
            if self.away >= 0:
                refuse(context, grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE", "Come back later.")
        if dict(context.invocation_metadata()).get("authorization") not in self.valid:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "SESSION_INVALID", "The session ended.")
        if request.name == "organizations/other":
            refuse(context, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", "There is no other.", name="other")
        return identity_pb2.Organization(name=request.name, verified=True)

    def ListOrganizations(self, request: Any, context: grpc.ServicerContext) -> identity_pb2.ListOrganizationsResponse:
        first = int(request.page_token or 0)
        names = range(first, min(first + request.page_size, 5))
        return identity_pb2.ListOrganizationsResponse(
            organizations=[identity_pb2.Organization(name=f"organizations/org-{n}") for n in names],
            next_page_token=str(first + request.page_size) if first + request.page_size < 5 else "",
        )


@pytest.fixture
def identity() -> Iterator[tuple[Identity, int]]:
    service = Identity()  # type: ignore[abstract]  # nobody calls the rest
    server = grpc.server(ThreadPoolExecutor(8))
    identity_pb2_grpc.add_IdentityServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, port
    server.stop(None).wait()


@pytest.fixture
def home(identity: tuple[Identity, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(market_module, "_RETRY_DELAYS_SECONDS", (0.01,) * 3)
    address = f"127.0.0.1:{identity[1]}"
    services = dict.fromkeys(market_module.SERVICES, address)
    (tmp_path / "market.json").write_text(json.dumps({"version": 1, "services": services, "stripe": None}))
    write_key_file(tmp_path / "lab.key", make_secret())
    return tmp_path


@pytest.fixture
def market(home: Path) -> Iterator[Market]:
    with Market.open(home / "market.json", home / "lab.key") as opened:
        yield opened


def verify(market: Market, name: str = "organizations/lab") -> identity_pb2.Organization:
    request = identity_pb2.VerifyOrganizationRequest(request_id="request-1", name=name)
    return market.call(market.identity.VerifyOrganization, request)


def test_a_key_becomes_one_session_however_many_ask(market: Market, identity: tuple[Identity, int]) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert all(answer.verified for answer in pool.map(lambda _: verify(market), range(16)))
    assert identity[0].issued == 1
    assert market.organization == "lab"
    assert market.session().roles == ("buyer",)


def test_a_session_is_renewed_before_it_ends(market: Market, identity: tuple[Identity, int]) -> None:
    identity[0].lives_seconds = 0
    verify(market)
    verify(market)
    assert identity[0].issued == 2


def test_a_session_refused_is_exchanged_once(market: Market, identity: tuple[Identity, int]) -> None:
    identity[0].valid = {"Bearer session-2"}
    assert verify(market).verified
    identity[0].valid = set()
    with pytest.raises(MarketError) as refused:
        verify(market)
    assert refused.value.reason == "SESSION_INVALID"
    assert identity[0].issued == 3


def test_a_service_that_restarts_is_asked_again_with_the_same_request(
    market: Market, identity: tuple[Identity, int]
) -> None:
    identity[0].away = 2
    assert verify(market).verified
    assert [request.request_id for request in identity[0].seen] == ["request-1"] * 3
    identity[0].away = 100
    with pytest.raises(MarketError) as refused:
        verify(market)
    assert (refused.value.reason, refused.value.message) == ("SERVICE_UNAVAILABLE", "Come back later.")


def test_a_refusal_keeps_reason_sentence_and_facts(market: Market) -> None:
    with pytest.raises(MarketError) as refused:
        verify(market, "organizations/other")
    error = refused.value
    assert (error.reason, error.message, error.facts) == ("NOT_FOUND", "There is no other.", {"name": "other"})
    assert str(error) == "There is no other. [NOT_FOUND]"


def test_nothing_at_the_address_is_a_sentence(
    home: Path, unused_tcp_port_factory: Callable[[], int] | None = None
) -> None:
    services = dict.fromkeys(market_module.SERVICES, "127.0.0.1:9")
    (home / "gone.json").write_text(json.dumps({"version": 1, "services": services}))
    with Market.open(home / "gone.json", home / "lab.key") as gone, pytest.raises(MarketError) as refused:
        verify(gone)
    assert refused.value.reason == "MARKET_UNREACHABLE"
    assert "127.0.0.1:9" in refused.value.message


def test_without_a_key_the_market_is_asked_as_anybody(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROCHDALE_KEY_FILE", raising=False)
    with Market.open(home / "market.json") as anybody:
        with pytest.raises(MarketError) as refused:
            verify(anybody)
        assert refused.value.reason == "SESSION_INVALID"
        with pytest.raises(MarketError) as refused:
            anybody.session()
        assert refused.value.reason == "KEY_MISSING"


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"version": 2, "services": {}}', '{"version": 1, "services": {"identity": "x"}}']
)
def test_a_market_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "market.json").write_text(text)
    with pytest.raises(MarketError) as refused:
        read_addresses(tmp_path / "market.json")
    assert refused.value.reason == "MARKET_FILE_INVALID"


def test_secrets_leave_the_machine_only_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    monkeypatch.setattr(grpc, "secure_channel", lambda *a, **k: used.append("secure"))
    monkeypatch.setattr(grpc, "insecure_channel", lambda *a, **k: used.append("insecure"))
    for address in (
        "127.0.0.1:1",
        "localhost:1",
        "[::1]:1",
        "market.example:443",
        "127.evil.example:443",
        "10.0.0.1:1",
    ):
        open_channel(address)
    assert used == ["insecure"] * 3 + ["secure"] * 3


def test_the_command_pages_through_a_list(home: Path, rochdale: Callable[..., Any]) -> None:
    common = ("--market", str(home / "market.json"), "--key-file", str(home / "lab.key"))
    ran = rochdale("organization", "list", "--limit", "0", "--json", *common)
    assert ran.code == 0
    assert [each["name"] for each in json.loads(ran.out)["organizations"]] == [
        f"organizations/org-{n}" for n in range(5)
    ]
    ran = rochdale(*common, "organization", "list", "--limit", "2")
    assert "org-1" in ran.out
    assert "org-2" not in ran.out
    assert "--limit 8" in ran.err


def test_the_command_says_a_refusal_and_ends_with_one(home: Path, rochdale: Callable[..., Any]) -> None:
    common = ("--market", str(home / "market.json"), "--key-file", str(home / "lab.key"))
    ran = rochdale("organization", "verify", "other", *common)
    assert (ran.code, ran.out) == (1, "")
    assert "There is no other." in ran.err
    assert "NOT_FOUND" in ran.err
    assert "Traceback" not in ran.err
    ran = rochdale("organization", "verify", "other", "--json", *common)
    assert json.loads(ran.err) == {"reason": "NOT_FOUND", "message": "There is no other.", "facts": {"name": "other"}}


def test_the_command_says_the_request_id_it_is_given(
    home: Path, identity: tuple[Identity, int], rochdale: Callable[..., Any]
) -> None:
    common = ("--market", str(home / "market.json"), "--key-file", str(home / "lab.key"))
    rochdale("organization", "verify", "lab", "--request-id", "my-request", *common)
    rochdale("organization", "verify", "lab", *common)
    said = [request.request_id for request in identity[0].seen]
    assert said[0] == "my-request"
    assert len(said[1]) == 26


def test_a_renewal_that_fails_is_not_remembered() -> None:
    answers: list[market_module.Session] = []

    def issue() -> market_module.Session:
        if not answers:
            raise MarketError("KEY_INVALID", "No.")
        return answers[0]

    sessions = Renewable(issue)
    with pytest.raises(MarketError):
        sessions.current()
    answers.append(market_module.Session("s", 9e9, "o", ()))
    assert sessions.current().token == "s"


def test_a_request_over_the_limit_is_too_large_and_not_tried_again(
    market: Market, identity: tuple[Identity, int]
) -> None:
    with pytest.raises(MarketError) as refused:
        verify(market, "organizations/" + "x" * 5_000_000)
    assert refused.value.reason == "REQUEST_TOO_LARGE"
    assert identity[0].seen == []
