"""A service's signing keys: one signs, one is published as the next, retired ones verify until their tokens have ended.

Kept in the service's own database, sealed with a key that is not, so that a dump of the database signs nothing.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.ext.asyncio import AsyncConnection

from rochdale_kit.clock import now
from rochdale_kit.database import LOST, Database, metadata
from rochdale_kit.signing import KeySet, SigningKey

log = logging.getLogger(__name__)

REFRESH_SECONDS = 30.0

signing_key_table = sa.Table(
    "signing_key",
    metadata,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("sealed_seed", sa.LargeBinary, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),  # 0 signs, 1 is next, -1 is retired
    sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("retire_time", sa.DateTime(timezone=True)),
    # One current and one next key at most, whatever races.
    sa.Index("signing_key_position", "position", unique=True, postgresql_where=sa.text("position >= 0")),
)

RETIRED = -1


@dataclass(frozen=True)
class Keyring:
    """The keys as loaded at one moment."""

    current: SigningKey
    upcoming: SigningKey
    retired: tuple[SigningKey, ...]

    def jwks(self) -> str:
        """Public keys as a JSON Web Key Set."""
        keys = [self.current, self.upcoming, *self.retired]
        return json.dumps({"keys": [key.public_jwk() for key in keys]}, separators=(",", ":"))

    def key_set(self) -> KeySet:
        return KeySet.from_jwks(self.jwks())


def read_sealing_key(path: str) -> bytes:
    """The 32 bytes that seal the keys. A wrong file stops the start with a sentence."""
    try:
        key = Path(path).read_bytes()
    except OSError as error:
        raise SystemExit(f"{path}, the key that seals signing keys, cannot be read: {error.strerror}.") from None
    if len(key) != 32:
        raise SystemExit(f"{path} holds {len(key)} bytes; the key that seals signing keys has exactly 32.")
    return key


def _seal(sealing_key: bytes, key: SigningKey) -> bytes:
    nonce = os.urandom(12)
    return nonce + AESGCM(sealing_key).encrypt(nonce, key.seed, key.key_id.encode())


def _open(sealing_key: bytes, key_id: str, sealed: bytes) -> SigningKey:
    try:
        return SigningKey.from_seed(AESGCM(sealing_key).decrypt(sealed[:12], sealed[12:], key_id.encode()))
    except InvalidTag:
        raise SystemExit("The signing keys were sealed with another key than the one in the settings.") from None


class LiveKeyring:
    """The keys of a running service, read again now and then because another replica may have rotated them."""

    def __init__(self, database: Database, sealing_key: bytes, verify_for: dt.timedelta) -> None:
        """verify_for: how long a retired key still verifies; the longest life of anything it signed."""
        self._database = database
        self._sealing_key = sealing_key
        self._verify_for = verify_for
        self._keyring: Keyring | None = None
        self._key_set = KeySet({})

    @property
    def current(self) -> SigningKey:
        """The key that signs."""
        assert self._keyring is not None, "refresh() comes first"
        return self._keyring.current

    @property
    def keys(self) -> KeySet:
        return self._key_set

    def jwks(self) -> str:
        assert self._keyring is not None, "refresh() comes first"
        return self._keyring.jwks()

    async def refresh(self) -> None:
        """Reads the keys; makes the first ones when there are none."""
        async with self._database.begin() as connection:
            self._hold(await self._load(connection))

    async def run(self) -> None:
        """Reads the keys again every half minute, until canceled. A database that is away is waited out."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self.refresh()
            except LOST as error:
                log.warning("signing keys cannot be read again: %s", error)

    async def rotate(self, connection: AsyncConnection) -> Keyring:
        """The next key signs, a new next one is made, the current one only verifies. refresh() after the commit."""
        table = signing_key_table
        await self._load(connection)
        await connection.execute(
            table.update().where(table.c.position == 0).values(position=RETIRED, retire_time=now())
        )
        await connection.execute(table.update().where(table.c.position == 1).values(position=0))
        return await self._load(connection)

    def _hold(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._key_set = keyring.key_set()

    async def _load(self, connection: AsyncConnection) -> Keyring:
        # Two replicas starting at once must agree on one first key.
        await connection.execute(sa.text("SELECT pg_advisory_xact_lock(1845)"))
        table = signing_key_table
        read = sa.select(table).order_by(table.c.retire_time.desc().nulls_first())
        rows = (await connection.execute(read)).all()
        missing = {0, 1} - {row.position for row in rows}
        for position in sorted(missing):
            key = SigningKey.generate()
            await connection.execute(
                table.insert().values(
                    key_id=key.key_id,
                    sealed_seed=_seal(self._sealing_key, key),
                    position=position,
                    create_time=now(),
                )
            )
        if missing:
            rows = (await connection.execute(read)).all()
        oldest = now() - self._verify_for
        opened = [
            (row.position, _open(self._sealing_key, row.key_id, row.sealed_seed))
            for row in rows
            if row.position != RETIRED or row.retire_time > oldest
        ]
        return Keyring(
            current=next(key for position, key in opened if position == 0),
            upcoming=next(key for position, key in opened if position == 1),
            retired=tuple(key for position, key in opened if position == RETIRED),
        )


def create_signing_key_table(connection: sa.Connection) -> None:
    """What the first migration of a service that signs calls."""
    metadata.create_all(connection, tables=[signing_key_table], checkfirst=False)
