"""A cooperative's own keys: what they sign, and how a verifier follows from one key it knows to all later ones.

The private half never comes here but in the hands of the cooperative's own program. Where keys are kept is not here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1 import signature_pb2
from rochdale_kit.clock import from_timestamp, to_timestamp
from rochdale_kit.refusals import Kind, Refusal
from rochdale_kit.signing import (
    COOPERATIVE_KEY_PREFIX,
    KeySet,
    SigningKey,
    canonical_hash,
    public_key_of,
    sign_hash,
    thumbprint,
    verify_hash,
)

_SIGNED = ("cooperative", "key_id", "public_key", "begin_time", "previous_key_id", "previous_compromised")


def introduce(
    cooperative: str,
    key: SigningKey,
    begin: dt.datetime,
    previous: SigningKey | None = None,
    previous_compromised: bool = False,
) -> governance_pb2.CooperativeKey:
    """The public half of a new key, as the cooperative's program sends it to governance. cooperative: resource name."""
    introduced = governance_pb2.CooperativeKey(
        cooperative=cooperative,
        key_id=key.key_id,
        public_key=key.public_bytes,
        begin_time=to_timestamp(begin),
        previous_key_id=previous.key_id if previous else "",
        previous_compromised=previous_compromised,
    )
    hashed = canonical_hash(introduced, *_SIGNED)
    introduced.own_signature.CopyFrom(sign_hash(key, COOPERATIVE_KEY_PREFIX, hashed))
    if previous is not None:
        introduced.previous_signature.CopyFrom(sign_hash(previous, COOPERATIVE_KEY_PREFIX, hashed))
    return introduced


@dataclass(frozen=True)
class _Link:
    key_id: str
    keys: KeySet
    begin: dt.datetime
    end: dt.datetime | None
    compromised: bool


class CooperativeKeys:
    """The keys of one cooperative that a verifier believes."""

    def __init__(self, cooperative: str, links: Sequence[_Link]) -> None:
        self.cooperative = cooperative
        self._links = {link.key_id: link for link in links}
        self.latest_id = links[-1].key_id if links else ""

    @classmethod
    def none(cls, cooperative: str) -> CooperativeKeys:
        """Of a cooperative that has no key yet: nothing holds."""
        return cls(cooperative, [])

    @classmethod
    def follow(
        cls, cooperative: str, introduced: Sequence[governance_pb2.CooperativeKey], pin: str = ""
    ) -> CooperativeKeys:
        """From the pinned key on; without a pin, from the first. Refuses a broken line with COOPERATIVE_KEY_INVALID.

        cooperative: resource name. introduced: first to latest. pin: id of the key the verifier knows by itself; keys
        before it are not believed, and a line that does not lead through it is refused.
        """
        if not introduced:
            if pin:
                raise _invalid(f"{cooperative} shows no keys, and {pin} is pinned")
            return cls.none(cooperative)
        for index, one in enumerate(introduced):
            _require_link(cooperative, one, introduced[index - 1] if index else None)
        # A stolen key introduced once more would have back all that was ever signed with it.
        if len({one.key_id for one in introduced}) != len(introduced):
            raise _invalid(f"{cooperative} shows a key twice")
        start = 0
        if pin:
            start = next((index for index, one in enumerate(introduced) if one.key_id == pin), -1)
            if start < 0:
                raise _invalid(f"the pinned key {pin} is not among those of {cooperative}")
        links = []
        for index, one in enumerate(introduced):
            later = introduced[index + 1] if index + 1 < len(introduced) else None
            if index >= start:
                links.append(
                    _Link(
                        one.key_id,
                        KeySet({one.key_id: public_key_of(one.public_key)}),
                        from_timestamp(one.begin_time),
                        None if later is None else from_timestamp(later.begin_time),
                        later is not None and later.previous_compromised,
                    )
                )
        return cls(cooperative, links)

    def __bool__(self) -> bool:
        return bool(self._links)

    def verify(
        self, signature: signature_pb2.Signature, prefix: bytes, hashed: str, at: dt.datetime | None = None
    ) -> bool:
        """Whether one of these keys made a signature, and at that time was the one that signs. A compromised key made none.

        at: when it was made, where the signed thing says so.
        """
        link = self._links.get(signature.key_id)
        if link is None or link.compromised or not verify_hash(link.keys, signature, prefix, hashed):
            return False
        return at is None or (link.begin <= at and (link.end is None or at <= link.end))


