"""The catalog's tables and the only queries on them."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from catalog.domain import Rules
from rochdale.catalog.v1 import catalog_pb2 as pb
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale_kit.clock import from_timestamp, to_timestamp
from rochdale_kit.cooperative_keys import CooperativeKeys

# The catalog's own, not the kit's: several services may live in one process, and each has its own tables.
metadata = sa.MetaData()

cooperative_table = sa.Table(
    "cooperative",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("display_name", sa.Text, nullable=False),
    # A governance.Cooperative with nothing but its signing_keys, first to latest.
    sa.Column("signing_keys", sa.LargeBinary, nullable=False),
)
dataset_table = sa.Table(
    "dataset",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("cooperative", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("modality", sa.SmallInteger, nullable=False),
    sa.Column("languages", ARRAY(sa.Text), nullable=False),
    sa.Column("citation", sa.Text, nullable=False),
    sa.Column("latest_version", sa.Integer, nullable=False),
    sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
)
version_table = sa.Table(
    "version",
    metadata,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
rule_table = sa.Table(
    "sharing_rule",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("cooperative", sa.Text, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    # Not ended by a decision. One that expired stays so until the catalog has closed what stood on it.
    sa.Column("in_force", sa.Boolean, nullable=False),
    sa.Column("expire_time", sa.DateTime(timezone=True)),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
offering_table = sa.Table(
    "offering",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("cooperative", sa.Text, nullable=False),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("open", sa.Boolean, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("change_xid", sa.BigInteger, nullable=False),
)

# The transaction that last changed an offering: what lets each replica's index read on where it stopped and skip nothing,
# although transactions commit in another order than they start.
THIS_TRANSACTION = sa.text("pg_current_xact_id()::text::bigint")


def dataset_of(row: sa.Row[tuple[object, ...]]) -> pb.Dataset:
    return pb.Dataset(
        name=row.name,
        title=row.title,
        description=row.description,
        modality=row.modality,
        languages=row.languages,
        citation=row.citation,
        latest_version=row.latest_version,
        create_time=to_timestamp(row.create_time),
    )


async def save_cooperative(
    connection: AsyncConnection, id: str, display_name: str, keys: Sequence[governance.CooperativeKey]
) -> None:
    values = {
        "display_name": display_name,
        "signing_keys": governance.Cooperative(signing_keys=keys).SerializeToString(),
    }
    await connection.execute(
        insert(cooperative_table).values(id=id, **values).on_conflict_do_update(index_elements=["id"], set_=values)
    )


async def signing_keys(connection: AsyncConnection, id: str) -> list[governance.CooperativeKey]:
    """A cooperative's public keys as far as heard, first to latest."""
    statement = sa.select(cooperative_table.c.signing_keys).where(cooperative_table.c.id == id)
    body = (await connection.execute(statement)).scalar()
    return list(governance.Cooperative.FromString(body).signing_keys) if body is not None else []


async def cooperative_names(connection: AsyncConnection, ids: Iterable[str]) -> dict[str, str]:
    table = cooperative_table
    rows = await connection.execute(sa.select(table.c.id, table.c.display_name).where(table.c.id.in_(set(ids))))
    return {row.id: row.display_name for row in rows}


async def insert_dataset(
    connection: AsyncConnection, name: str, cooperative: str, request: pb.CreateDatasetRequest, at: dt.datetime
) -> pb.Dataset | None:
    """The new dataset, or None if the name is taken."""
    statement = (
        insert(dataset_table)
        .values(
            name=name,
            cooperative=cooperative,
            title=request.title,
            description=request.description,
            modality=request.modality,
            languages=list(request.languages),
            citation=request.citation,
            latest_version=0,
            create_time=at,
        )
        .on_conflict_do_nothing()
        .returning(dataset_table)
    )
    row = (await connection.execute(statement)).first()
    return dataset_of(row) if row is not None else None


async def dataset(connection: AsyncConnection, name: str, lock: bool = False) -> pb.Dataset | None:
    statement = sa.select(dataset_table).where(dataset_table.c.name == name)
    row = (await connection.execute(statement.with_for_update() if lock else statement)).first()
    return dataset_of(row) if row is not None else None


async def datasets(connection: AsyncConnection, cooperative: str, after: str, limit: int) -> list[pb.Dataset]:
    """By name."""
    table = dataset_table
    statement = (
        sa.select(table)
        .where(table.c.cooperative == cooperative, table.c.name > after)
        .order_by(table.c.name)
        .limit(limit)
    )
    return [dataset_of(row) for row in await connection.execute(statement)]


