"""What an organization and a key are, and when the answer is no. No clock, no ids, no connection."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from rochdale.identity.v1 import identity_pb2 as pb
from rochdale_kit.refusals import Kind, Refusal

OPERATOR = "operator"

_ROLES = {
    pb.ORGANIZATION_KIND_COOPERATIVE: {pb.ROLE_STEWARD, pb.ROLE_MEMBER, pb.ROLE_GATEWAY},
    pb.ORGANIZATION_KIND_BUYER: {pb.ROLE_BUYER},
    pb.ORGANIZATION_KIND_OPERATOR: {pb.ROLE_OPERATOR},
}
_SECRET = re.compile(r"^rochdale_([A-Za-z0-9_-]{43})_([0-9a-f]{8})$")


def first_role(kind: int) -> int:
    """The role of the key an organization registers with."""
    return pb.ROLE_STEWARD if kind == pb.ORGANIZATION_KIND_COOPERATIVE else pb.ROLE_BUYER


def check_roles(kind: int, roles: list[int]) -> None:
    """Refuses roles that an organization of this kind cannot have."""
    for role in roles:
        if role not in _ROLES[kind]:  # type: ignore[index] # the enum's ints, as they come from the wire
            raise Refusal(
                "ROLE_NOT_ALLOWED",
                f"{pb.Role.Name(role)} is not a role of a {pb.OrganizationKind.Name(kind)}.",  # type: ignore[arg-type]
                role=pb.Role.Name(role),  # type: ignore[arg-type]
                kind=pb.OrganizationKind.Name(kind),  # type: ignore[arg-type]
            )


def check_roles_for_others(roles: Iterable[int]) -> None:
    """Refuses what an operator must not make for another organization: a key that decides, licenses or pays for it."""
    for role in roles:
        if role != pb.ROLE_GATEWAY:
            name = pb.Role.Name(role)  # type: ignore[arg-type] # the enum's int, as it comes from the wire
            raise Refusal(
                "ROLE_NOT_ALLOWED",
                f"A key with {name} is made by the organization itself; an operator makes others only ROLE_GATEWAY.",
                role=name,
            )


def key_hash(secret: str) -> bytes:
    """The hash a well-formed secret is stored under. Refuses with KEY_INVALID, as for an unknown one."""
    match = _SECRET.match(secret)
    # The checksum catches a key cut short while copying before it costs a query; it protects nothing else.
    if not match or f"{zlib.crc32(match[1].encode()):08x}" != match[2]:
        raise key_invalid()
    return hashlib.sha256(secret.encode()).digest()


def key_invalid() -> Refusal:
    return Refusal("KEY_INVALID", "The key is not one that works here.", Kind.UNAUTHENTICATED)


def key_exists() -> Refusal:
    return Refusal("KEY_EXISTS", "This key is registered already; make a new one.", Kind.EXISTS)


@dataclass(frozen=True)
class KeyHolder:
    """A key as it was found by its hash, with its organization."""

    key: pb.ApiKey
    organization: pb.Organization


def check_key(found: KeyHolder | None, now: dt.datetime) -> KeyHolder:
    """Refuses an unknown, revoked or expired key, all with the same words."""
    if found is None or found.key.HasField("revoke_time"):
        raise key_invalid()
    if found.key.HasField("expire_time") and found.key.expire_time.ToDatetime(tzinfo=dt.UTC) <= now:
        raise key_invalid()
    return found
