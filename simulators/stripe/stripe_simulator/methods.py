"""Stripe's test cards and test bank debits, and how a payment with each of them ends."""

from dataclasses import dataclass
from typing import Literal

from .errors import Json, invalid, not_modeled

TYPES = ("card", "us_bank_account", "sepa_debit")


@dataclass(frozen=True)
class TestMethod:
    """How a payment with this method goes.

    `decline_code` is None when the money moves. `authentication` asks for 3-D Secure first, and `asks_off_session` says
    whether it does so for a holder who is away. `saves` says that it can be kept for a customer. `settles` is "later"
    for bank debits, which stay `processing` for a while, and "never" for the one that stays there for good. A `dispute`
    for that reason follows the payment; as an `inquiry` it takes no money yet. `refund` is how money given back fares.
    """

    __test__ = False  # pytest, this is no test class

    token: str
    number: str
    type: Literal["card", "us_bank_account", "sepa_debit"] = "card"
    brand: str = "visa"
    decline_code: str | None = None
    error_code: str = "card_declined"
    authentication: bool = False
    asks_off_session: Literal["always", "unless_set_up", "never"] = "always"
    saves: bool = True
    settles: Literal["now", "later", "never"] = "now"
    dispute: Literal["fraudulent", "product_not_received"] | None = None
    inquiry: bool = False
    refund: Literal["now", "later", "fails"] = "now"

    @property
    def details(self) -> Json:
        """The part of a payment method that Stripe shows under the method's type."""
        last4 = self.number[-4:]
        if self.type == "card":
            return {
                "brand": self.brand, "checks": None, "country": "US", "display_brand": self.brand, "exp_month": 12,
                "exp_year": 2040, "fingerprint": f"fingerprint{last4}", "funding": "credit", "generated_from": None,
                "last4": last4, "networks": {"available": [self.brand], "preferred": None},
                "three_d_secure_usage": {"supported": True}, "wallet": None,
            }  # fmt: skip
        if self.type == "sepa_debit":
            return {
                "bank_code": "37040044", "branch_code": "", "country": "DE", "fingerprint": f"fingerprint{last4}",
                "generated_from": None, "last4": last4,
            }  # fmt: skip
        return {
            "account_holder_type": "individual", "account_type": "checking", "bank_name": "STRIPE TEST BANK",
            "financial_connections_account": None, "fingerprint": f"fingerprint{last4}", "last4": last4,
            "networks": {"preferred": "ach", "supported": ["ach"]}, "routing_number": "110000000",
            "status_details": None,
        }  # fmt: skip


def _declined(token: str, number: str, decline_code: str, error_code: str = "card_declined") -> TestMethod:
    return TestMethod(token, number, decline_code=decline_code, error_code=error_code, saves=False)


def _bank(
    token: str, number: str, failure: str | None = None, settles: Literal["later", "never"] = "later"
) -> TestMethod:
    return TestMethod(
        token, number, type="us_bank_account", decline_code=failure, error_code=failure or "", settles=settles
    )


def _sepa(number: str, failure: str | None = None) -> TestMethod:
    return TestMethod(
        number, number, type="sepa_debit", decline_code=failure, error_code=failure or "", settles="later"
    )


