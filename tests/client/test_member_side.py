"""The command as members use it, against real identity and governance: joining, consent, and a vote from draft to rule."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from desk import Desk
from house import House

from rochdale.client.terms import now
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres

PEOPLE = ("ada", "bo", "cy")
# Nobody waits in a test: no notice, no dissent window, closed as soon as everybody has voted.
FAST = {
    "quorum": {"numerator": 1, "denominator": 10},
    "quorum_base": "QUORUM_BASE_ROLL",
    "threshold": {"numerator": 1, "denominator": 2},
    "min_yes": 2,
    "voting_seconds": 600,
    "sponsor_min": 2,
    "close_when_all_voted": True,
}
CHARTER = {
    "required_approvals": 1,
    "text": "We share with care.",
    "decision_rules": [
        FAST | {"decision_class": "DECISION_CLASS_ROUTINE", "secrecy": "SECRECY_ROLL_CALL", "delegation": True},
        FAST | {"decision_class": "DECISION_CLASS_SENSITIVE", "secrecy": "SECRECY_OPERATOR_TRUSTED"},
        FAST | {"decision_class": "DECISION_CLASS_CONSTITUTIONAL", "secrecy": "SECRECY_ROLL_CALL"},
    ],
}


@pytest_asyncio.fixture(scope="module")
async def desk(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    """A cooperative of three, each with a key; "valley" is its steward's key."""
    home = tmp_path_factory.mktemp("desk")
    # Its own: member keys come to identity by events, which must not go astray to another house.
    nats = NatsServer(home / "nats", durable=False)
    await nats.start()
    house = House(postgres, nats, home)
    try:
        await house.start("identity")
        await house.start("governance")
        desk = Desk.at(house, home)
        (home / "charter.json").write_text(json.dumps(CHARTER))
        await desk.cooperative("valley", "--charter", str(home / "charter.json"))
        await desk.run("member", "invite", *PEOPLE, "--output", str(home / "codes.csv"), key="valley")
        codes = {row["reference"]: row["code"] for row in csv.DictReader((home / "codes.csv").read_text().splitlines())}
        for name in PEOPLE:
            await desk.run("member", "join", "valley", "--code", codes[name], "--save-key", str(desk.key(name)))
        yield desk
    finally:
        await house.stop()
        await nats.stop()


async def proposed(desk: Desk, title: str, *what: str, by: str = "ada") -> str:
    """A proposal in the debate; its short name."""
    draft = await desk.run("proposal", "create", "--title", title, "--body", "Because.", *what, "--submit", key=by)
    name: str = draft["name"].rpartition("/")[2]
    if draft["state"] == "PROPOSAL_STATE_SPONSORING":
        await desk.run("proposal", "sponsor", name, key="valley")
    return name


async def open_vote(desk: Desk, name: str) -> Any:
    await desk.run("proposal", "freeze", name, key="valley")
    return await desk.until(
        lambda shown: shown["state"] == "PROPOSAL_STATE_VOTING", "proposal", "show", name, key="ada"
    )


async def passed(desk: Desk, name: str) -> Any:
    return await desk.until(
        lambda shown: shown["state"] == "PROPOSAL_STATE_AWAITING_SIGNATURE", "proposal", "show", f"valley/{name}"
    )


RULE = ("--dataset", "randhie", "--columns", "site,mdvis", "--category", "academic", "--floor-price", "12.50 EUR")


