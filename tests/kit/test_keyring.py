"""Signing keys: sealed in the database, agreed on by replicas, rotated without refusing anybody."""

import asyncio
import datetime as dt

import pytest
import sqlalchemy as sa
from kit_world import World

from rochdale_kit.database import Database
from rochdale_kit.keyring import LiveKeyring, create_signing_key_table

SEAL = bytes(range(32))
HOUR = dt.timedelta(hours=1)


async def rings(world: World, count: int = 2, verify_for: dt.timedelta = HOUR) -> list[LiveKeyring]:
    async with world.database.engine.begin() as connection:
        await connection.run_sync(create_signing_key_table)
    return [LiveKeyring(world.database, SEAL, verify_for) for _ in range(count)]


async def rotate(world: World, ring: LiveKeyring) -> None:
    async with world.database.begin() as connection:
        await ring.rotate(connection)
    await ring.refresh()


async def test_replicas_that_start_at_once_agree_on_one_key(world: World) -> None:
    found = await rings(world, 4)
    await asyncio.gather(*(ring.refresh() for ring in found))
    assert len({ring.current.key_id for ring in found}) == 1
    assert len({ring.jwks() for ring in found}) == 1


async def test_what_either_replica_signs_verifies_at_the_other_before_and_after_it_reads_again(world: World) -> None:
    here, there = await rings(world)
    await here.refresh()
    await there.refresh()
    await rotate(world, here)
    assert here.current.key_id != there.current.key_id
    for signer, verifier in ((here, there), (there, here)):
        signature = signer.current.sign(b"words")
        assert verifier.keys.verify(signer.current.key_id, signature, b"words")
    await there.refresh()
    assert here.jwks() == there.jwks()


async def test_two_rotations_at_once_are_two_and_one_key_signs(world: World) -> None:
    here, there = await rings(world)
    await here.refresh()
    await asyncio.gather(rotate(world, here), rotate(world, there))
    await here.refresh()
    await there.refresh()
    assert here.current.key_id == there.current.key_id
    positions = [row.position for row in await world.query("SELECT position FROM signing_key ORDER BY 1")]
    assert positions == [-1, -1, 0, 1]


async def test_a_retired_key_verifies_until_what_it_signed_has_ended(world: World) -> None:
    [ring] = await rings(world, 1)
    await ring.refresh()
    old = ring.current
    await rotate(world, ring)
    assert ring.keys.verify(old.key_id, old.sign(b"x"), b"x")
    async with world.database.begin() as connection:
        await connection.execute(sa.text("UPDATE signing_key SET retire_time = now() - interval '61 minutes'"))
    await ring.refresh()
    assert not ring.keys.verify(old.key_id, old.sign(b"x"), b"x")


async def test_a_dump_of_the_database_signs_nothing(world: World) -> None:
    [ring] = await rings(world, 1)
    await ring.refresh()
    for row in await world.query("SELECT sealed_seed FROM signing_key"):
        assert ring.current.seed not in row.sealed_seed
    with pytest.raises(SystemExit, match="sealed with another key"):
        await LiveKeyring(world.database, bytes(32), HOUR).refresh()


async def test_keys_already_read_outlive_a_database_that_is_away(world: World) -> None:
    [ring] = await rings(world, 1)
    await ring.refresh()
    away = LiveKeyring(Database(world.url.replace(":test@", ":wrong@")), SEAL, HOUR)
    away._hold(ring._keyring)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="password"):
        await away.refresh()
    assert away.current.key_id == ring.current.key_id
    await away._database.close()
