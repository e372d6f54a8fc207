"""Money on its way to a bank: leaving, arriving, coming back, and the days on which it leaves by itself.

Leaves out parameters and HTTP. Times are the simulator's: a payout leaves after six hours, arrives after two days,
and one that is to come back does so two days after it was said to be paid.
"""

from datetime import UTC, datetime

from . import accounts, balance
from .errors import Json, invalid
from .unit import Unit

DAY_SECONDS = 86_400
LEAVES_AFTER_SECONDS = 6 * 3600
ARRIVES_AFTER_SECONDS = 2 * DAY_SECONDS
RETURNS_AFTER_SECONDS = 2 * DAY_SECONDS
PLATFORM_BANK = "ba_platform"
# https://docs.stripe.com/api/payouts/failures
FAILURES = {
    "account_closed": "The bank account has been closed.",
    "account_frozen": "The bank account has been frozen.",
    "bank_account_restricted": "The bank account has restrictions on either the type, or number, of payouts allowed.",
    "could_not_process": "The bank could not process this payout.",
    "debit_not_authorized": "Debit transactions are not approved on your bank account.",
    "declined": "The bank has declined this transfer. Please contact the bank before retrying.",
    "insufficient_funds": "Your Stripe account has insufficient funds to cover the payout.",
    "invalid_account_number": "The bank account details on file are probably incorrect.",
    "invalid_currency": "The bank was unable to process this payout because of its currency.",
    "no_account": "The bank account details on file are probably incorrect.",
}
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def send(unit: Unit, amount_minor: int, currency: str, params: Json, *, automatic: bool = False) -> Json:
    """Sends available money of the account the unit acts for to its bank."""
    failure, bank = None, PLATFORM_BANK
    if unit.account is not None:
        account = unit.need("account", unit.account)
        known = accounts.bank_of(account)
        if not account["payouts_enabled"] or known is None:
            raise invalid(
                "Payouts have been disabled on the connected account. Check the connected account's status to see if"
                " any additional information needs to be provided, or if payouts have been disabled for another"
                " reason.",
                code="payouts_not_allowed",
            )
        bank = known["id"]
        failure = _failure(unit, account)
    if params.get("destination", bank) != bank:
        raise invalid(
            f"No such external account: '{params['destination']}'", param="destination", code="resource_missing"
        )
    if balance.available(unit, currency) < amount_minor:
        raise balance.short(
            "You have insufficient funds in your Stripe account for this transfer. Your card balance is too low.  You"
            " can use the /v1/balance endpoint to view your Stripe balance (for more details, see"
            " stripe.com/docs/api#balance)."
        )
    ident = unit.new_id("po")
    moved = balance.move(unit, "payout", ident, -amount_minor, currency, unit.now)
    payout: Json = {
        "id": ident,
        "object": "payout",
        "amount": amount_minor,
        "application_fee": None,
        "application_fee_amount": None,
        "arrival_date": unit.now + ARRIVES_AFTER_SECONDS,
        "automatic": automatic,
        "balance_transaction": moved["id"],
        "created": unit.now,
        "currency": currency,
        "description": params.get("description") or ("STRIPE PAYOUT" if automatic else None),
        "destination": bank,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": params.get("metadata") or {},
        "method": "standard",
        "original_payout": None,
        "payout_method": None,
        "reconciliation_status": "completed" if automatic else "not_applicable",
        "reversed_by": None,
        "source_type": "card",
        "statement_descriptor": params.get("statement_descriptor"),
        "status": "pending",
        "trace_id": None,
        "type": "bank_account",
        "_failure": failure,
    }
    unit.put("payout", payout)
    unit.set_timer("payout_leaves", ident, due=unit.now + LEAVES_AFTER_SECONDS)
    unit.set_timer("payout_arrives", ident, due=payout["arrival_date"])
    unit.emit("payout.created", payout)
    return payout


def leave(unit: Unit, ident: str) -> None:
    """Handed to the bank: from here on it cannot be canceled."""
    payout = unit.need("payout", ident)
    if payout["status"] == "pending":
        _told(unit, payout, "payout.updated", status="in_transit")