async def test_members_decide_and_the_cooperative_signs(desk: Desk) -> None:
    name = await proposed(desk, "Free for research", *RULE, "--mode", "stream", "--life", "90d")
    await desk.run("proposal", "comment", name, "What would they pay?", key="bo")
    said = await desk.run("proposal", "comments", name, key="cy")
    assert [each["text"] for each in said["comments"]] == ["What would they pay?"]
    amended = await desk.run("proposal", "amend", name, "--body", "They pay enough.", key="ada")
    assert amended["revision"] == 2 and amended["delta"]["rules"][0]["life_seconds"] == str(90 * 86_400)
    frozen = await open_vote(desk, name)
    assert frozen["decision_class"] == "DECISION_CLASS_ROUTINE"

    early = await desk.run("proposal", "enact", name, key="valley", code=1)
    assert early["reason"] == "PROPOSAL_NOT_PASSED"
    await desk.run("proposal", "vote", name, "no", key="ada")
    receipt = desk.home / "ada.receipt"
    cast = await desk.run("proposal", "vote", name, "yes", "--save-receipt", str(receipt), key="ada")
    assert cast["frozen_hash"] == frozen["frozen_hash"] and receipt.stat().st_mode & 0o777 == 0o600
    open_ = await desk.run("proposal", "recount", name, key="ada")
    assert open_["adds_up"] and not open_["complete"] and open_["took_part"] == 1
    await desk.run("proposal", "vote", name, "abstain", key="bo")
    stale = await desk.run("proposal", "vote", name, "yes", "--hash", "0" * 64, key="cy", code=1)
    assert stale["reason"] == "BALLOT_STALE"
    await desk.run("proposal", "vote", name, "yes", key="cy")
    await passed(desk, name)

    counted = await desk.run("proposal", "recount", f"valley/{name}")
    assert counted["adds_up"] and counted["complete"]
    assert (counted["yes"], counted["no"], counted["abstain"]) == (2, 0, 1)
    board = await desk.run("proposal", "board", f"valley/{name}")
    assert [line["sequence"] for line in board["entries"]] == ["1", "2", "3", "4"]
    checked = await desk.run("proposal", "verify-receipt", str(receipt), key="ada")
    assert [check["holds"] for check in checked["checks"]] == [True, True, True, True]

    enacted = await desk.run("proposal", "enact", name, key="valley")
    rule = enacted["sharing_rules"][0]
    assert enacted["proposal"]["state"] == "PROPOSAL_STATE_ENACTED" and rule["tally_hash"]
    assert rule["scope"]["floor_price"] == {"amount_minor": "1250", "currency": "EUR"}
    rule_id = rule["name"].rpartition("/")[2]
    narrow = ("rule", "narrow", rule_id, "--max-duration", "90d", "--revision", "1")
    narrowed = await desk.run(*narrow, key="valley")
    assert narrowed["revision"] == 2 and narrowed["signature"]["key_id"] == rule["signature"]["key_id"]
    widened = await desk.run("rule", "narrow", rule_id, "--max-duration", "91d", key="valley", code=1)
    assert widened["reason"] == "RULE_WIDENED"
    stolen = await desk.run("rule", "end", rule_id, "--signing-key", str(desk.home / "none"), key="valley", code=1)
    assert stolen["reason"] == "SIGNING_KEY_NOT_FOUND"
    end = ("rule", "end", rule_id, "--revision", "2", "--request-id", "end-rule-1", "--effective-time")
    late = await desk.run(*end, "2026-01-01T00:00:00Z", key="valley", code=1)
    assert late["reason"] == "EFFECTIVE_TIME_INVALID"
    at = now().ToJsonString()
    ended = await desk.run(*end, at, key="valley")
    assert ended["state"] == "RULE_STATE_ENDED" and ended["end_signature"]["value"]
    assert await desk.run(*end, at, key="valley") == ended, "said again, with the same time, it is the same request"


async def test_a_small_secret_ballot_is_signed_only_knowingly(desk: Desk) -> None:
    name = await proposed(desk, "Whole files", *RULE, "--mode", "download")
    await open_vote(desk, name)
    for person in PEOPLE:
        await desk.run("proposal", "vote", name, "yes", key=person)
    await passed(desk, name)
    told = await desk.run("proposal", "enact", name, key="valley", code=1)
    assert told["reason"] == "RECOUNT_INCOMPLETE" and "--accept-withheld" in told["message"]
    enacted = await desk.run(
        "proposal", "enact", name, "--accept-withheld", "--request-id", "enact-secret", key="valley"
    )
    assert enacted["recount"]["adds_up"] and not enacted["recount"]["complete"]


