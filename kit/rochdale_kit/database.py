"""A service's own PostgreSQL: connections, transactions, migrations, and the answer a request got the first time."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from alembic.config import Config as AlembicConfig
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from google.protobuf.message import Message
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from rochdale_kit.refusals import Kind, Refusal

metadata = sa.MetaData()

# The kit's tables, in every service's own database. They are made by the first migration of each (create_kit_tables).
request_table = sa.Table(
    "request",
    metadata,
    sa.Column("organization", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("reply", sa.LargeBinary),
    sa.Column("create_time", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
)
outbox_table = sa.Table(
    "outbox",
    metadata,
    # Only an order of insertion: ids become visible out of order, so nobody may read "id > last".
    sa.Column("position", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("message_type", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("traceparent", sa.Text),
    sa.Column("event_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("publish_time", sa.DateTime(timezone=True)),
    sa.Index("outbox_unpublished", "position", postgresql_where=sa.text("publish_time IS NULL")),
)
inbox_table = sa.Table(
    "inbox",
    metadata,
    sa.Column("consumer", sa.Text, primary_key=True),
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("handle_time", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
)
parked_table = sa.Table(
    "parked_event",
    metadata,
    sa.Column("consumer", sa.Text, primary_key=True),
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("message_type", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("traceparent", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("park_time", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    sa.Column("replay_time", sa.DateTime(timezone=True)),
)

M = TypeVar("M", bound=Message)

# What a restarted or unreachable database raises: a loop waits it out, everything else is a fault of ours.
LOST = (DBAPIError, PoolTimeoutError, OSError, TimeoutError)


class Database:
    """The connections of one service. `begin()` is the only way to a transaction, and it wakes the outbox."""

    def __init__(self, url: str, pool_size: int = 8) -> None:
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=10,
            # A connection that a restarted server left behind is noticed before it is used.
            pool_pre_ping=True,
            connect_args={"timeout": 5, "command_timeout": 60},
        )
        self.announced = asyncio.Event()

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        async with self.engine.begin() as connection:
            yield connection
            announced = connection.info.pop("announced", False)
        # After the commit, never inside: the publisher must see the row it is woken for.
        if announced:
            self.announced.set()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading: PostgreSQL refuses a write on it."""
        async with self.engine.connect() as connection:
            await connection.execution_options(postgresql_readonly=True)
            yield connection

    async def check(self) -> None:
        """Raises unless the database answers."""
        async with self.engine.connect() as connection:
            await connection.execute(sa.text("SELECT 1"))

    async def close(self) -> None:
        await self.engine.dispose()


async def first_answer(connection: AsyncConnection, organization: str, request: Message, reply: type[M]) -> M | None:
    """Claims the request's id for this transaction. None means: go on; else the answer the first arrival got.

    A second arrival waits here until the first has committed, then sees its answer. The same id with another content
    is refused with REQUEST_ID_REUSED.
    """
    request_id: str = getattr(request, "request_id")  # noqa: B009 - mypy cannot know every request has one
    content = request.DESCRIPTOR.full_name.encode() + b"\0" + request.SerializeToString(deterministic=True)
    fingerprint = hashlib.sha256(content).digest()
    claim = (
        insert(request_table)
        .values(organization=organization, request_id=request_id, fingerprint=fingerprint)
        .on_conflict_do_nothing()
        .returning(request_table.c.request_id)
    )
    if (await connection.execute(claim)).first() is not None:
        return None
    row = (
        await connection.execute(
            sa.select(request_table.c.fingerprint, request_table.c.reply).where(
                request_table.c.organization == organization, request_table.c.request_id == request_id
            )
        )
    ).one()
    if row.fingerprint != fingerprint:
        raise Refusal(
            "REQUEST_ID_REUSED",
            f"Request id {request_id} was used for another request.",
            Kind.STATE,
            request_id=request_id,
        )
    return reply.FromString(row.reply or b"")


async def remember(connection: AsyncConnection, organization: str, request: Message, reply: M) -> M:
    """Keeps the answer for a second arrival, and returns it."""
    request_id: str = getattr(request, "request_id")  # noqa: B009
    await connection.execute(
        request_table.update()
        .where(request_table.c.organization == organization, request_table.c.request_id == request_id)
        .values(reply=reply.SerializeToString())
    )
    return reply


def create_kit_tables(connection: sa.Connection) -> None:
    """What the first migration of every service calls. A later change to these tables is a later migration."""
    metadata.create_all(connection, tables=[request_table, outbox_table, inbox_table, parked_table], checkfirst=False)


async def migrate(url: str, migrations: Path) -> None:
    """Brings a database to the newest schema. Two replicas may call it at once; one waits for the other."""
    script = ScriptDirectory(str(migrations), version_locations=[str(migrations)])

    def upgrade(connection: sa.Connection) -> None:
        # Held to the end of the transaction; the number is arbitrary and the same for every service's own database.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(1844)"))
        with EnvironmentContext(
            AlembicConfig(),
            script,
            fn=lambda revision, _context: script._upgrade_revs("head", revision),
            destination_rev="head",
        ) as environment:
            environment.configure(connection=connection, transactional_ddl=True)
            environment.run_migrations()

    engine = create_async_engine(url, connect_args={"timeout": 10})
    try:
        async with engine.begin() as connection:
            await connection.run_sync(upgrade)
    finally:
        await engine.dispose()
