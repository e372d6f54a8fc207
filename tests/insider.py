"""Somebody who runs the market and wants a cooperative's data: every database, every file of the market's home, every key
in them. What they have not is what stands in the cooperative's own house: its gateway's files, and its signing key."""

from __future__ import annotations

import base64
import copy
import datetime as dt
import hmac
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from walk import MarketPeople

from access_broker.sealing import SEAL_PREFIX
from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1 import scope_pb2
from rochdale_kit.chain import hash_of_grant, hash_of_offering, hash_of_rule
from rochdale_kit.clock import new_id, to_timestamp
from rochdale_kit.signing import LICENSE_PREFIX, SigningKey, canonical_hash, sign_hash


@dataclass
class Forgery:
    """A whole chain as the insider wants the gateway to see it."""

    rule: governance.SharingRule
    offering: catalog.Offering
    license: licensing.License
    grant: broker.Grant
    # How much longer the grant lasts than the license.
    longer: dt.timedelta = dt.timedelta(0)

    @property
    def terms(self) -> licensing.LicenseTerms:
        return self.license.terms

    @property
    def scope(self) -> scope_pb2.SharingScope:
        return self.license.terms.scope


class Insider:
    def __init__(self, market: MarketPeople) -> None:
        self.market = market

    # ---- hands on the databases ----

    async def run(self, database: str, statement: str, *values: Any) -> list[asyncpg.Record]:
        """As the owner of the database's tables, who may also disable their triggers."""
        local = self.market.market
        dsn = local.postgres.dsn(database, database, local.plan.password(database)).replace("+asyncpg", "")
        connection = await asyncpg.connect(dsn, ssl=False)
        try:
            found: list[asyncpg.Record] = await connection.fetch(statement, *values)
            return found
        finally:
            await connection.close()

    async def copy(self, database: str, table: str, like: str, **values: Any) -> None:
        """A new row like an old one, but for some columns."""
        (row,) = await self.run(database, f"SELECT * FROM {table} WHERE id = $1", like)
        made = dict(row) | values
        places = ", ".join(f"${number}" for number in range(1, len(made) + 1))
        await self.run(database, f"INSERT INTO {table} ({', '.join(made)}) VALUES ({places})", *made.values())

    # ---- hands on the keys ----

    def sealing_key(self, package: str) -> bytes:
        room = next(room for room in self.market.market.rooms if room.name == package)
        return Path(room.settings["sealing_key_file"]).read_bytes()

    async def signing_key(self, package: str) -> SigningKey:
        """The key with which a service signs now, opened with the file beside it."""
        (row,) = await self.run(package, "SELECT key_id, sealed_seed FROM signing_key WHERE position = 0")
        sealed = row["sealed_seed"]
        seed = AESGCM(self.sealing_key(package)).decrypt(sealed[:12], sealed[12:], row["key_id"].encode())
        return SigningKey.from_seed(seed)

    # ---- forging ----

    async def chain_of(self, license: str) -> Forgery:
        """An honest chain, as the broker keeps it."""
        (row,) = await self.run("access_broker", "SELECT * FROM access_grant WHERE license = $1", license)
        terms = licensing.LicenseTerms.FromString(row["terms"])
        (own,) = await self.run("licensing", "SELECT * FROM license WHERE id = $1", license.removeprefix("licenses/"))
        document = licensing.License(name=license, terms=terms, terms_hash=own["terms_hash"])
        document.signature.MergeFromString(own["signature"])
        return Forgery(
            governance.SharingRule.FromString(row["sharing_rule"]),
            catalog.Offering.FromString(row["offering"]),
            document,
            grant_of(row),
        )

    async def renamed(self, honest: Forgery) -> Forgery:
        """A second license and grant like an honest one, under names of their own, which nobody has heard of yet."""
        parts = (honest.rule, honest.offering, honest.license, honest.grant)
        made = Forgery(*(copy.deepcopy(one) for one in parts))  # type: ignore[arg-type]
        made.license.name = made.terms.license = f"licenses/{new_id('lic')}"
        made.terms.agree_time.CopyFrom(to_timestamp(dt.datetime.now(dt.UTC)))
        made.grant.name = f"grants/{new_id('gra')}"
        return made

    def rehash(self, made: Forgery) -> Forgery:
        """Every hash as its contract says, from the rule to the terms. Signatures stay what they were."""
        made.rule.rule_hash = hash_of_rule(made.rule)
        made.offering.rule_hashes[:] = [made.rule.rule_hash]
        made.offering.offering_hash = hash_of_offering(made.offering)
        return self.cite(made)

    def cite(self, made: Forgery) -> Forgery:
        """The terms cite rule and offering as they are."""
        made.terms.sharing_rule, made.terms.rule_revision = made.rule.name, made.rule.revision
        made.terms.rule_hash, made.terms.offering_hash = made.rule.rule_hash, made.offering.offering_hash
        made.license.terms_hash = canonical_hash(made.terms)
        return made

    async def sign(self, made: Forgery) -> Forgery:
        """As licensing would, with licensing's own key."""
        made.license.terms_hash = canonical_hash(made.terms)
        key = await self.signing_key("licensing")
        made.license.signature.CopyFrom(sign_hash(key, LICENSE_PREFIX, made.license.terms_hash))
        return made

    async def plant(self, honest: Forgery, made: Forgery) -> str:
        """Writes license and grant into licensing's and the broker's databases, sealed with the broker's own file, so that
        the broker vouches for them. Answers the grant's id."""
        like = honest.license.name.removeprefix("licenses/")
        (row,) = await self.run("licensing", "SELECT negotiation FROM license WHERE id = $1", like)
        negotiation = new_id("neg")
        await self.copy("licensing", "negotiation", row["negotiation"], id=negotiation, license=made.license.name)
        await self.copy(
            "licensing",
            "license",
            like,
            id=made.license.name.removeprefix("licenses/"),
            negotiation=negotiation,
            terms=made.terms.SerializeToString(),
            terms_hash=made.license.terms_hash,
            signature=made.license.signature.SerializeToString(),
            sharing_rule=made.rule.name,
            rule_revision=made.rule.revision,
        )
        id = made.grant.name.removeprefix("grants/")
        await self.copy(
            "access_broker",
            "access_grant",
            honest.grant.name.removeprefix("grants/"),
            id=id,
            license=made.license.name,
            state=broker.GRANT_STATE_OPEN,
            state_reason="",
            **self.sealed(made),
        )
        return id

    def sealed(self, made: Forgery) -> dict[str, Any]:
        """The columns of a grant that the broker will vouch for."""
        opened = dt.datetime.now(dt.UTC)
        made.grant.license, made.grant.terms_hash = made.license.name, made.license.terms_hash
        made.grant.scope.CopyFrom(made.scope)
        made.grant.open_time.FromDatetime(opened)
        end = opened + dt.timedelta(seconds=made.terms.duration_seconds) + made.longer
        made.grant.end_time.FromDatetime(end)
        made.grant.grant_hash = hash_of_grant(made.grant)
        seal = hmac.digest(self.sealing_key("access_broker"), SEAL_PREFIX + made.grant.grant_hash.encode(), "sha256")
        return {
            "terms": made.terms.SerializeToString(deterministic=True),
            "terms_hash": made.license.terms_hash,
            "sharing_rule": made.rule.SerializeToString(deterministic=True),
            "offering": made.offering.SerializeToString(deterministic=True),
            "license_signature": made.license.signature.SerializeToString(),
            "open_time": opened,
            "end_time": end,
            "grant_hash": made.grant.grant_hash,
            "seal": seal,
        }

    async def token(self, genuine: str, made: Forgery) -> str:
        """A token for a forged grant, signed with the broker's own key, like a genuine one in all but what it opens."""
        payload = genuine.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        part = made.scope.datasets[0]
        (detail,) = claims["authorization_details"]
        detail |= {
            "license": made.license.name,
            "grant": made.grant.name,
            "grant_hash": made.grant.grant_hash,
            "first_version": part.first_version,
            "last_version": part.last_version,
            "columns": list(part.columns),
            "mode": scope_pb2.AccessMode.Name(made.scope.max_mode),
            "purposes": list(made.scope.purposes),
            "actions": [scope_pb2.UseAction.Name(one) for one in made.scope.actions],
        }
        claims |= {"jti": new_id("tok"), "iat": int(time.time()) - 1, "exp": int(time.time()) + 900}
        return (await self.signing_key("access_broker")).sign_token("at+jwt", claims)


def grant_of(row: asyncpg.Record) -> broker.Grant:
    terms = licensing.LicenseTerms.FromString(row["terms"])
    return broker.Grant(
        name=f"grants/{row['id']}",
        license=row["license"],
        terms_hash=row["terms_hash"],
        holder=f"organizations/{row['holder']}",
        gateway=f"gateways/{row['cooperative']}",
        scope=terms.scope,
        open_time=to_timestamp(row["open_time"]),
        end_time=to_timestamp(row["end_time"]),
        grant_hash=row["grant_hash"],
    )