async def agreed(desk: Desk, name: str) -> Any:
    """Everybody says yes and the steward signs."""
    await open_vote(desk, name)
    for person in PEOPLE:
        await desk.run("proposal", "vote", name, "yes", key=person)
    await passed(desk, name)
    return await desk.run("proposal", "enact", name, "--accept-withheld", key="valley")


async def test_members_end_a_rule_and_change_their_charter(desk: Desk) -> None:
    enacted = await agreed(desk, await proposed(desk, "For a while", *RULE, "--mode", "stream"))
    rule = enacted["sharing_rules"][0]["name"].rpartition("/")[2]
    await agreed(desk, await proposed(desk, "Enough", "--end-rule", rule))
    ended = await desk.run("rule", "show", f"valley/{rule}")
    assert ended["state"] == "RULE_STATE_ENDED" and ended["end_signature"]["value"]

    charter = await desk.run("cooperative", "charter", "valley")
    file = desk.home / "new-charter.json"
    file.write_text(json.dumps(charter | {"required_approvals": 2}))
    changed = await agreed(desk, await proposed(desk, "Two stewards", "--charter-file", str(file)))
    assert changed["proposal"]["decision_class"] == "DECISION_CLASS_CONSTITUTIONAL"
    assert (await desk.run("cooperative", "charter", "valley")) == charter | {"required_approvals": 2}


async def test_a_vote_is_challenged_and_annulled(desk: Desk) -> None:
    name = await proposed(desk, "Not so fast", *RULE, "--mode", "stream")
    await open_vote(desk, name)
    for person in PEOPLE:
        await desk.run("proposal", "vote", name, "yes", key=person)
    await passed(desk, name)
    challenged = ("proposal", "challenge", name, "--ground", "procedure", "--statement", "Nobody told us.")
    await desk.run(*challenged, key="bo")
    assert (await desk.run("proposal", "enact", name, key="valley", code=1))["reason"] == "CHALLENGE_OPEN"
    answered = ("proposal", "resolve", name, "1", "--uphold", "--answer", "True.")
    assert (await desk.run(*answered, key="valley"))["state"] == "PROPOSAL_STATE_ANNULLED"


async def test_an_interest_is_declared_and_a_proposal_taken_back(desk: Desk) -> None:
    name = await proposed(desk, "For my employer", *RULE, by="bo")
    interested = await desk.run("proposal", "interest", name, "--statement", "They employ me.", key="bo")
    assert interested["interests"][0]["declared"]
    taken = await desk.run("proposal", "withdraw", name, key="bo")
    assert taken["state"] == "PROPOSAL_STATE_WITHDRAWN"
    listed = await desk.run("proposal", "list", "--state", "withdrawn", key="bo")
    assert [each["title"] for each in listed["proposals"]] == ["For my employer"]


async def test_one_member_votes_for_another(desk: Desk) -> None:
    cy = (await desk.run("member", "show", key="cy"))["name"].rpartition("/")[2]
    await desk.run("proposal", "delegate", cy, key="bo")
    assert (await desk.run("proposal", "delegations", key="cy"))["entrusted_counts"][0] == "1"
    await desk.run("proposal", "delegate", "--end", key="bo")
    assert (await desk.run("proposal", "delegations", key="bo"))["delegations"] == []


