"""Identity's settings."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from rochdale_kit.config import ServiceConfig


class Config(ServiceConfig):
    """Read from IDENTITY_… in the environment."""

    model_config = SettingsConfigDict(env_prefix="IDENTITY_", extra="forbid", hide_input_in_errors=True)

    sealing_key_file: str = Field(description="A file of 32 random bytes that seals the signing keys in the database.")
    operator_key_hash: str = Field(
        "",
        pattern="^([0-9a-f]{64})?$",
        description="SHA-256 of the operator's first key, in hexadecimal; made at the start.",
    )
