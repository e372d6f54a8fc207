"""The gateway's tables; no query is here."""

from __future__ import annotations

import sqlalchemy as sa

# Of its own, not the kit's: several services may live in one process, and other rooms have versions and revocations too.
tables = sa.MetaData()
Time = sa.DateTime(timezone=True)

ingestion_table = sa.Table(
    "ingestion",
    tables,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("format", sa.SmallInteger, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("member_column", sa.Text, nullable=False),
    sa.Column("broken_rows", sa.SmallInteger, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("processed_bytes", sa.BigInteger, nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("rejected_row_count", sa.BigInteger, nullable=False),
    sa.Column("failure_reason", sa.Text, nullable=False),
    sa.Column("failure_message", sa.Text, nullable=False),
    # What it became: the catalog's Version, serialized, and the Delta schemaString.
    sa.Column("version", sa.LargeBinary),
    sa.Column("delta_schema", sa.Text),
    sa.Column("create_time", Time, nullable=False),
    # Of a version made here by taking members' rows out: the ingestion it was made from.
    sa.Column("derived_from", sa.Text),
)
dataset_number_table = sa.Table(
    "dataset_number",
    tables,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("last_number", sa.Integer, nullable=False),
)
version_table = sa.Table(
    "version",
    tables,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("ingestion_id", sa.Text, sa.ForeignKey("ingestion.id"), nullable=False, unique=True),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.Column("delta_schema", sa.Text, nullable=False),
    sa.Column("approve_time", Time, nullable=False),
    # Whether whose rows are where was worked out.
    sa.Column("contributions_time", Time),
    # How often rows of erased members were taken out of the stored files; and, once they were, what the files are now
    # and whose rows are missing (JSON).
    sa.Column("purge_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("stored_files", sa.Text),
    sa.Column("purged", sa.Text),
)
rule_table = sa.Table(
    "known_rule",
    tables,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("rule_hash", sa.Text, primary_key=True),
    sa.Column("rule", sa.LargeBinary, nullable=False),
    sa.Column("hear_time", Time, nullable=False),
)
member_table = sa.Table(
    "member",
    tables,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("pseudonym", sa.Text, nullable=False),
    sa.Column("hear_time", Time, nullable=False),
    sa.Column("erase_time", Time),
)
consent_table = sa.Table(
    "consent",
    tables,
    sa.Column("member", sa.Text, sa.ForeignKey("member.name"), primary_key=True),
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("status", sa.SmallInteger, nullable=False),
    sa.Column("end_time", Time),
    sa.Column("consent", sa.LargeBinary, nullable=False),
    sa.Column("hear_time", Time, nullable=False),
)
contribution_table = sa.Table(
    "contribution",
    tables,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("pseudonym", sa.Text, primary_key=True),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("rows_hash", sa.Text, nullable=False),
    # Positions of the rows in each file as the version was published (zlib, JSON).
    sa.Column("positions", sa.LargeBinary, nullable=False),
    # The member it was told for.
    sa.Column("told_member", sa.Text),
)
selection_table = sa.Table(
    "delivered_selection",
    tables,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    # What its files are, and whose rows they leave out (zlib, JSON).
    sa.Column("files", sa.LargeBinary, nullable=False),
    sa.Column("excluded", sa.LargeBinary, nullable=False),
)
delivery_table = sa.Table(
    "delivery",
    tables,
    sa.Column("license", sa.Text, primary_key=True),
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("first_time", Time, nullable=False),
)
grant_table = sa.Table(
    "served_grant",
    tables,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("license", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("state_reason", sa.Text, nullable=False),
    sa.Column("chain", sa.LargeBinary, nullable=False),
    sa.Column("hear_time", Time, nullable=False),
    # Whether the broker's signature of it verified once: the broker's keys do not stay known for as long as a grant lives.
    sa.Column("signed", sa.Boolean, nullable=False, server_default=sa.false()),
)
revocation_table = sa.Table(
    "revocation",
    tables,
    # All three are the key: should a restored broker give a number twice, both entries cut off.
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("kind", sa.SmallInteger, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("revoke_time", Time, nullable=False),
    sa.Column("forget_time", Time),
)
feed_position_table = sa.Table(
    "feed_position",
    tables,
    sa.Column("id", sa.SmallInteger, primary_key=True),
    sa.Column("applied_sequence", sa.BigInteger, nullable=False),
)
