"""The command as a steward uses it, against real identity and governance; members are in test_member_side."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from desk import Desk
from house import House

from rochdale.client.authority import read_signing_key
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


@pytest_asyncio.fixture(scope="module")
async def desk(
    postgres: Postgres, nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Desk]:
    home = tmp_path_factory.mktemp("desk")
    house = House(postgres, nats_server, home)
    await house.start("identity")
    await house.start("governance")
    yield Desk.at(house, home)
    await house.stop()


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

    forbidden = await desk.run(
        *("rule", "forbid", "--dataset", "randhie", "--columns", "site,mdvis", "--category", "large-platform"),
        *("--rationale", "Under investigation.", "--request-id", "forbid-1"),
        key="valley",
    )
    assert (forbidden["state"], forbidden["effect"]) == ("RULE_STATE_IN_FORCE", "RULE_EFFECT_DENY")
    assert forbidden["emergency"] and forbidden["scope"]["purposes"] == ["Purpose"]
    rule = forbidden["name"].rpartition("/")[2]
    kept = await desk.run("rule", "narrow", rule, "--category", "academic", key="valley", code=1)
    assert kept["reason"] == "RULE_WIDENED", "to forbid less lets more out"


async def test_a_cooperative_signs_with_a_key_of_its_own(desk: Desk) -> None:
    """Made where the steward is, kept there, followed from one to the next."""
    founded = await desk.cooperative("moors", "--required-approvals", "2")
    file = desk.home / "keys" / "moors.signing.key"
    assert founded["signing_key_file"] == str(file) and file.stat().st_mode & 0o777 == 0o600
    first = read_signing_key(file)
    assert [key["key_id"] for key in founded["signing_keys"]] == [first.key_id]
    again = await desk.run("cooperative", "key", "add", key="moors")
    assert again["signing_keys"] == founded["signing_keys"]

    later = desk.home / "keys" / "later.signing.key"
    rotate = ("cooperative", "key", "rotate", "--save-key", str(later))
    rotated = await desk.run(*rotate, key="moors")
    assert [key["previous_key_id"] for key in rotated["signing_keys"]] == ["", first.key_id]
    assert await desk.run(*rotate, key="moors") == rotated, "the same key again changes nothing"
    shown = await desk.run("cooperative", "key", "show", "moors")
    assert shown["signing_keys"][-1]["key_id"] == read_signing_key(later).key_id
    other = await desk.run(*rotate[:-1], str(desk.home / "third"), key="moors", code=1)
    assert other["reason"] == "SIGNING_KEY_NOT_CURRENT" and other["facts"]["key"] == first.key_id

    charter = await desk.run("cooperative", "charter", "moors")
    assert charter["required_approvals"] == 2 and len(charter["decision_rules"]) == 3


async def test_what_is_missing_is_said(desk: Desk) -> None:
    await desk.cooperative("hills")
    assert (await desk.run("rule", "list", code=1))["reason"] == "KEY_MISSING"
    assert (await desk.run("cooperative", "show", "nobody", code=1))["reason"] == "NOT_FOUND"
    assert await desk.run("rule", "list", "--cooperative", "hills") == {"sharing_rules": [], "more": False}


async def test_a_key_is_made_used_and_revoked(desk: Desk) -> None:
    await desk.cooperative("plains")
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
