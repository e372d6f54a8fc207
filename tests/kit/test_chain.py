"""Every way in which a chain may not hold, by its name: rule, end, offering, terms, signatures, prohibitions."""

import datetime as dt
import random
from collections.abc import Callable

import pytest
from authority import TWO_YEARS, Authority, signed_license
from chain_world import AGREED, DATASETS, RULED, UNVOTED, Chain, Signers, changed, full_scope, key_set

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1 import pricing_pb2, scope_pb2
from rochdale_kit.chain import (
    Flaw,
    end_is_signed,
    flaw_of_denials,
    flaw_of_license_signature,
    flaw_of_offering,
    flaw_of_rule,
    flaw_of_signed_rule,
    flaw_of_terms,
    hash_of_grant,
    hash_of_offering,
    hash_of_rule,
    hash_of_rule_end,
    tier_scope,
)
from rochdale_kit.clock import to_timestamp
from rochdale_kit.cooperative_keys import CooperativeKeys, introduce
from rochdale_kit.signing import LICENSE_PREFIX, OFFERING_PREFIX, RULE_PREFIX, SigningKey, sign_hash

SIGNERS = Signers()
OURS = SIGNERS.authority
KEYS = OURS.keys()
SECOND = dt.timedelta(seconds=1)


def a_chain() -> Chain:
    return SIGNERS.chain(full_scope())


def reason(flaw: Flaw | None) -> str:
    assert flaw is None or flaw.sentence.endswith(".")
    return flaw.reason if flaw else ""


def first_flaw(chain: Chain, keys: CooperativeKeys = KEYS) -> str:
    """As broker and gateway look at it, but for the grant."""
    terms, license = chain.terms, chain.license
    return reason(
        flaw_of_terms(terms, license.name, license.terms_hash)
        or flaw_of_license_signature(
            license.name, license.terms_hash, license.signature, key_set(SIGNERS.licensing_key)
        )
        or flaw_of_rule(terms, chain.rule, keys)
        or flaw_of_offering(terms, chain.offering, keys)
    )


def resigned(chain: Chain) -> Chain:
    """By the honest signers from the rule on: every hash and signature is right again, whatever is signed."""
    OURS.signed_rule(chain.rule)
    chain.offering.rule_hashes[:] = [chain.rule.rule_hash]
    OURS.signed_offering(chain.offering)
    chain.terms.rule_hash, chain.terms.offering_hash = chain.rule.rule_hash, chain.offering.offering_hash
    chain.terms.rule_revision = chain.rule.revision
    signed_license(chain.license, SIGNERS.licensing_key)
    return chain


def test_an_honest_chain_has_no_flaw() -> None:
    assert first_flaw(a_chain()) == ""
    assert first_flaw(resigned(a_chain())) == ""
    planned = a_chain()
    monthly(planned)
    assert first_flaw(resigned(planned)) == ""


Bend = Callable[[Chain], object]


def deny(chain: Chain) -> None:
    chain.rule.effect = governance.RULE_EFFECT_DENY


def wider_terms(chain: Chain) -> None:
    chain.terms.scope.datasets[0].columns.append("zper")


def narrower_offering(chain: Chain) -> None:
    chain.offering.scope.datasets[0].columns.pop()


def other_tier(chain: Chain) -> None:
    chain.offering.tiers[0].sharing_rule = f"{OURS.name}/sharingRules/rule_{'0' * 26}"


def recall(chain: Chain) -> None:
    chain.rule.member_recall = True


def monthly(chain: Chain) -> None:
    """Both sides say that the price is due each month."""
    for document in (chain.offering.tiers[0], chain.terms):
        document.price_plan.interval = pricing_pb2.BILLING_INTERVAL_MONTH


def yearly_for_the_buyer(chain: Chain) -> None:
    monthly(chain)
    chain.terms.price_plan.interval = pricing_pb2.BILLING_INTERVAL_YEAR


def by_use_alone(chain: Chain) -> None:
    for document in (chain.offering.tiers[0], chain.terms):
        document.price_plan.metered.add(meter=pricing_pb2.METER_QUERY, unit_price="1")


