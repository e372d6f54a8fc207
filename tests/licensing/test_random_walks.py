"""Random walks over whole negotiations: whatever anybody tries, in any order, what must hold holds after every move."""

import random

import grpc
import pytest
from house import Person
from licensing_world import DAY, Shelf, World, euro

from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale_kit import scope as scopes
from rochdale_kit.refusals import refusal_of

# The Dataspace Protocol 2025-1's own table, not ours: sides are C(onsumer) and P(rovider), the market carries out either.
PROTOCOL = {
    (0, "C"): {1},
    (1, "P"): {2, 4},
    (2, "C"): {1, 3},
    (3, "P"): {4},
    (4, "C"): {5},
    (5, "P"): {6},
}
SIDES = {pb.PARTY_BUYER: "C", pb.PARTY_COOPERATIVE: "P", pb.PARTY_MARKET: "CP"}
COLUMNS = ["age", "visits", "site"]
ALIVE = (pb.LICENSE_STATE_AGREED, pb.LICENSE_STATE_ACTIVE, pb.LICENSE_STATE_SUSPENDED)
OFFERED = pb.NEGOTIATION_STATE_OFFERED
EXPECTED = {
    "NOT_YOUR_MOVE",
    "NEGOTIATION_CHANGED",
    "NEGOTIATION_OVER",
    "REQUEST_OUTSIDE_RULE",
    "REQUEST_OUTSIDE_OFFERING",
    "LICENSE_OVER",
    "LICENSES_EXHAUSTED",
}


