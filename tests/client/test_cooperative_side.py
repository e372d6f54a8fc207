"""The command as a cooperative uses it, against real identity and governance services; the rest is in the journeys."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from house import House

from rochdale.client.keys import write_key_file
from rochdale.client.market import SERVICES
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


@dataclass
class Desk:
    """Somewhere a command is typed: a home, a market.json, keys."""

    home: Path

    async def run(self, *arguments: str, key: str | None = None, code: int = 0, stdin: str = "") -> Any:
        """The JSON document a command prints, on standard output or, for a refusal, on standard error."""
        keys = ("--key-file", str(self.home / "keys" / f"{key}.key")) if key else ()
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "NO_COLOR": "1"}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from rochdale.client.cli import main; main()",
            *("--json", "--market", str(self.home / "market.json")),
            *arguments,
            *keys,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin.encode())
        assert process.returncode == code, (arguments, out.decode(), err.decode())
        return json.loads(out or err)


@pytest_asyncio.fixture(scope="module")
async def desk(
    postgres: Postgres, nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Desk]:
    home = tmp_path_factory.mktemp("desk")
    house = House(postgres, nats_server, home)
    await house.start("identity")
    await house.start("governance")
    services = dict.fromkeys(SERVICES, "127.0.0.1:9")
    services |= {name: house.services[name].grpc_address for name in ("identity", "governance")}
    (home / "market.json").write_text(json.dumps({"version": 1, "services": services}))
    write_key_file(home / "keys" / "operator.key", house.operator_secret)
    yield Desk(home)
    await house.stop()


async def cooperative(desk: Desk, name: str) -> None:
    await desk.run("organization", "register", name, "--kind", "cooperative", "--name", name, "--email", "a@b.example")
    await desk.run("organization", "verify", name, key="operator")
    await desk.run("cooperative", "create", "--name", name, key=name)


async def test_a_cooperative_comes_to_be(desk: Desk) -> None:
    """Registered, verified, founded, with members and a rule that is then narrowed and ended."""
    registered = (
        "organization",
        "register",
        "valley",
        "--kind",
        "cooperative",
        "--name",
        "V",
        "--email",
        "a@b.example",
    )
    first = await desk.run(*registered, "--request-id", "register-1")
    again = await desk.run(*registered, "--request-id", "register-1")
    assert first == again, "a retry finds the key file, sends the same key and gets the first answer"
    await desk.run("organization", "verify", "valley", key="operator")
    assert (await desk.run("organization", "show", "valley", key="valley"))["verified"]

    created = await desk.run("cooperative", "create", "--name", "Valley Health", key="valley")
    assert created["name"] == "cooperatives/valley"
    assert (await desk.run("cooperative", "show", "valley"))["display_name"] == "Valley Health"

    references = "\n".join(str(number) for number in range(2500))
    added = await desk.run("member", "add", "--file", "-", key="valley", stdin=references)
    assert added == {"added_count": 2500, "already_member_count": 0}
    listed = await desk.run("member", "list", "--limit", "3", key="valley")
    assert (len(listed["members"]), listed["more"]) == (3, True)

    proposed = await desk.run(
        *("rule", "propose", "--dataset", "randhie", "--columns", "site,mdvis", "--category", "academic,sme"),
        *("--floor-price", "12.50 EUR", "--rationale", "Research", "--request-id", "propose-1"),
        key="valley",
    )
    assert (proposed["state"], proposed["revision"]) == ("RULE_STATE_IN_FORCE", 1)
    assert proposed["scope"]["floor_price"] == {"amount_minor": "1250", "currency": "EUR"}
    rule = proposed["name"].rpartition("/")[2]

    narrowed = await desk.run("rule", "narrow", rule, "--category", "academic", "--max-duration", "90d", key="valley")
    assert narrowed["scope"]["categories"] == ["BUYER_CATEGORY_ACADEMIC"]
    assert narrowed["scope"]["max_duration_seconds"] == str(90 * 86_400)
    widened = await desk.run("rule", "narrow", rule, "--max-duration", "91d", key="valley", code=1)
    assert widened["reason"] == "RULE_WIDENED"

    ended = ("rule", "end", rule, "--revision", "2", "--request-id", "end-rule-1")
    assert await desk.run(*ended, key="valley") == await desk.run(*ended, key="valley")
    assert (await desk.run("rule", "show", f"valley/{rule}"))["state"] == "RULE_STATE_ENDED"


async def test_what_is_missing_is_said(desk: Desk) -> None:
    await cooperative(desk, "hills")
    assert (await desk.run("rule", "list", code=1))["reason"] == "KEY_MISSING"
    assert (await desk.run("cooperative", "show", "nobody", code=1))["reason"] == "NOT_FOUND"
    assert await desk.run("rule", "list", "--cooperative", "hills") == {"sharing_rules": [], "more": False}


async def test_a_key_is_made_used_and_revoked(desk: Desk) -> None:
    await cooperative(desk, "plains")
    path = desk.home / "keys" / "second.key"
    made = await desk.run("key", "create", "second", "--role", "steward", "--save-key", str(path), key="plains")
    name = made["name"].rpartition("/")[2]
    assert await desk.run("member", "list", key="second") == {"members": [], "more": False}
    assert {each["label"] for each in (await desk.run("key", "list", key="plains"))["api_keys"]} >= {"second"}
    assert (await desk.run("key", "revoke", name, key="plains"))["revoke_time"]
    assert (await desk.run("member", "list", key="second", code=1))["reason"] == "KEY_INVALID"


async def test_no_key_is_said_in_words_of_the_command(desk: Desk) -> None:
    told = await desk.run("organization", "show", "valley", code=1)
    assert told["reason"] == "KEY_MISSING" and "--key-file" in told["message"]


async def test_status_tells_who_serves(desk: Desk) -> None:
    told = await desk.run("status", code=1)
    states = {each["service"]: each["state"] for each in told["services"]}
    assert states["identity"] == states["governance"] == "serving"
    assert states["licensing"] == "unreachable"
