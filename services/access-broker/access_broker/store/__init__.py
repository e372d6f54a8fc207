"""The broker's tables and the only queries on them, but for the hot one in issuance: one file for each noun."""

from access_broker.store.gateways import (
    feeds,
    gateway,
    insert_revocation,
    register_gateway,
    revocations,
)
from access_broker.store.grant_rows import (
    GrantReference,
    GrantRow,
    grant,
    grant_of_license,
    grants,
    insert_grant,
    is_ended,
    is_open,
    lock_license,
    open_grants,
    references,
    remember_ended,
    set_grant_state,
    set_suspended,
)
from access_broker.store.issuances import (
    IssuedRow,
    issuance_of_request,
    lock_issuance,
    set_revoked,
)
from access_broker.store.proofs import (
    insert_report,
    reports,
)

__all__ = [
    "GrantReference",
    "GrantRow",
    "IssuedRow",
    "feeds",
    "gateway",
    "grant",
    "grant_of_license",
    "grants",
    "insert_grant",
    "insert_report",
    "insert_revocation",
    "is_ended",
    "is_open",
    "issuance_of_request",
    "lock_issuance",
    "lock_license",
    "open_grants",
    "references",
    "register_gateway",
    "remember_ended",
    "reports",
    "revocations",
    "set_grant_state",
    "set_revoked",
    "set_suspended",
]
