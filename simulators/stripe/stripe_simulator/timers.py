"""What falls due in time, by the name of its timer. Leaves out when, which `Unit.set_timer` says."""

from collections.abc import Callable

from . import accounts, disputes, payments, payouts, refunds, sessions
from .unit import Unit


def _settle_payment(unit: Unit, intent: str) -> None:
    sessions.follow(unit, payments.settle(unit, unit.need("payment_intent", intent)))


def _authorization_ends(unit: Unit, intent: str) -> None:
    payments.authorization_ends(unit, unit.need("payment_intent", intent))


def _expire_session(unit: Unit, ident: str) -> None:
    session = unit.need("checkout.session", ident)
    if session["status"] == "open":
        sessions.expire(unit, session)


TIMED: dict[str, Callable[[Unit, str], None]] = {
    "settle_payment": _settle_payment,
    "expire_session": _expire_session,
    "authorization_ends": _authorization_ends,
    "end_refund": refunds.end,
    "dispute_deadline": disputes.deadline_passed,
    "close_inquiry": disputes.close_inquiry,
    "payout_leaves": payouts.leave,
    "payout_arrives": payouts.arrive,
    "payout_returns": payouts.come_back,
    "payout_day": payouts.pay_out_day,
    "requirements_deadline": accounts.deadline_passed,
}
