"""Disputes: a buyer's bank asks about a payment or takes it back, and decides. Leaves out parameters and HTTP."""

from . import methods, objects
from .errors import Json, invalid
from .unit import Unit

FEE_MINOR = 1500
DAY_SECONDS = 86_400
# Stripe's test mode gives until the end of the eighth day; an inquiry that becomes nothing closes after 120 days.
DUE_AFTER_DAYS = 8
INQUIRY_CLOSES_AFTER_SECONDS = 120 * DAY_SECONDS
REASONS = (
    "bank_cannot_process",
    "check_returned",
    "credit_not_processed",
    "customer_initiated",
    "debit_not_authorized",
    "duplicate",
    "fraudulent",
    "general",
    "incorrect_account_details",
    "insufficient_funds",
    "noncompliant",
    "product_not_received",
    "product_unacceptable",
    "subscription_canceled",
    "unrecognized",
)
OPEN = ("needs_response", "under_review", "warning_needs_response", "warning_under_review")
_NETWORK_CODES = {"fraudulent": "10.4", "product_not_received": "13.1"}
# What Stripe's test mode makes of evidence[uncategorized_text].
_RULINGS = {"winning_evidence": "won", "losing_evidence": "lost"}
_ESCALATING = "escalate_inquiry_evidence"
EVIDENCE_TEXTS = (
    "access_activity_log", "billing_address", "cancellation_policy_disclosure", "cancellation_rebuttal",
    "customer_email_address", "customer_name", "customer_purchase_ip", "duplicate_charge_explanation",
    "duplicate_charge_id", "product_description", "refund_policy_disclosure", "refund_refusal_explanation",
    "service_date", "shipping_address", "shipping_carrier", "shipping_date", "shipping_tracking_number",
    "uncategorized_text",
)  # fmt: skip
EVIDENCE_FILES = (
    "cancellation_policy", "customer_communication", "customer_signature", "duplicate_charge_documentation", "receipt",
    "refund_policy", "service_documentation", "shipping_documentation", "uncategorized_file",
)  # fmt: skip


