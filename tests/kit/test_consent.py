"""Whether a consent covers a license: each dimension by itself, and everything that must not cover by accident."""

import itertools

import pytest

from rochdale.governance.v1 import membership_pb2 as pb
from rochdale.type.v1 import scope_pb2
from rochdale_kit.consent import covers

DATASET = "cooperatives/valley/datasets/visits"
ACADEMIC, COMPANY = scope_pb2.BUYER_CATEGORY_ACADEMIC, scope_pb2.BUYER_CATEGORY_COMPANY


def given(**changes: object) -> pb.Consent:
    fields: dict[str, object] = {
        "dataset": DATASET,
        "status": pb.CONSENT_STATUS_GIVEN,
        "purposes": ["ResearchAndDevelopment"],
        "categories": [ACADEMIC],
    }
    return pb.Consent(**(fields | changes))  # type: ignore[arg-type]


def test_a_consent_covers_what_it_says_and_what_is_under_it() -> None:
    assert covers(given(), DATASET, ACADEMIC, ["ResearchAndDevelopment"])
    assert covers(given(), DATASET, ACADEMIC, ["AcademicResearch", "ScientificResearch"])


@pytest.mark.parametrize("status", [pb.ConsentStatus.Value(name) for name in pb.ConsentStatus.keys()] + [99])  # noqa: SIM118
def test_only_a_consent_that_stands_covers(status: int) -> None:
    assert covers(given(status=status), DATASET, ACADEMIC, ["AcademicResearch"]) == (status == pb.CONSENT_STATUS_GIVEN)


@pytest.mark.parametrize(
    "dataset, category, wanted",
    [
        ("cooperatives/valley/datasets/visits-2", ACADEMIC, ["AcademicResearch"]),
        ("cooperatives/rivals/datasets/visits", ACADEMIC, ["AcademicResearch"]),
        ("", ACADEMIC, ["AcademicResearch"]),
        (DATASET, COMPANY, ["AcademicResearch"]),
        (DATASET, 0, ["AcademicResearch"]),
        (DATASET, ACADEMIC, ["Marketing"]),
        (DATASET, ACADEMIC, ["Purpose"]),
        (DATASET, ACADEMIC, ["AcademicResearch", "Marketing"]),
        (DATASET, ACADEMIC, ["academicresearch"]),
        (DATASET, ACADEMIC, []),
        (DATASET, ACADEMIC, [""]),
    ],
)
def test_anything_else_is_not_covered(dataset: str, category: int, wanted: list[str]) -> None:
    assert not covers(given(), dataset, category, wanted)


def test_a_consent_that_names_nothing_covers_nothing() -> None:
    assert not covers(pb.Consent(), "", 0, [])
    assert not covers(given(purposes=[]), DATASET, ACADEMIC, ["AcademicResearch"])
    assert not covers(given(categories=[]), DATASET, ACADEMIC, ["AcademicResearch"])
    assert not covers(given(purposes=["Invented"]), DATASET, ACADEMIC, ["Invented"])


def test_every_purpose_has_to_be_covered_whatever_else_is() -> None:
    terms = ["AcademicResearch", "CommercialResearch", "Marketing", "PublicBenefit"]
    consent = given(purposes=["ResearchAndDevelopment", "PublicBenefit"])
    met = set()
    for size in range(1, 5):
        for wanted in itertools.combinations(terms, size):
            answer = covers(consent, DATASET, ACADEMIC, wanted)
            assert answer == ("Marketing" not in wanted)
            met.add(answer)
    assert met == {True, False}
