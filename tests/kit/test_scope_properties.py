"""Scopes by property: a naive oracle of single uses, sharing no code with the kit, against what the kit decides.

A property test that meets no case passes too, so each counts the cases it met and asserts the count.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rochdale.type.v1 import scope_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.scope import describe, escapes, ill_formed, overlaps

# Small universes in which every use is enumerated. Values that no scope ever lists (version 9, country JP, times 0
# and 40, 99 licenses) are there so that an open end, WORLD or no limit has something beyond every list.
DATASETS = ("cooperatives/aa/datasets/aa", "cooperatives/bb/datasets/bb")
COLUMNS = ("c1", "c2", "c3")
VERSIONS = (1, 2, 3, 4, 9)
# Written by hand from the vocabulary, so that a mistake in the kit's table shows here.
ABOVE = {
    "Purpose": (),
    "CommercialPurpose": ("Purpose",),
    "ResearchAndDevelopment": ("Purpose",),
    "AcademicResearch": ("ResearchAndDevelopment",),
    "CommercialResearch": ("CommercialPurpose", "ResearchAndDevelopment"),
    "PublicBenefit": ("Purpose",),
    "ImproveHealthcare": ("PublicBenefit",),
    "ModelTraining": ("Purpose",),
    "ModelFineTuning": ("ModelTraining",),
}
PURPOSES = tuple(ABOVE)
COUNTRIES = ("DE", "FR", "JP")
TIMES = (0, 10, 20, 30, 40)
DUTY_SETS = tuple(frozenset(some) for size in range(4) for some in itertools.combinations((1, 2, 3), size))


class Use(NamedTuple):
    """One thing a licensee does: everything about it is decided."""

    place: tuple[str, int, str]  # dataset, version, column
    category: int
    purpose: str
    action: int
    mode: int
    paid: tuple[str, int]
    country: str
    seconds: int
    at: int
    live_licenses: int
    exclusivity: int
    duties_kept: frozenset[int]
    epsilon_nano: int


UNIVERSE = Use(
    tuple(itertools.product(DATASETS, VERSIONS, COLUMNS)),  # type: ignore[arg-type]
    (1, 2, 3),  # type: ignore[arg-type]
    PURPOSES,  # type: ignore[arg-type]
    (1, 2, 3),  # type: ignore[arg-type]
    (1, 2, 3, 4, 5, 6),  # type: ignore[arg-type]
    tuple(itertools.product(("EUR", "USD"), (0, 1, 2, 3))),  # type: ignore[arg-type]
    COUNTRIES,  # type: ignore[arg-type]
    (1, 2, 3),  # type: ignore[arg-type]
    TIMES,  # type: ignore[arg-type]
    (1, 2, 3, 99),  # type: ignore[arg-type]
    (1, 2, 3),  # type: ignore[arg-type]
    DUTY_SETS,  # type: ignore[arg-type]
    (0, 1, 2),  # type: ignore[arg-type]
)

# Which coordinate of a use each dimension of an escape is about.
COORDINATE = {
    "datasets": "place",
    "versions": "place",
    "columns": "place",
    "categories": "category",
    "purposes": "purpose",
    "actions": "action",
    "max_mode": "mode",
    "floor_price": "paid",
    "territories": "country",
    "max_duration_seconds": "seconds",
    "not_before": "at",
    "not_after": "at",
    "max_licenses": "live_licenses",
    "max_exclusivity": "exclusivity",
    "duties": "duties_kept",
    "max_epsilon_nano": "epsilon_nano",
}


def under(purpose: str, listed: list[str]) -> bool:
    return purpose in listed or any(under(parent, listed) for parent in ABOVE[purpose])


def allows(scope: pb.SharingScope, coordinate: str, value: Any) -> bool:
    """The oracle: whether one coordinate of a use is allowed. Slow and plain."""
    match coordinate:
        case "place":
            return any(
                part.dataset == value[0]
                and part.first_version <= value[1]
                and (part.last_version == 0 or value[1] <= part.last_version)
                and value[2] in list(part.columns)
                for part in scope.datasets
            )
        case "category":
            return value in list(scope.categories)
        case "purpose":
            return under(value, list(scope.purposes))
        case "action":
            return value in list(scope.actions)
        case "mode":
            return bool(value <= scope.max_mode)
        case "paid":
            return bool(value[0] == scope.floor_price.currency and value[1] >= scope.floor_price.amount_minor)
        case "country":
            return value in list(scope.territories) or list(scope.territories) == ["WORLD"]
        case "seconds":
            return bool(value <= scope.max_duration_seconds)
        case "at":
            return (not scope.HasField("not_before") or value >= scope.not_before.seconds) and (
                not scope.HasField("not_after") or value < scope.not_after.seconds
            )
        case "live_licenses":
            return bool(scope.max_licenses == 0 or value <= scope.max_licenses)
        case "exclusivity":
            return bool(value <= max(1, scope.max_exclusivity))
        case "duties_kept":
            return all(duty in value for duty in scope.duties)
        case "epsilon_nano":
            return bool(value <= scope.max_epsilon_nano)
    raise AssertionError(coordinate)


def allowed_values(scope: pb.SharingScope, coordinate: str) -> list[Any]:
    return [value for value in getattr(UNIVERSE, coordinate) if allows(scope, coordinate, value)]


def allows_use(scope: pb.SharingScope, use: Use) -> bool:
    return all(allows(scope, coordinate, getattr(use, coordinate)) for coordinate in Use._fields)


def uses_of(scope: pb.SharingScope, chance: random.Random, count: int) -> Iterator[Use]:
    """Uses the scope permits, built from its own coordinates rather than sampled in the hope of one."""
    values = [allowed_values(scope, coordinate) for coordinate in Use._fields]
    for _ in range(count):
        yield Use(*(chance.choice(some) for some in values))


def a_subset(chance: random.Random, of: tuple[Any, ...]) -> list[Any]:
    return chance.sample(of, chance.randint(1, len(of)))


def a_part(chance: random.Random, dataset: str) -> pb.DatasetScope:
    first = chance.randint(1, 4)
    last = chance.choice([0, *range(first, 5)])
    columns = a_subset(chance, COLUMNS)
    return pb.DatasetScope(dataset=dataset, first_version=first, last_version=last, columns=columns)


def a_scope(chance: random.Random) -> pb.SharingScope:
    """A well-formed scope over the small universes."""
    scope = pb.SharingScope(
        datasets=[a_part(chance, dataset) for dataset in a_subset(chance, DATASETS)],
        categories=a_subset(chance, (1, 2, 3)),
        purposes=a_subset(chance, PURPOSES)[: chance.randint(1, 3)],
        actions=a_subset(chance, (1, 2, 3)),
        max_mode=chance.randint(1, 6),  # type: ignore[arg-type]
        floor_price=Money(amount_minor=chance.randint(0, 3), currency=chance.choice(["EUR", "EUR", "EUR", "USD"])),
        territories=["WORLD"] if chance.random() < 0.3 else a_subset(chance, ("DE", "FR")),
        max_duration_seconds=chance.randint(1, 3),
        max_licenses=chance.randint(0, 3),
        max_exclusivity=chance.randint(0, 3),  # type: ignore[arg-type]
        duties=chance.sample((1, 2, 3), chance.randint(0, 3)),  # type: ignore[arg-type]
        max_epsilon_nano=chance.randint(0, 2),
    )
    opens, closes = sorted(chance.sample((10, 20, 30, 40), 2))
    if chance.random() < 0.7:
        scope.not_before.seconds = opens
    if chance.random() < 0.7:
        scope.not_after.seconds = closes
    return scope


def a_child(chance: random.Random, parent: pb.SharingScope) -> pb.SharingScope:
    """Some dimensions of a random scope over the parent's, kept only where they do not escape."""
    child = copy.deepcopy(parent)
    other = a_scope(chance)
    for field in pb.SharingScope.DESCRIPTOR.fields:
        if chance.random() < 0.7:
            attempt = copy.deepcopy(child)
            attempt.ClearField(field.name)  # type: ignore[arg-type]
            value = pb.SharingScope()
            value.CopyFrom(other)
            for rest in pb.SharingScope.DESCRIPTOR.fields:
                if rest.name != field.name:
                    value.ClearField(rest.name)  # type: ignore[arg-type]
            attempt.MergeFrom(value)
            if not escapes(parent, attempt):
                child = attempt
    return child