# https://docs.stripe.com/testing and https://docs.stripe.com/payments/ach-direct-debit/accept-a-payment#test
_METHODS = (
    TestMethod("pm_card_visa", "4242424242424242"),
    TestMethod("pm_card_visa_debit", "4000056655665556"),
    TestMethod("pm_card_mastercard", "5555555555554444", brand="mastercard"),
    TestMethod("pm_card_amex", "378282246310005", brand="amex"),
    TestMethod("pm_card_bypassPending", "4000000000000077"),
    _declined("pm_card_chargeDeclined", "4000000000000002", "generic_decline"),
    _declined("pm_card_visa_chargeDeclined", "4000000000000002", "generic_decline"),
    _declined("pm_card_visa_chargeDeclinedInsufficientFunds", "4000000000009995", "insufficient_funds"),
    _declined("pm_card_chargeDeclinedInsufficientFunds", "4000000000009995", "insufficient_funds"),
    _declined("pm_card_visa_chargeDeclinedLostCard", "4000000000009987", "lost_card"),
    _declined("pm_card_visa_chargeDeclinedStolenCard", "4000000000009979", "stolen_card"),
    _declined("pm_card_chargeDeclinedExpiredCard", "4000000000000069", "expired_card", "expired_card"),
    _declined("pm_card_chargeDeclinedIncorrectCvc", "4000000000000127", "incorrect_cvc", "incorrect_cvc"),
    _declined("pm_card_chargeDeclinedProcessingError", "4000000000000119", "processing_error", "processing_error"),
    # It can be kept, and then every payment with it is declined.
    TestMethod("pm_card_chargeCustomerFail", "4000000000000341", decline_code="generic_decline"),
    TestMethod("pm_card_authenticationRequired", "4000002760003184", authentication=True),
    TestMethod(
        "pm_card_authenticationRequiredOnSetup",
        "4000002500003155",
        authentication=True,
        asks_off_session="unless_set_up",
    ),
    TestMethod(
        "pm_card_authenticationRequiredSetupForOffSession",
        "4000003800000446",
        authentication=True,
        asks_off_session="never",
    ),
    TestMethod(
        "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds",
        "4000008260003178",
        authentication=True,
        asks_off_session="unless_set_up",
        decline_code="insufficient_funds",
    ),
    TestMethod("pm_card_threeDSecure2Required", "4000000000003220", authentication=True),
    TestMethod("pm_card_threeDSecureRequired", "4000000000003063", authentication=True),
    TestMethod(
        "pm_card_threeDSecureRequiredChargeDeclined",
        "4000008400001629",
        authentication=True,
        decline_code="generic_decline",
        saves=False,
    ),
    TestMethod("pm_card_createDispute", "4000000000000259", dispute="fraudulent"),
    TestMethod("pm_card_createDisputeProductNotReceived", "4000000000002685", dispute="product_not_received"),
    TestMethod("pm_card_createDisputeInquiry", "4000000000001976", dispute="fraudulent", inquiry=True),
    TestMethod("pm_card_pendingRefund", "4000000000007726", refund="later"),
    TestMethod("pm_card_refundFail", "4000000000005126", refund="fails"),
    _bank("pm_usBankAccount_success", "000123456789"),
    _bank("pm_usBankAccount_insufficientFunds", "000222222227", "insufficient_funds"),
    _bank("pm_usBankAccount_accountClosed", "000111111113", "account_closed"),
    _bank("pm_usBankAccount_processing", "000000000009", settles="never"),
    _sepa("AT611904300234573201"),
    _sepa("AT861904300235473202", "generic_decline"),
    _sepa("DE89370400440532013000"),
    _sepa("DE62370400440532013001", "generic_decline"),
)
_BY_TOKEN = {method.token: method for method in _METHODS}
_BY_NUMBER = {method.number: method for method in _METHODS}


def by_token(token: str) -> TestMethod | None:
    """The method behind a test token such as `pm_card_visa`; refuses a test token that is not modeled."""
    if token not in _BY_TOKEN and token.startswith(("pm_card_", "pm_usBankAccount_")):
        raise not_modeled(f"the test payment method {token}", param="payment_method")
    return _BY_TOKEN.get(token) if token.startswith("pm_") else None


def by_card_number(typed: str) -> TestMethod | None:
    """The card behind a number typed with or without spaces, or None for a number that is no test card."""
    method = _BY_NUMBER.get(typed.replace(" ", "").replace("-", ""))
    return method if method is not None and method.type == "card" else None


def by_iban(typed: str) -> TestMethod:
    """The bank debit behind one of Stripe's test IBANs."""
    method = _BY_NUMBER.get(typed.replace(" ", "").upper())
    if method is None or method.type != "sepa_debit":
        raise invalid(
            "The IBAN you entered is invalid.",
            param="payment_method_data[sepa_debit][iban]",
            code="invalid_bank_account_iban",
        )
    return method


def by_name(token: str) -> TestMethod:
    """The method of a token that this simulator itself wrote down."""
    return _BY_TOKEN[token]


DECLINE_MESSAGES = {
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
}


def decline_message(method: TestMethod) -> str:
    """The sentence a buyer reads."""
    if method.type != "card":
        return "The customer's bank account could not be debited."
    return DECLINE_MESSAGES.get(method.decline_code or "", "Your card was declined.")
