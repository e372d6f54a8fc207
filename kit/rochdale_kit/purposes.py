"""Purposes of use: terms of W3C's Data Privacy Vocabulary and which term is under which. Data and four small questions.

Left out on purpose: DPV's terms about running an organization (personnel, vendors, recruitment, accounts, customers),
because nobody licenses members' data for them here. A term that is not in this table is unknown, and an unknown purpose
is refused; adding a term is a change that can be read and reviewed in one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# A rule is voted on under one version of the words; the same words of another version could mean something else.
VOCABULARY = "https://w3id.org/dpv/2.3"

# Term -> the terms directly above it (skos:broader), as published in DPV 2.3 (2026-02).
PARENTS: Mapping[str, tuple[str, ...]] = {
    "Purpose": (),
    "CommercialPurpose": ("Purpose",),
    "NonCommercialPurpose": ("Purpose",),
    "ResearchAndDevelopment": ("Purpose",),
    "AcademicResearch": ("ResearchAndDevelopment",),
    "CommercialResearch": ("CommercialPurpose", "ResearchAndDevelopment"),
    "NonCommercialResearch": ("NonCommercialPurpose", "ResearchAndDevelopment"),
    "ScientificResearch": ("ResearchAndDevelopment",),
    "PublicBenefit": ("Purpose",),
    "CombatClimateChange": ("PublicBenefit",),
    "Counterterrorism": ("PublicBenefit",),
    "DataAltruism": ("PublicBenefit",),
    "ImproveHealthcare": ("PublicBenefit",),
    "ImprovePublicServices": ("PublicBenefit",),
    "ImproveTransportMobility": ("PublicBenefit",),
    "ProtectionOfNationalSecurity": ("PublicBenefit",),
    "ProtectionOfPublicSecurity": ("PublicBenefit",),
    "ProvideOfficialStatistics": ("PublicBenefit",),
    "PublicPolicyMaking": ("PublicBenefit",),
    "ServiceManagement": ("Purpose",),
    "ServiceOptimisation": ("ServiceManagement",),
    "OptimisationForConsumer": ("ServiceOptimisation",),
    "OptimisationForController": ("ServiceOptimisation",),
    "ImproveExistingProductsAndServices": ("OptimisationForController",),
    "ServiceProvision": ("ServiceManagement",),
    "SearchFunctionalities": ("ServiceProvision",),
    "SellProducts": ("ServiceProvision",),
    "SellDataToThirdParties": ("SellProducts",),
    "SellInsightsFromData": ("SellProducts",),
    "Personalisation": ("Purpose",),
    "ServicePersonalisation": ("Personalisation", "ServiceManagement"),
    "ProvidePersonalisedRecommendations": ("ServicePersonalisation",),
    "Marketing": ("Purpose",),
    "Advertising": ("Marketing",),
    "PersonalisedAdvertising": ("Advertising", "Personalisation"),
    "TargetedAdvertising": ("PersonalisedAdvertising",),
    "PoliticalCampaign": ("Advertising", "Personalisation"),
    # DPV's AI extension defines these two as processing, not as purposes, because training says what is done and not
    # what for. Members and buyers name them as purposes, so we read them as purposes directly under "Purpose"; that
    # way a rule against every purpose is also a rule against training.
    "ModelTraining": ("Purpose",),
    "ModelFineTuning": ("ModelTraining",),
}


def _with_ancestors(term: str) -> frozenset[str]:
    return frozenset({term}).union(*(_with_ancestors(parent) for parent in PARENTS[term]))


_ANCESTORS: Mapping[str, frozenset[str]] = {term: _with_ancestors(term) for term in PARENTS}
_DESCENDANTS: Mapping[str, frozenset[str]] = {
    term: frozenset(other for other in PARENTS if term in _ANCESTORS[other]) for term in PARENTS
}
_NOTHING: frozenset[str] = frozenset()


def known(term: str) -> bool:
    """Whether the pinned vocabulary, as far as this product uses it, has the term."""
    return term in PARENTS


def covered(term: str, allowed: Iterable[str]) -> bool:
    """Whether the term or a term above it is in `allowed`. An unknown term is covered by nothing, itself included."""
    return not _ANCESTORS.get(term, _NOTHING).isdisjoint(allowed)


def meet(first: str, second: str) -> bool:
    """Whether some purpose is under both terms, so that a prohibition of one reaches a permission of the other.

    Wider than "one is above the other": CommercialResearch is under both CommercialPurpose and ResearchAndDevelopment,
    so forbidding the first touches a permission of the second. An unknown term could mean anything and meets all.
    """
    if first not in PARENTS or second not in PARENTS:
        return True
    return not _DESCENDANTS[first].isdisjoint(_DESCENDANTS[second])


def label(term: str) -> str:
    """The term as words: "NonCommercialResearch" is "non-commercial research"."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", term).lower()
    return words.replace("non commercial", "non-commercial")
