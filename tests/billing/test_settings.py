"""Settings that make no sense stop the start with a sentence."""

from typing import Any

import pytest

from billing.config import Config
from rochdale_kit import config as settings

GOOD = {
    "DATABASE_URL": "postgresql+asyncpg://b:b@127.0.0.1/b",
    "NATS_URL": "nats://127.0.0.1:4222",
    "STRIPE_API_KEY": "sk_test_1",
    "STRIPE_WEBHOOK_SECRET": "whsec_0123456789",
    "PUBLIC_URL": "https://pay.example/",
}


def load(monkeypatch: pytest.MonkeyPatch, **change: Any) -> Config:
    for name, value in (GOOD | change).items():
        monkeypatch.setenv(f"BILLING_{name}", value)
    return settings.load(Config)


def test_good_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch).public_url == "https://pay.example"
    assert load(monkeypatch, STRIPE_API_KEY="sk_live_1", STRIPE_LIVE="true").stripe_live
    assert not load(monkeypatch, STRIPE_API_KEY="", STRIPE_WEBHOOK_SECRET="", PUBLIC_URL="").stripe_api_key


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"STRIPE_WEBHOOK_SECRET": ""}, "BILLING_STRIPE_WEBHOOK_SECRET is wrong"),
        ({"STRIPE_WEBHOOK_SECRET": " , "}, "BILLING_STRIPE_WEBHOOK_SECRET is wrong"),
        ({"STRIPE_WEBHOOK_SECRET": "whsec_0123456789,password"}, "BILLING_STRIPE_WEBHOOK_SECRET is wrong"),
        ({"STRIPE_API_KEY": "sk_live_1"}, "set BILLING_STRIPE_LIVE to true"),
        (
            {"STRIPE_API_KEY": "sk_live_1", "STRIPE_LIVE": "true", "STRIPE_API_BASE": "http://elsewhere"},
            "a live key goes to Stripe itself",
        ),
        ({"STRIPE_API_KEY": "pk_test_1"}, "must start with sk_test_"),
        ({"PUBLIC_URL": ""}, "BILLING_PUBLIC_URL is wrong"),
        ({"STRIPE_API_BASE": "ftp://x"}, "BILLING_STRIPE_API_BASE is wrong"),
        ({"RETRY_DAYS": "1,5,3"}, "BILLING_RETRY_DAYS is wrong"),
        ({"RETRY_DAYS": "0,1"}, "BILLING_RETRY_DAYS is wrong"),
        ({"RETRY_DAYS": "tomorrow"}, "BILLING_RETRY_DAYS is wrong"),
        ({"GRACE_DAYS": "30"}, "access would end before it is suspended"),
        ({"DAY_SECONDS": "0"}, "BILLING_DAY_SECONDS is wrong"),
    ],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SystemExit):
        load(monkeypatch, **change)
    said = capsys.readouterr().err
    assert sentence in said
    assert "0123456789" not in said, "no secret is repeated"


def test_a_missing_secret_is_noticed_though_it_has_a_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DATABASE_URL", "NATS_URL", "STRIPE_API_KEY"):
        monkeypatch.setenv(f"BILLING_{name}", GOOD[name])
    with pytest.raises(SystemExit):
        settings.load(Config)
    assert "BILLING_STRIPE_WEBHOOK_SECRET is wrong" in capsys.readouterr().err
