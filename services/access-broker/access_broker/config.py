"""The broker's settings."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from rochdale_kit.config import ServiceConfig


class Config(ServiceConfig):
    """Read from ACCESS_BROKER_… in the environment."""

    model_config = SettingsConfigDict(env_prefix="ACCESS_BROKER_", extra="forbid", hide_input_in_errors=True)

    sealing_key_file: str = Field(description="A file of 32 random bytes that seals the signing keys in the database.")
    governance_address: str = Field(description="gRPC address of governance, host:port.")
    catalog_address: str = Field(description="gRPC address of the catalog, host:port.")
    licensing_address: str = Field(description="gRPC address of licensing, host:port.")
    proof_interval_seconds: int = Field(
        86_400, ge=1, description="How often every live grant is proved again; the first time a minute after the start."
    )
