"""Proving live grants again, whole and from the sources: on demand and every night. What does not hold is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import sqlalchemy as sa
from google.protobuf.message import DecodeError

from access_broker import store
from access_broker.checking import check
from access_broker.cutting import cut_off
from access_broker.sealing import Sealer
from access_broker.sources import Memory, Sources
from access_broker.store import GrantReference
from rochdale.access_broker.v1 import access_broker_pb2 as pb
from rochdale.access_broker.v1 import events_pb2
from rochdale.licensing.v1 import licensing_pb2
from rochdale_kit.chain import Flaw, flaw_of_offering, flaw_of_rule
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.database import LOST, Database
from rochdale_kit.outbox import announce
from rochdale_kit.refusals import Kind, Refusal

log = logging.getLogger(__name__)

FIRST_AFTER_SECONDS = 60.0
# Somebody could not be asked: not a reason to wait until tomorrow.
AGAIN_AFTER_SECONDS = 300.0
_LOCK = 1846


class Prover:
    """Of several replicas one proves at a time; the others let that night pass."""

    def __init__(self, database: Database, sources: Sources, sealer: Sealer) -> None:
        self._database = database
        self._sources = sources
        self._sealer = sealer

    async def run(self, interval_seconds: float) -> None:
        """Until canceled. A lost database is waited out; anything else ends the loop, and with it the process."""
        wait = FIRST_AFTER_SECONDS
        while True:
            await asyncio.sleep(wait)
            wait = interval_seconds
            try:
                async with self._alone() as alone:
                    if alone and (await self.prove(None)).unanswered_count:
                        wait = min(AGAIN_AFTER_SECONDS, interval_seconds)
            except LOST as error:
                log.warning("proving waits: %s", error)
                wait = min(AGAIN_AFTER_SECONDS, interval_seconds)

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[bool]:
        # Held by a connection, not by a transaction: proving takes as long as it takes, and each grant has its own.
        async with self._database.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            taken = sa.select(sa.func.pg_try_advisory_lock(_LOCK))
            if not (await connection.execute(taken)).scalar():
                yield False
                return
            try:
                yield True
            finally:
                await connection.execute(sa.select(sa.func.pg_advisory_unlock(_LOCK)))

    async def prove(self, cooperative: str | None, license: str = "") -> pb.ProofReport:
        """Proves the live grants of one cooperative (bare id), or all; or only that of one license. Keeps the report."""
        report = pb.ProofReport(name=f"proofReports/{new_id('prf')}", begin_time=to_timestamp(now()))
        memory = Memory(self._sources)
        async with self._database.read() as connection:
            found = await store.references(connection, cooperative, license, now())
        for reference in found:
            try:
                flaw = await self._flaw(reference, memory)
            except Refusal as refusal:
                if refusal.kind is not Kind.UNAVAILABLE:
                    raise
                report.unanswered_count += 1
                log.warning("%s cannot be proved now: %s", reference.license, refusal)
                continue
            except LOST:
                raise
            except Exception:
                # A fault of ours, or an answer nobody can read: one license must not keep all others from being proved,
                # and a fault must not cut anybody off.
                report.unanswered_count += 1
                log.exception("%s could not be proved", reference.license)
                continue
            report.proved_count += 1
            if flaw and (failure := await self._fail(reference, flaw)):
                report.failures.append(failure)
        report.end_time.CopyFrom(to_timestamp(now()))
        async with self._database.begin() as connection:
            await store.insert_report(connection, report, cooperative)
        log.info(
            "proved %d grants, %d do not hold, %d could not be proved",
            report.proved_count,
            len(report.failures),
            report.unanswered_count,
        )
        return report

    async def _flaw(self, reference: GrantReference, memory: Memory) -> Flaw | None:
        try:
            async with self._database.read() as connection:
                row = await store.grant(connection, reference.id, None)
        except (DecodeError, ValueError) as error:
            return Flaw("GRANT_HASH_MISMATCH", f"grants/{reference.id} cannot be read: {type(error).__name__}.")
        assert row is not None, "grants are never deleted"
        if flaw := self._sealer.flaw(row):
            return flaw
        grant, terms = row.grant, row.terms
        license = licensing_pb2.License(
            name=grant.license, terms=terms, terms_hash=grant.terms_hash, signature=row.license_signature
        )
        checked = await check(license, memory)
        # What is kept is what gateways are told, so it has to hold as well as what the sources say today.
        return (
            checked.flaw
            or flaw_of_rule(terms, row.sharing_rule, checked.keys)
            or flaw_of_offering(terms, row.offering, checked.keys)
        )

    async def _fail(self, reference: GrantReference, flaw: Flaw) -> pb.ProofFailure | None:
        """Cuts the grant off and tells; None if it was closed meanwhile."""
        failure = pb.ProofFailure(
            grant=f"grants/{reference.id}",
            license=reference.license,
            cooperative=f"cooperatives/{reference.cooperative}",
            reason=flaw.reason,
            message=flaw.sentence,
        )
        async with self._database.begin() as connection:
            await store.lock_license(connection, reference.license)
            if not await store.is_open(connection, reference.id):
                return None
            await cut_off(connection, reference.id, reference.cooperative, pb.GRANT_STATE_CLOSED, flaw.reason)
            await announce(connection, events_pb2.ProofFailed(failure=failure))
        log.error("proof failed: %s of %s, %s: %s", failure.grant, failure.license, flaw.reason, flaw.sentence)
        return failure
