"""The gateway's settings, and the secret files they name."""

from __future__ import annotations

import hmac
from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from rochdale_kit.config import ServiceConfig


class Config(ServiceConfig):
    """Read from DATA_GATEWAY_… in the environment."""

    model_config = SettingsConfigDict(env_prefix="DATA_GATEWAY_", extra="forbid", hide_input_in_errors=True)

    cooperative: str = Field(
        pattern="^[a-z][a-z0-9-]{1,38}[a-z0-9]$", description="Id of the cooperative whose data is here."
    )
    http_address: str = Field("127.0.0.1:0", description="Where to listen for HTTP, host:port.")
    public_url: str = Field(
        pattern="^https?://[^/?#]+(/[^?#]*)?$",
        max_length=500,
        description="Where holders of tokens reach this gateway, such as https://data.valley-health.example.",
    )
    control_address: str = Field("", description="Where stewards reach gRPC, if it is not GRPC_ADDRESS itself.")
    storage_directory: Path = Field(description="The folder of this gateway alone: uploads, versions, private files.")
    pseudonym_key_file: Path = Field(description="A file of 32 random bytes that makes members' pseudonyms.")
    url_key_file: Path = Field(description="A file of 32 random bytes that signs the addresses of files.")
    api_key_file: Path = Field(description="A file with the secret of an API key of role GATEWAY.")
    broker_address: str = Field(description="gRPC address of the access broker, host:port.")
    governance_address: str = Field(description="gRPC address of governance, host:port.")
    licensing_address: str = Field(description="gRPC address of licensing, host:port.")
    cooperative_key: str = Field(
        "",
        pattern="^([A-Za-z0-9_-]{43})?$",
        description="Id of a key of the cooperative, from the cooperative itself. Empty: trust the first one seen.",
    )
    withdrawal_version_seconds: int = Field(
        259_200,
        ge=0,
        le=30 * 86_400,
        description="How long after a withdrawal a version without the member's rows is published.",
    )
    feed_silence_seconds: float = Field(
        10.0, gt=0, le=60, description="Serve nobody after hearing nothing from the broker for so long."
    )

    @model_validator(mode="after")
    def _reachable(self) -> Config:
        # Stewards are told this address; "every interface" is none they could call.
        if not self.control_address and self.grpc_address.startswith(("0.0.0.0:", "[::]:")):
            raise ValueError("CONTROL_ADDRESS must say where stewards reach gRPC when GRPC_ADDRESS is every interface")
        return self


def read_key(path: Path) -> bytes:
    """The 32 bytes in a key file. A wrong file stops the start with a sentence."""
    try:
        key = path.read_bytes()
    except OSError as error:
        raise SystemExit(f"{path} cannot be read: {error.strerror}.") from None
    if len(key) != 32:
        raise SystemExit(f"{path} holds {len(key)} bytes; the key has exactly 32.")
    return key


def rows_key(pseudonym_key: bytes) -> bytes:
    """Salts the hashes that stand for members' rows; made of the pseudonym key, so that there is no third file to lose."""
    return hmac.digest(pseudonym_key, b"rochdale-rows-key-v1", "sha256")


def read_secret(path: Path) -> str:
    """The API key in a file."""
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise SystemExit(f"{path} cannot be read as an API key.") from None
