"""Money from the platform's balance to a connected account's, and back. Leaves out parameters and HTTP."""

from . import accounts, balance, money
from .errors import Json, invalid, missing
from .unit import Unit


def send(unit: Unit, amount_minor: int, currency: str, params: Json) -> Json:
    """Moves money to the account `params` names.

    With a source charge it always goes, becomes available when the charge does, and all transfers from one charge
    stay within the charge's amount. Without one it comes from what is available.
    """
    account = unit.find("account", params["destination"])
    if account is None:
        raise missing("destination", params["destination"], param="destination", status=400)
    if not accounts.may(account, "transfers"):
        raise invalid(
            "Your destination account needs to have at least one of the following capabilities enabled: transfers,"
            " crypto_transfers, legacy_payments",
            code="insufficient_capabilities_for_transfer",
        )
    group, available_on = params.get("transfer_group"), unit.now
    if "source_transaction" in params:
        paid = _source(unit, params["source_transaction"], amount_minor, currency)
        available_on = max(unit.now, unit.need("balance_transaction", paid["balance_transaction"])["available_on"])
        # As at Stripe, a charge and the transfers from it are one group even if nobody named it.
        group = group or paid["transfer_group"] or f"group_{paid['payment_intent']}"
        if paid["transfer_group"] is None:
            unit.put("charge", paid | {"transfer_group": group})
    elif balance.available(unit, currency) < amount_minor:
        raise balance.short(
            "You have insufficient available funds in your Stripe account. Try adding funds directly to your available"
            " balance by creating Charges using the 4000000000000077 test card. See:"
            " https://stripe.com/docs/testing#available-balance"
        )
    transfer = _object(unit, amount_minor, currency, group, params)
    moved = balance.move(unit, "transfer", transfer["id"], -amount_minor, currency, available_on)
    received = _received(unit.acting_for(account["id"]), transfer, account, available_on)
    transfer |= {"balance_transaction": moved["id"], "destination_payment": received["id"]}
    unit.put("transfer", transfer)
    unit.emit("transfer.created", transfer)
    return transfer


def take_back(unit: Unit, transfer: Json, amount_minor: int | None, metadata: Json) -> Json:
    """Reverses a transfer in full or in part, as far as it is not reversed and the account still has the money."""
    currency, left = transfer["currency"], transfer["amount"] - transfer["amount_reversed"]
    if left == 0:
        raise invalid(f"Transfer {transfer['id']} is already fully reversed.", param="id")
    amount = left if amount_minor is None else amount_minor
    if amount < 1:
        raise invalid("Invalid positive integer", param="amount", code="parameter_invalid_integer")
    if amount > left:
        raise invalid(
            f"Transfer reversal amount ({money.display(amount, currency)}) is greater than unreversed amount on"
            f" transfer ({money.display(left, currency)})",
            param="amount",
        )
    there = unit.acting_for(transfer["destination"])
    received = there.need("charge", transfer["destination_payment"])
    available_on = max(unit.now, there.need("balance_transaction", received["balance_transaction"])["available_on"])
    # What is still pending cannot have been paid out, so it can always be taken back from where it is.
    if available_on <= unit.now and balance.available(there, currency) < amount:
        raise balance.short("Insufficient funds in the connected account to complete this reversal.")
    ident = unit.new_id("trr")
    moved = balance.move(unit, "transfer_refund", ident, amount, currency, available_on)
    returned = _returned(there, received, ident, amount, available_on)
    reversal = {
        "id": ident,
        "object": "transfer_reversal",
        "amount": amount,
        "balance_transaction": moved["id"],
        "created": unit.now,
        "currency": currency,
        "destination_payment_refund": returned["id"],
        "metadata": metadata,
        "source_refund": None,
        "transfer": transfer["id"],
    }
    unit.put("transfer_reversal", reversal)
    transfer["amount_reversed"] += amount
    transfer["reversed"] = transfer["amount_reversed"] == transfer["amount"]
    listed = transfer["reversals"]
    listed |= {"data": [reversal, *listed["data"]], "total_count": listed["total_count"] + 1}
    unit.put("transfer", transfer)
    unit.emit("transfer.reversed", transfer)
    return reversal


