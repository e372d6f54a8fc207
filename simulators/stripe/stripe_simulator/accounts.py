"""A connected account's life: what it still owes Stripe, what it may do, and the events that tell of it.

Leaves out parameters, the onboarding page, and the account's money.
"""

import copy
from collections import Counter
from typing import Any

from .errors import Json, StripeError
from .store import Store
from .unit import Unit, public, table_of

# What a person is asked for on the onboarding page, in Stripe's names.
ONBOARDING = (
    "business_type",
    "external_account",
    "representative.first_name",
    "representative.last_name",
    "tos_acceptance.date",
    "tos_acceptance.ip",
)
# https://docs.stripe.com/connect/testing#payouts: what a payout to each test account number comes to.
BANK_FAILURES = {
    "000111111116": "no_account",
    "000111111113": "account_closed",
    "000222222227": "insufficient_funds",
    "000333333335": "debit_not_authorized",
    "000444444440": "invalid_currency",
}
DISABLED_REASONS = (
    "action_required.requested_capabilities", "listed", "other", "platform_paused", "rejected.fraud",
    "rejected.incomplete_verification", "rejected.listed", "rejected.other", "rejected.platform_fraud",
    "rejected.platform_other", "rejected.platform_terms_of_service", "rejected.terms_of_service",
    "requirements.pending_verification", "under_review",
)  # fmt: skip
_CURRENCIES = {"US": "usd", "GB": "gbp", "CA": "cad", "CH": "chf", "SE": "sek", "DK": "dkk", "NO": "nok", "PL": "pln"}


def open_account(unit: Unit, params: Json) -> Json:
    """A new account, of which everything is still required."""
    country = params.get("country", "US").upper()
    schedule: Json = {"delay_days": 2, "interval": "daily"}
    schedule |= params.get("settings", {}).get("payouts", {}).get("schedule", {})
    account: Json = {
        "id": unit.new_id("acct"),
        "object": "account",
        "business_profile": {
            "annual_revenue": None, "estimated_worker_count": None, "mcc": None, "monthly_estimated_revenue": None,
            "name": None, "product_description": None, "support_address": None, "support_email": None,
            "support_phone": None, "support_url": None, "url": None, **params.get("business_profile", {}),
        },
        "business_type": params.get("business_type"),
        "capabilities": {},
        "charges_enabled": False,
        "controller": {
            "fees": {"payer": "application"},
            "is_controller": True,
            "losses": {"payments": "application"},
            "requirement_collection": "stripe",
            "stripe_dashboard": {"type": "express"},
            "type": "application",
        },
        "country": country,
        "created": unit.now,
        "default_currency": params.get("default_currency", _CURRENCIES.get(country, "eur")),
        "details_submitted": False,
        "email": params.get("email"),
        "external_accounts": {"object": "list", "data": [], "has_more": False, "total_count": 0, "url": ""},
        "future_requirements": _requirements(),
        "metadata": params.get("metadata") or {},
        "payouts_enabled": False,
        "requirements": _requirements(),
        "settings": {
            "branding": {"icon": None, "logo": None, "primary_color": None, "secondary_color": None},
            "card_payments": {
                "decline_on": {"avs_failure": False, "cvc_failure": False}, "statement_descriptor_prefix": None,
            },
            "dashboard": {"display_name": None, "timezone": "Etc/UTC"},
            "payments": {"statement_descriptor": None},
            "payouts": {"debit_negative_balances": True, "schedule": schedule, "statement_descriptor": None},
        },
        "tos_acceptance": {"date": None, "ip": None, "user_agent": None},
        "type": "none",
        "_bank_failure": None,
        "_deadline": None,
        "_disabled": None,
        "_needed": [name for name in ONBOARDING if name != "business_type" or "business_type" not in params],
        "_next_payout_failure": None,
        "_past_due": [],
        "_requested": [],
    }  # fmt: skip
    account["external_accounts"]["url"] = f"/v1/accounts/{account['id']}/external_accounts"
    account["_past_due"] = list(account["_needed"])
    request(account, params.get("capabilities", {}))
    return unit.put("account", _as_it_follows(account))


def need(unit: Unit, ident: str) -> Json:
    """The account, or what Stripe says of accounts that are not this platform's."""
    account = unit.find("account", ident)
    if account is None:
        raise StripeError(
            403,
            f"The provided key does not have access to account '{ident}' (or that account does not exist). Application"
            " access may have been revoked.",
            code="account_invalid",
        )
    return account


def request(account: Json, capabilities: Json) -> None:
    """Asks for capabilities, or gives them back; they become active when nothing stands in the way."""
    for name, wanted in capabilities.items():
        if wanted.get("requested", False) and name not in account["_requested"]:
            account["_requested"].append(name)
        elif wanted.get("requested") is False and name in account["_requested"]:
            account["_requested"].remove(name)


def changed(unit: Unit, account: Json) -> Json:
    """Saves the account after a change, with what follows from it, and tells Connect endpoints if it shows."""
    before = unit.store.get("account", account["id"]) or {}
    unit.put("account", _as_it_follows(account))
    was, is_ = public(before), public(account)
    previous = {name: value for name, value in was.items() if value != is_.get(name)}
    if previous:
        unit.acting_for(account["id"]).emit("account.updated", account, previous)
    return account


