"""Governance's settings."""

from pathlib import Path

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
    mail_smtp_url: str = Field(
        "",
        repr=False,
        description="Where notices are mailed, smtp://user:password@host:port or smtps://; empty for none.",
    )
    mail_directory: Path | None = Field(None, description="A folder for notices as .eml files instead, for a laptop.")
    mail_sender: str = Field("Rochdale <notices@rochdale.invalid>", description="From whom notices are mailed.")
