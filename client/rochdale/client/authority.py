"""What a cooperative signs and everybody verifies: canonical hashes, Ed25519 keys, rules, their ends, offerings.

The client's own, written from the contracts: whoever verifies the market with it does not take the market's code for it.
Where key files lie by default is in signing_options.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.catalog.v1 import catalog_pb2
from rochdale.client.refusals import MarketError
from rochdale.governance.v1 import events_pb2, governance_pb2, proposals_pb2
from rochdale.type.v1 import scope_pb2, signature_pb2

COOPERATIVE_KEY_PREFIX = b"rochdale-cooperative-key-v1"
RULE_PREFIX = b"rochdale-rule-v1"
RULE_END_PREFIX = b"rochdale-rule-end-v1"
OFFERING_PREFIX = b"rochdale-offering-v1"
TALLY_PREFIX = b"rochdale-tally-v1"
RECEIPT_PREFIX = b"rochdale-receipt-v1"
DOCUMENT_PREFIX = b"rochdale-document-v1"
DELETION_NOTICE_PREFIX = b"rochdale-deletion-notice-v1"
DIVIDEND_POLICY_PREFIX = b"rochdale-dividend-policy-v1"
DIVIDEND_WEIGHTS_PREFIX = b"rochdale-dividend-weights-v1"

_KEY_FIELDS = ("cooperative", "key_id", "public_key", "begin_time", "previous_key_id", "previous_compromised")
_RULE_FIELDS = (
    *("name", "revision", "effect", "scope", "effective_time", "expire_time"),
    *("proposal", "tally_hash", "member_recall", "emergency"),
)
_POLICY_FIELDS = ("cooperative", "policy", "proposal", "tally_hash", "effective_time")


def canonical_json(message: Message, *fields: str) -> bytes:
    """A message, or only the named fields of it, as protobuf JSON with sorted keys and without spaces."""
    document = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    if fields:
        document = {name: document[name] for name in fields if name in document}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def canonical_hash(message: Message, *fields: str) -> str:
    """SHA-256 over canonical_json, in lower-case hexadecimal."""
    return hashlib.sha256(canonical_json(message, *fields)).hexdigest()


def canonical_hash_without(message: Message, *left_out: str) -> str:
    """SHA-256 over the canonical JSON of "everything above" a hash or signature, which are named to be left out."""
    return canonical_hash(message, *(field.name for field in message.DESCRIPTOR.fields if field.name not in left_out))


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def key_id_of(public_key: bytes) -> str:
    """The id of an Ed25519 public key of 32 bytes: its RFC 7638 thumbprint."""
    jwk = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": _base64url(public_key)}, separators=(",", ":"))
    return _base64url(hashlib.sha256(jwk.encode()).digest())


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A cooperative's key pair. The private half is in a file of the cooperative's and nowhere else."""

    private: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(Ed25519PrivateKey.generate())

    @property
    def public_key(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    @property
    def key_id(self) -> str:
        return key_id_of(self.public_key)

    def sign(self, prefix: bytes, hashed: str) -> signature_pb2.Signature:
        """Over one of the prefixes above and a hash in lower-case hexadecimal."""
        return signature_pb2.Signature(key_id=self.key_id, value=self.private.sign(prefix + hashed.encode("ascii")))


def read_signing_key(path: Path) -> SigningKey:
    """The key in a file. Refuses with SIGNING_KEY_NOT_FOUND, SIGNING_KEY_MALFORMED."""
    facts = {"path": str(path)}
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise MarketError(
            "SIGNING_KEY_NOT_FOUND",
            f"There is no signing key {path}. Name the file with --signing-key or ROCHDALE_SIGNING_KEY; "
            "`rochdale cooperative key add` makes the first one.",
            facts,
        ) from None
    try:
        private = load_pem_private_key(content, None)
    except (ValueError, TypeError):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise MarketError("SIGNING_KEY_MALFORMED", f"{path} is not an Ed25519 private key in PEM.", facts)
    return SigningKey(private)


def write_signing_key(path: Path, key: SigningKey) -> None:
    """Writes a file that only its owner can read. Refuses with SIGNING_KEY_EXISTS rather than lose a key."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise MarketError("SIGNING_KEY_EXISTS", f"{path} exists already.", {"path": str(path)}) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def signing_key_for(path: Path) -> SigningKey:
    """The key in `path`, made and written there if the file does not exist: on disk before the market hears of it."""
    if not path.exists():
        write_signing_key(path, SigningKey.generate())
    return read_signing_key(path)


def introduce(
    cooperative: str,
    key: SigningKey,
    begin: Timestamp,
    previous: SigningKey | None = None,
    previous_compromised: bool = False,
) -> governance_pb2.CooperativeKey:
    """The public half of a key, signed by itself and by the key before it. cooperative: resource name."""
    introduced = governance_pb2.CooperativeKey(
        cooperative=cooperative,
        key_id=key.key_id,
        public_key=key.public_key,
        begin_time=begin,
        previous_key_id=previous.key_id if previous else "",
        previous_compromised=previous_compromised,
    )
    hashed = canonical_hash(introduced, *_KEY_FIELDS)
    introduced.own_signature.CopyFrom(key.sign(COOPERATIVE_KEY_PREFIX, hashed))
    if previous:
        introduced.previous_signature.CopyFrom(previous.sign(COOPERATIVE_KEY_PREFIX, hashed))
    return introduced


class PublicKeys:
    """Public keys by id, and whether one of them made a signature."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = {key_id: Ed25519PublicKey.from_public_bytes(raw) for key_id, raw in keys.items()}

    @classmethod
    def of_jwks(cls, document: str) -> PublicKeys:
        """Of a JSON Web Key Set; keys of other kinds are left out."""
        found: dict[str, bytes] = {}
        for key in json.loads(document)["keys"]:
            if key.get("kty") == "OKP" and key.get("crv") == "Ed25519":
                raw = base64.urlsafe_b64decode(key["x"] + "=" * (-len(key["x"]) % 4))
                found[key_id_of(raw)] = raw
        return cls(found)

    def verify(self, signature: signature_pb2.Signature, prefix: bytes, hashed: str) -> bool:
        """Whether a signature over prefix and hash is one of these keys'."""
        key = self._keys.get(signature.key_id)
        if key is None:
            return False
        try:
            key.verify(signature.value, prefix + hashed.encode())
        except InvalidSignature:
            return False
        return True


def flaw_of_keys(cooperative: str, keys: Sequence[governance_pb2.CooperativeKey]) -> str:
    """Why a cooperative's line of keys, first to latest, does not hold; empty if it does."""
    before: governance_pb2.CooperativeKey | None = None
    for key in keys:
        hashed = canonical_hash(key, *_KEY_FIELDS)
        if key.cooperative != cooperative or key_id_of(key.public_key) != key.key_id:
            return f"The key {key.key_id} is not {cooperative}'s, or not the key its id is of."
        if not PublicKeys({key.key_id: key.public_key}).verify(key.own_signature, COOPERATIVE_KEY_PREFIX, hashed):
            return f"The key {key.key_id} did not sign its own introduction."
        if key.previous_key_id != (before.key_id if before else ""):
            return f"The key {key.key_id} does not follow the one before it."
        if before and not PublicKeys({before.key_id: before.public_key}).verify(
            key.previous_signature, COOPERATIVE_KEY_PREFIX, hashed
        ):
            return f"The key {key.key_id} is not introduced by the one before it."
        before = key
    return ""


def hash_of_rule(rule: governance_pb2.SharingRule) -> str:
    """What rule_hash must be."""
    return canonical_hash(rule, *_RULE_FIELDS)


def hash_of_rule_end(rule: governance_pb2.SharingRule) -> str:
    """What end_signature is made over."""
    return canonical_hash(rule, "name", "revision", "rule_hash", "end_time")


def hash_of_offering(offering: catalog_pb2.Offering) -> str:
    """What offering_hash must be."""
    return canonical_hash(offering, "name", "scope", "tiers", "rule_hashes")


def enacted_rule(
    draft: proposals_pb2.RuleDraft, proposal: proposals_pb2.Proposal, effective: Timestamp
) -> governance_pb2.SharingRule:
    """The rule a draft becomes when its proposal is enacted, with its hash. Everything in it was voted on, or is the vote."""
    rule = governance_pb2.SharingRule(
        name=draft.sharing_rule,
        revision=1,
        effect=draft.effect,
        scope=draft.scope,
        effective_time=effective,
        expire_time=Timestamp(seconds=effective.seconds + draft.life_seconds, nanos=effective.nanos),
        proposal=proposal.name,
        tally_hash=proposal.tally.tally_hash,
        member_recall=draft.member_recall,
    )
    rule.rule_hash = hash_of_rule(rule)
    return rule


def next_revision(
    rule: governance_pb2.SharingRule, scope: scope_pb2.SharingScope, effective: Timestamp
) -> governance_pb2.SharingRule:
    """The next revision of a rule: as it is, with a narrower scope, from `effective` on; with its hash."""
    narrowed = governance_pb2.SharingRule()
    narrowed.CopyFrom(rule)
    narrowed.revision = rule.revision + 1
    narrowed.scope.CopyFrom(scope)
    narrowed.effective_time.CopyFrom(effective)
    narrowed.ClearField("end_time")
    narrowed.rule_hash = hash_of_rule(narrowed)
    return narrowed


def sign_rule(rule: governance_pb2.SharingRule, key: SigningKey) -> signature_pb2.Signature:
    """SharingRule.signature, over the hash the rule really has."""
    return key.sign(RULE_PREFIX, hash_of_rule(rule))


def sign_rule_end(rule: governance_pb2.SharingRule, end: Timestamp, key: SigningKey) -> signature_pb2.Signature:
    """SharingRule.end_signature of a revision that ends at `end`."""
    ended = governance_pb2.SharingRule(name=rule.name, revision=rule.revision, rule_hash=rule.rule_hash, end_time=end)
    return key.sign(RULE_END_PREFIX, hash_of_rule_end(ended))


def sign_offering(offering: catalog_pb2.Offering, key: SigningKey) -> signature_pb2.Signature:
    """Offering.signature, over the hash the offering really has."""
    return key.sign(OFFERING_PREFIX, hash_of_offering(offering))


def sign_dividend_policy(
    proposal: proposals_pb2.Proposal, effective_time: Timestamp, key: SigningKey
) -> signature_pb2.Signature:
    """The signature of the policy that members voted on with this proposal, from this time on."""
    enacted = events_pb2.DividendPolicyEnacted(
        cooperative="/".join(proposal.name.split("/")[:2]),
        policy=proposal.delta.dividend_policy,
        proposal=proposal.name,
        tally_hash=proposal.tally.tally_hash,
        effective_time=effective_time,
    )
    return key.sign(DIVIDEND_POLICY_PREFIX, canonical_hash(enacted, *_POLICY_FIELDS))


def document_is_genuine(document: signature_pb2.SignedDocument, keys: PublicKeys) -> bool:
    """Whether one of the keys signed exactly this document."""
    hashed = hashlib.sha256(document.content_json.encode()).hexdigest()
    return keys.verify(document.signature, DOCUMENT_PREFIX, hashed)