async def datasets_named(connection: AsyncConnection, names: Iterable[str]) -> dict[str, pb.Dataset]:
    rows = await connection.execute(sa.select(dataset_table).where(dataset_table.c.name.in_(set(names))))
    return {row.name: dataset_of(row) for row in rows}


async def insert_version(connection: AsyncConnection, dataset: str, version: pb.Version) -> None:
    await connection.execute(
        version_table.insert().values(dataset=dataset, number=version.number, body=version.SerializeToString())
    )
    await connection.execute(
        dataset_table.update().where(dataset_table.c.name == dataset).values(latest_version=version.number)
    )


async def save_version(connection: AsyncConnection, dataset: str, version: pb.Version) -> None:
    table = version_table
    await connection.execute(
        table.update()
        .where(table.c.dataset == dataset, table.c.number == version.number)
        .values(body=version.SerializeToString())
    )


async def version(connection: AsyncConnection, dataset: str, number: int) -> pb.Version | None:
    table = version_table
    statement = sa.select(table.c.body).where(table.c.dataset == dataset, table.c.number == number)
    body = (await connection.execute(statement)).scalar()
    return pb.Version.FromString(body) if body is not None else None


async def versions(connection: AsyncConnection, dataset: str, before: int | None, limit: int) -> list[pb.Version]:
    """Newest first."""
    table = version_table
    statement = sa.select(table.c.body).where(table.c.dataset == dataset).order_by(table.c.number.desc()).limit(limit)
    if before is not None:
        # As 64 bits, because a token may hold any number of them.
        statement = statement.where(table.c.number < sa.literal(before, sa.BigInteger))
    return [pb.Version.FromString(body) for body in await connection.scalars(statement)]


async def versions_of(connection: AsyncConnection, datasets: Iterable[str]) -> Mapping[str, Mapping[int, pb.Version]]:
    """Every published version of some datasets: dataset -> number -> version."""
    table = version_table
    found: dict[str, dict[int, pb.Version]] = {}
    for row in await connection.execute(sa.select(table).where(table.c.dataset.in_(set(datasets)))):
        found.setdefault(row.dataset, {})[row.number] = pb.Version.FromString(row.body)
    return found


async def rule(connection: AsyncConnection, name: str) -> governance.SharingRule | None:
    body = (await connection.execute(sa.select(rule_table.c.body).where(rule_table.c.name == name))).scalar()
    return governance.SharingRule.FromString(body) if body is not None else None


async def save_rule(connection: AsyncConnection, rule: governance.SharingRule, in_force: bool) -> None:
    """Keeps a rule in the place of what was known of it. Hold the cooperative's rules first."""
    values = {
        "name": rule.name,
        "cooperative": rule.name.split("/")[1],
        "revision": rule.revision,
        "in_force": in_force,
        "expire_time": from_timestamp(rule.expire_time) if rule.HasField("expire_time") else None,
        "body": rule.SerializeToString(),
    }
    await connection.execute(
        insert(rule_table).values(**values).on_conflict_do_update(index_elements=["name"], set_=values)
    )


async def cooperatives_with_expired(connection: AsyncConnection, at: dt.datetime) -> list[str]:
    """Cooperatives with a rule that has expired and is still kept as not ended."""
    table = rule_table
    statement = sa.select(table.c.cooperative).distinct().where(table.c.in_force, table.c.expire_time <= at)
    return list(await connection.scalars(statement))


async def let_expire(connection: AsyncConnection, cooperative: str, at: dt.datetime) -> None:
    table = rule_table
    await connection.execute(
        table.update()
        .where(table.c.cooperative == cooperative, table.c.in_force, table.c.expire_time <= at)
        .values(in_force=False)
    )


async def hold_rules(connection: AsyncConnection, cooperative: str, change: bool = False) -> None:
    """Until the transaction ends nobody changes a cooperative's rules, and with `change` nobody relies on them either.

    A lock on the name, not on rows: a DENY rule heard for the first time has no row yet that a publisher could lock,
    and an offering published at that moment has none that the handler could see.
    """
    lock = "pg_advisory_xact_lock" if change else "pg_advisory_xact_lock_shared"
    await connection.execute(sa.text(f"SELECT {lock}(hashtextextended(:name, 0))"), {"name": f"rules of {cooperative}"})