def test_a_well_formed_scope_is_inside_itself() -> None:
    chance = random.Random(1)
    for _ in range(2_000):
        scope = a_scope(chance)
        assert ill_formed(scope) == []
        assert escapes(scope, scope) == []


def test_inside_of_inside_is_inside() -> None:
    chance = random.Random(2)
    strictly = 0
    for _ in range(1_000):
        rule = a_scope(chance)
        grant = a_child(chance, rule)
        token = a_child(chance, grant)
        assert escapes(rule, grant) == [] == escapes(grant, token)
        assert escapes(rule, token) == []
        strictly += bool(escapes(token, grant)) and bool(escapes(grant, rule))
    assert strictly > 700


def test_a_contained_child_permits_no_use_its_parent_refuses() -> None:
    chance = random.Random(3)
    met = narrower = 0
    for _ in range(1_000):
        parent = a_scope(chance)
        child = a_child(chance, parent)
        narrower += bool(escapes(child, parent))
        for use in uses_of(child, chance, 20):
            assert allows_use(child, use)
            assert allows_use(parent, use)
            met += 1
    assert met == 20_000
    assert narrower > 800


def test_containment_is_exactly_what_the_oracle_says_dimension_by_dimension() -> None:
    """No false refusal: each reported escape has a concrete escaping use. No silent one: each such use is reported."""
    chance = random.Random(4)
    seen = dict.fromkeys(COORDINATE, 0)
    for _ in range(3_000):
        parent, child = a_scope(chance), a_scope(chance)
        (use,) = uses_of(child, chance, 1)
        reported = [one.dimension for one in escapes(parent, child)]
        for dimension in reported:
            coordinate = COORDINATE[dimension]
            beyond = [value for value in allowed_values(child, coordinate) if not allows(parent, coordinate, value)]
            assert beyond, f"{dimension} was refused without a use that escapes"
            escaping = use._replace(**{coordinate: beyond[0]})
            assert allows_use(child, escaping)
            assert not allows_use(parent, escaping)
            seen[dimension] += 1
        for coordinate in Use._fields:
            if any(not allows(parent, coordinate, value) for value in allowed_values(child, coordinate)):
                assert coordinate in {COORDINATE[dimension] for dimension in reported}
    assert min(seen.values()) > 100, seen