def give(unit: Unit, account: Json, given: dict[str, str], *, ip: str = "127.0.0.1") -> Json:
    """What a person gave, by requirement; whatever is not in `given` stays required.

    `external_account` is an account number or IBAN that was checked before.
    """
    account = copy.deepcopy(account)
    if "business_type" in given:
        account["business_type"] = given["business_type"]
    if "external_account" in given:
        set_bank(unit, account, given["external_account"])
    if "tos_acceptance.date" in given:
        account["tos_acceptance"] = {"date": unit.now, "ip": ip, "user_agent": None}
    account["_needed"] = [name for name in account["_needed"] if name not in given]
    account["_past_due"] = [name for name in account["_past_due"] if name not in given]
    account["details_submitted"] = account["details_submitted"] or not account["_needed"]
    account["_deadline"] = account["_deadline"] if account["_needed"] else None
    return changed(unit, account)


def set_bank(unit: Unit, account: Json, number: str, country: str | None = None, currency: str | None = None) -> None:
    """The bank account that payouts go to, instead of the one before."""
    iban = number[:2].isalpha()
    empty: Json = {"currently_due": [], "errors": [], "past_due": [], "pending_verification": []}
    bank = {
        "id": unit.new_id("ba"),
        "object": "bank_account",
        "account": account["id"],
        "account_holder_name": None,
        "account_holder_type": None,
        "account_type": None,
        "available_payout_methods": ["standard"],
        "bank_name": "STRIPE TEST BANK",
        "country": country or (number[:2].upper() if iban else account["country"]),
        "currency": currency or account["default_currency"],
        "default_for_currency": True,
        "fingerprint": f"fingerprint{number[-4:]}",
        "future_requirements": dict(empty),
        "last4": number[-4:],
        "metadata": {},
        "requirements": empty,
        "routing_number": None if iban else "110000000",
        "status": "new",
    }
    account["external_accounts"] |= {"data": [bank], "total_count": 1}
    account["_bank_failure"] = BANK_FAILURES.get(number)
    for names in (account["_needed"], account["_past_due"]):
        if "external_account" in names:
            names.remove("external_account")


def bank_of(account: Json) -> Json | None:
    """The bank account that can be paid out to, or None."""
    banks = account["external_accounts"]["data"]
    return banks[0] if banks and banks[0]["status"] != "errored" else None


def bank_failed(unit: Unit, ident: str) -> None:
    """A payout came back: no more of them until the person names a bank account again, as at Stripe."""
    account = unit.need("account", ident)
    for bank in account["external_accounts"]["data"]:
        bank["status"] = "errored"
    if "external_account" not in account["_needed"]:
        account["_needed"].append("external_account")
    changed(unit, account)


def require(unit: Unit, ident: str, fields: list[str], due_seconds: int) -> Json:
    """Stripe asks for more: at once, or with a deadline until which everything goes on."""
    account = unit.need("account", ident)
    account["_needed"] += [name for name in fields if name not in account["_needed"]]
    if due_seconds:
        account["_deadline"] = unit.now + due_seconds
        unit.set_timer("requirements_deadline", ident, due=account["_deadline"])
    else:
        account["_past_due"] = list(account["_needed"])
    return changed(unit, account)


def deadline_passed(unit: Unit, ident: str) -> None:
    """What is still required is now past due, and the account stops."""
    account = unit.need("account", ident)
    if account["_deadline"] is None or account["_deadline"] > unit.now:
        return
    account |= {"_deadline": None, "_past_due": list(account["_needed"])}
    changed(unit, account)


def disable(unit: Unit, ident: str, reason: str | None) -> Json:
    """Stripe stops the account for `reason`, or with None lets it go on."""
    account = unit.need("account", ident)
    account["_disabled"] = reason
    return changed(unit, account)


def may(account: Json, capability: str) -> bool:
    """Whether the capability is active."""
    return bool(account["capabilities"].get(capability) == "active")


def connect_state(store: Store) -> Json:
    """How much there is of Connect, for the simulator's state: counts, and moved money in minor units by currency."""
    sent, reversed_ = Counter[str](), Counter[str]()
    for transfer in store.rows("transfer"):
        sent[transfer["currency"]] += transfer["amount"]
        reversed_[transfer["currency"]] += transfer["amount_reversed"]
    kinds = [row["requirements"]["disabled_reason"] or "enabled" for row in store.rows("account")]
    owners = [None, *(row["id"] for row in store.rows("account"))]
    return {
        "accounts": Counter(kinds),
        "account_events": Counter(row["type"] for owner in owners[1:] for row in store.rows(table_of("event", owner))),
        "transfers": len(list(store.rows("transfer"))),
        "transfer_reversals": len(list(store.rows("transfer_reversal"))),
        "payouts": Counter(row["status"] for owner in owners for row in store.rows(table_of("payout", owner))),
        "transferred_minor": sent,
        "reversed_minor": reversed_,
    }


def _as_it_follows(account: Json) -> Json:
    needed, past_due = account["_needed"], account["_past_due"]
    reason = account["_disabled"] or ("requirements.past_due" if past_due else None)
    account["requirements"] = _requirements(
        current_deadline=account["_deadline"] if needed else None,
        currently_due=sorted(needed),
        disabled_reason=reason,
        eventually_due=sorted(needed),
        past_due=sorted(past_due),
    )
    status = "inactive" if reason else "active"
    account["capabilities"] = dict.fromkeys(sorted(account["_requested"]), status)
    account["charges_enabled"] = may(account, "card_payments")
    account["payouts_enabled"] = reason is None and bank_of(account) is not None
    return account


def _requirements(**more: Any) -> Json:
    return {
        "alternatives": [], "current_deadline": None, "currently_due": [], "disabled_reason": None, "errors": [],
        "eventually_due": [], "past_due": [], "pending_verification": [], **more,
    }  # fmt: skip