def arrive(unit: Unit, ident: str) -> None:
    """The bank's answer on the day of arrival. "paid" is not the last word: money may still come back."""
    payout = unit.need("payout", ident)
    if payout["status"] != "in_transit":
        return
    failure = payout["_failure"]
    if failure is not None and failure["returned_after_seconds"] == 0:
        come_back(unit, ident)
        return
    _told(unit, payout, "payout.paid", status="paid")
    if failure is not None:
        unit.set_timer("payout_returns", ident, due=unit.now + failure["returned_after_seconds"])


def come_back(unit: Unit, ident: str) -> None:
    """The bank sends the money back: it is available again, and nothing more is sent to that bank account."""
    payout = unit.need("payout", ident)
    code = payout["_failure"]["failure_code"]
    moved = balance.move(unit, "payout_failure", ident, payout["amount"], payout["currency"], unit.now)
    payout |= {
        "failure_balance_transaction": moved["id"],
        "failure_code": code,
        "failure_message": FAILURES[code],
        "_failure": None,
    }
    _told(unit, payout, "payout.failed", status="failed")
    if unit.account is not None:
        accounts.bank_failed(unit, unit.account)


def cancel(unit: Unit, payout: Json) -> Json:
    """Stops a payout that has not left yet; the money is available again."""
    if payout["status"] != "pending" or payout["automatic"]:
        raise invalid("Payouts can only be canceled while they are pending, and only if they were created manually.")
    moved = balance.move(unit, "payout_cancel", payout["id"], payout["amount"], payout["currency"], unit.now)
    payout["failure_balance_transaction"] = moved["id"]
    return _told(unit, payout, "payout.canceled", status="canceled")


def set_schedule(unit: Unit, account: Json) -> None:
    """Has the account looked at every midnight (UTC), unless its payouts are made by hand."""
    if account["settings"]["payouts"]["schedule"]["interval"] != "manual":
        midnight = (unit.now // DAY_SECONDS + 1) * DAY_SECONDS
        unit.set_timer("payout_day", account["id"], due=midnight)


def pay_out_day(unit: Unit, ident: str) -> None:
    """Midnight: everything available leaves, if this is the day of it and the account may be paid."""
    account = unit.need("account", ident)
    set_schedule(unit, account)
    if account["payouts_enabled"] and _is_day(account["settings"]["payouts"]["schedule"], unit.now):
        there = unit.acting_for(ident)
        for currency, amount in sorted(balance.totals(there)[0].items()):
            if amount > 0:
                _sweep(there, amount, currency)


def _sweep(there: Unit, amount_minor: int, currency: str) -> None:
    rows = [
        row
        for row in there.rows_now("balance_transaction")
        if row["currency"] == currency and row["available_on"] <= there.now and "_payout" not in row
    ]
    payout = send(there, amount_minor, currency, {}, automatic=True)
    own = there.need("balance_transaction", payout["balance_transaction"])
    # Rows of earlier units are not ours to change, so copies are marked.
    for row in (*rows, own):
        there.put("balance_transaction", {**row, "_payout": payout["id"]})


def _is_day(schedule: Json, now: int) -> bool:
    today = datetime.fromtimestamp(now, UTC)
    match schedule["interval"]:
        case "daily":
            return True
        case "weekly":
            return bool(_WEEKDAYS[today.weekday()] == schedule.get("weekly_anchor", "monday"))
        case "monthly":
            return bool(today.day == schedule.get("monthly_anchor", 1))
        case _:
            return False


def _failure(unit: Unit, account: Json) -> Json | None:
    """How this payout is to fail, if somebody asked for that or the bank account is one of Stripe's that always do."""
    asked: Json | None = account["_next_payout_failure"]
    if asked is not None:
        unit.put("account", account | {"_next_payout_failure": None})
        return asked
    if account["_bank_failure"] is not None:
        return {"failure_code": account["_bank_failure"], "returned_after_seconds": 0}
    return None


def _told(unit: Unit, payout: Json, type_: str, *, status: str) -> Json:
    payout["status"] = status
    unit.put("payout", payout)
    unit.emit(type_, payout)
    return payout