def test_a_widening_of_one_dimension_is_named_exactly() -> None:
    chance = random.Random(5)
    widened = dict.fromkeys(COORDINATE, 0)
    for _ in range(2_000):
        parent = a_scope(chance)
        for dimension, child in widenings(parent):
            assert [one.dimension for one in escapes(parent, child)] == [dimension]
            widened[dimension] += 1
    assert min(widened.values()) > 300, widened


def widenings(parent: pb.SharingScope) -> Iterator[tuple[str, pb.SharingScope]]:
    """The parent, made wider in one dimension, for each dimension that can be."""

    def wider() -> pb.SharingScope:
        return copy.deepcopy(parent)

    child = wider()
    child.datasets.add(dataset="cooperatives/cc/datasets/cc", first_version=1, columns=["c1"])
    yield "datasets", child
    if parent.datasets[0].last_version:
        child = wider()
        child.datasets[0].last_version = 0
        yield "versions", child
    if parent.datasets[0].first_version > 1:
        child = wider()
        child.datasets[0].first_version -= 1
        yield "versions", child
    child = wider()
    child.datasets[0].columns.append("c9")
    yield "columns", child
    child = wider()
    child.categories.append(pb.BUYER_CATEGORY_LARGE_PLATFORM)
    yield "categories", child
    if "Purpose" not in parent.purposes:
        child = wider()
        child.purposes.append("Marketing")
        yield "purposes", child
    child = wider()
    child.actions.append(pb.USE_ACTION_RAG_INPUT)
    yield "actions", child
    if parent.max_mode < 6:
        child = wider()
        child.max_mode += 1  # type: ignore[assignment]
        yield "max_mode", child
    if parent.floor_price.amount_minor:
        child = wider()
        child.floor_price.amount_minor -= 1
        yield "floor_price", child
    child = wider()
    child.floor_price.currency = "JPY"
    yield "floor_price", child
    if list(parent.territories) != ["WORLD"]:
        child = wider()
        child.territories.append("US")
        yield "territories", child
    child = wider()
    child.max_duration_seconds += 1
    yield "max_duration_seconds", child
    if parent.HasField("not_before"):
        child = wider()
        child.not_before.seconds -= 1
        yield "not_before", child
    if parent.HasField("not_after"):
        child = wider()
        child.ClearField("not_after")
        yield "not_after", child
    if parent.max_licenses:
        child = wider()
        child.max_licenses += 1
        yield "max_licenses", child
    if parent.max_exclusivity < 3:
        child = wider()
        child.max_exclusivity = pb.EXCLUSIVITY_FULL
        yield "max_exclusivity", child
    if parent.duties:
        child = wider()
        child.duties.pop()
        yield "duties", child
    child = wider()
    child.max_epsilon_nano += 1
    yield "max_epsilon_nano", child


