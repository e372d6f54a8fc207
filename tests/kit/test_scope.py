"""Scopes by example: every dimension of containment, requests, prohibitions, ill-formed scopes and plain English."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.type.v1 import scope_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit import purposes
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.scope import (
    DIMENSIONS,
    Escape,
    describe,
    escapes,
    ill_formed,
    overlaps,
    permits,
    require_inside,
    require_well_formed,
)

RANDHIE = "cooperatives/valley-health/datasets/randhie"
FAIR = "cooperatives/valley-health/datasets/fair"
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
END = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)


def stamp(moment: dt.datetime) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(moment)
    return result


def a_scope() -> pb.SharingScope:
    """A rule with every bound set, so that each can be crossed."""
    return pb.SharingScope(
        datasets=[
            pb.DatasetScope(dataset=RANDHIE, first_version=2, last_version=4, columns=["mdvis", "coins"]),
            pb.DatasetScope(dataset=FAIR, first_version=1, last_version=0, columns=["age"]),
        ],
        categories=[pb.BUYER_CATEGORY_ACADEMIC, pb.BUYER_CATEGORY_SME],
        purposes=["ResearchAndDevelopment", "ImproveHealthcare"],
        actions=[pb.USE_ACTION_ANALYZE, pb.USE_ACTION_FINETUNE],
        max_mode=pb.ACCESS_MODE_STREAM,
        floor_price=Money(amount_minor=120_000, currency="EUR"),
        territories=["DE", "FR"],
        max_duration_seconds=365 * 86_400,
        not_before=stamp(START),
        not_after=stamp(END),
        max_licenses=5,
        max_exclusivity=pb.EXCLUSIVITY_FIELD,
        duties=[pb.DUTY_DELETE_AT_END, pb.DUTY_NO_REIDENTIFICATION],
        max_epsilon_nano=1_500_000_000,
    )


Change = Callable[[pb.SharingScope], object]


def changed(*changes: Change) -> pb.SharingScope:
    scope = a_scope()
    for change in changes:
        change(scope)
    return scope


def put(**values: object) -> Change:
    """Sets single fields; a list replaces a list."""

    def change(scope: pb.SharingScope) -> None:
        for name, value in values.items():
            scope.ClearField(name)  # type: ignore[arg-type]
            scope.MergeFrom(pb.SharingScope(**{name: value}))  # type: ignore[arg-type]

    return change


def put_dataset(index: int, **values: object) -> Change:
    def change(scope: pb.SharingScope) -> None:
        for name, value in values.items():
            scope.datasets[index].ClearField(name)  # type: ignore[arg-type]
            scope.datasets[index].MergeFrom(pb.DatasetScope(**{name: value}))  # type: ignore[arg-type]

    return change


def escaping(*changes: Change) -> list[str]:
    return [one.dimension for one in escapes(a_scope(), changed(*changes))]


WIDENINGS: list[tuple[str, Change]] = [
    ("datasets", lambda scope: scope.datasets.add(dataset="cooperatives/b/datasets/c", first_version=1, columns=["x"])),
    ("datasets", put_dataset(0, dataset="cooperatives/other-coop/datasets/randhie")),
    ("versions", put_dataset(0, first_version=1)),
    ("versions", put_dataset(0, last_version=5)),
    ("versions", put_dataset(0, last_version=0)),
    ("columns", put_dataset(0, columns=["mdvis", "zper"])),
    ("columns", put_dataset(1, columns=["age", "mdvis"])),
    ("categories", lambda scope: scope.categories.append(pb.BUYER_CATEGORY_LARGE_PLATFORM)),
    ("purposes", lambda scope: scope.purposes.append("Marketing")),
    ("purposes", put(purposes=["PublicBenefit"])),
    ("purposes", put(purposes=["CommercialPurpose"])),
    ("purposes", put(purposes=["Purpose"])),
    ("actions", lambda scope: scope.actions.append(pb.USE_ACTION_COMMERCIALIZE_MODEL)),
    ("max_mode", put(max_mode=pb.ACCESS_MODE_DOWNLOAD)),
    ("floor_price", put(floor_price=Money(amount_minor=119_999, currency="EUR"))),
    ("floor_price", put(floor_price=Money(amount_minor=120_000, currency="USD"))),
    ("floor_price", put(floor_price=Money(amount_minor=10**15, currency="HUF"))),
    ("territories", lambda scope: scope.territories.append("US")),
    ("territories", put(territories=["WORLD"])),
    ("max_duration_seconds", put(max_duration_seconds=365 * 86_400 + 1)),
    ("not_before", put(not_before=stamp(START - dt.timedelta(microseconds=1)))),
    ("not_before", lambda scope: scope.ClearField("not_before")),
    ("not_after", put(not_after=stamp(END + dt.timedelta(microseconds=1)))),
    ("not_after", lambda scope: scope.ClearField("not_after")),
    ("max_licenses", put(max_licenses=6)),
    ("max_licenses", put(max_licenses=0)),
    ("max_exclusivity", put(max_exclusivity=pb.EXCLUSIVITY_FULL)),
    ("duties", put(duties=[pb.DUTY_DELETE_AT_END])),
    ("duties", put(duties=[])),
    ("max_epsilon_nano", put(max_epsilon_nano=1_500_000_001)),
]


@pytest.mark.parametrize(("dimension", "change"), WIDENINGS)
def test_a_widening_is_refused_by_its_name_and_no_other(dimension: str, change: Change) -> None:
    assert escaping(change) == [dimension]


def test_every_dimension_has_a_widening() -> None:
    assert {dimension for dimension, _ in WIDENINGS} == set(DIMENSIONS)


NARROWINGS: list[Change] = [
    lambda scope: None,
    lambda scope: scope.datasets.pop(),
    put_dataset(0, first_version=3, last_version=3),
    put_dataset(0, columns=["coins"]),
    put_dataset(1, first_version=7),
    put_dataset(1, first_version=7, last_version=9),
    put(categories=[pb.BUYER_CATEGORY_SME]),
    put(purposes=["AcademicResearch", "CommercialResearch", "ImproveHealthcare"]),
    put(actions=[pb.USE_ACTION_FINETUNE]),
    put(max_mode=pb.ACCESS_MODE_AGGREGATE),
    put(floor_price=Money(amount_minor=120_001, currency="EUR")),
    put(territories=["FR"]),
    put(max_duration_seconds=1),
    put(not_before=stamp(START + dt.timedelta(days=1)), not_after=stamp(END - dt.timedelta(days=1))),
    put(max_licenses=1),
    put(max_exclusivity=pb.EXCLUSIVITY_NONE),
    put(max_exclusivity=pb.EXCLUSIVITY_UNSPECIFIED),
    lambda scope: scope.duties.append(pb.DUTY_ATTRIBUTION),
    put(max_epsilon_nano=0),
]


@pytest.mark.parametrize("change", NARROWINGS)
def test_a_narrowing_is_contained(change: Change) -> None:
    assert escaping(change) == []


def test_many_escapes_are_all_named_in_the_contract_order() -> None:
    found = escaping(put(max_mode=pb.ACCESS_MODE_DOWNLOAD, duties=[]), put_dataset(0, columns=["zper"]))
    assert found == ["columns", "max_mode", "duties"]


def test_an_open_parent_holds_everything_of_its_kind() -> None:
    open_parent = changed(
        put(territories=["WORLD"], max_licenses=0, duties=[], max_exclusivity=pb.EXCLUSIVITY_FULL),
        put_dataset(0, first_version=1, last_version=0),
        lambda scope: scope.ClearField("not_before"),
        lambda scope: scope.ClearField("not_after"),
    )
    assert escapes(open_parent, a_scope()) == []
    assert escapes(open_parent, open_parent) == []


def test_exclusivity_left_out_is_read_as_none_on_both_sides() -> None:
    silent = changed(put(max_exclusivity=pb.EXCLUSIVITY_UNSPECIFIED))
    assert escapes(silent, changed(put(max_exclusivity=pb.EXCLUSIVITY_NONE))) == []
    assert [one.dimension for one in escapes(silent, a_scope())] == ["max_exclusivity"]


def test_columns_are_counted_for_each_dataset_alone() -> None:
    swapped = changed(put_dataset(0, columns=["age"]), put_dataset(1, columns=["mdvis"]))
    (escape,) = escapes(a_scope(), swapped)
    assert escape == Escape("columns", f"{RANDHIE}: mdvis, coins; {FAIR}: age", f"{RANDHIE}: age; {FAIR}: mdvis")


def test_an_escape_reads_well() -> None:
    child = changed(put(max_mode=pb.ACCESS_MODE_DOWNLOAD), lambda scope: scope.datasets.pop())
    assert [str(one) for one in escapes(a_scope(), child)] == [
        "max_mode (asked: whole files downloaded; allowed: at most rows read over the network)"
    ]


ILL_FORMED: list[tuple[str, Change, str]] = [
    ("datasets", put(datasets=[]), "names no dataset"),
    ("datasets", lambda scope: scope.datasets.add().CopyFrom(scope.datasets[0]), "listed twice"),
    ("datasets", put_dataset(0, dataset=""), "no name"),
    ("versions", put_dataset(0, first_version=4, last_version=3), "no interval"),
    ("versions", put_dataset(1, first_version=0), "no interval"),
    ("columns", put_dataset(0, columns=[]), "names no columns"),
    ("columns", put_dataset(0, columns=["mdvis", ""]), "unknown"),
    ("categories", put(categories=[]), "names no buyer categories"),
    ("categories", put(categories=[0]), "unknown"),
    ("categories", put(categories=[99]), "unknown"),
    ("purposes", put(purposes=[]), "names no purposes"),
    ("purposes", put(purposes=["WorldDomination"]), "unknown: WorldDomination"),
    ("actions", put(actions=[]), "names no actions"),
    ("max_mode", put(max_mode=0), "not stated"),
    ("max_mode", put(max_mode=99), "unknown (99)"),
    ("floor_price", lambda scope: scope.ClearField("floor_price"), "no currency"),
    ("floor_price", put(floor_price=Money(amount_minor=-1, currency="EUR")), "below zero"),
    ("territories", put(territories=[]), "names no territories"),
    ("territories", put(territories=["WORLD", "DE"]), "unknown: WORLD"),
    ("territories", put(territories=["de"]), "unknown: de"),
    ("max_duration_seconds", put(max_duration_seconds=0), "no time at all"),
    ("not_after", put(not_before=stamp(END)), "time window is empty"),
    ("max_licenses", put(max_licenses=-1), "below zero"),
    ("max_exclusivity", put(max_exclusivity=9), "unknown (9)"),
    ("duties", lambda scope: scope.duties.append(77), "unknown: 77"),  # type: ignore[arg-type]
    ("max_epsilon_nano", put(max_epsilon_nano=-1), "below zero"),
]


@pytest.mark.parametrize(("dimension", "change", "sentence"), ILL_FORMED)
def test_what_is_ill_formed_is_said_and_fits_nowhere(dimension: str, change: Change, sentence: str) -> None:
    broken = changed(change)
    (said,) = ill_formed(broken)
    assert sentence in said
    assert dimension in [one.dimension for one in escapes(broken, broken)]
    with pytest.raises(Refusal) as refused:
        require_well_formed(broken)
    assert refused.value.reason == "SCOPE_ILL_FORMED"


def test_a_whole_scope_is_well_formed_and_an_empty_one_is_not() -> None:
    assert ill_formed(a_scope()) == []
    require_well_formed(a_scope())
    assert len(ill_formed(pb.SharingScope())) == 8
    assert ill_formed(changed(put(territories=["FR", "FR"]))) == ["The territories name something twice."]


def request(**values: object) -> list[str]:
    asked: dict[str, object] = {
        "dataset": RANDHIE,
        "version": 2,
        "columns": ["mdvis"],
        "mode": pb.ACCESS_MODE_STREAM,
        "purpose": None,
        "at": START,
    }
    return [one.dimension for one in permits(a_scope(), **(asked | values))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ({}, []),
        ({"version": 4, "columns": ["coins", "mdvis"], "purpose": "AcademicResearch"}, []),
        ({"dataset": FAIR, "version": 1_000, "columns": ["age"]}, []),
        ({"at": END - dt.timedelta(microseconds=1)}, []),
        ({"at": END.astimezone(dt.timezone(dt.timedelta(hours=5)))}, ["not_after"]),
        ({"at": START - dt.timedelta(microseconds=1)}, ["not_before"]),
        ({"dataset": "cooperatives/other-coop/datasets/randhie"}, ["datasets"]),
        ({"dataset": ""}, ["datasets"]),
        ({"version": 1}, ["versions"]),
        ({"version": 5}, ["versions"]),
        ({"dataset": FAIR, "version": 0, "columns": ["age"]}, ["versions"]),
        ({"columns": ["mdvis", "zper"]}, ["columns"]),
        ({"columns": []}, ["columns"]),
        ({"dataset": FAIR, "columns": ["mdvis"]}, ["columns"]),
        ({"mode": pb.ACCESS_MODE_DOWNLOAD}, ["max_mode"]),
        ({"mode": pb.ACCESS_MODE_UNSPECIFIED}, ["max_mode"]),
        ({"purpose": "Marketing"}, ["purposes"]),
        ({"purpose": ""}, ["purposes"]),
        (
            {"mode": 6, "version": 9, "purpose": "SellProducts", "at": END},
            ["versions", "purposes", "max_mode", "not_after"],
        ),
    ],
)
def test_one_request_is_held_against_the_scope(asked: dict[str, object], refused: list[str]) -> None:
    assert request(**asked) == refused


@pytest.mark.parametrize(
    "change",
    [
        put(max_mode=pb.ACCESS_MODE_AGGREGATE),
        put(floor_price=Money(amount_minor=10**12, currency="USD")),
        put(duties=[pb.DUTY_SHARE_ALIKE], max_licenses=1, max_duration_seconds=1, max_epsilon_nano=0),
        put(purposes=["AcademicResearch"]),
        put(purposes=["Purpose"]),
        put(purposes=["CommercialPurpose"]),
        put(territories=["WORLD"]),
        put_dataset(0, first_version=4, last_version=0),
        lambda scope: scope.ClearField("not_after"),
    ],
)
def test_a_prohibition_reaches_what_it_shares_and_is_softened_by_nothing(change: Change) -> None:
    assert overlaps(changed(change), a_scope())
    assert overlaps(a_scope(), changed(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda scope: scope.datasets.pop(0) and put_dataset(0, columns=["sex"])(scope),
        lambda scope: [put_dataset(0, first_version=5, last_version=9)(scope), scope.datasets.pop(1)],
        lambda scope: [put_dataset(0, columns=["zper"])(scope), scope.datasets.pop(1)],
        put(categories=[pb.BUYER_CATEGORY_LARGE_PLATFORM]),
        put(purposes=["Marketing"]),
        put(actions=[pb.USE_ACTION_COMMERCIALIZE_MODEL]),
        put(territories=["US"]),
        put(not_before=stamp(END), not_after=stamp(END + dt.timedelta(days=9))),
    ],
)
def test_a_prohibition_of_something_else_does_not_reach(change: Change) -> None:
    assert not overlaps(changed(change), a_scope())
    assert not overlaps(a_scope(), changed(change))


def test_require_inside_names_what_escapes_in_sentence_and_facts() -> None:
    require_inside(a_scope(), a_scope(), "OFFERING_OUTSIDE_RULE", "The offering is outside the rule")
    child = changed(put(max_licenses=0, territories=["FR", "US"]))
    with pytest.raises(Refusal) as refused:
        require_inside(a_scope(), child, "OFFERING_OUTSIDE_RULE", "The offering is outside the rule")
    assert refused.value.kind is Kind.STATE
    assert refused.value.message == (
        "The offering is outside the rule: territories (asked: US; allowed: DE, FR); "
        "max_licenses (asked: no limit; allowed: at most 5 at once)."
    )
    assert refused.value.facts == {
        "escapes": "territories, max_licenses",
        "territories": "asked: US; allowed: DE, FR",
        "max_licenses": "asked: no limit; allowed: at most 5 at once",
    }


def test_a_scope_reads_as_plain_english() -> None:
    assert describe(a_scope()).splitlines() == [
        f"Data: {RANDHIE}, versions 2 to 4, columns mdvis, coins.",
        f"Data: {FAIR}, versions from 1 on, columns age.",
        "Who: universities and public research institutes, small and medium-sized enterprises.",
        "What for: research and development, improve healthcare.",
        "They may: analyze it, fine-tune models.",
        "Access: at most rows read over the network; privacy loss to spend: epsilon 1.5.",
        "Where: DE, FR.",
        "When: from 2026-01-01 00:00:00 UTC, until 2027-01-01 00:00:00 UTC; one license lasts at most 365 days.",
        "Price: at least EUR 1,200.00 for a license; licenses: at most 5 at once, at most exclusive in one field of use.",
        "Duties: delete the data when the license ends, never try to find out who a member is.",
    ]
    assert "columns " + ", ".join(f"c{number}" for number in range(40)) + " and 5 more." in describe(
        changed(put_dataset(0, columns=[f"c{number}" for number in range(45)]))
    )


def test_the_vocabulary_is_pinned_and_whole() -> None:
    assert purposes.VOCABULARY == "https://w3id.org/dpv/2.3"
    assert {parent for parents in purposes.PARENTS.values() for parent in parents} <= set(purposes.PARENTS)
    assert [term for term, parents in purposes.PARENTS.items() if not parents] == ["Purpose"]
    assert all(purposes.covered(term, ["Purpose"]) for term in purposes.PARENTS)
    assert purposes.label("NonCommercialResearch") == "non-commercial research"


def test_every_word_of_the_contract_has_english() -> None:
    for enum in (pb.BuyerCategory, pb.UseAction, pb.AccessMode, pb.Duty, pb.Exclusivity):
        for value in enum.values():
            scope = a_scope()
            name = {
                "BuyerCategory": "categories",
                "UseAction": "actions",
                "AccessMode": "max_mode",
                "Duty": "duties",
                "Exclusivity": "max_exclusivity",
            }[enum.DESCRIPTOR.name]
            put(**{name: [value] if name in ("categories", "actions", "duties") else value})(scope)
            assert "unknown" not in describe(scope)
            assert (value == 0 and name != "max_exclusivity") == bool(ill_formed(scope))
