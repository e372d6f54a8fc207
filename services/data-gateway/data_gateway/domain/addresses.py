"""Signed, short-lived addresses of files, for clients that send no token with them."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

LIFE_SECONDS = 900
PREFIX = "/delta-sharing/files/"
# Only this name makes the Rust kernel inside the delta-sharing client take an address for a presigned one; with a name
# of our own it would look for the file on the local disk.
SIGNATURE = "X-Amz-Signature"


@dataclass(frozen=True)
class FileAddress:
    """What an address opens. selection: "all" or the digest of a projection; dataset is a bare id; expires is seconds
    since 1970; token_id, key_id and grant say by whose right, so that revoking any of them closes the address."""

    dataset: str
    number: int
    selection: str
    file: str
    grant: str
    token_id: str
    key_id: str
    expires: int

    @property
    def path(self) -> str:
        return f"{PREFIX}{self.dataset}/{self.number}/{self.selection}/{self.file}"

    def signature(self, key: bytes) -> str:
        signed = "\n".join(("rochdale-file-v1", self.path, self.grant, self.token_id, self.key_id, str(self.expires)))
        return hmac.digest(key, signed.encode(), "sha256").hex()

    def url(self, base: str, key: bytes) -> str:
        query = urlencode(
            {
                "expires": self.expires,
                "grant": self.grant,
                "token": self.token_id,
                "key": self.key_id,
                SIGNATURE: self.signature(key),
            }
        )
        return f"{base}{quote(self.path)}?{query}"


def read_address(path: str, query: Mapping[str, str], key: bytes) -> FileAddress | None:
    """The address behind a path (decoded) and its query; None unless this gateway signed exactly this."""
    parts = path.removeprefix(PREFIX).split("/", 3)
    if not path.startswith(PREFIX) or len(parts) != 4:
        return None
    number, expires = parts[1], query.get("expires", "")
    if not (_digits(number) and _digits(expires)):
        return None
    address = FileAddress(
        dataset=parts[0],
        number=int(number),
        selection=parts[2],
        file=parts[3],
        grant=query.get("grant", ""),
        token_id=query.get("token", ""),
        key_id=query.get("key", ""),
        expires=int(expires),
    )
    given = query.get(SIGNATURE, "")
    # As bytes: comparing texts that are not ASCII would raise.
    if not hmac.compare_digest(address.signature(key).encode(), given.encode("utf-8", "replace")):
        return None
    return address if address.path == path else None


def _digits(text: str) -> bool:
    return 0 < len(text) <= 12 and text.isascii() and text.isdigit()