# A prohibition looks at these coordinates of a use and at nothing else.
PROHIBITED = ("place", "category", "purpose", "action", "country", "at")


def test_a_prohibition_reaches_a_scope_exactly_when_they_share_a_use() -> None:
    chance = random.Random(6)
    reached = missed = 0
    for _ in range(6_000):
        deny, scope = a_scope(chance), a_scope(chance)
        shared = all(
            any(allows(deny, coordinate, value) for value in allowed_values(scope, coordinate))
            for coordinate in PROHIBITED
        )
        assert overlaps(deny, scope) == shared == overlaps(scope, deny)
        reached += shared
        missed += not shared
    assert reached > 1_000
    assert missed > 1_000


def test_no_use_of_a_scope_beside_a_prohibition_is_prohibited() -> None:
    chance = random.Random(7)
    met = 0
    while met < 20_000:
        deny, scope = a_scope(chance), a_scope(chance)
        if overlaps(deny, scope):
            continue
        for use in uses_of(scope, chance, 20):
            assert not all(allows(deny, coordinate, getattr(use, coordinate)) for coordinate in PROHIBITED)
            met += 1


NUMBERS = st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 9)
BIG_NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 9)
WORDS = st.sampled_from(["", "WORLD", "DE", "de", "EUR", "AcademicResearch", "Nonsense", *DATASETS]) | st.text(
    max_size=4
)
STAMPS = st.none() | st.builds(Timestamp, seconds=BIG_NUMBERS, nanos=NUMBERS)
NONSENSE = st.builds(
    pb.SharingScope,
    datasets=st.lists(
        st.builds(
            pb.DatasetScope,
            dataset=WORDS,
            first_version=NUMBERS,
            last_version=NUMBERS,
            columns=st.lists(WORDS, max_size=3),
        ),
        max_size=3,
    ),
    categories=st.lists(NUMBERS, max_size=3),
    purposes=st.lists(WORDS, max_size=3),
    actions=st.lists(NUMBERS, max_size=3),
    max_mode=NUMBERS,
    floor_price=st.none() | st.builds(Money, amount_minor=BIG_NUMBERS, currency=WORDS),
    territories=st.lists(WORDS, max_size=3),
    max_duration_seconds=BIG_NUMBERS,
    not_before=STAMPS,
    not_after=STAMPS,
    max_licenses=NUMBERS,
    max_exclusivity=NUMBERS,
    duties=st.lists(NUMBERS, max_size=3),
    max_epsilon_nano=BIG_NUMBERS,
)
SCOPES = st.builds(lambda seed: a_scope(random.Random(seed)), st.integers(0, 10**6))


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(NONSENSE | SCOPES, NONSENSE | SCOPES, NONSENSE | SCOPES)
def test_nonsense_gets_an_answer_and_stays_inside_the_order(
    first: pb.SharingScope, second: pb.SharingScope, third: pb.SharingScope
) -> None:
    assert describe(first)
    assert overlaps(first, second) == overlaps(second, first)
    assert all(str(one) for one in escapes(first, second))
    if not ill_formed(first):
        assert escapes(first, first) == []
    if not escapes(first, second) and not escapes(second, third):
        assert escapes(first, third) == []


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(SCOPES, NONSENSE, st.sets(st.sampled_from([field.name for field in pb.SharingScope.DESCRIPTOR.fields])))
def test_whatever_is_contained_is_well_formed(
    parent: pb.SharingScope, nonsense: pb.SharingScope, fields: set[str]
) -> None:
    child = copy.deepcopy(parent)
    for name in fields:
        child.ClearField(name)  # type: ignore[arg-type]
    for field in pb.SharingScope.DESCRIPTOR.fields:
        if field.name not in fields:
            nonsense.ClearField(field.name)  # type: ignore[arg-type]
    child.MergeFrom(nonsense)
    if not escapes(parent, child):
        # Saying the same thing twice widens nothing, so it is the one fault that containment lets pass.
        assert all("twice" in sentence for sentence in ill_formed(child))
