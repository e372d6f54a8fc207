"""A cooperative's own signing key in tests, and what it signs: rules, their ends, offerings. Licensing's too, for terms."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass, field

from rochdale.catalog.v1 import catalog_pb2
from rochdale.governance.v1 import governance_pb2
from rochdale.licensing.v1 import licensing_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit.chain import hash_of_offering, hash_of_rule, hash_of_rule_end
from rochdale_kit.clock import new_id, to_timestamp
from rochdale_kit.cooperative_keys import CooperativeKeys, introduce
from rochdale_kit.signing import (
    LICENSE_PREFIX,
    OFFERING_PREFIX,
    RULE_END_PREFIX,
    RULE_PREFIX,
    SigningKey,
    canonical_hash,
    sign_hash,
)

LONG_AGO = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
TWO_YEARS = dt.timedelta(days=730)


@dataclass
class Authority:
    """One cooperative (bare id) and its key, in use since long ago."""

    cooperative: str
    key: SigningKey = field(default_factory=SigningKey.generate)

    @property
    def name(self) -> str:
        return f"cooperatives/{self.cooperative}"

    def introduced(self) -> governance_pb2.CooperativeKey:
        return introduce(self.name, self.key, LONG_AGO)

    def keys(self) -> CooperativeKeys:
        return CooperativeKeys.follow(self.name, [self.introduced()])

    def document(self) -> governance_pb2.Cooperative:
        """The cooperative as governance answers it."""
        return governance_pb2.Cooperative(
            name=self.name, display_name=self.cooperative.title(), signing_keys=[self.introduced()]
        )

    def rule(
        self,
        scope: scope_pb2.SharingScope,
        effective: dt.datetime,
        *,
        effect: governance_pb2.RuleEffect.ValueType = governance_pb2.RULE_EFFECT_ALLOW,
        name: str = "",
        revision: int = 1,
        expire: dt.datetime | None = None,
        member_recall: bool = False,
        emergency: bool = False,
    ) -> governance_pb2.SharingRule:
        """A rule in force as members would have enacted it, signed."""
        rule = governance_pb2.SharingRule(
            name=name or f"{self.name}/sharingRules/{new_id('rule')}",
            revision=revision,
            effect=effect,
            scope=scope,
            state=governance_pb2.RULE_STATE_IN_FORCE,
            effective_time=to_timestamp(effective),
            expire_time=to_timestamp(expire or effective + TWO_YEARS),
            create_time=to_timestamp(effective),
            proposal="" if emergency else f"{self.name}/proposals/{new_id('prop')}",
            tally_hash="" if emergency else hashlib.sha256(b"a tally").hexdigest(),
            member_recall=member_recall,
            emergency=emergency,
        )
        return self.signed_rule(rule)

    def signed_rule(self, rule: governance_pb2.SharingRule) -> governance_pb2.SharingRule:
        """The same rule with the hash and signature it should have; for one changed in a test."""
        rule.rule_hash = hash_of_rule(rule)
        rule.signature.CopyFrom(sign_hash(self.key, RULE_PREFIX, rule.rule_hash))
        return rule

    def ended(self, rule: governance_pb2.SharingRule, at: dt.datetime) -> governance_pb2.SharingRule:
        """The rule as it is once the cooperative ended it."""
        over = governance_pb2.SharingRule()
        over.CopyFrom(rule)
        over.state = governance_pb2.RULE_STATE_ENDED
        over.end_time.CopyFrom(to_timestamp(at))
        over.end_signature.CopyFrom(sign_hash(self.key, RULE_END_PREFIX, hash_of_rule_end(over)))
        return over

    def signed_offering(self, offering: catalog_pb2.Offering) -> catalog_pb2.Offering:
        """The same offering with the hash and signature it should have."""
        offering.offering_hash = hash_of_offering(offering)
        offering.signature.CopyFrom(sign_hash(self.key, OFFERING_PREFIX, offering.offering_hash))
        return offering


def signed_license(license: licensing_pb2.License, licensing: SigningKey) -> licensing_pb2.License:
    """The license with the hash and signature licensing would give its terms."""
    license.terms_hash = canonical_hash(license.terms)
    license.signature.CopyFrom(sign_hash(licensing, LICENSE_PREFIX, license.terms_hash))
    return license
