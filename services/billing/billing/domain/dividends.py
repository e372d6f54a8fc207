"""The arithmetic of a dividend run: what there is to divide, and every member's line. Whole numbers, exact sums.

No clock, no ids, no connection; how a run moves is in dividend_runs.py, how a line is told in dividend_words.py.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from billing.domain.allocation import divide, last_extra
from rochdale.type.v1.dividend_policy_pb2 import DividendPolicy
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.signing import canonical_hash

WHOLE_BPS = 10_000
# The source of what was earned without members' rows: all eligible members share it equally.
NO_VERSION = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A member as a run sees them; `id` without the cooperative."""

    id: str
    join_time: dt.datetime
    leave_time: dt.datetime | None = None
    erase_time: dt.datetime | None = None

    def active(self, at: dt.datetime) -> bool:
        return self.join_time < at and (self.leave_time is None or self.leave_time >= at) and self.known(at)

    def known(self, at: dt.datetime) -> bool:
        return self.erase_time is None or self.erase_time >= at

    def tenured(self, at: dt.datetime, seconds: int) -> bool:
        """Member, or once a member, since long enough; whoever joins for one month's dividends is not."""
        return self.join_time + dt.timedelta(seconds=seconds) <= at


@dataclass(frozen=True, slots=True)
class Earning:
    """What the cooperative has of one share, and which versions the share's license delivered by the month's end."""

    share_id: str
    earned_minor: int
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one member has in one version. rows, per_mille and days say where the units come from; rows is 0 for weights
    that were imported, days is 0 where days do not count."""

    member: str
    version: str
    units: int
    rows: int = 0
    per_mille: int = 1000
    days: int = 0


@dataclass(frozen=True, slots=True)
class Books:
    """The cooperative's book in the run's currency, minor units. Surplus is negative for a loss."""

    surplus_end_minor: int
    surplus_now_minor: int
    owed_minor: int
    reserve_minor: int
    costs_minor: int = 0
    taken_back_minor: int = 0

    @property
    def base_minor(self) -> int:
        """What there is to divide: of the month's end, and never what went since."""
        return max(0, min(self.surplus_end_minor - self.owed_minor, self.surplus_now_minor - self.owed_minor))

    @property
    def loss_minor(self) -> int:
        """A loss that is still one now."""
        return max(0, -max(self.surplus_end_minor, self.surplus_now_minor))

    @property
    def covered_minor(self) -> int:
        """Of the loss, what the reserve meets; the rest lessens the next pool."""
        return min(self.loss_minor, self.reserve_minor)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that goes into a run. `indebted` are members who are owed something from before."""

    run_id: str
    month: str
    end_time: dt.datetime
    currency: str
    policy: DividendPolicy
    books: Books
    members: Sequence[Member]
    earnings: Sequence[Earning]
    contributions: Sequence[Contribution]
    indebted: frozenset[str] = frozenset()

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical JSON of all of it, lower-case hexadecimal; the same in whatever order it came."""
        books, moment = self.books, dt.datetime.isoformat
        document = {
            "run": self.run_id,
            "month": self.month,
            "currency": self.currency,
            "policy_hash": canonical_hash(self.policy),
            "books": [
                books.surplus_end_minor,
                books.surplus_now_minor,
                books.owed_minor,
                books.reserve_minor,
                books.costs_minor,
                books.taken_back_minor,
            ],
            "members": sorted(
                [one.id, moment(one.join_time), *(moment(at) if at else "" for at in (one.leave_time, one.erase_time))]
                for one in self.members
            ),
            "earnings": sorted([one.share_id, one.earned_minor, sorted(one.versions)] for one in self.earnings),
            "contributions": sorted(
                [one.version, one.member, one.units, one.rows, one.per_mille, one.days] for one in self.contributions
            ),
            "owed_to": sorted(self.indebted),
        }
        return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Source:
    """What one version earned, and its part of the contribution pool. last_remainder and last_hash are those of the last
    member who got one of the units left over by rounding down; None and "" when nothing was left."""

    version: str
    earned_minor: int
    pool_minor: int
    member_count: int
    total_units: int
    last_remainder: int | None = None
    last_hash: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A member's part of one version's pool."""

    contribution: Contribution
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Line:
    """What one member gets. cap_change_minor is negative where the cap took something."""

    member: str
    equal_minor: int
    parts: tuple[Part, ...]
    cap_change_minor: int

    @property
    def amount_minor(self) -> int:
        return self.equal_minor + sum(part.amount_minor for part in self.parts) + self.cap_change_minor


@dataclass(frozen=True, slots=True)
class Division:
    """A run worked out. reserve, commons, solidarity and the lines sum to the base exactly."""

    base_minor: int
    reserve_minor: int
    commons_minor: int
    solidarity_minor: int
    equal_pool_minor: int
    contribution_pool_minor: int
    equal_count: int
    # As Source.last_hash, for the equal part.
    equal_last_hash: str
    # The most that one member gets; 0 for no cap.
    cap_minor: int
    sources: tuple[Source, ...]
    lines: tuple[Line, ...]

    @property
    def patronage_minor(self) -> int:
        return self.equal_pool_minor + self.contribution_pool_minor


def compute(inputs: Inputs) -> Division:
    """Works a run out. Refuses with NOBODY_EARNS when there is a pool and no member to divide it among."""
    policy, base, seed = inputs.policy, inputs.books.base_minor, inputs.run_id
    _require_whole(policy)
    reserve, commons, solidarity = (
        base * bps // WHOLE_BPS for bps in (policy.reserve_bps, policy.commons_bps, policy.solidarity_bps)
    )
    patronage = base - reserve - commons - solidarity

    tenure = policy.min_membership_seconds
    equals = {one.id for one in inputs.members if one.active(inputs.end_time) and one.tenured(inputs.end_time, tenure)}
    # Who left still earns by what was delivered; whoever was erased could never be paid.
    earners = {one.id for one in inputs.members if one.known(inputs.end_time) and one.tenured(inputs.end_time, tenure)}
    units: dict[str, dict[str, Contribution]] = defaultdict(dict)
    for contribution in sorted(inputs.contributions, key=lambda one: (one.version, one.member)):
        if contribution.units > 0 and contribution.member in earners:
            units[contribution.version][contribution.member] = contribution

    earned = _earned(inputs.earnings, units)
    if patronage and not equals and not any(earned[version] for version in units):
        raise Refusal(
            "NOBODY_EARNS",
            f"There is something to divide for {inputs.month}, and no member whom the policy lets earn.",
            Kind.STATE,
            month=inputs.month,
        )
    equal_pool = patronage * policy.equal_bps // WHOLE_BPS if equals else 0
    pools = _pools(patronage - equal_pool, earned, bool(equals), seed)
    unplaced = pools.pop(NO_VERSION, 0)
    equal_pool += unplaced

    equal_weights = dict.fromkeys(sorted(equals), 1)
    equal_parts, equal_extra = divide(equal_pool, equal_weights, seed), last_extra(equal_pool, equal_weights, seed)
    sources, parts = _divide_sources(pools, earned, units, seed)
    if earned[NO_VERSION]:
        sources.append(Source(NO_VERSION, earned[NO_VERSION], unplaced, len(equals), 0))

    lines_of = {
        member: equal_parts.get(member, 0) + sum(part.amount_minor for part in parts.get(member, ()))
        for member in sorted(equals | set(parts) | set(inputs.indebted))
    }
    cap = patronage * policy.member_cap_bps // WHOLE_BPS if policy.member_cap_bps else 0
    receivers = equals | {member for member, amount in lines_of.items() if amount}
    if policy.member_cap_bps:
        # A cap so low that the pool does not fit under it means: everybody the same.
        cap = max(cap, -(-patronage // len(receivers)) if receivers else 0)
    after = _capped({member: lines_of[member] for member in sorted(receivers)}, cap, seed) if cap else lines_of
    division = Division(
        base,
        reserve,
        commons,
        solidarity,
        equal_pool,
        patronage - equal_pool,
        len(equals),
        equal_extra[1] if equal_extra else "",
        cap,
        tuple(sources),
        tuple(
            Line(member, equal_parts.get(member, 0), tuple(parts.get(member, ())), after.get(member, before) - before)
            for member, before in lines_of.items()
        ),
    )
    assert sum(line.amount_minor for line in division.lines) == patronage, "every minor unit is somebody's"
    return division


def _require_whole(policy: DividendPolicy) -> None:
    taken = policy.reserve_bps + policy.commons_bps + policy.solidarity_bps
    if taken > WHOLE_BPS:
        raise ValueError(f"a policy that gives {taken} of {WHOLE_BPS}")


def _earned(earnings: Sequence[Earning], units: Mapping[str, Mapping[str, Contribution]]) -> dict[str, int]:
    """By version. A share whose license delivered several is divided over them by all members' units in each."""
    totals = {version: sum(one.units for one in found.values()) for version, found in units.items()}
    earned: dict[str, int] = defaultdict(int)
    for earning in sorted(earnings, key=lambda one: one.share_id):
        weights = {version: totals[version] for version in sorted(earning.versions) if version in totals}
        if not weights:
            earned[NO_VERSION] += earning.earned_minor
            continue
        for version, part in divide(earning.earned_minor, weights, earning.share_id).items():
            earned[version] += part
    return earned


