"""What a visitor sees of a vote: the text, its effect, the turnout, the tally and the board, and how to count it again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
import pytest_asyncio
from authority import Authority
from hall import Hall
from house import House
from paper_vote import NO, PROPOSAL, YES, Poll, decision_rule

from rochdale.governance.v1 import decisions_pb2, governance_pb2, proposals_pb2
from rochdale.type.v1 import dividend_policy_pb2
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


class Text(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "style") and not any(name.startswith("on") for name, _ in attributes)
        self.links += [str(value) for name, value in attributes if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += data


class Reader:
    """A visitor of valley's pages."""

    def __init__(self, hall: Hall, client: httpx.AsyncClient) -> None:
        self.hall, self._client = hall, client

    def put(self, poll: Poll, state: proposals_pb2.ProposalState.ValueType) -> None:
        """Governance has this vote and no other."""
        poll.proposal.state = state
        self.hall.proposals, self.hall.boards = {PROPOSAL: poll.proposal}, {PROPOSAL: poll.shown()}

    async def read(self, path: str = f"/{PROPOSAL}", status: int = 200) -> Text:
        answer = await self._client.get(path)
        assert answer.status_code == status, answer.text[:500]
        return Text(answer.text)


@pytest_asyncio.fixture(scope="module")
async def reader(
    postgres: Postgres, nats_server: NatsServer, shelf: Any, hall: Hall, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Reader]:
    house = House(postgres, nats_server, tmp_path_factory.mktemp("house"))
    storefront = await house.start(
        "storefront", http_address="127.0.0.1:0", catalog_address=shelf.address, governance_address=hall.address
    )
    valley = Authority("valley").document()
    valley.charter.MergeFrom(
        governance_pb2.Charter(
            required_approvals=2,
            text="We share with care.",
            max_rule_life_seconds=86_400 * 365,
            special_category_datasets=["cooperatives/valley/datasets/randhie"],
            decision_rules=[
                decision_rule(delegation=False),
                decision_rule(decision_class=decisions_pb2.DECISION_CLASS_SENSITIVE, inclusive=True, min_yes=3),
            ],
        )
    )
    hall.cooperatives[valley.name] = valley
    async with httpx.AsyncClient(base_url=f"http://{storefront.http_address}", timeout=30) as client:
        yield Reader(hall, client)
    await house.stop()


def poll_of(hall: Hall, **more: Any) -> Poll:
    return Poll(key=hall.key, **more)


async def test_a_charter_is_told_in_words(reader: Reader) -> None:
    text = (await reader.read("/cooperatives/valley")).text
    assert "forbid something at once if 2 stewards agree" in text and "at most 365 days" in text
    assert "randhie: every rule about it is a sensitive decision" in text
    assert "more than 1/2 of yes and no, and at least 1 yes; a tie never passes" in text
    assert "at least 1/2 of yes and no, and at least 3 yes" in text
    assert "It has no signing key yet" not in text


async def test_nothing_put_to_members_is_a_sentence(reader: Reader) -> None:
    reader.hall.proposals, reader.hall.boards = {}, {}
    for path in ("/cooperatives/valley", "/cooperatives/valley/proposals"):
        assert "Nothing has been put to the members yet." in (await reader.read(path)).text
    assert "This page does not exist" in (await reader.read(status=404)).text


async def test_an_open_vote_tells_the_turnout_and_no_result(reader: Reader) -> None:
    poll = poll_of(reader.hall)
    poll.cast(0, YES)
    poll.proposal.turnout_count = 1
    reader.put(poll, proposals_pb2.PROPOSAL_STATE_VOTING)
    page = await reader.read()
    assert "Free for research" in page.text and "Members vote" in page.text
    assert "1 member of 20 took part so far." in page.text and "closed" in page.text
    assert "A new rule that allows" in page.text and "universities and public research institutes" in page.text
    assert "end when members narrow or end it" in page.text
    assert "computed again for this page and is the same" in page.text
    assert "rochdale proposal recount valley/prop_01JABCDEFGHJKMNPQRSTVWXYZ0" in page.text
    listed = await reader.read("/cooperatives/valley/proposals")
    assert f"/{PROPOSAL}" in listed.links and "Free for research" in listed.text