class Walk:
    """One offering, two buyers, one cooperative, and dice."""

    def __init__(self, world: World, shelf: Shelf, buyers: list[Person], seed: int) -> None:
        self.world, self.shelf, self.buyers = world, shelf, buyers
        self.dice = random.Random(seed)
        self.revisions: list[governance_pb2.SharingRule] = [shelf.rule]
        self.alarms: list[governance_pb2.SharingRule] = []
        self.seen: dict[str, list[pb.Negotiation]] = {}
        self.owner: dict[str, Person] = {}
        self.met: dict[str, int] = {}

    def wish(self) -> dict[str, object]:
        wish: dict[str, object] = {}
        if self.dice.random() < 0.95:
            wish["price"] = euro(self.dice.choice([0, 40_000, 70_000, 100_000, 120_000, 150_000]))
        if self.dice.random() < 0.4:
            wish["duration_seconds"] = self.dice.choice([DAY, 30 * DAY, 60 * DAY, 200 * DAY, 400 * DAY])
        if self.dice.random() < 0.3:
            wish["columns"] = self.dice.choice([["age"], ["age", "site"], ["name"]])
        if self.dice.random() < 0.2:
            wish["mode"] = self.dice.choice([scope_pb2.ACCESS_MODE_STREAM, scope_pb2.ACCESS_MODE_DOWNLOAD])
        return wish

    async def move(self) -> None:
        kind = self.dice.choice(
            ["ask"] * 2
            + ["counter"] * 6
            + ["accept"] * 4
            + ["call off", "pay", "pay", "end", "narrow", "alarm", *["calm"] * 5]
        )
        buyer = self.dice.choice(self.buyers)
        # Mostly the latest few, so that a negotiation gets somewhere before it is forgotten.
        name = self.dice.choice([*list(self.seen)[-4:], *self.seen, ""])
        try:
            if kind == "ask" or not name:
                negotiation = await self.world.ask(buyer, self.shelf.offering, wish=pb.Wish(**self.wish()))  # type: ignore[arg-type] # dice
                self.owner[negotiation.name] = buyer
                name, kind = negotiation.name, "ask"
            elif kind == "narrow":
                if len(self.revisions) < 4:
                    await self.shelf.narrow(
                        floor_price=euro(20_000 * len(self.revisions)),
                        max_duration_seconds=(365 - 60 * len(self.revisions)) * DAY,
                        max_licenses=0,
                    )
                    self.revisions.append(self.shelf.rule)
            elif kind == "alarm":
                # The board stops one column; most licenses have it, some do not.
                dataset = f"cooperatives/{self.shelf.cooperative}/datasets/visits"
                stopped = scope_pb2.DatasetScope(dataset=dataset, first_version=1, columns=[self.dice.choice(COLUMNS)])
                # An alarm soon over: while it lasts, most of what is asked is refused.
                self.alarms.append(await self.shelf.deny(emergency=True, datasets=[stopped]))
            elif kind == "calm":
                if self.alarms:
                    await self.shelf.end(self.alarms.pop(self.dice.randrange(len(self.alarms))))
            else:
                mover = self.owner[name] if self.seen[name][-1].state == OFFERED else self.shelf.steward
                who = self.dice.choice([self.owner[name], self.shelf.steward, mover, mover])
                # Mostly what is there now, sometimes what was there before.
                known = self.seen[name][-1 if self.dice.random() < 0.85 else 0]
                if kind == "counter":
                    await self.world.counter(who, known, **self.wish())
                elif kind == "accept":
                    await self.world.accept(who, known)
                elif kind == "call off":
                    await self.world.call_off(who, known)
                elif known.license:
                    if kind == "pay":
                        await self.world.pay(await self.world.license(who, known.license))
                    else:
                        await self.world.terminate(who, known.license)
            outcome = kind
        except grpc.aio.AioRpcError as error:
            outcome = refusal_of(error).reason
            assert outcome in EXPECTED, error
        self.met[outcome] = self.met.get(outcome, 0) + 1
        if name:
            await self.look(name)

    async def look(self, name: str) -> None:
        """Everything that must hold for one negotiation, whatever has just been tried."""
        now = await self.world.negotiation(self.owner[name], name)
        history = self.seen.setdefault(name, [])
        if history:
            before = history[-1]
            assert list(now.steps[: len(before.steps)]) == list(before.steps), "steps are only ever added"
            assert (now.etag == before.etag) == (len(now.steps) == len(before.steps))
        history.append(now)
        state = 0
        for number, step in enumerate(now.steps, 1):
            assert step.number == number
            if step.state != pb.NEGOTIATION_STATE_TERMINATED:
                assert any(step.state in PROTOCOL.get((state, side), ()) for side in SIDES[step.party]), (state, step)
            else:
                assert state not in (pb.NEGOTIATION_STATE_FINALIZED, pb.NEGOTIATION_STATE_TERMINATED)
            state = step.state
        assert now.state == state and now.price == now.scope.floor_price == now.steps[-1].price
        was_agreed = any(step.state == pb.NEGOTIATION_STATE_AGREED for step in now.steps)
        assert bool(now.license) == was_agreed, "a license exists exactly from AGREED on"
        if now.license:
            await self.look_at_license(now)

    async def look_at_license(self, negotiation: pb.Negotiation) -> None:
        license = await self.world.license(self.shelf.steward, negotiation.license)
        terms, offering = license.terms, self.shelf.offering
        rule = self.revisions[terms.rule_revision - 1]
        assert license.negotiation == negotiation.name and terms.scope == negotiation.scope
        assert not scopes.escapes(rule.scope, terms.scope), "what is agreed is inside the rule it cites"
        left = {one.dimension for one in scopes.escapes(offering.scope, terms.scope)}
        assert left <= {"floor_price", "max_duration_seconds"}, "only price and duration are negotiable"
        alarms = {one.name for one in self.alarms if scopes.overlaps(one.scope, terms.scope)}
        if license.state == pb.LICENSE_STATE_SUSPENDED:
            assert license.suspended_by in alarms, "suspended by an emergency that lasts and reaches it"
        else:
            assert license.state != pb.LICENSE_STATE_ACTIVE or not alarms, "no emergency in reach passes a license over"
            assert not license.suspended_by and not license.HasField("suspend_time")
        if terms.member_recall and license.state in ALIVE:
            assert not scopes.escapes(self.revisions[-1].scope, terms.scope), "recalled is what is no longer inside"
        active = license.HasField("activate_time")
        assert active == any(step.state == pb.NEGOTIATION_STATE_FINALIZED for step in negotiation.steps)
        over = license.state == pb.LICENSE_STATE_TERMINATED
        assert over or negotiation.state != pb.NEGOTIATION_STATE_TERMINATED


@pytest.mark.parametrize("seed", range(6))
async def test_no_walk_leaves_the_protocol_or_the_rule(world: World, seed: int) -> None:
    shelf = await world.shelf(rule={"member_recall": seed % 2 == 1}, max_licenses=6)
    walk = Walk(world, shelf, [await world.buyer(), await world.buyer()], seed)
    for _ in range(180):
        await walk.move()
    # Whatever was decided about the rule, every license follows, not only the one last looked at.
    for name in list(walk.seen):
        await walk.look(name)
    # A walk that met nothing proves nothing.
    assert walk.met.keys() >= {"ask", "counter", "accept", "NOT_YOUR_MOVE", "REQUEST_OUTSIDE_OFFERING"}, walk.met
    ends = {negotiations[-1].state for negotiations in walk.seen.values()}
    assert len(ends) >= 3, ends
    assert walk.met.keys() >= {"alarm", "calm"}, walk.met
    listed = await world.licensing.ListLicenses(pb.ListLicensesRequest(page_size=1000), metadata=shelf.steward.metadata)
    assert sum(license.state in ALIVE for license in listed.licenses) <= 6
