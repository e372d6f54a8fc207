"""What the client signs is what the kit verifies, and what it hashes is what the kit hashes: two programs, one contract."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

import pytest
from authority import Authority
from google.protobuf.timestamp_pb2 import Timestamp
from paper_vote import Poll, scope

from rochdale.catalog.v1 import catalog_pb2
from rochdale.client import authority as own
from rochdale.client.refusals import MarketError
from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1 import money_pb2, scope_pb2, signature_pb2
from rochdale_kit import chain, cooperative_keys, signing
from rochdale_kit.clock import to_timestamp

VALLEY = "cooperatives/valley"
THEN = to_timestamp(dt.datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=dt.UTC))


def later(seconds: int) -> Timestamp:
    return Timestamp(seconds=THEN.seconds + seconds, nanos=THEN.nanos)


def test_hashes_are_the_kits() -> None:
    rule = Authority("valley").rule(
        scope(not_before=THEN, not_after=later(9), max_epsilon_nano=2**62, duties=[scope_pb2.DUTY_ATTRIBUTION]),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        member_recall=True,
    )
    assert own.canonical_json(rule) == signing.canonical_json(rule)
    assert own.hash_of_rule(rule) == chain.hash_of_rule(rule) == rule.rule_hash
    ended = Authority("valley").ended(rule, dt.datetime(2026, 2, 1, tzinfo=dt.UTC))
    assert own.hash_of_rule_end(ended) == chain.hash_of_rule_end(ended)
    offering = catalog_pb2.Offering(
        name=f"{VALLEY}/offerings/off_01JABCDEFGHJKMNPQRSTVWXYZ0",
        title="ü",
        scope=rule.scope,
        tiers=[
            catalog_pb2.OfferingTier(
                categories=[scope_pb2.BUYER_CATEGORY_ACADEMIC],
                price=money_pb2.Money(amount_minor=1250, currency="EUR"),
                sharing_rule=rule.name,
            )
        ],
        rule_hashes=[rule.rule_hash],
    )
    assert own.hash_of_offering(offering) == chain.hash_of_offering(offering)


def test_the_kit_believes_what_the_client_signs() -> None:
    first, second = own.SigningKey.generate(), own.SigningKey.generate()
    introduced = [
        own.introduce(VALLEY, first, THEN),
        own.introduce(VALLEY, second, later(100), first),
    ]
    assert own.flaw_of_keys(VALLEY, introduced) == ""
    keys = cooperative_keys.CooperativeKeys.follow(VALLEY, introduced, pin=first.key_id)
    assert keys.latest_id == second.key_id

    poll = Poll()
    poll.close()
    rule = own.enacted_rule(poll.proposal.delta.rules[0], poll.proposal, later(10))
    rule.signature.CopyFrom(own.sign_rule(rule, first))
    assert chain.flaw_of_signed_rule(rule, keys) is None
    assert rule.expire_time.seconds - rule.effective_time.seconds == 1000 and rule.member_recall

    narrower = own.next_revision(rule, scope(max_duration_seconds=60), later(20))
    narrower.signature.CopyFrom(own.sign_rule(narrower, first))
    assert chain.flaw_of_signed_rule(narrower, keys) is None and narrower.revision == 2
    rule.end_time.CopyFrom(later(20))
    rule.end_signature.CopyFrom(own.sign_rule_end(rule, later(20), first))
    assert chain.end_is_signed(rule, keys)

    offering = catalog_pb2.Offering(name=f"{VALLEY}/offerings/off_1", scope=scope(), rule_hashes=["a"])
    assert keys.verify(own.sign_offering(offering, second), signing.OFFERING_PREFIX, chain.hash_of_offering(offering))

    # A key that may be in other hands takes everything it signed with it.
    compromised = [introduced[0], own.introduce(VALLEY, second, later(100), first, previous_compromised=True)]
    assert own.flaw_of_keys(VALLEY, compromised) == ""
    flaw = chain.flaw_of_signed_rule(narrower, cooperative_keys.CooperativeKeys.follow(VALLEY, compromised))
    assert flaw is not None and flaw.reason == "RULE_SIGNATURE_INVALID"


def test_a_line_of_keys_that_does_not_hold_is_named() -> None:
    first, second = own.SigningKey.generate(), own.SigningKey.generate()
    good = own.introduce(VALLEY, first, THEN)
    forged = own.introduce(VALLEY, second, later(1), first)
    forged.previous_signature.CopyFrom(forged.own_signature)
    assert "not introduced" in own.flaw_of_keys(VALLEY, [good, forged])
    stranger = own.introduce(VALLEY, second, later(1), own.SigningKey.generate())
    assert "does not follow" in own.flaw_of_keys(VALLEY, [good, stranger])
    stranger.previous_key_id = first.key_id
    assert "did not sign its own" in own.flaw_of_keys(VALLEY, [good, stranger])
    assert "is not cooperatives/hills's" in own.flaw_of_keys("cooperatives/hills", [good])
    swapped = governance_pb2.CooperativeKey.FromString(good.SerializeToString())
    swapped.public_key = second.public_key
    assert own.flaw_of_keys(VALLEY, [swapped])


def test_a_key_is_kept_for_its_owner_and_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "valley.signing.key"
    key = own.signing_key_for(file)
    assert own.signing_key_for(file).key_id == key.key_id == signing.SigningKey.from_private(key.private).key_id
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(MarketError) as refused:
        own.write_signing_key(file, own.SigningKey.generate())
    assert refused.value.reason == "SIGNING_KEY_EXISTS" and own.read_signing_key(file).key_id == key.key_id
    with pytest.raises(MarketError) as refused:
        own.read_signing_key(tmp_path / "none")
    assert refused.value.reason == "SIGNING_KEY_NOT_FOUND"
    (tmp_path / "text").write_text("not a key")
    with pytest.raises(MarketError) as refused:
        own.read_signing_key(tmp_path / "text")
    assert refused.value.reason == "SIGNING_KEY_MALFORMED"


def test_a_document_is_genuine_to_the_letter() -> None:
    key = signing.SigningKey.generate()
    keys = own.PublicKeys({key.key_id: key.public_bytes})
    made = signature_pb2.SignedDocument(content_json='{"a":1}')
    hashed = hashlib.sha256(made.content_json.encode()).hexdigest()
    made.signature.CopyFrom(signing.sign_hash(key, signing.DOCUMENT_PREFIX, hashed))
    assert own.document_is_genuine(made, keys)
    made.content_json = '{"a":2}'
    assert not own.document_is_genuine(made, keys)
