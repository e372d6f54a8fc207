"""The storefront's settings."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from rochdale_kit.config import ProcessConfig


class Config(ProcessConfig):
    """Read from STOREFRONT_… in the environment."""

    model_config = SettingsConfigDict(env_prefix="STOREFRONT_", extra="forbid", hide_input_in_errors=True)

    http_address: str = Field("127.0.0.1:0", description="Where to listen for HTTP, host:port; port 0 picks one.")
    catalog_address: str = Field(min_length=1, description="gRPC address of the catalog, host:port.")
    governance_address: str = Field(min_length=1, description="gRPC address of governance, host:port.")
