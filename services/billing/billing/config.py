"""Billing's settings."""

from itertools import pairwise

import schwifty
from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict
from schwifty.exceptions import SchwiftyException

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

    platform_fee_bps: int = Field(500, ge=0, le=10_000, description="What the market keeps of a net price, in 1/100 %.")
    hold_seconds: float = Field(7 * 24 * 3600, ge=0, description="How long a share is held at least after the payment.")
    delivery_deadline_seconds: float = Field(
        30 * 24 * 3600, ge=0, description="How long after its hold a share waits at most for the license to be used."
    )
    tax_table: str = Field("", description="A JSON file that says which taxes are on an order; empty for none.")

    # Subscriptions.
    day_seconds: float = Field(
        86_400, gt=0, description="How long a day of a subscription is; shorter only to try things out."
    )
    retry_days: str = Field("1,3,5,7", description="Days after which an unpaid order of a period is charged again.")
    grace_days: float = Field(14, gt=0, description="Days after which an unpaid order of a period suspends access.")
    terminate_days: float = Field(30, gt=0, description="Days after which it ends the license.")
    use_wait_seconds: float = Field(
        3600, ge=0, description="How long after a period what was used in it may still be told for its own order."
    )

    @field_validator("retry_days")
    @classmethod
    def _retry_days(cls, value: str) -> str:
        if any(later <= earlier for earlier, later in pairwise((0.0, *days_of(value)))):
            raise ValueError("must be days that grow, such as 1,3,5,7")
        return value

    @field_validator("terminate_days")
    @classmethod
    def _terminate_days(cls, value: float, info: ValidationInfo) -> float:
        if value <= info.data.get("grace_days", 0):
            raise ValueError("must be more than BILLING_GRACE_DAYS, or access would end before it is suspended")
        return value

    # The treasury.
    stripe_connect_webhook_secret: str = Field(
        "", description="Signing secret of the endpoint for connected accounts, whsec_…; empty closes its route."
    )
    platform_country: str = Field(
        "NL", pattern="^[A-Z]{2}$", description="Where the market's Stripe account is seated."
    )
    reserve_bps_cards: int = Field(1000, ge=0, le=10_000, description="Rolling reserve of card payments, of 10,000.")
    reserve_bps_bank: int = Field(0, ge=0, le=10_000, description="Rolling reserve of bank transfers, of 10,000.")
    reserve_seconds: float = Field(120 * 86400, ge=0, description="How long the rolling reserve stays.")
    payout_seconds: float = Field(86400, ge=0, description="How often a cooperative is paid at most.")
    payout_minimum_minor: int = Field(100, ge=1, description="The least that is paid out, in minor units.")
    account_check_seconds: float = Field(3600, gt=0, description="How often Stripe is asked about a payout account.")
    cooling_off_seconds: float = Field(72 * 3600, ge=0, description="How long a new bank account waits once approved.")
    payer_holder: str = Field("", max_length=70, description="Who pays cooperatives in a file for a bank.")
    payer_iban: str = Field("", description="The account such a file pays from; empty leaves CSV alone.")
    unclaimed_seconds: float = Field(
        3 * 365 * 86400, ge=0, description="After what time a dividend nobody could be paid is set apart as unclaimed."
    )
    unclaimed_round_seconds: float = Field(3600, gt=0, description="How often such dividends are looked for.")
    reconcile_seconds: float = Field(86400, gt=0, description="How often the books are compared with Stripe.")
    settle_seconds: float = Field(900, ge=0, description="How old a movement or attempt is when its lack is a break.")

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

    @field_validator("stripe_connect_webhook_secret")
    @classmethod
    def _connect_secret(cls, value: str) -> str:
        if not all(secret.startswith("whsec_") and len(secret) >= 12 for secret in split_secrets(value)):
            raise ValueError("must be the signing secret of the endpoint for connected accounts, whsec_…")
        return value

    @field_validator("payer_iban")
    @classmethod
    def _iban(cls, value: str, info: ValidationInfo) -> str:
        if value and not info.data.get("payer_holder"):
            raise ValueError("needs BILLING_PAYER_HOLDER, the name of whose account it is")
        try:
            return str(schwifty.IBAN(value, validate_bban=True)) if value else value
        except SchwiftyException:
            raise ValueError("is not an IBAN; look at its digits again") from None

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("stripe_api_key") and not value.startswith(("http://", "https://")):
            raise ValueError("with a Stripe key it must be an address starting with http:// or https://")
        return value.rstrip("/")


def days_of(value: str) -> tuple[float, ...]:
    """The days in a setting. ValueError when one is none."""
    return tuple(float(part) for part in value.split(",") if part.strip())


def split_secrets(value: str) -> list[str]:
    """The webhook secrets in a setting; any of them may sign."""
    return [secret for part in value.split(",") if (secret := part.strip())]
