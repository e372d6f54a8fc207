"""The catalog's settings."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from rochdale_kit.config import ServiceConfig


class Config(ServiceConfig):
    """Read from CATALOG_… in the environment."""

    model_config = SettingsConfigDict(env_prefix="CATALOG_", extra="forbid", hide_input_in_errors=True)

    index_directory: str = Field(
        "", description="Folder of this replica's search index; empty keeps it in memory and builds it at each start."
    )