async def rules(connection: AsyncConnection, cooperative: str, at: dt.datetime) -> Rules:
    """A cooperative's rules, checked with its keys. Hold them first to decide on them."""
    table = rule_table
    statement = sa.select(table.c.body).where(table.c.cooperative == cooperative, table.c.in_force)
    kept = [governance.SharingRule.FromString(body) for body in await connection.scalars(statement)]
    keys = CooperativeKeys.follow(f"cooperatives/{cooperative}", await signing_keys(connection, cooperative))
    return Rules.at(kept, keys, at)


async def unheard_rules(connection: AsyncConnection, names: Iterable[str]) -> list[str]:
    """Those of some rules that no event has told of, in force or ended."""
    wanted = list(names)
    heard = set(await connection.scalars(sa.select(rule_table.c.name).where(rule_table.c.name.in_(wanted))))
    return [name for name in wanted if name not in heard]


async def insert_offering(connection: AsyncConnection, id: str, cooperative: str, offering: pb.Offering) -> bool:
    """False if the id is taken, by whomever."""
    statement = (
        insert(offering_table)
        .values(
            id=id,
            cooperative=cooperative,
            dataset=offering.scope.datasets[0].dataset,
            open=True,
            body=offering.SerializeToString(),
            change_xid=THIS_TRANSACTION,
        )
        .on_conflict_do_nothing()
        .returning(offering_table.c.id)
    )
    return (await connection.execute(statement)).first() is not None


async def close_offering(connection: AsyncConnection, id: str, offering: pb.Offering) -> None:
    table = offering_table
    await connection.execute(
        table.update()
        .where(table.c.id == id)
        .values(open=False, body=offering.SerializeToString(), change_xid=THIS_TRANSACTION)
    )


async def offering(connection: AsyncConnection, cooperative: str, id: str, lock: bool = False) -> pb.Offering | None:
    table = offering_table
    statement = sa.select(table.c.body).where(table.c.id == id, table.c.cooperative == cooperative)
    body = (await connection.execute(statement.with_for_update() if lock else statement)).scalar()
    return pb.Offering.FromString(body) if body is not None else None


async def open_offerings(connection: AsyncConnection, cooperative: str) -> list[tuple[str, pb.Offering]]:
    """A cooperative's open offerings with their ids, locked."""
    table = offering_table
    statement = (
        sa.select(table.c.id, table.c.body).where(table.c.cooperative == cooperative, table.c.open).with_for_update()
    )
    return [(row.id, pb.Offering.FromString(row.body)) for row in await connection.execute(statement)]


async def offerings(connection: AsyncConnection, cooperative: str, before: str | None, limit: int) -> list[pb.Offering]:
    """Newest first, open and closed."""
    table = offering_table
    statement = (
        sa.select(table.c.body).where(table.c.cooperative == cooperative).order_by(table.c.id.desc()).limit(limit)
    )
    if before is not None:
        statement = statement.where(table.c.id < before)
    return [pb.Offering.FromString(body) for body in await connection.scalars(statement)]


async def offerings_by_id(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, pb.Offering]:
    table = offering_table
    rows = await connection.execute(sa.select(table.c.id, table.c.body).where(table.c.id.in_(ids), table.c.open))
    return {row.id: pb.Offering.FromString(row.body) for row in rows}


async def first_unsettled(connection: AsyncConnection) -> int:
    """The first transaction that may still be under way: everything before it has committed or never will.

    It counts for the whole cluster, so a transaction of any other service holds it back.
    """
    value = (await connection.execute(sa.text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"))).scalar()
    assert isinstance(value, int)
    return value


async def changed_offerings(
    connection: AsyncConnection, first: int, chunk: int
) -> AsyncIterator[Sequence[sa.Row[*tuple[Any, ...]]]]:
    """Offerings last changed by transaction `first` or a later one, in that order, in chunks."""
    offering, dataset, cooperative = offering_table, dataset_table, cooperative_table
    statement = (
        sa.select(
            offering.c.id,
            offering.c.open,
            offering.c.body,
            offering.c.cooperative,
            offering.c.change_xid,
            dataset.c.title,
            dataset.c.description,
            dataset.c.modality,
            dataset.c.languages,
            cooperative.c.display_name,
        )
        .join(dataset, dataset.c.name == offering.c.dataset)
        .outerjoin(cooperative, cooperative.c.id == offering.c.cooperative)
        .where(offering.c.change_xid >= first)
        .order_by(offering.c.change_xid)
    )
    result = await connection.stream(statement, execution_options={"yield_per": chunk})
    async for rows in result.partitions():
        yield rows
