"""Licensing's settings."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from rochdale_kit.config import ServiceConfig

DAY_SECONDS = 24 * 3600


class Config(ServiceConfig):
    """Read from LICENSING_… in the environment."""

    model_config = SettingsConfigDict(env_prefix="LICENSING_", extra="forbid", hide_input_in_errors=True)

    sealing_key_file: str = Field(description="A file of 32 random bytes that seals the signing keys in the database.")
    negotiation_ttl_seconds: int = Field(
        7 * DAY_SECONDS, ge=1, description="How long the side whose move it is may answer before a negotiation ends."
    )
    payment_ttl_seconds: int = Field(
        30 * DAY_SECONDS, ge=1, description="How long an agreed license waits for its payment before it ends."
    )
