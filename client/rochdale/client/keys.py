"""API keys: making and checking secrets, and the files they are kept in. Nothing here talks to the market."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
import zlib
from pathlib import Path

from rochdale.client.refusals import MarketError

_SHAPE = re.compile(r"rochdale_([A-Za-z0-9_-]{43})_([0-9a-f]{8})")


def make_secret() -> str:
    """A new secret from 32 random bytes: "rochdale_" + base64url + "_" + CRC-32, so that a typing error is noticed."""
    body = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return f"rochdale_{body}_{zlib.crc32(body.encode()):08x}"


def parse_secret(text: str) -> str:
    """The secret in `text`, without white space around it. Refuses with KEY_MALFORMED; never repeats what it was given."""
    secret = text.strip()
    match = _SHAPE.fullmatch(secret)
    if match is None:
        raise MarketError("KEY_MALFORMED", "This is not an API key: it must look like rochdale_…_… with 61 characters.")
    if f"{zlib.crc32(match[1].encode()):08x}" != match[2]:
        raise MarketError("KEY_MALFORMED", "This API key is damaged: its check digits do not fit. Copy it again.")
    return secret


def key_hash(secret: str) -> bytes:
    """What the market stores of a secret: SHA-256 over its ASCII characters."""
    return hashlib.sha256(secret.encode("ascii")).digest()


def read_key_file(path: Path) -> str:
    """The secret in a key file. Refuses with KEY_FILE_NOT_FOUND, KEY_FILE_UNREADABLE, KEY_MALFORMED."""
    facts = {"path": str(path)}
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise MarketError("KEY_FILE_NOT_FOUND", f"There is no key file {path}.", facts) from None
    except (OSError, UnicodeDecodeError):
        raise MarketError("KEY_FILE_UNREADABLE", f"The key file {path} cannot be read.", facts) from None
    try:
        return parse_secret(text)
    except MarketError as error:
        raise MarketError(error.reason, f"{path}: {error.message}", facts) from None


def write_key_file(path: Path, secret: str) -> None:
    """Writes a new key file that only its owner can read. Refuses with KEY_FILE_EXISTS rather than lose a key."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise MarketError("KEY_FILE_EXISTS", f"{path} exists already.", {"path": str(path)}) from None
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret + "\n")


def secret_for(path: Path) -> str:
    """The secret in `path`, made and written there if the file does not exist yet.

    It is on disk before the market hears of it: a lost answer loses no key, and a retry sends the same one.
    """
    if path.exists():
        return read_key_file(path)
    secret = make_secret()
    write_key_file(path, secret)
    return secret