def _pools(pool: int, earned: Mapping[str, int], has_equals: bool, seed: str) -> dict[str, int]:
    """The contribution pool over the sources, by what they earned; without any, all is shared equally."""
    weights = {version: amount for version, amount in sorted(earned.items()) if amount}
    if not has_equals:
        weights.pop(NO_VERSION, None)
    return divide(pool, weights or {NO_VERSION: 1}, seed)


def _divide_sources(
    pools: Mapping[str, int],
    earned: Mapping[str, int],
    units: Mapping[str, Mapping[str, Contribution]],
    seed: str,
) -> tuple[list[Source], dict[str, list[Part]]]:
    sources: list[Source] = []
    parts: dict[str, list[Part]] = defaultdict(list)
    for version, pool in pools.items():
        weights = {member: one.units for member, one in units[version].items()}
        for member, amount in divide(pool, weights, seed).items():
            parts[member].append(Part(units[version][member], amount))
        extra = last_extra(pool, weights, seed)
        sources.append(
            Source(
                version,
                earned[version],
                pool,
                len(weights),
                sum(weights.values()),
                extra[0] if extra else None,
                extra[1] if extra else "",
            )
        )
    return sources, parts


def _capped(amounts: Mapping[str, int], cap: int, seed: str) -> dict[str, int]:
    """Nobody above the cap: what is above goes to the others in proportion to what they have, again until it fits."""
    result, full = dict(amounts), set[str]()
    while True:
        full |= {member for member, amount in result.items() if amount >= cap}
        excess = sum(result[member] - cap for member in full)
        if not excess:
            return result
        others = {member: amount for member, amount in result.items() if member not in full}
        result |= dict.fromkeys(full, cap)
        if not any(others.values()):
            others = dict.fromkeys(others, 1)
        for member, more in divide(excess, others, seed).items():
            result[member] += more
