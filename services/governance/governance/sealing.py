"""Seals the key that links members to their lines on a board, so that a copy of the database links nothing."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Sealer:
    """Seals with the service's own sealing key, which is not in the database."""

    def __init__(self, sealing_key: bytes) -> None:
        self._cipher = AESGCM(sealing_key)

    def seal(self, secret: bytes, what: str) -> bytes:
        """what: what the secret is of; it opens for nothing else."""
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, secret, what.encode())

    def open(self, sealed: bytes, what: str) -> bytes:
        return self._cipher.decrypt(sealed[:12], sealed[12:], what.encode())
