"""The steward's command before a governance that lies: it counts first, and what does not add up it does not sign."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from desk import Desk
from hall import Hall
from house import House
from paper_vote import NO, PROPOSAL, YES, Poll

from rochdale.client.authority import SigningKey, introduce, write_signing_key
from rochdale.client.terms import now
from rochdale.governance.v1 import governance_pb2, proposals_pb2
from rochdale_kit.signing import TALLY_PREFIX, canonical_hash, sign_hash
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres


class Lying(Hall):
    """A governance that shows what it is told to and notes what is brought to it to be enacted."""

    def __init__(self) -> None:
        super().__init__()
        self.brought: list[proposals_pb2.EnactProposalRequest] = []

    async def EnactProposal(
        self, request: proposals_pb2.EnactProposalRequest, context: object
    ) -> proposals_pb2.EnactProposalResponse:
        self.brought.append(request)
        swapped = governance_pb2.SharingRule(name="cooperatives/valley/sharingRules/rule_1", rule_hash="0" * 64)
        return proposals_pb2.EnactProposalResponse(proposal=self.proposals[PROPOSAL], sharing_rules=[swapped])

    def show(self, poll: Poll) -> None:
        poll.proposal.state = proposals_pb2.PROPOSAL_STATE_AWAITING_SIGNATURE
        self.proposals, self.boards = {PROPOSAL: poll.proposal}, {PROPOSAL: poll.shown()}


@pytest_asyncio.fixture(scope="module")
async def hall() -> AsyncIterator[Lying]:
    hall = Lying()  # type: ignore[abstract]  # the command calls none of the rest
    await hall.start()
    yield hall
    await hall.stop()


@pytest_asyncio.fixture(scope="module")
async def desk(
    postgres: Postgres, nats_server: NatsServer, hall: Lying, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Desk]:
    home = tmp_path_factory.mktemp("desk")
    house = House(postgres, nats_server, home)
    await house.start("identity")
    desk = Desk.at(house, home, governance=hall.address)
    await desk.run(
        "organization", "register", "valley", "--kind", "cooperative", "--name", "V", "--email", "a@b.example"
    )
    await desk.run("organization", "verify", "valley", key="operator")
    key = SigningKey.generate()
    write_signing_key(home / "keys" / "valley.signing.key", key)
    name = "cooperatives/valley"
    hall.cooperatives[name] = governance_pb2.Cooperative(name=name, signing_keys=[introduce(name, key, now())])
    yield desk
    await house.stop()


def honest(hall: Lying, eligible: int = 20, voting: int = 12) -> Poll:
    poll = Poll(eligible=eligible, key=hall.key)
    for number in range(voting):
        poll.cast(number, YES if number % 4 else NO)
    poll.close()
    return poll


async def test_a_tally_that_the_board_does_not_bear_out_is_not_signed(desk: Desk, hall: Lying) -> None:
    poll = honest(hall)
    tally = poll.proposal.tally
    tally.yes_count += 1
    tally.tally_hash = canonical_hash(
        tally, *(one.name for one in tally.DESCRIPTOR.fields if one.name not in ("tally_hash", "signature"))
    )
    tally.signature.CopyFrom(sign_hash(hall.key, TALLY_PREFIX, tally.tally_hash))
    hall.show(poll)
    for command in (("proposal", "recount", f"valley/{PROPOSAL[-31:]}"), ("proposal", "enact", PROPOSAL)):
        told = await desk.run(*command, key="valley", code=1)
        assert "RECOUNT_DIFFERS" in str(told) or not told["adds_up"]
    assert not hall.brought


async def test_another_text_is_neither_voted_on_nor_signed(desk: Desk, hall: Lying) -> None:
    poll = honest(hall)
    poll.proposal.delta.rules[0].scope.floor_price.amount_minor = 1
    hall.show(poll)
    assert (await desk.run("proposal", "enact", PROPOSAL, key="valley", code=1))["reason"] == "RECOUNT_DIFFERS"
    assert (await desk.run("proposal", "vote", PROPOSAL, "yes", key="valley", code=1))["reason"] == "TEXT_MISMATCH"
    assert not hall.brought


async def test_a_withheld_tally_takes_a_word(desk: Desk, hall: Lying) -> None:
    hall.show(honest(hall, eligible=5, voting=5))
    told = await desk.run("proposal", "enact", PROPOSAL, key="valley", code=1)
    assert told["reason"] == "RECOUNT_INCOMPLETE" and "--accept-withheld" in told["message"] and not hall.brought


async def test_a_rule_that_is_not_the_one_signed_is_noticed(desk: Desk, hall: Lying) -> None:
    hall.show(honest(hall))
    told = await desk.run("proposal", "enact", PROPOSAL, key="valley", code=1)
    assert told["reason"] == "RULE_HASH_MISMATCH"
    assert len(hall.brought.pop().rule_signatures) == 1


async def test_a_proposal_that_has_not_passed_is_not_signed(desk: Desk, hall: Lying) -> None:
    poll = Poll(key=hall.key)
    poll.cast(0, NO)
    poll.close()
    hall.show(poll)
    assert (await desk.run("proposal", "enact", PROPOSAL, key="valley", code=1))["reason"] == "PROPOSAL_NOT_PASSED"


async def test_only_the_key_that_signs_now_signs(desk: Desk, hall: Lying) -> None:
    hall.show(honest(hall))
    other = desk.home / "keys" / "other.signing.key"
    write_signing_key(other, SigningKey.generate())
    told = await desk.run("proposal", "enact", PROPOSAL, "--signing-key", str(other), key="valley", code=1)
    assert told["reason"] == "SIGNING_KEY_NOT_CURRENT" and not hall.brought
    valley = hall.cooperatives["cooperatives/valley"]
    valley.signing_keys[0].begin_time.seconds += 1
    told = await desk.run("proposal", "enact", PROPOSAL, key="valley", code=1)
    assert told["reason"] == "COOPERATIVE_KEY_INVALID"
