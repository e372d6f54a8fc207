"""A secret vote, and then whoever holds a copy of governance's whole database: while it is open the link between member
and ballot is sealed, and after the close there is none, however the rows are laid side by side."""

import hmac
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest
import pytest_asyncio
from assembly import Assembly, asked, found, quick_charter
from house import House

from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres

YES, NO, ABSTAIN = pb.BALLOT_CHOICE_YES, pb.BALLOT_CHOICE_NO, pb.BALLOT_CHOICE_ABSTAIN


@dataclass(frozen=True)
class Dump:
    """Every row of every table as (table, transaction that wrote it, text), and every value that could be a key."""

    rows: list[tuple[str, str, str]]
    values: set[bytes]

    def with_name(self, name: str) -> list[tuple[str, str, str]]:
        """Rows that hold a text, as it is or inside of a document."""
        return [row for row in self.rows if name in row[2] or name.encode().hex() in row[2]]

    def opens(self, names: list[str], nullifiers: set[str]) -> bool:
        """Whether some value of the database, used as the key, makes a member's name into one on the board."""
        return any(
            hmac.new(key, name.encode(), "sha256").hexdigest() in nullifiers for key in self.values for name in names
        )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    server = NatsServer(tmp_path_factory.mktemp("nats"), durable=False)
    await server.start()
    house = House(postgres, server, tmp_path_factory.mktemp("house"))
    await house.start("identity")
    await house.start("governance", mail_directory=house.folder / "mail")
    yield house
    await house.stop()
    await server.stop()


async def dumped(house: House) -> Dump:
    url = (await house.database_url("governance")).replace("+asyncpg", "")
    connection = await asyncpg.connect(url, ssl=False)
    try:
        rows, values = [], set()
        for (table,) in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
            for row in await connection.fetch(f'SELECT xmin::text AS written, t::text AS whole, t.* FROM "{table}" t'):
                rows.append((table, row["written"], row["whole"]))
                values |= {value for value in row.values() if isinstance(value, bytes)}
                values |= {value.encode() for value in row.values() if isinstance(value, str) and len(value) <= 200}
        return Dump(rows, values | {bytes.fromhex(v.decode()) for v in values if is_hex(v)})
    finally:
        await connection.close()


def is_hex(value: bytes) -> bool:
    return len(value) == 64 and all(character in b"0123456789abcdef" for character in value)


async def opened(house: House, id: str) -> tuple[Assembly, pb.Proposal]:
    secret = quick_charter(voting_seconds=60, secrecy=decisions.SECRECY_OPERATOR_TRUSTED)
    assembly = await found(house, id, secret, voters=12)
    draft = pb.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=asked(id))
    return assembly, await assembly.freeze(await assembly.draft([draft]))


async def test_no_copy_of_the_database_says_who_voted_how(house: House) -> None:
    assembly, frozen = await opened(house, "hushed")
    names = [member.name for member in assembly.voters]
    # Each ballot in a transaction of its own, some changed; the last one closes the vote.
    receipts = {}
    for number, member in enumerate(assembly.voters[:-1]):
        (receipts[member.name],) = await assembly.vote(frozen, (YES, NO, ABSTAIN, YES)[number % 4], by=[member])
    (receipts[names[0]],) = await assembly.vote(frozen, NO, by=assembly.voters[:1])
    nullifiers = {receipt.nullifier for receipt in receipts.values()}
    while_open = await dumped(house)
    apart(while_open, names, nullifiers)
    assert len(while_open.values) > 100 and not while_open.opens(names, nullifiers), "the key is sealed"

    (receipts[names[-1]],) = await assembly.vote(frozen, by=assembly.voters[-1:])
    nullifiers.add(receipts[names[-1]].nullifier)
    over = await assembly.until(
        frozen.name, pb.PROPOSAL_STATE_AWAITING_SIGNATURE, pb.PROPOSAL_STATE_DISSENT_WINDOW, pb.PROPOSAL_STATE_REJECTED
    )
    assert over.HasField("tally")
    after = await dumped(house)
    apart(after, names, nullifiers)
    assert not after.opens(names, nullifiers)
    assert sum(row[0] == "ballot" for row in after.rows) == 13


def apart(dump: Dump, names: list[str], nullifiers: set[str]) -> None:
    """No row has both a member and a name of the board, and no transaction that took one ballot touched one member."""
    of_members: dict[str, set[str]] = defaultdict(set)
    for name in names:
        found = dump.with_name(name)
        assert found, "members are there to be found"
        assert not [row for row in found if row[0] in ("ballot", "vote")]
        assert not [row for row in found for nullifier in nullifiers if nullifier in row[2]]
        for _, written, _ in found:
            of_members[written].add(name)
    of_ballots: dict[str, set[str]] = defaultdict(set)
    for nullifier in nullifiers:
        found = dump.with_name(nullifier)
        assert {row[0] for row in found} == {"ballot"}
        for _, written, _ in found:
            of_ballots[written].add(nullifier)
    # One that touched many members and many ballots, as the close may, says nothing of which belongs to which.
    shared = [tx for tx in of_ballots if tx in of_members and (len(of_ballots[tx]) == 1 or len(of_members[tx]) == 1)]
    assert not shared, [row for row in dump.rows if row[1] in shared]
