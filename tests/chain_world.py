"""Whole chains of authority for tests, from a rule to a token, each step signed by whom it should be; and for every
dimension of a scope, one way to widen it and one to narrow it. What is allowed is decided nowhere here."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from authority import Authority, signed_license

from access_broker.domain import tokens as broker_tokens
from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1 import scope_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.chain import hash_of_grant
from rochdale_kit.clock import new_id, to_timestamp
from rochdale_kit.signing import GRANT_PREFIX, KeySet, SigningKey, public_key_of, sign_hash

COOPERATIVE = "valley"
DATASETS = tuple(f"cooperatives/{COOPERATIVE}/datasets/{name}" for name in ("visits", "labs", "sleep"))
UNVOTED = f"cooperatives/{COOPERATIVE}/datasets/unvoted"
COLUMNS = ("age", "sex", "region", "visits", "cost", "days")
PURPOSES = ("ResearchAndDevelopment", "PublicBenefit", "CommercialPurpose", "ServicePersonalisation", "ModelTraining")
# Terms directly under each, and terms under none of PURPOSES.
UNDER = {
    "ResearchAndDevelopment": ("AcademicResearch", "ScientificResearch", "NonCommercialResearch"),
    "PublicBenefit": ("ImproveHealthcare", "DataAltruism"),
    "CommercialPurpose": ("CommercialResearch",),
    "ModelTraining": ("ModelFineTuning",),
}
BESIDE = ("Marketing", "PoliticalCampaign", "SellDataToThirdParties", "ServiceOptimisation")
COUNTRIES = ("DE", "FR", "IT", "NL")
OPENS = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
CLOSES = dt.datetime(2028, 1, 1, tzinfo=dt.UTC)
RULED = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
AGREED = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
GRANTED = AGREED + dt.timedelta(minutes=5)
ISSUED = GRANTED + dt.timedelta(days=1)
GATEWAY_URL = "https://gateway.valley.example"
DAY = 86_400


def key_set(key: SigningKey) -> KeySet:
    return KeySet({key.key_id: public_key_of(key.public_bytes)})


@dataclass
class Chain:
    """Documents as they stand. A test bends some of them, then has them signed again from there on, or not."""

    rule: governance.SharingRule
    offering: catalog.Offering
    license: licensing.License
    grant: broker.Grant
    grant_signature: Any

    @property
    def terms(self) -> licensing.LicenseTerms:
        return self.license.terms

    def document(self) -> broker.GrantChain:
        """As the broker shows it to the gateway."""
        return broker.GrantChain(
            grant=self.grant,
            terms=self.terms,
            sharing_rule=self.rule,
            offering=self.offering,
            license_signature=self.license.signature,
            grant_signature=self.grant_signature,
        )


@dataclass
class Signers:
    """Everybody whose key signs a step."""

    authority: Authority = field(default_factory=lambda: Authority(COOPERATIVE))
    licensing_key: SigningKey = field(default_factory=SigningKey.generate)
    broker_key: SigningKey = field(default_factory=SigningKey.generate)

    def chain(self, scope: pb.SharingScope) -> Chain:
        """A chain whose every step has the scope of its rule."""
        rule = self.authority.rule(scope, RULED)
        offering = self.offering(rule, scope)
        license = self.license(rule, offering, scope)
        return self.granted(rule, offering, license, scope)

    def offering(self, rule: governance.SharingRule, scope: pb.SharingScope) -> catalog.Offering:
        return self.authority.signed_offering(
            catalog.Offering(
                name=f"{self.authority.name}/offerings/{new_id('off')}",
                title="An offering",
                scope=scope,
                tiers=[
                    catalog.OfferingTier(categories=scope.categories, price=scope.floor_price, sharing_rule=rule.name)
                ],
                rule_revisions=[rule.revision],
                rule_hashes=[rule.rule_hash],
                state=catalog.OFFERING_STATE_OPEN,
            )
        )

    def license(
        self, rule: governance.SharingRule, offering: catalog.Offering, scope: pb.SharingScope
    ) -> licensing.License:
        name = f"licenses/{new_id('lic')}"
        return signed_license(
            licensing.License(
                name=name,
                terms=licensing.LicenseTerms(
                    license=name,
                    licensor=self.authority.name,
                    licensee="licensees/lab",
                    category=scope.categories[0],
                    offering=offering.name,
                    offering_hash=offering.offering_hash,
                    sharing_rule=rule.name,
                    rule_revision=rule.revision,
                    rule_hash=rule.rule_hash,
                    scope=scope,
                    duration_seconds=scope.max_duration_seconds,
                    price=scope.floor_price,
                    agree_time=to_timestamp(AGREED),
                    emergency_suspension=True,
                    member_recall=rule.member_recall,
                ),
            ),
            self.licensing_key,
        )

    def granted(
        self,
        rule: governance.SharingRule,
        offering: catalog.Offering,
        license: licensing.License,
        scope: pb.SharingScope,
    ) -> Chain:
        grant = broker.Grant(
            name=f"grants/{new_id('gra')}",
            license=license.name,
            terms_hash=license.terms_hash,
            holder="organizations/lab",
            gateway=f"gateways/{COOPERATIVE}",
            scope=scope,
            state=broker.GRANT_STATE_OPEN,
            open_time=to_timestamp(GRANTED),
            end_time=to_timestamp(GRANTED + dt.timedelta(seconds=license.terms.duration_seconds)),
        )
        chain = Chain(rule, offering, license, grant, None)
        return self.sign_grant(chain)

    def sign_grant(self, chain: Chain) -> Chain:
        """As the broker does, whatever the grant says."""
        chain.grant.grant_hash = hash_of_grant(chain.grant)
        chain.grant_signature = sign_hash(self.broker_key, GRANT_PREFIX, chain.grant.grant_hash)
        return chain


def held(grant: broker.Grant) -> broker_tokens.HeldGrant:
    """The grant as the broker remembers it."""
    return broker_tokens.HeldGrant(
        id=grant.name.removeprefix("grants/"),
        license=grant.license,
        cooperative=COOPERATIVE,
        holder="lab",
        scope=grant.scope,
        end_time=grant.end_time.ToDatetime(tzinfo=dt.UTC),
        grant_hash=grant.grant_hash,
    )


def claims_of(grant: broker.Grant, scope: pb.SharingScope) -> dict[str, Any]:
    """The claims with which the broker writes down a token of this scope."""
    issuance = broker_tokens.Issuance(
        token_id=new_id("tok"),
        organization="lab",
        request_id="a-request",
        request=b"",
        grant_id=grant.name.removeprefix("grants/"),
        client="organizations/lab/apiKeys/key_1",
        issue_time=ISSUED,
        expire_time=ISSUED + dt.timedelta(minutes=15),
    )
    return broker_tokens.claims(held(grant), issuance, scope, GATEWAY_URL)


# ---- scopes ----


def a_scope(chance: random.Random) -> pb.SharingScope:
    """A well-formed scope with room to narrow and, in most dimensions, to widen."""

    def some(of: tuple[Any, ...], least: int) -> list[Any]:
        return chance.sample(of, chance.randint(least, len(of)))

    scope = pb.SharingScope(
        datasets=[
            pb.DatasetScope(dataset=name, first_version=chance.randint(1, 4), columns=some(COLUMNS, 2))
            for name in some(DATASETS, 1)
        ],
        categories=some((1, 2, 3, 4, 5, 6), 2),
        purposes=some(PURPOSES, 1),
        actions=some((1, 2, 3, 4, 5, 6, 7), 2),
        max_mode=chance.randint(2, 6),  # type: ignore[arg-type]
        floor_price=Money(amount_minor=chance.choice((0, 1, 50_000, 120_000)), currency="EUR"),
        territories=["WORLD"] if chance.random() < 0.3 else some(COUNTRIES, 1),
        max_duration_seconds=chance.randint(200 * DAY, 700 * DAY),
        max_licenses=chance.randint(0, 5),
        max_exclusivity=chance.randint(0, 3),  # type: ignore[arg-type]
        duties=chance.sample((1, 2, 3, 4, 5), chance.randint(0, 5)),  # type: ignore[arg-type]
        max_epsilon_nano=chance.randint(0, 3_000_000_000),
    )
    for part in scope.datasets:
        part.last_version = chance.choice((0, part.first_version, part.first_version + 3))
    if chance.random() < 0.7:
        scope.not_before.CopyFrom(to_timestamp(OPENS))
    if chance.random() < 0.7:
        scope.not_after.CopyFrom(to_timestamp(CLOSES))
    return scope


def full_scope() -> pb.SharingScope:
    """A scope with every bound set, so that each can be crossed, and room below each."""
    return pb.SharingScope(
        datasets=[
            pb.DatasetScope(dataset=DATASETS[0], first_version=2, last_version=5, columns=COLUMNS[:3]),
            pb.DatasetScope(dataset=DATASETS[1], first_version=2, last_version=4, columns=COLUMNS[:2]),
        ],
        categories=[pb.BUYER_CATEGORY_ACADEMIC, pb.BUYER_CATEGORY_SME],
        purposes=["ResearchAndDevelopment", "PublicBenefit"],
        actions=[pb.USE_ACTION_ANALYZE, pb.USE_ACTION_FINETUNE],
        max_mode=pb.ACCESS_MODE_STREAM,
        floor_price=Money(amount_minor=120_000, currency="EUR"),
        territories=["DE", "FR"],
        max_duration_seconds=365 * DAY,
        not_before=to_timestamp(OPENS),
        not_after=to_timestamp(CLOSES),
        max_licenses=5,
        max_exclusivity=pb.EXCLUSIVITY_FIELD,
        duties=[pb.DUTY_DELETE_AT_END, pb.DUTY_NO_REIDENTIFICATION],
        max_epsilon_nano=1_500_000_000,
    )


# Each changes a scope in one dimension, and says whether it could.
Change = Callable[[random.Random, pb.SharingScope], bool]


def _add(chance: random.Random, members: Any, more: tuple[Any, ...]) -> bool:
    rest = [one for one in more if one not in members]
    if rest:
        members.append(chance.choice(rest))
    return bool(rest)


def _drop(chance: random.Random, members: Any, least: int = 1) -> bool:
    if len(members) <= least:
        return False
    members.pop(chance.randrange(len(members)))
    return True


def _wider_datasets(chance: random.Random, scope: pb.SharingScope) -> bool:
    scope.datasets.add(dataset=UNVOTED, first_version=1, columns=["age"])
    return True


def _wider_versions(chance: random.Random, scope: pb.SharingScope) -> bool:
    part = chance.choice(scope.datasets)
    ways = ["first"] * (part.first_version > 1) + ["last", "open"] * (part.last_version > 0)
    match chance.choice(ways or [""]):
        case "first":
            part.first_version -= 1
        case "last":
            part.last_version += 1
        case "open":
            part.last_version = 0
    return bool(ways)


def _wider_columns(chance: random.Random, scope: pb.SharingScope) -> bool:
    return _add(chance, chance.choice(scope.datasets).columns, ("zper", "name", *COLUMNS))


def _wider_floor_price(chance: random.Random, scope: pb.SharingScope) -> bool:
    if scope.floor_price.amount_minor and chance.random() < 0.7:
        scope.floor_price.amount_minor -= chance.choice((1, scope.floor_price.amount_minor))
    else:
        scope.floor_price.currency = "USD"
    return True


def _wider_territories(chance: random.Random, scope: pb.SharingScope) -> bool:
    if list(scope.territories) == ["WORLD"]:
        return False
    if chance.random() < 0.3:
        scope.territories[:] = ["WORLD"]
        return True
    return _add(chance, scope.territories, ("US", "CN", *COUNTRIES))


def _wider_max_duration_seconds(chance: random.Random, scope: pb.SharingScope) -> bool:
    scope.max_duration_seconds += chance.choice((1, 30 * DAY))
    return True


def _wider_not_before(chance: random.Random, scope: pb.SharingScope) -> bool:
    if not scope.HasField("not_before"):
        return False
    if chance.random() < 0.3:
        scope.ClearField("not_before")
    else:
        scope.not_before.seconds -= chance.choice((1, 90 * DAY))
    return True


def _wider_not_after(chance: random.Random, scope: pb.SharingScope) -> bool:
    if not scope.HasField("not_after"):
        return False
    if chance.random() < 0.3:
        scope.ClearField("not_after")
    else:
        scope.not_after.seconds += chance.choice((1, 90 * DAY))
    return True


def _wider_max_licenses(chance: random.Random, scope: pb.SharingScope) -> bool:
    if not scope.max_licenses:
        return False
    scope.max_licenses = chance.choice((0, scope.max_licenses + 1))
    return True


def _wider_max_mode(chance: random.Random, scope: pb.SharingScope) -> bool:
    if scope.max_mode == pb.ACCESS_MODE_DOWNLOAD:
        return False
    scope.max_mode += 1  # type: ignore[assignment]
    return True


def _wider_max_exclusivity(chance: random.Random, scope: pb.SharingScope) -> bool:
    if scope.max_exclusivity == pb.EXCLUSIVITY_FULL:
        return False
    scope.max_exclusivity = max(1, scope.max_exclusivity) + 1  # type: ignore[assignment]
    return True


def _wider_max_epsilon_nano(chance: random.Random, scope: pb.SharingScope) -> bool:
    scope.max_epsilon_nano += chance.choice((1, 10**9))
    return True


def _wider_purposes(chance: random.Random, scope: pb.SharingScope) -> bool:
    return _add(chance, scope.purposes, ("Purpose", *BESIDE))


WIDEN: dict[str, Change] = {
    "datasets": _wider_datasets,
    "versions": _wider_versions,
    "columns": _wider_columns,
    "categories": lambda chance, scope: _add(chance, scope.categories, (1, 2, 3, 4, 5, 6, 7)),
    "purposes": _wider_purposes,
    "actions": lambda chance, scope: _add(chance, scope.actions, tuple(range(1, 10))),
    "max_mode": _wider_max_mode,
    "floor_price": _wider_floor_price,
    "territories": _wider_territories,
    "max_duration_seconds": _wider_max_duration_seconds,
    "not_before": _wider_not_before,
    "not_after": _wider_not_after,
    "max_licenses": _wider_max_licenses,
    "max_exclusivity": _wider_max_exclusivity,
    "duties": lambda chance, scope: _drop(chance, scope.duties, 0),
    "max_epsilon_nano": _wider_max_epsilon_nano,
}


def _narrower_versions(chance: random.Random, scope: pb.SharingScope) -> bool:
    part = chance.choice(scope.datasets)
    if not part.last_version:
        part.last_version = part.first_version + 3
    elif part.first_version == part.last_version:
        return False
    elif chance.random() < 0.5:
        part.first_version += 1
    else:
        part.last_version -= 1
    return True


def _narrower_purposes(chance: random.Random, scope: pb.SharingScope) -> bool:
    if len(scope.purposes) > 1 and chance.random() < 0.5:
        return _drop(chance, scope.purposes)
    above = [term for term in scope.purposes if term in UNDER]
    if not above:
        return False
    term = chance.choice(above)
    kept = [one for one in scope.purposes if one != term]
    scope.purposes[:] = list(dict.fromkeys([*kept, chance.choice(UNDER[term])]))
    return True


def _narrower_max_mode(chance: random.Random, scope: pb.SharingScope) -> bool:
    if scope.max_mode == pb.ACCESS_MODE_AGGREGATE:
        return False
    scope.max_mode -= 1  # type: ignore[assignment]
    return True


def _narrower_floor_price(chance: random.Random, scope: pb.SharingScope) -> bool:
    scope.floor_price.amount_minor += chance.choice((1, 5_000))
    return True


def _narrower_territories(chance: random.Random, scope: pb.SharingScope) -> bool:
    if list(scope.territories) == ["WORLD"]:
        scope.territories[:] = chance.sample(COUNTRIES, 2)
        return True
    return _drop(chance, scope.territories)


def _narrower_max_duration_seconds(chance: random.Random, scope: pb.SharingScope) -> bool:
    scope.max_duration_seconds -= chance.choice((1, 10 * DAY))
    return True


def _narrower_not_before(chance: random.Random, scope: pb.SharingScope) -> bool:
    opens = scope.not_before.seconds if scope.HasField("not_before") else int(OPENS.timestamp())
    # Never after the chain's own times: the request of a chain is made on the day after.
    scope.not_before.seconds = min(opens + 5 * DAY, int(RULED.timestamp()))
    return True


def _narrower_not_after(chance: random.Random, scope: pb.SharingScope) -> bool:
    closes = scope.not_after.seconds if scope.HasField("not_after") else int(CLOSES.timestamp())
    scope.not_after.seconds = closes - chance.choice((1, 5 * DAY))
    return True


def _narrower_max_licenses(chance: random.Random, scope: pb.SharingScope) -> bool:
    if scope.max_licenses == 1:
        return False
    scope.max_licenses = scope.max_licenses - 1 if scope.max_licenses else 5
    return True


def _narrower_max_exclusivity(chance: random.Random, scope: pb.SharingScope) -> bool:
    if scope.max_exclusivity <= pb.EXCLUSIVITY_NONE:
        return False
    scope.max_exclusivity -= 1  # type: ignore[assignment]
    return True


def _narrower_max_epsilon_nano(chance: random.Random, scope: pb.SharingScope) -> bool:
    if not scope.max_epsilon_nano:
        return False
    scope.max_epsilon_nano -= chance.randint(1, scope.max_epsilon_nano)
    return True


NARROW: dict[str, Change] = {
    "datasets": lambda chance, scope: _drop(chance, scope.datasets),
    "versions": _narrower_versions,
    "columns": lambda chance, scope: _drop(chance, chance.choice(scope.datasets).columns),
    "categories": lambda chance, scope: _drop(chance, scope.categories),
    "purposes": _narrower_purposes,
    "actions": lambda chance, scope: _drop(chance, scope.actions),
    "max_mode": _narrower_max_mode,
    "floor_price": _narrower_floor_price,
    "territories": _narrower_territories,
    "max_duration_seconds": _narrower_max_duration_seconds,
    "not_before": _narrower_not_before,
    "not_after": _narrower_not_after,
    "max_licenses": _narrower_max_licenses,
    "max_exclusivity": _narrower_max_exclusivity,
    "duties": lambda chance, scope: _add(chance, scope.duties, tuple(range(1, 9))),
    "max_epsilon_nano": _narrower_max_epsilon_nano,
}


def changed(chance: random.Random, scope: pb.SharingScope, *changes: Change) -> pb.SharingScope:
    """A copy with the changes made, as far as they can be."""
    result = pb.SharingScope()
    result.CopyFrom(scope)
    for change in changes:
        change(chance, result)
    return result


def narrowed(chance: random.Random, scope: pb.SharingScope) -> pb.SharingScope:
    """A copy narrowed in some of the dimensions, or in none."""
    return changed(chance, scope, *(change for change in NARROW.values() if chance.random() < 0.3))