def keys_of(cooperative: governance_pb2.Cooperative | None, name: str) -> CooperativeKeys:
    """The keys that are believed; none for a cooperative that has none, or was not heard of."""
    if cooperative is None or not cooperative.signing_keys:
        return CooperativeKeys.none(name)
    return CooperativeKeys.follow(name, list(cooperative.signing_keys))


def followed(known: governance_pb2.Cooperative | None, told: governance_pb2.Cooperative) -> governance_pb2.Cooperative:
    """What is known after governance told something, newer or older. Another line of keys is refused with
    COOPERATIVE_KEY_INVALID: the first key heard of is the one believed, and so is every one that followed."""
    if known is None:
        known = governance_pb2.Cooperative(name=told.name)
    before = [key.key_id for key in known.signing_keys]
    now = [key.key_id for key in told.signing_keys]
    if len(now) < len(before):
        # Told late: what was heard since stays, as long as both are one line.
        after = known
        now, before = before, now
    else:
        keys_of(told, told.name)
        after = told
    if now[: len(before)] != before:
        raise Refusal(
            "COOPERATIVE_KEY_INVALID",
            f"The keys told of {told.name} do not continue those that are known.",
            Kind.STATE,
            cooperative=told.name,
        )
    return after


def require_heard(keys: CooperativeKeys, known: governance_pb2.Cooperative | None, key_id: str) -> None:
    """Refuses, for now, what is signed by a key that was not heard of yet: events overtake one another."""
    told = [key.key_id for key in known.signing_keys] if known is not None else []
    if not told:
        raise Refusal(
            "COOPERATIVE_KEY_NOT_YET_KNOWN",
            f"No key of {keys.cooperative} is known yet.",
            Kind.UNAVAILABLE,
            cooperative=keys.cooperative,
        )
    if key_id and key_id not in told:
        # The key may be on its way, or the signature anybody's. Tried for half an hour, then parked for an operator.
        raise Refusal(
            "COOPERATIVE_KEY_UNKNOWN",
            f"The key {key_id} is not known to be {keys.cooperative}'s.",
            Kind.INTERNAL,
            cooperative=keys.cooperative,
            key_id=key_id,
        )


def _require_link(
    cooperative: str, one: governance_pb2.CooperativeKey, before: governance_pb2.CooperativeKey | None
) -> None:
    if one.cooperative != cooperative:
        raise _invalid(f"the key {one.key_id} is {one.cooperative or 'nobody'}'s, not {cooperative}'s")
    if len(one.public_key) != 32 or thumbprint(public_key_of(one.public_key)) != one.key_id:
        raise _invalid(f"{one.key_id} is not the thumbprint of its key")
    if not _has_begin(one):
        raise _invalid(f"the key {one.key_id} does not say since when it signs")
    hashed = canonical_hash(one, *_SIGNED)
    own = KeySet({one.key_id: public_key_of(one.public_key)})
    if not verify_hash(own, one.own_signature, COOPERATIVE_KEY_PREFIX, hashed):
        raise _invalid(f"the key {one.key_id} did not sign its own introduction")
    if before is None:
        if one.previous_key_id:
            raise _invalid(f"the first key, {one.key_id}, names one before it")
        return
    if one.previous_key_id != before.key_id or one.key_id == before.key_id:
        raise _invalid(f"the key {one.key_id} does not follow {before.key_id}")
    if from_timestamp(one.begin_time) <= from_timestamp(before.begin_time):
        raise _invalid(f"the key {one.key_id} begins before the key it follows")
    earlier = KeySet({before.key_id: public_key_of(before.public_key)})
    if not verify_hash(earlier, one.previous_signature, COOPERATIVE_KEY_PREFIX, hashed):
        raise _invalid(f"the key {one.key_id} is not introduced by the key before it")


def _has_begin(one: governance_pb2.CooperativeKey) -> bool:
    """Whether it says a time of the calendar, which nobody has checked where keys come from another service's answer."""
    try:
        from_timestamp(one.begin_time)
    except (ValueError, OverflowError):
        return False
    return one.HasField("begin_time")


def _invalid(what: str) -> Refusal:
    return Refusal("COOPERATIVE_KEY_INVALID", f"{what[0].upper()}{what[1:]}.", Kind.INVALID)
