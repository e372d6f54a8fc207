"""A misbehaving gateway, tokens for it, and a command run in this process."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bad_gateway import BadGateway, serve

from rochdale.client import gateway_http, upload
from rochdale.client.cli import main
from rochdale.client.output import settings
from rochdale.client.renewal import Renewable
from rochdale.client.tokens import AccessToken


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadGateway]:
    monkeypatch.setattr(gateway_http, "_RETRY_DELAYS_SECONDS", (0.01,) * 5)
    monkeypatch.setattr(upload, "_RETRY_DELAYS_SECONDS", (0.01,) * 5)
    made = BadGateway()
    server = serve(made)
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def tokens(gateway: BadGateway) -> Renewable[AccessToken]:
    """token-1, token-2, … each good for an hour, as far as the client knows."""
    numbers = itertools.count(1)
    return Renewable(lambda: AccessToken(f"token-{next(numbers)}", time.time() + 3600, gateway.url, ()))


@dataclass
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def rochdale(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., Ran]]:
    """Runs the command in an empty home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("ROCHDALE_MARKET", "ROCHDALE_KEY_FILE", "ROCHDALE_SIGNING_KEY", "ROCHDALE_DEBUG"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    yield run
    # What one command was told must not be what the next test speaks with.
    settings.__init__()  # type: ignore[misc]
