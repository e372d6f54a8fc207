"""The storefront's settings."""

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from rochdale_kit.config import ProcessConfig


class Config(ProcessConfig):
    """Read from STOREFRONT_… in the environment."""

    model_config = SettingsConfigDict(env_prefix="STOREFRONT_", extra="forbid", hide_input_in_errors=True)

    http_address: str = Field("127.0.0.1:0", description="Where to listen for HTTP, host:port; port 0 picks one.")
    catalog_address: str = Field(min_length=1, description="gRPC address of the catalog, host:port.")
    governance_address: str = Field(min_length=1, description="gRPC address of governance, host:port.")

    # Without these nobody can sign in, and there are no pages of money. The order counts: each is checked against those above.
    identity_address: str = Field("", description="gRPC address of identity, host:port; empty: nobody signs in.")
    licensing_address: str = Field("", description="gRPC address of licensing, host:port.")
    billing_address: str = Field("", description="gRPC address of billing, host:port; empty: no pages of money.")
    public_url: str = Field(
        "", description="Where browsers reach http_address, such as https://market.example; with https cookies need it."
    )

    @field_validator("billing_address")
    @classmethod
    def _billing(cls, value: str, info: ValidationInfo) -> str:
        if value and not (info.data.get("identity_address") and info.data.get("licensing_address")):
            raise ValueError("needs STOREFRONT_IDENTITY_ADDRESS and STOREFRONT_LICENSING_ADDRESS beside it")
        return value

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must be an address starting with http:// or https://")
        return value.rstrip("/")
