"""Billing's settings."""

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from rochdale_kit.config import ServiceConfig

TEST_KEYS = ("sk_test_", "rk_test_")
LIVE_KEYS = ("sk_live_", "rk_live_")


class Config(ServiceConfig):
    """Read from BILLING_… in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="BILLING_", extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    http_address: str = Field("127.0.0.1:0", description="Where to listen for Stripe's webhooks, host:port.")
    # The order of these fields counts: each is checked against those above it.
    stripe_live: bool = Field(False, description="Accept a live key, with which real money moves.")
    stripe_api_key: str = Field("", description="Stripe's secret key; empty leaves only bank transfers.")
    stripe_api_base: str = Field("", description="Another address than Stripe's own, such as the simulator's.")
    stripe_webhook_secret: str = Field(
        "", description="The endpoint's signing secret, whsec_…; two with a comma between them while it is rotated."
    )
    public_url: str = Field("", description="Where browsers reach http_address, such as https://pay.example.org.")

    order_ttl_seconds: int = Field(30 * 24 * 3600, ge=1, description="How long an order can be paid.")
    round_seconds: float = Field(5.0, gt=0, description="How often orders are closed and lost answers asked for again.")
    recover_age_seconds: float = Field(10.0, ge=0, description="How old an unanswered attempt is when it is asked for.")
    sweep_seconds: float = Field(30.0, gt=0, description="How often payments are looked up whose webhook may be lost.")
    sweep_age_seconds: float = Field(60.0, ge=0, description="How old such a payment is.")

    @field_validator("stripe_api_key")
    @classmethod
    def _key(cls, value: str, info: ValidationInfo) -> str:
        if value.startswith(LIVE_KEYS) and not info.data.get("stripe_live"):
            raise ValueError("a live key moves real money; set BILLING_STRIPE_LIVE to true if that is meant")
        if value and not value.startswith(TEST_KEYS + LIVE_KEYS):
            raise ValueError("must start with sk_test_ or rk_test_")
        return value

    @field_validator("stripe_api_base")
    @classmethod
    def _base(cls, value: str, info: ValidationInfo) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        if value and str(info.data.get("stripe_api_key", "")).startswith(LIVE_KEYS):
            raise ValueError("a live key goes to Stripe itself and nowhere else")
        return value

    @field_validator("stripe_webhook_secret")
    @classmethod
    def _secret(cls, value: str, info: ValidationInfo) -> str:
        if not info.data.get("stripe_api_key"):
            return value
        secrets = split_secrets(value)
        # Anybody could sign with an empty secret, and so have an order called paid.
        if not secrets or not all(secret.startswith("whsec_") and len(secret) >= 12 for secret in secrets):
            raise ValueError("with a Stripe key it must be the signing secret of the webhook endpoint, whsec_…")
        return value

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("stripe_api_key") and not value.startswith(("http://", "https://")):
            raise ValueError("with a Stripe key it must be an address starting with http:// or https://")
        return value.rstrip("/")


def split_secrets(value: str) -> list[str]:
    """The webhook secrets in a setting; any of them may sign."""
    return [secret for part in value.split(",") if (secret := part.strip())]