# What is signed is wrong, and everything after it is signed again: an insider at every desk could do this.
SAID: dict[str, tuple[str, Bend]] = {
    "no vote is cited": ("RULE_NOT_VOTED", lambda chain: chain.rule.ClearField("proposal")),
    "no tally is cited": ("RULE_NOT_VOTED", lambda chain: chain.rule.ClearField("tally_hash")),
    "it never begins": ("RULE_NOT_IN_FORCE", lambda chain: chain.rule.ClearField("effective_time")),
    "it never ends": ("RULE_NOT_IN_FORCE", lambda chain: chain.rule.ClearField("expire_time")),
    "it began later": (
        "RULE_NOT_IN_FORCE",
        lambda chain: chain.rule.effective_time.CopyFrom(to_timestamp(AGREED + SECOND)),
    ),
    "it had ended": ("RULE_NOT_IN_FORCE", lambda chain: chain.rule.end_time.CopyFrom(to_timestamp(AGREED))),
    "it had expired": ("RULE_EXPIRED", lambda chain: chain.rule.expire_time.CopyFrom(to_timestamp(AGREED))),
    "it forbids": ("RULE_FORBIDS", deny),
    "it may be recalled and the terms do not say so": ("TERMS_INCONSISTENT", recall),
    "the terms are wider than the rule": ("LICENSE_OUTSIDE_RULE", wider_terms),
    "the terms are wider than the offering": ("LICENSE_OUTSIDE_OFFERING", narrower_offering),
    "the offering stands on another rule": ("OFFERING_ON_OTHER_RULE", other_tier),
    "the offering says once and the terms each month": (
        "PRICE_PLAN_MISMATCH",
        lambda chain: setattr(chain.terms.price_plan, "interval", pricing_pb2.BILLING_INTERVAL_MONTH),
    ),
    "the offering says each month and the terms once": (
        "PRICE_PLAN_MISMATCH",
        lambda chain: setattr(chain.offering.tiers[0].price_plan, "interval", pricing_pb2.BILLING_INTERVAL_MONTH),
    ),
    "the offering says each month and the terms each year": ("PRICE_PLAN_MISMATCH", yearly_for_the_buyer),
    "the terms have an empty plan": ("TERMS_INCONSISTENT", lambda chain: chain.terms.price_plan.SetInParent()),
    "both have a plan that makes no sense": ("TERMS_INCONSISTENT", by_use_alone),
    "the offering is not for this category": (
        "OFFERING_ON_OTHER_RULE",
        lambda chain: chain.offering.tiers[0].categories.remove(chain.terms.category),
    ),
    "the scope is none": ("SCOPE_ILL_FORMED", lambda chain: chain.terms.scope.ClearField("purposes")),
    "another license's terms": (
        "TERMS_INCONSISTENT",
        lambda chain: setattr(chain.terms, "license", f"licenses/lic_{'0' * 26}"),
    ),
    "no time of agreement": ("TERMS_INCONSISTENT", lambda chain: chain.terms.ClearField("agree_time")),
    "another category": (
        "TERMS_INCONSISTENT",
        lambda chain: setattr(chain.terms, "category", scope_pb2.BUYER_CATEGORY_LARGE_PLATFORM),
    ),
    "two prices": ("TERMS_INCONSISTENT", lambda chain: setattr(chain.terms.price, "amount_minor", 1)),
    "too long": ("TERMS_INCONSISTENT", lambda chain: setattr(chain.terms, "duration_seconds", 366 * 86_400)),
    "no time at all": ("TERMS_INCONSISTENT", lambda chain: setattr(chain.terms, "duration_seconds", 0)),
    "no emergency": ("TERMS_INCONSISTENT", lambda chain: setattr(chain.terms, "emergency_suspension", False)),
    "another cooperative gives": (
        "TERMS_INCONSISTENT",
        lambda chain: setattr(chain.terms, "licensor", "cooperatives/rivals"),
    ),
    "another cooperative's dataset": (
        "TERMS_INCONSISTENT",
        lambda chain: setattr(chain.terms.scope.datasets[0], "dataset", "cooperatives/rivals/datasets/visits"),
    ),
    "another cooperative's rule": (
        "TERMS_INCONSISTENT",
        lambda chain: setattr(chain.terms, "sharing_rule", f"cooperatives/rivals/sharingRules/rule_{'0' * 26}"),
    ),
    "another rule's name": (
        "RULE_UNKNOWN",
        lambda chain: setattr(chain.terms, "sharing_rule", f"{OURS.name}/sharingRules/rule_{'0' * 26}"),
    ),
    "another offering's name": (
        "OFFERING_UNKNOWN",
        lambda chain: setattr(chain.terms, "offering", f"{OURS.name}/offerings/off_{'0' * 26}"),
    ),
}


@pytest.mark.parametrize("what", SAID)
def test_what_is_signed_does_not_hold_by_being_signed(what: str) -> None:
    expected, bend = SAID[what]
    chain = a_chain()
    bend(chain)
    assert first_flaw(resigned(chain)) == expected


