"""Governance's settings."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from rochdale_kit.config import ServiceConfig


class Config(ServiceConfig):
    """Read from GOVERNANCE_… in the environment."""

    model_config = SettingsConfigDict(env_prefix="GOVERNANCE_", extra="forbid", hide_input_in_errors=True)

    identity_address: str = Field(min_length=1, description="gRPC address of identity, host:port.")
    sealing_key_file: str = Field(
        description="A file of 32 random bytes that seals signing keys, and the keys of open votes, in the database."
    )