def _source(unit: Unit, ident: str, amount_minor: int, currency: str) -> Json:
    paid = unit.need("charge", ident, param="source_transaction", status=400)
    if not paid["captured"]:
        raise invalid(f"Charge {ident} has not succeeded and cannot be transferred from.", param="source_transaction")
    if paid["currency"] != currency:
        raise invalid(
            f"The currency of source_transaction's balance transaction ({paid['currency']}) must be the same as the"
            f" transfer currency ({currency})",
            param="currency",
        )
    # Reversed transfers count in full: whether Stripe lets a charge be used again is not written anywhere.
    spent = sum(row["amount"] for row in unit.rows("transfer") if row["source_transaction"] == ident)
    if spent + amount_minor > paid["amount_captured"]:
        already = ""
        if spent:
            amount = money.display(spent, currency)
            already = f" (There is already a transfer using this source, amounting to {amount}.)"
        raise invalid(
            "Transfers using this transaction as a source must not exceed the source amount of"
            f" {money.display(paid['amount_captured'], currency)}.{already}"
        )
    return paid


def _object(unit: Unit, amount_minor: int, currency: str, group: str | None, params: Json) -> Json:
    ident = unit.new_id("tr")
    return {
        "id": ident,
        "object": "transfer",
        "amount": amount_minor,
        "amount_reversed": 0,
        "balance_transaction": None,
        "created": unit.now,
        "currency": currency,
        "description": params.get("description"),
        "destination": params["destination"],
        "destination_payment": None,
        "livemode": False,
        "metadata": params["metadata"],
        "reversals": {
            "object": "list", "data": [], "has_more": False, "total_count": 0, "url": f"/v1/transfers/{ident}/reversals",
        },
        "reversed": False,
        "source_transaction": params.get("source_transaction"),
        "source_type": "card",
        "transfer_group": group,
    }  # fmt: skip


def _received(there: Unit, transfer: Json, account: Json, available_on: int) -> Json:
    """The payment as the connected account sees it."""
    ident, amount, currency = there.new_id("py"), transfer["amount"], transfer["currency"]
    moved = balance.move(there, "payment", ident, amount, currency, available_on)
    nothing = (
        "application", "application_fee", "application_fee_amount", "customer", "description",
        "failure_balance_transaction", "failure_code", "failure_message", "on_behalf_of", "outcome", "payment_intent",
        "payment_method", "payment_method_details", "receipt_email", "receipt_number", "receipt_url", "review",
        "shipping", "statement_descriptor", "statement_descriptor_suffix", "transfer_data", "transfer_group",
        "presentment_details",
    )  # fmt: skip
    blank = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))
    received = {
        "id": ident,
        "object": "charge",
        **dict.fromkeys(nothing),
        "amount": amount,
        "amount_captured": amount,
        "amount_refunded": 0,
        "balance_transaction": moved["id"],
        "billing_details": {"address": blank, **dict.fromkeys(("email", "name", "phone", "tax_id"))},
        "calculated_statement_descriptor": None,
        "captured": True,
        "created": there.now,
        "currency": currency,
        "disputed": False,
        "fraud_details": {},
        "livemode": False,
        "metadata": {},
        "paid": True,
        "radar_options": {},
        "refunded": False,
        "source": {"id": account["id"], "object": "account"},
        "source_transfer": transfer["id"],
        "status": "succeeded",
    }
    return there.put("charge", received)


def _returned(there: Unit, received: Json, reversal: str, amount_minor: int, available_on: int) -> Json:
    """The refund of that payment, as the connected account sees it."""
    ident = there.new_id("pyr")
    moved = balance.move(there, "payment_refund", ident, -amount_minor, received["currency"], available_on)
    received["amount_refunded"] += amount_minor
    received["refunded"] = received["amount_refunded"] == received["amount"]
    there.put("charge", received)
    returned = {
        "id": ident,
        "object": "refund",
        "amount": amount_minor,
        "balance_transaction": moved["id"],
        "charge": received["id"],
        "created": there.now,
        "currency": received["currency"],
        "metadata": {},
        "payment_intent": None,
        "reason": None,
        "receipt_number": None,
        "source_transfer_reversal": reversal,
        "status": "succeeded",
        "transfer_reversal": None,
    }
    return there.put("refund", returned)
