"""How the broker vouches for its own grants: a seal beside each row, and a signature whenever a chain is told."""

from __future__ import annotations

import hmac

from access_broker.store import GrantRow
from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale_kit.chain import Flaw, hash_of_grant
from rochdale_kit.keyring import LiveKeyring
from rochdale_kit.signing import GRANT_PREFIX, sign_hash

SEAL_PREFIX = b"rochdale-grant-seal-v1"


class Sealer:
    """Told chains are signed with the current key, whose predecessors are soon forgotten. A stored grant may live for
    years, so it has a seal made with the file of the settings: who can only write to the database cannot make one, and
    the broker signs nothing without it."""

    def __init__(self, keys: LiveKeyring, sealing_key: bytes) -> None:
        self._keys = keys
        self._sealing_key = sealing_key

    def seal(self, grant: pb.Grant) -> bytes:
        """Sets the grant's hash; the seal to keep with it."""
        grant.grant_hash = hash_of_grant(grant)
        return self._seal(grant.grant_hash)

    def flaw(self, row: GrantRow) -> Flaw | None:
        """Whether a grant is as it was opened."""
        try:
            hashed = hash_of_grant(row.grant)
        except ValueError:
            # A time no calendar has, say: no grant that was ever opened has one.
            hashed = ""
        if not hashed or hashed != row.grant.grant_hash:
            return Flaw("GRANT_HASH_MISMATCH", f"{row.grant.name} is not what its hash was made of.")
        if not hmac.compare_digest(self._seal(row.grant.grant_hash), row.seal):
            return Flaw("GRANT_HASH_MISMATCH", f"The hash of {row.grant.name} is not one that the broker made.")
        return None

    def chain(self, row: GrantRow) -> pb.GrantChain:
        """Everything a grant stands on, as a gateway is told it. Look for a flaw first."""
        return pb.GrantChain(
            grant=row.grant,
            terms=row.terms,
            sharing_rule=row.sharing_rule,
            offering=row.offering,
            license_signature=row.license_signature,
            grant_signature=sign_hash(self._keys.current, GRANT_PREFIX, row.grant.grant_hash),
        )

    def _seal(self, grant_hash: str) -> bytes:
        return hmac.digest(self._sealing_key, SEAL_PREFIX + grant_hash.encode(), "sha256")