def rehash_rule(chain: Chain) -> None:
    chain.rule.rule_hash = hash_of_rule(chain.rule)


def rehash_offering(chain: Chain) -> None:
    chain.offering.offering_hash = hash_of_offering(chain.offering)


def widen_rule(chain: Chain) -> None:
    chain.rule.scope.datasets[0].columns.append("zper")


def widen_offering(chain: Chain) -> None:
    chain.offering.scope.datasets[0].columns.append("zper")


def their_rule_signature(chain: Chain) -> None:
    chain.rule.signature.CopyFrom(sign_hash(SigningKey.generate(), RULE_PREFIX, chain.rule.rule_hash))


def licensings_rule_signature(chain: Chain) -> None:
    chain.rule.signature.CopyFrom(sign_hash(SIGNERS.licensing_key, RULE_PREFIX, chain.rule.rule_hash))


def offering_signature_as_rules(chain: Chain) -> None:
    chain.rule.signature.CopyFrom(sign_hash(OURS.key, OFFERING_PREFIX, chain.rule.rule_hash))


def their_license_signature(chain: Chain) -> None:
    chain.license.signature.CopyFrom(sign_hash(SigningKey.generate(), LICENSE_PREFIX, chain.license.terms_hash))


# Changed by hand after it was signed; with "and hashed again" as somebody would who knows how hashes are made.
CHANGED: dict[str, tuple[str, list[Bend]]] = {
    "the rule": ("RULE_HASH_MISMATCH", [widen_rule]),
    "the rule, and hashed again": ("RULE_HASH_MISMATCH", [widen_rule, rehash_rule]),
    "the rule's signature": ("RULE_SIGNATURE_INVALID", [their_rule_signature]),
    "the rule's signature, by licensing": ("RULE_SIGNATURE_INVALID", [licensings_rule_signature]),
    "the rule's signature, made for an offering": ("RULE_SIGNATURE_INVALID", [offering_signature_as_rules]),
    "the rule's signature gone": ("RULE_SIGNATURE_INVALID", [lambda chain: chain.rule.ClearField("signature")]),
    "the rule's revision": ("RULE_UNKNOWN", [lambda chain: setattr(chain.rule, "revision", 2)]),
    "the offering": ("OFFERING_HASH_MISMATCH", [widen_offering]),
    "the offering, and hashed again": ("OFFERING_HASH_MISMATCH", [widen_offering, rehash_offering]),
    "the offering's signature gone": (
        "OFFERING_SIGNATURE_INVALID",
        [lambda chain: chain.offering.ClearField("signature")],
    ),
    "the terms": ("TERMS_HASH_MISMATCH", [wider_terms]),
    "the license's signature": ("LICENSE_SIGNATURE_INVALID", [their_license_signature]),
    "the license's signature gone": (
        "LICENSE_SIGNATURE_INVALID",
        [lambda chain: chain.license.ClearField("signature")],
    ),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_was_changed_after_it_was_signed_is_found(what: str) -> None:
    expected, bends = CHANGED[what]
    chain = a_chain()
    for bend in bends:
        bend(chain)
    assert first_flaw(chain) == expected


def test_a_capable_insider_at_the_market_can_sign_all_but_what_members_sign() -> None:
    """Rule widened, every hash made again, the license signed by licensing itself: the cooperative's key is not there."""
    chain = a_chain()
    widen_rule(chain)
    rehash_rule(chain)
    widen_offering(chain)
    chain.offering.rule_hashes[:] = [chain.rule.rule_hash]
    rehash_offering(chain)
    wider_terms(chain)
    chain.terms.rule_hash, chain.terms.offering_hash = chain.rule.rule_hash, chain.offering.offering_hash
    signed_license(chain.license, SIGNERS.licensing_key)
    assert first_flaw(chain) == "RULE_SIGNATURE_INVALID"
    theirs = Authority(OURS.cooperative)
    theirs.signed_rule(chain.rule)
    theirs.signed_offering(chain.offering)
    assert first_flaw(chain) == "RULE_SIGNATURE_INVALID"
    OURS.signed_rule(chain.rule)
    assert first_flaw(chain) == "OFFERING_SIGNATURE_INVALID"


def test_another_cooperatives_rule_is_not_ours_whoever_signed_it() -> None:
    rivals = Authority("rivals")
    chain = a_chain()
    theirs = rivals.rule(chain.rule.scope, RULED)
    assert reason(flaw_of_signed_rule(theirs, KEYS)) == "RULE_SIGNATURE_INVALID"
    assert reason(flaw_of_signed_rule(OURS.signed_rule(theirs), KEYS)) == "RULE_SIGNATURE_INVALID"
    assert reason(flaw_of_rule(chain.terms, None, KEYS)) == "RULE_UNKNOWN"
    assert reason(flaw_of_rule(chain.terms, theirs, KEYS)) == "RULE_UNKNOWN"
    assert reason(flaw_of_offering(chain.terms, None, KEYS)) == "OFFERING_UNKNOWN"
    assert first_flaw(chain, CooperativeKeys.none(OURS.name)) == "RULE_SIGNATURE_INVALID"
    assert first_flaw(chain, rivals.keys()) == "RULE_SIGNATURE_INVALID"


def test_a_license_agreed_in_a_rules_last_moment_holds_for_ever() -> None:
    chain = a_chain()
    chain.rule.end_time.CopyFrom(to_timestamp(AGREED + SECOND))
    chain.rule.expire_time.CopyFrom(to_timestamp(AGREED + SECOND))
    assert first_flaw(resigned(chain)) == ""


def test_price_and_duration_are_the_two_sides_to_agree() -> None:
    """Inside the rule, both may leave the offering; nothing else may."""
    scope = full_scope()
    rule = OURS.rule(scope, RULED)
    listed = full_scope()
    listed.floor_price.amount_minor, listed.max_duration_seconds = 500_000, 86_400
    offering = SIGNERS.offering(rule, listed)
    chain = SIGNERS.granted(rule, offering, SIGNERS.license(rule, offering, scope), scope)
    assert first_flaw(chain) == ""


def test_a_retired_key_signed_what_it_signed_and_nothing_new() -> None:
    changed_on = AGREED + dt.timedelta(days=10)
    second = SigningKey.generate()
    line = [OURS.introduced(), introduce(OURS.name, second, changed_on, OURS.key)]
    keys = CooperativeKeys.follow(OURS.name, line)
    assert first_flaw(a_chain(), keys) == ""
    backdated = OURS.rule(full_scope(), changed_on + SECOND)
    assert reason(flaw_of_signed_rule(backdated, keys)) == "RULE_SIGNATURE_INVALID"
    line[1] = introduce(OURS.name, second, changed_on, OURS.key, True)
    assert first_flaw(a_chain(), CooperativeKeys.follow(OURS.name, line)) == "RULE_SIGNATURE_INVALID"
    assert first_flaw(a_chain(), CooperativeKeys.follow(OURS.name, line, second.key_id)) == "RULE_SIGNATURE_INVALID"


# ---- prohibitions ----


def denied(*rules: governance.SharingRule) -> str:
    return reason(flaw_of_denials(a_chain().terms, rules, KEYS))


def a_denial(effective: dt.datetime = RULED, emergency: bool = False) -> governance.SharingRule:
    return OURS.rule(full_scope(), effective, effect=governance.RULE_EFFECT_DENY, emergency=emergency)


def test_a_prohibition_in_force_at_the_time_is_found() -> None:
    assert denied(OURS.rule(full_scope(), RULED), a_denial()) == "RULE_DENIES"
    assert denied(a_denial(AGREED)) == "RULE_DENIES"
    assert denied(a_denial(AGREED + SECOND)) == ""
    assert denied() == denied(OURS.rule(full_scope(), RULED)) == ""


def test_a_prohibition_that_was_over_is_passed_over() -> None:
    assert denied(OURS.ended(a_denial(), AGREED)) == ""
    assert denied(OURS.ended(a_denial(), AGREED + SECOND)) == "RULE_DENIES"
    expired = OURS.rule(full_scope(), RULED, effect=governance.RULE_EFFECT_DENY, expire=AGREED)
    assert denied(expired) == ""
    expired = OURS.rule(full_scope(), RULED, effect=governance.RULE_EFFECT_DENY, expire=AGREED + SECOND)
    assert denied(expired) == "RULE_DENIES"


def test_only_the_board_forbids_without_a_signature() -> None:
    emergency = a_denial(emergency=True)
    emergency.ClearField("signature")
    assert denied(emergency) == "RULE_DENIES"
    forged = a_denial()
    forged.ClearField("signature")
    assert denied(forged) == ""
    allowed = OURS.rule(full_scope(), RULED, emergency=True)
    allowed.ClearField("signature")
    assert reason(flaw_of_signed_rule(OURS.signed_rule(allowed), KEYS)) == "RULE_NOT_VOTED"


def test_a_prohibition_beside_the_license_does_not_meet_it() -> None:
    scope = full_scope()
    del scope.datasets[:]
    scope.datasets.add(dataset=UNVOTED, first_version=1, columns=["age"])
    assert denied(OURS.rule(scope, RULED, effect=governance.RULE_EFFECT_DENY)) == ""
    scope.datasets.add(dataset=DATASETS[1], first_version=1, columns=["age"])
    assert denied(OURS.rule(scope, RULED, effect=governance.RULE_EFFECT_DENY)) == "RULE_DENIES"


# ---- ends ----


def test_an_end_is_the_cooperatives_by_its_signature() -> None:
    rule = a_denial()
    assert not end_is_signed(rule, KEYS)
    over = OURS.ended(rule, AGREED)
    assert end_is_signed(over, KEYS)
    for bend in (
        lambda one: one.ClearField("end_signature"),
        lambda one: one.ClearField("end_time"),
        lambda one: one.end_time.CopyFrom(to_timestamp(AGREED - SECOND)),
        lambda one: setattr(one, "revision", 2),
        lambda one: setattr(one, "rule_hash", "0" * 64),
        lambda one: one.end_signature.CopyFrom(one.signature),
        lambda one: one.end_signature.CopyFrom(sign_hash(SigningKey.generate(), b"x", hash_of_rule_end(one))),
    ):
        bent = governance.SharingRule()
        bent.CopyFrom(over)
        bend(bent)
        assert not end_is_signed(bent, KEYS)
    assert not end_is_signed(over, Authority("rivals").keys())


# ---- what each hash holds ----


@pytest.mark.parametrize(
    "message, make, free",
    [
        (
            a_chain().rule,
            hash_of_rule,
            {
                "rationale",
                "state",
                "end_time",
                "approvals",
                "rule_hash",
                "create_time",
                "signature",
                "end_signature",
            },
        ),
        (
            a_chain().offering,
            hash_of_offering,
            {
                "title",
                "description",
                "rule_revisions",
                "state",
                "offering_hash",
                "publish_time",
                "close_time",
                "close_reason",
                "signature",
                "mandate_request",
            },
        ),
        (a_chain().grant, hash_of_grant, {"state", "state_reason", "grant_hash"}),
    ],
    ids=["rule", "offering", "grant"],
)
def test_every_field_of_weight_is_in_the_hash(
    message: governance.SharingRule | broker.Grant, make: Callable[[object], str], free: set[str]
) -> None:
    """A field added to the contract is in the hash, or is listed here as one that is not."""
    before = make(message)
    for field in message.DESCRIPTOR.fields:
        bent = type(message)()
        bent.CopyFrom(message)  # type: ignore[arg-type]
        if field.is_repeated or field.message_type is not None:
            bent.ClearField(field.name)  # type: ignore[arg-type]
            if not message.HasField(field.name) if field.message_type and not field.is_repeated else False:  # type: ignore[arg-type]
                getattr(bent, field.name).SetInParent()
            elif field.is_repeated and not len(getattr(message, field.name)):
                getattr(bent, field.name).append("x")
        elif field.type == field.TYPE_STRING:
            setattr(bent, field.name, "something else")
        elif field.type == field.TYPE_BOOL:
            setattr(bent, field.name, not getattr(message, field.name))
        else:
            setattr(bent, field.name, getattr(message, field.name) + 1)
        assert (make(bent) == before) == (field.name in free), field.name


def test_every_field_of_the_terms_is_in_their_hash() -> None:
    chain = a_chain()
    monthly(chain)
    resigned(chain)
    for field in licensing.LicenseTerms.DESCRIPTOR.fields:
        bent = licensing.LicenseTerms()
        bent.CopyFrom(chain.terms)
        if field.type == field.TYPE_BOOL:
            setattr(bent, field.name, not getattr(bent, field.name))
        else:
            bent.ClearField(field.name)  # type: ignore[arg-type]
        assert reason(flaw_of_terms(bent, chain.license.name, chain.license.terms_hash)) == "TERMS_HASH_MISMATCH"


def test_a_tier_has_its_own_categories_and_price() -> None:
    offering = a_chain().offering
    offering.tiers[0].price.amount_minor = 7
    offering.tiers[0].categories[:] = [scope_pb2.BUYER_CATEGORY_SME]
    scope = tier_scope(offering.scope, offering.tiers[0])
    assert (scope.floor_price.amount_minor, list(scope.categories)) == (7, [scope_pb2.BUYER_CATEGORY_SME])
    assert changed(random.Random(1), scope) == scope and offering.scope.floor_price.amount_minor == 120_000


def test_a_rule_lives_as_long_as_it_says() -> None:
    assert a_chain().rule.expire_time == to_timestamp(RULED + TWO_YEARS)
