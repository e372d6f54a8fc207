"""Governance's tables of proposals, votes and the board, as the migrations make them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from governance.store.tables import metadata

_TIME = sa.DateTime(timezone=True)

proposal_table = sa.Table(
    "proposal",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("cooperative_id", sa.Text, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("delta", sa.LargeBinary, nullable=False),
    sa.Column("decision_class", sa.SmallInteger, nullable=False),
    sa.Column("class_reasons", ARRAY(sa.Text), nullable=False),
    sa.Column("decision_rule", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("beneficiaries", ARRAY(sa.Text), nullable=False),
    sa.Column("frozen_hash", sa.Text, nullable=False),
    sa.Column("impact", sa.LargeBinary),
    sa.Column("roll", sa.LargeBinary),
    sa.Column("tally", sa.LargeBinary),
    sa.Column("mandate_request", sa.Text, nullable=False),
    sa.Column("supersedes", sa.Text, nullable=False),
    sa.Column("create_time", _TIME, nullable=False),
    sa.Column("freeze_time", _TIME),
    sa.Column("open_time", _TIME),
    sa.Column("close_time", _TIME),
    sa.Column("dissent_end_time", _TIME),
    sa.Column("enact_time", _TIME),
    sa.Column("sponsor_until", _TIME),
    sa.Column("review_time", _TIME),
    sa.Column("due_time", _TIME),
)
sponsor_table = sa.Table(
    "sponsor",
    metadata,
    sa.Column("proposal_id", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, primary_key=True),
    sa.Column("steward", sa.Boolean, nullable=False),
    sa.Column("create_time", _TIME, nullable=False),
)
interest_table = sa.Table(
    "interest",
    metadata,
    sa.Column("proposal_id", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, primary_key=True),
    sa.Column("statement", sa.Text, nullable=False),
    sa.Column("declared", sa.Boolean, nullable=False),
)
comment_table = sa.Table(
    "proposal_comment",
    metadata,
    sa.Column("proposal_id", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("create_time", _TIME, nullable=False),
)
challenge_table = sa.Table(
    "challenge",
    metadata,
    sa.Column("proposal_id", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("challenge", sa.LargeBinary, nullable=False),
)
vote_table = sa.Table(
    "vote",
    metadata,
    sa.Column("proposal_id", sa.Text, primary_key=True),
    sa.Column("open", sa.Boolean, nullable=False),
    sa.Column("frozen_hash", sa.Text, nullable=False),
    sa.Column("secrecy", sa.SmallInteger, nullable=False),
    sa.Column("sealed_key", sa.LargeBinary),
    sa.Column("open_time", _TIME, nullable=False),
    sa.Column("close_time", _TIME, nullable=False),
    sa.Column("voting_seconds", sa.BigInteger, nullable=False),
    sa.Column("extension_seconds", sa.BigInteger, nullable=False),
    sa.Column("extended", sa.Boolean, nullable=False),
    sa.Column("eligible_count", sa.BigInteger, nullable=False),
    sa.Column("quorum_count", sa.BigInteger, nullable=False),
    sa.Column("turnout_count", sa.BigInteger, nullable=False),
    sa.Column("board_length", sa.BigInteger, nullable=False),
    sa.Column("board_head", sa.Text, nullable=False),
)
voter_table = sa.Table(
    "voter",
    metadata,
    sa.Column("proposal_id", sa.Text, primary_key=True),
    sa.Column("member", sa.Text, primary_key=True),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("leaf", sa.LargeBinary, nullable=False),
)
ballot_table = sa.Table(
    "ballot",
    metadata,
    sa.Column("proposal_id", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("previous_hash", sa.Text, nullable=False),
    sa.Column("nullifier", sa.Text, nullable=False),
    sa.Column("frozen_hash", sa.Text, nullable=False),
    sa.Column("commitment", sa.Text, nullable=False),
    sa.Column("delegate_nullifier", sa.Text, nullable=False),
    sa.Column("entry_hash", sa.Text, nullable=False),
    sa.Column("choice", sa.SmallInteger, nullable=False),
    sa.Column("salt", sa.Text, nullable=False),
)
delegation_table = sa.Table(
    "delegation",
    metadata,
    sa.Column("cooperative_id", sa.Text, primary_key=True),
    sa.Column("member", sa.Text, primary_key=True),
    sa.Column("decision_class", sa.SmallInteger, primary_key=True),
    sa.Column("delegate", sa.Text, nullable=False),
    sa.Column("create_time", _TIME, nullable=False),
)