async def test_a_result_is_shown_with_what_proves_it(reader: Reader) -> None:
    poll = poll_of(reader.hall)
    for number in range(120):
        poll.cast(number % 20, YES if number % 20 < 14 else NO)
    poll.close()
    reader.put(poll, proposals_pb2.PROPOSAL_STATE_ENACTED)
    page = await reader.read()
    assert "Passed: 14 yes, 6 no, 0 abstained." in page.text and "In force" in page.text
    assert "Governance signed exactly this tally" in page.text and poll.proposal.tally.tally_hash in page.text
    assert poll.board[0].entry_hash in page.text and poll.board[110].entry_hash not in page.text
    more = next(link for link in page.links if "board=" in link)
    later = await reader.read(more.partition("#")[0])
    assert poll.board[110].entry_hash in later.text and poll.board[0].entry_hash not in later.text

    poll.proposal.tally.yes_count = 20
    assert "not what governance signed" in (await reader.read()).text
    poll.proposal.body = "Something else."
    assert "not the text that ballots were cast for" in (await reader.read()).text


async def test_how_surplus_would_be_divided_is_told_in_words(reader: Reader) -> None:
    poll = poll_of(reader.hall)
    poll.proposal.delta.Clear()
    policy = poll.proposal.delta.dividend_policy
    policy.reserve_bps, policy.equal_bps, policy.member_cap_bps = 1_000, 2_500, 150
    policy.basis = dividend_policy_pb2.CONTRIBUTION_BASIS_RECORDS
    policy.min_payout.amount_minor, policy.min_payout.currency = 500, "EUR"
    policy.objection_seconds = 14 * 86_400
    policy.dataset_factors.add(dataset="cooperatives/valley/datasets/randhie", per_mille=1_500)
    reader.put(poll, proposals_pb2.PROPOSAL_STATE_VOTING)
    text = (await reader.read()).text
    for words in (
        "How surplus is divided",
        "10 % of each month's surplus, which meets losses first",
        "90 % of each month's surplus",
        "25 % of what is the members', the same for everybody",
        "the rest of what is the members', by their rows in the versions that were licensed",
        "A row of cooperatives/valley/datasets/randhie",
        "counts 1.5 times",
        "1.5 % of what is the members'; what is above goes to the others",
        "from EUR 5.00 on",
        "within 14 days after a month is worked out",
    ):
        assert words in text, words


async def test_a_small_secret_ballot_tells_the_outcome_alone(reader: Reader) -> None:
    poll = poll_of(reader.hall, eligible=5)
    for number in range(4):
        poll.cast(number, YES)
    poll.close()
    reader.put(poll, proposals_pb2.PROPOSAL_STATE_DISSENT_WINDOW)
    text = (await reader.read()).text
    assert "Passed; the numbers are withheld" in text and "4 yes" not in text


async def test_what_members_wrote_is_text(reader: Reader) -> None:
    poll = poll_of(reader.hall)
    poll.proposal.title = poll.proposal.body = HOSTILE
    poll.proposal.challenges.add(number=1, ground=proposals_pb2.CHALLENGE_GROUND_TEXT, statement=HOSTILE)
    poll.proposal.delta.end_rules.append(HOSTILE)
    poll.proposal.delta.charter.text = HOSTILE
    poll.proposal.mandate_request = "mandateRequests/mreq_1"
    reader.put(poll, proposals_pb2.PROPOSAL_STATE_FROZEN)
    for path in (f"/{PROPOSAL}", "/cooperatives/valley", "/cooperatives/valley/proposals"):
        assert HOSTILE in (await reader.read(path)).text