def open_dispute(unit: Unit, paid: Json, amount_minor: int, reason: str, *, inquiry: bool = False) -> Json:
    """A new dispute of a charge; unless it is an inquiry, the money and a fee are taken at once."""
    code = _NETWORK_CODES.get(reason)
    dispute: Json = {
        "id": unit.new_id("du"),
        "object": "dispute",
        "amount": amount_minor,
        "balance_transactions": [],
        "charge": paid["id"],
        "created": unit.now,
        "currency": paid["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(EVIDENCE_TEXTS + EVIDENCE_FILES), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": (unit.now // DAY_SECONDS + DUE_AFTER_DAYS + 1) * DAY_SECONDS - 1,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "is_charge_refundable": inquiry,
        "livemode": False,
        "metadata": {},
        "payment_intent": paid["payment_intent"],
        "reason": reason,
        "status": "warning_needs_response" if inquiry else "needs_response",
    }
    details = paid["payment_method_details"]
    if details["type"] == "card":
        brand = details["card"]["brand"]
        dispute["payment_method_details"] = {
            "type": "card",
            "card": {
                "brand": brand,
                "case_type": "inquiry" if inquiry else "chargeback",
                "network": brand,
                "network_reason_code": "10" if inquiry else code,
            },
        }
    paid["disputed"] = True
    unit.put("charge", paid)
    if not inquiry:
        _withdraw(unit, dispute)
    unit.put("dispute", dispute)
    unit.emit("charge.dispute.created", dispute)
    if inquiry:
        unit.set_timer("close_inquiry", dispute["id"], due=unit.now + INQUIRY_CLOSES_AFTER_SECONDS)
    else:
        unit.emit("charge.dispute.funds_withdrawn", dispute)
        unit.set_timer("dispute_deadline", dispute["id"], due=dispute["evidence_details"]["due_by"] + 1)
    return dispute


def follow_payment(unit: Unit, paid: Json, method: Json) -> None:
    """Opens the dispute that one of Stripe's test cards brings about."""
    test = methods.by_name(method["_token"])
    if test.dispute is not None:
        open_dispute(unit, paid, paid["amount_captured"], test.dispute, inquiry=test.inquiry)


def answer(unit: Unit, dispute: Json, evidence: Json, *, submit: bool) -> Json:
    """Keeps evidence and, with `submit`, sends it to the bank, which decides at once about Stripe's test evidence."""
    check_open(dispute)
    if not dispute["status"].endswith("needs_response"):
        raise invalid("This dispute is already under review, and its evidence can no longer be changed.")
    dispute["evidence"] |= {name: text or None for name, text in evidence.items()}
    details = dispute["evidence_details"]
    details["has_evidence"] = any(dispute["evidence"].values())
    text = (dispute["evidence"]["uncategorized_text"] or "").strip()
    if submit:
        details |= {"submission_count": details["submission_count"] + 1, "submission_method": "manual"}
        dispute["status"] = dispute["status"].replace("needs_response", "under_review")
        if text == _ESCALATING and dispute["status"].startswith("warning"):
            return escalate(unit, dispute)
    unit.put("dispute", dispute)
    unit.emit("charge.dispute.updated", dispute)
    if submit and text in _RULINGS:
        return decide(unit, dispute, won=_RULINGS[text] == "won")
    return dispute


def decide(unit: Unit, dispute: Json, *, won: bool, return_fee: bool = True) -> Json:
    """The bank's ruling, which is final; of an inquiry only that it came to nothing (`won`) or to a dispute."""
    check_open(dispute)
    if dispute["status"].startswith("warning"):
        return _closed(unit, dispute, "warning_closed") if won else escalate(unit, dispute)
    if won:
        taken = dispute["balance_transactions"][0]
        _move(unit, dispute, dispute["amount"], -taken["fee"] if return_fee else 0, "reversal")
        dispute["is_charge_refundable"] = True
        unit.emit("charge.dispute.funds_reinstated", dispute | {"status": "won"})
    return _closed(unit, dispute, "won" if won else "lost")


def escalate(unit: Unit, dispute: Json) -> Json:
    """The bank was not content with the answer to its inquiry: it takes the money, and asks once more."""
    dispute |= {"status": "needs_response", "is_charge_refundable": False}
    if "payment_method_details" in dispute:
        dispute["payment_method_details"]["card"] |= {
            "case_type": "chargeback",
            "network_reason_code": _NETWORK_CODES.get(dispute["reason"]),
        }
    _withdraw(unit, dispute)
    unit.put("dispute", dispute)
    unit.set_timer("dispute_deadline", dispute["id"], due=dispute["evidence_details"]["due_by"] + 1)
    unit.emit("charge.dispute.updated", dispute)
    unit.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def give_up(unit: Unit, dispute: Json) -> Json:
    """The merchant accepts that the money is lost."""
    check_open(dispute)
    if dispute["status"].startswith("warning"):
        raise invalid("This dispute is an inquiry; refund its charge instead of closing it.")
    return _closed(unit, dispute, "lost")


def deadline_passed(unit: Unit, ident: str) -> None:
    """An unanswered dispute is lost."""
    dispute = unit.need("dispute", ident)
    if dispute["status"] == "needs_response":
        dispute["evidence_details"]["past_due"] = True
        _closed(unit, dispute, "lost")


def close_inquiry(unit: Unit, ident: str) -> None:
    """An inquiry that became no dispute ends."""
    dispute = unit.need("dispute", ident)
    if dispute["status"] in OPEN and dispute["status"].startswith("warning"):
        _closed(unit, dispute, "warning_closed")


def settle_inquiry(unit: Unit, charge_id: str) -> None:
    """A charge refunded in full answers every inquiry about it."""
    for dispute in list(unit.rows_now("dispute")):
        if dispute["charge"] == charge_id:
            close_inquiry(unit, dispute["id"])


def holding(unit: Unit, charge_id: str) -> Json | None:
    """The dispute by which a bank has the charge's money, open or lost."""
    return next(
        (
            dispute
            for dispute in unit.rows_now("dispute")
            if dispute["charge"] == charge_id and not dispute["is_charge_refundable"]
        ),
        None,
    )


def check_open(dispute: Json) -> None:
    """Refuses what can no longer be changed."""
    if dispute["status"] not in OPEN:
        raise invalid("This dispute is already closed")


def _closed(unit: Unit, dispute: Json, status: str) -> Json:
    dispute["status"] = status
    unit.put("dispute", dispute)
    for action in ("dispute_deadline", "close_inquiry"):
        unit.delete("timer", f"{action}:{dispute['id']}")
    unit.emit("charge.dispute.closed", dispute)
    return dispute


def _withdraw(unit: Unit, dispute: Json) -> None:
    _move(unit, dispute, -dispute["amount"], FEE_MINOR, "withdrawal")


def _move(unit: Unit, dispute: Json, amount_minor: int, fee_minor: int, what: str) -> None:
    moved = objects.balance_transaction(
        unit, "adjustment", dispute["id"], amount_minor, fee_minor, dispute["currency"], unit.now,
        category="dispute" if what == "withdrawal" else "dispute_reversal", fee_for="Dispute fee",
        description=f"Chargeback {what} for {dispute['charge']}",
    )  # fmt: skip
    unit.put("balance_transaction", moved)
    dispute["balance_transactions"].append(moved | {"status": "available"})
