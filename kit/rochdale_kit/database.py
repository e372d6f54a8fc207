"""A service's own PostgreSQL: connections, transactions, migrations, and the answer a request got the first time."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import asyncpg
import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, InterfaceError
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

# Every class under which a lost database may come, and more: is_lost() tells it from a fault of ours.
LOST = (DBAPIError, PoolTimeoutError, OSError, TimeoutError)

# PostgreSQL's own words for "not now": connection (08), deadlock and serialization (40), no room (53), shutdown (57).
_NOT_NOW = ("08", "40", "53", "57")


def is_lost(error: BaseException) -> bool:
    """Whether the database was away, restarted, full or in a deadlock, so that the same work may succeed a moment later.

    A statement PostgreSQL cannot accept is not: it would fail for ever, and whoever waited would hide a fault of ours.
    """
    if isinstance(error, DBAPIError):
        cause = error.orig.__cause__ if error.orig is not None else None
        return (
            error.connection_invalidated
            or str(getattr(error.orig, "sqlstate", None) or "").startswith(_NOT_NOW)
            # A migration ran under us: the statement is prepared anew the next time.
            or isinstance(cause, asyncpg.exceptions.InvalidCachedStatementError)
            # The driver's "connection is closed"; a value it cannot encode is an InterfaceError too, and a ValueError.
            or (isinstance(error, InterfaceError) and not isinstance(cause, ValueError))
        )
    if isinstance(error, OSError):
        # What files raise names the file, what sockets raise does not.
        return error.filename is None
    return isinstance(error, PoolTimeoutError | TimeoutError)


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
            # An error is logged, and a statement's values may be a member's or a secret.
            hide_parameters=True,
            connect_args={"timeout": 5, "command_timeout": 60},
        )
        self.announced = asyncio.Event()

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        async with self.engine.begin() as connection:
            # The mark belongs to the pooled connection and outlives a transaction that was rolled back.
            connection.info.pop("announced", None)
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
    # An RPC that forgot remember(): better a fault in the log than an empty answer that looks like one.
    assert row.reply is not None, f"{request.DESCRIPTOR.full_name} was answered and its answer not kept"
    return reply.FromString(row.reply)


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


async def migrate(url: str, migrations: Path, application_role: str = "") -> None:
    """Brings a database to the newest schema. Two replicas may call it at once; one waits for the other.

    `url` is the owner's. A service that serves as another role names it: it may then read and write every table, except
    as `rights.sql` beside the migrations says, where {role} stands for it. No migration needs to know.
    """
    # Imported here: a service that only serves then starts a quarter sooner, and a sixth smaller.
    from alembic.config import Config as AlembicConfig
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

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
        if application_role:
            _give_rights(connection, application_role, migrations / "rights.sql")

    engine = create_async_engine(url, connect_args={"timeout": 10})
    try:
        async with engine.begin() as connection:
            await connection.run_sync(upgrade)
    finally:
        await engine.dispose()


def _give_rights(connection: sa.Connection, role: str, rights: Path) -> None:
    """Said after every migration, whole and in its transaction: tables made since have no rights of their own yet."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    database = quote(str(connection.execute(sa.text("SELECT current_database()")).scalar_one()))
    statements = f"""
        GRANT CONNECT ON DATABASE {database} TO {{role}};
        GRANT USAGE ON SCHEMA public TO {{role}};
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {{role}};
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {{role}};
        REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {{role}};
    """
    if rights.exists():
        statements += re.sub("--.*", "", rights.read_text())
    for statement in statements.split(";"):
        if statement.strip():
            connection.exec_driver_sql(statement.replace("{role}", quote(role)))
