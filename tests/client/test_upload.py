"""Sending a file to a gateway whose connection breaks, whose session ends, and which says no."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from bad_gateway import BadGateway

from rochdale.client.market import Session
from rochdale.client.refusals import MarketError
from rochdale.client.renewal import Renewable
from rochdale.client.upload import upload

CONTENT = os.urandom(3 * 1024 * 1024)


def sessions(*names: str) -> Renewable[Session]:
    left = list(names)
    return Renewable(lambda: Session(left.pop(0), time.time() + 900, "organizations/valley-health", ("steward",)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    path.write_bytes(CONTENT)
    return path


def test_a_file_arrives_whole(gateway: BadGateway, file: Path) -> None:
    seen: list[int] = []
    upload(
        f"{gateway.url}/v1/ingestions/ing_1/content", file, sessions("token-1"), progress=lambda n, _: seen.append(n)
    )
    assert gateway.uploaded == CONTENT
    assert seen[-1] == len(CONTENT)
    assert "content-range" not in gateway.requests[0][2]


def test_a_broken_connection_is_taken_up_where_it_broke(gateway: BadGateway, file: Path) -> None:
    gateway.breaks, gateway.breaks_after_bytes = 3, 100_000
    upload(f"{gateway.url}/v1/ingestions/ing_1/content", file, sessions("token-1"))
    assert gateway.uploaded == CONTENT
    ranges = [headers.get("content-range") for _, _, headers in gateway.requests]
    assert ranges == [None] + [f"bytes {n}-{len(CONTENT) - 1}/{len(CONTENT)}" for n in (100_000, 200_000, 300_000)]


def test_bytes_that_arrived_in_an_earlier_run_are_not_sent_again(gateway: BadGateway, file: Path) -> None:
    gateway.uploaded = bytearray(CONTENT[:2_000_000])
    upload(f"{gateway.url}/v1/ingestions/ing_1/content", file, sessions("token-1"))
    assert gateway.uploaded == CONTENT
    before = len(gateway.requests)
    upload(f"{gateway.url}/v1/ingestions/ing_1/content", file, sessions("token-1"))
    assert len(gateway.requests) == before


def test_a_session_that_ended_is_exchanged(gateway: BadGateway, file: Path) -> None:
    upload(f"{gateway.url}/v1/ingestions/ing_1/content", file, sessions("old", "token-1"))
    assert gateway.uploaded == CONTENT


def test_a_refusal_is_not_repeated(gateway: BadGateway, file: Path) -> None:
    with pytest.raises(MarketError) as refused:
        upload(f"{gateway.url}/v1/ingestions/ing_1/content", file, sessions("old", "older"))
    assert refused.value.reason == "HTTP_401"
    assert not gateway.requests


def test_a_gateway_that_is_gone_is_given_up(gateway: BadGateway, file: Path) -> None:
    with pytest.raises(MarketError) as refused:
        upload("http://127.0.0.1:9/v1/ingestions/ing_1/content", file, sessions("token-1"))
    assert refused.value.reason == "GATEWAY_UNREACHABLE"
    assert refused.value.facts["gateway"] == "127.0.0.1:9"
