"""The broker's tables."""

from __future__ import annotations

import sqlalchemy as sa

from rochdale.access_broker.v1 import access_broker_pb2 as pb

# Of its own, not the kit's: several services may live in one process, and a gateway has a table of revocations too.
tables = sa.MetaData()
Time = sa.DateTime(timezone=True)

grant_table = sa.Table(
    "access_grant",
    tables,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("license", sa.Text, nullable=False),
    sa.Column("terms_hash", sa.Text, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("cooperative", sa.Text, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("state_reason", sa.Text, nullable=False),
    sa.Column("terms", sa.LargeBinary, nullable=False),
    # What the terms cite, as it was checked; absent where it could not be found.
    sa.Column("sharing_rule", sa.LargeBinary),
    sa.Column("offering", sa.LargeBinary),
    sa.Column("create_time", Time, nullable=False),
    sa.Column("open_time", Time),
    sa.Column("end_time", Time),
    sa.Column("license_signature", sa.LargeBinary),
    # Absent while void. The seal is made with the file of the settings, so that whoever can write here cannot make one.
    sa.Column("grant_hash", sa.Text),
    sa.Column("seal", sa.LargeBinary),
    # When the license ends, as last heard, and since when it is suspended: they tell a late event from a new one.
    sa.Column("license_end_time", Time),
    sa.Column("suspend_time", Time),
    # How many suspensions of the license were over when it was opened.
    sa.Column("suspension_count", sa.Integer, nullable=False),
    # One grant a license that is not closed, whatever races and whatever is heard twice.
    sa.Index("grant_of_license", "license", unique=True, postgresql_where=sa.text(f"state <> {pb.GRANT_STATE_CLOSED}")),
    sa.Index("grants_of_license", "license", sa.text("id DESC")),
    sa.Index("grant_of_holder", "holder", sa.text("id DESC")),
    sa.Index("grant_of_cooperative", "cooperative", sa.text("id DESC")),
)
ended_license_table = sa.Table(
    "ended_license",
    tables,
    sa.Column("license", sa.Text, primary_key=True),
    sa.Column("hear_time", Time, nullable=False),
)
gateway_table = sa.Table(
    "gateway",
    tables,
    sa.Column("cooperative", sa.Text, primary_key=True),
    sa.Column("public_url", sa.Text, nullable=False),
    sa.Column("control_address", sa.Text, nullable=False),
    sa.Column("register_time", Time, nullable=False),
)
feed_table = sa.Table(
    "gateway_feed",
    tables,
    sa.Column("cooperative", sa.Text, primary_key=True),
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
)
revocation_table = sa.Table(
    "revocation",
    tables,
    sa.Column("cooperative", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("revoke_time", Time, nullable=False),
    sa.Column("forget_time", Time),
)
issuance_table = sa.Table(
    "issuance",
    tables,
    sa.Column("token_id", sa.Text, primary_key=True),
    sa.Column("organization", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("request", sa.LargeBinary, nullable=False),
    # Not a foreign key: it would lock the grant's row for every token, and grants are never deleted.
    sa.Column("grant_id", sa.Text, nullable=False),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("issue_time", Time, nullable=False),
    sa.Column("expire_time", Time, nullable=False),
    sa.Column("revoke_time", Time),
    sa.UniqueConstraint("organization", "request_id", name="issuance_of_request"),
)


proof_report_table = sa.Table(
    "proof_report",
    tables,
    sa.Column("id", sa.Text, primary_key=True),
    # Whose grants were proved, where a steward asked; absent for all.
    sa.Column("cooperative", sa.Text),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