async def test_consent_is_given_shown_proved_and_withdrawn(desk: Desk) -> None:
    empty = await desk.run("consent", "list", key="ada")
    assert empty["consents"] == []
    given = await desk.run(
        "consent", "give", "randhie", "--purpose", "ScientificResearch", "--category", "academic,sme", key="ada"
    )
    assert given["status"] == "CONSENT_STATUS_GIVEN" and len(given["notice_hash"]) == 64
    file = desk.home / "consent.json"
    await desk.run("consent", "receipt", given["name"].rpartition("/")[2], "--output", str(file), key="ada")
    assert (await desk.run("consent", "verify", str(file)))["genuine"]
    file.write_text(file.read_text().replace("ScientificResearch", "Marketing"))
    assert (await desk.run("consent", "verify", str(file), code=1))["reason"] == "RECEIPT_INVALID"
    withdrawn = await desk.run("consent", "withdraw", "randhie", key="ada")
    assert [each["status"] for each in withdrawn["consents"]] == ["CONSENT_STATUS_WITHDRAWN"]
    again = await desk.run("consent", "withdraw", "--all", key="ada")
    assert again["consents"] == []
    refused = await desk.run("consent", "refuse", "randhie", key="ada")
    assert refused["status"] == "CONSENT_STATUS_REFUSED"

    (desk.home / "notice.txt").write_text("What we told you on paper.")
    recorded = await desk.run(
        *("consent", "record", "randhie", "--file", "-", "--purpose", "Purpose", "--category", "academic"),
        *("--evidence", "form 3", "--notice", str(desk.home / "notice.txt")),
        key="valley",
        stdin="ada\nbo\n",
    )
    assert recorded == {"recorded_count": 1, "kept_count": 1}
    for empty_list in ("uses", "contributions"):
        assert (await desk.run("member", empty_list, key="ada"))[empty_list] == []


async def test_somebody_applies_is_approved_and_is_told(desk: Desk) -> None:
    applied = await desk.run("member", "apply", "valley", "--reference", "dee", "--save-key", str(desk.key("dee")))
    assert applied["state"] == "MEMBER_STATE_APPLIED"
    approved = await desk.run("member", "approve", applied["name"].rpartition("/")[2], key="valley")
    assert approved["state"] == "MEMBER_STATE_ACTIVE"
    async with asyncio.timeout(20):
        while True:
            try:
                shown = await desk.run("member", "show", key="dee")
                break
            except AssertionError:
                await asyncio.sleep(0.3)
    assert shown["reference"] == "dee"
    updated = await desk.run("member", "update", "--affiliation", "lab.example", key="dee")
    assert updated["affiliations"] == ["lab.example"]
    assert (await desk.run("member", "update", "--affiliation", "none", key="dee"))["affiliations"] == []
    steward = await desk.run("member", "steward", applied["name"].rpartition("/")[2], key="valley")
    assert steward["steward"]
    await desk.run("member", "notices", "--unread", "--mark-read", key="dee")
    assert (await desk.run("member", "notices", "--unread", key="dee"))["notices"] == []
    id = applied["name"].rpartition("/")[2]
    erased = await desk.run("member", "erase", "--confirm", id, key="dee")
    assert erased["state"] == "MEMBER_STATE_ERASED" and erased["reference"].startswith("erased-")


async def test_a_key_of_the_whole_cooperative_is_no_member(desk: Desk) -> None:
    told = await desk.run("consent", "list", key="valley", code=1)
    assert told["reason"] == "KEY_OF_NO_MEMBER" and "member join" in told["message"]


def test_codes_are_kept_for_one_who_says_it_again(tmp_path: Path) -> None:
    from rochdale.client.invitations import read_people, with_codes, written
    from rochdale.client.refusals import MarketError

    people = read_people("reference,email\nada,ada@example.org\n\nbo\nada\n")
    assert [(each.reference, each.email) for each in people] == [("ada", "ada@example.org"), ("bo", "")]
    file = tmp_path / "codes.csv"
    first = with_codes(people, file)
    assert with_codes(people, file) == first and file.read_text() == written(first)
    assert file.stat().st_mode & 0o777 == 0o600 and len({each.code_hash for each in first}) == 2
    with pytest.raises(MarketError) as refused:
        with_codes(read_people("eve"), file)
    assert refused.value.reason == "FILE_EXISTS"
