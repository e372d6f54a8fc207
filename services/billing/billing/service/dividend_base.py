"""What every RPC of DividendService shares: whose cooperative it is, who looks, and a run found and locked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from weakref import WeakValueDictionary

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.config import Config
from billing.dividend_views import Viewer
from billing.domain.dividend_runs import SHOWN, Run, Withholding, by_profile
from billing.service.base import require_still_member
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale.identity.v1 import identity_pb2
from rochdale_kit.database import Database
from rochdale_kit.identity import caller, roles
from rochdale_kit.refusals import not_found

STEWARDS = roles(identity_pb2.ROLE_STEWARD)
MEMBERS = roles(identity_pb2.ROLE_MEMBER)
BOTH = roles(identity_pb2.ROLE_STEWARD, identity_pb2.ROLE_MEMBER)


class DividendParts:
    """Built once; every noun's RPCs find here what they need."""

    def __init__(self, database: Database, config: Config, withholding: Withholding = by_profile) -> None:
        self._database = database
        self._config = config
        self._withholding = withholding
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def turn(self, run: str) -> AsyncIterator[None]:
        """One act on a run at a time. Whoever waits holds none of the connections that everybody shares: working a large run
        out takes long, and a few repetitions of it would keep all cooperatives from the database."""
        lock = self._turns.setdefault(run, asyncio.Lock())
        async with lock:
            yield


def person() -> str:
    """Who a steward is where different persons are counted: the member behind the key; all keys without one are one."""
    principal = caller()
    return principal.member or f"organizations/{principal.organization}"


async def viewer_of(connection: AsyncConnection, asked: str) -> Viewer:
    """The caller, as somebody of the cooperative that a name begins with. Another's answers as if it did not exist."""
    principal, cooperative = caller(), asked.split("/")[1]
    if principal.organization != cooperative:
        raise not_found(asked)
    id = principal.member.rsplit("/", 1)[1] if principal.member else ""
    steward = identity_pb2.ROLE_STEWARD in principal.roles
    if not id and not steward:
        raise not_found(asked)
    await require_still_member(connection, asked)
    return Viewer(cooperative, id, steward)


async def steward_of(connection: AsyncConnection, asked: str) -> Viewer:
    viewer = await viewer_of(connection, asked)
    if not viewer.steward:
        raise not_found(asked)
    return viewer


async def of_member(connection: AsyncConnection, name: str, *, steward_too: bool) -> tuple[Viewer, str]:
    """The viewer and the member that a name is about: the viewer, or where stewards may look, anyone of theirs."""
    viewer = await viewer_of(connection, name)
    member_id = name.split("/")[3]
    if viewer.member_id == member_id:
        return viewer, member_id
    known = await store.members.member(connection, viewer.cooperative, member_id)
    if not (steward_too and viewer.steward) or known is None:
        raise not_found(name)
    return viewer, member_id


def kept(run: Run) -> pb.DividendRun:
    """What is kept of an answer for its repetition: the name. It is made anew each time, for whoever asks; a copy of it
    would keep what members wrote, and who wrote it, when they are erased."""
    return pb.DividendRun(name=run.name)


async def run_for(connection: AsyncConnection, name: str, viewer: Viewer, *, lock: bool = False) -> Run:
    """A run the viewer may see."""
    run = await store.dividend_runs.get(connection, viewer.cooperative, name.rsplit("/", 1)[1], lock=lock)
    if run is None or not (viewer.steward or run.state in SHOWN):
        raise not_found(name)
    return run
