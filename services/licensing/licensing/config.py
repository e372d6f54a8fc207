"""Licensing's settings."""

from pydantic import Field, field_validator
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
    ror_url: str = Field("", description="The ROR API, such as https://api.ror.org/v2; empty does not ask it.")
    gleif_url: str = Field(
        "", description="The GLEIF API, such as https://api.gleif.org/api/v1; empty does not ask it."
    )
    charity_url: str = Field(
        "",
        description="The Charity Commission API, such as https://api.charitycommission.gov.uk/register/api; "
        "empty does not ask it.",
    )
    charity_api_key: str = Field("", repr=False, description="The key the Charity Commission gave to ask its API.")
    large_platforms_file: str = Field(
        "", description="A list of large platforms as in licensing/data/large_platforms.json; empty for that one."
    )

    @field_validator("ror_url", "gleif_url", "charity_url")
    @classmethod
    def _http(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with https:// or http://, or be empty")
        return value
