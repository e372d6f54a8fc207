"""The shapes of Stripe's objects: every field that the API always sends. Leaves out how they change."""

from stripe import api_version

from .errors import Json, invalid
from .methods import TestMethod
from .unit import Unit

FUNDS_WAIT_SECONDS = 2 * 86_400
# https://docs.stripe.com/reports/reporting-categories
_REPORTING_CATEGORIES = {
    "charge": "charge",
    "payment": "charge",
    "refund": "refund",
    "refund_failure": "refund_failure",
    "payment_refund": "refund",
    "transfer": "transfer",
    "transfer_refund": "transfer_reversal",
    "payout": "payout",
    "payout_cancel": "payout_reversal",
    "payout_failure": "payout_reversal",
}
# What a charge repeats of the method that paid it.
_CHARGED_DETAILS = {
    "card": ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4", "wallet"),
    "us_bank_account": (
        "account_holder_type", "account_type", "bank_name", "fingerprint", "last4", "routing_number",
    ),
    "sepa_debit": ("bank_code", "branch_code", "country", "fingerprint", "last4"),
}  # fmt: skip


def payment_intent(unit: Unit, amount_minor: int, currency: str, params: Json) -> Json:
    """A PaymentIntent that waits for a payment method."""
    ident = unit.new_id("pi")
    allowed = params.get("allowed_payment_method_types")
    automatic = {"allow_redirects": "always", "enabled": True, **params.get("automatic_payment_methods", {})}
    return {
        "id": ident,
        "object": "payment_intent",
        "allowed_payment_method_types": allowed,
        "amount": amount_minor,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": automatic,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": params.get("capture_method", "automatic_async"),
        "client_secret": unit.new_id(f"{ident}_secret"),
        "confirmation_method": "automatic",
        "created": unit.now,
        "currency": currency,
        "customer": params.get("customer"),
        "customer_account": None,
        "description": params.get("description"),
        "excluded_payment_method_types": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": params.get("metadata") or {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": offered_types(currency, allowed),
        "payment_record": None,
        "presentment_details": None,
        "processing": None,
        "receipt_email": params.get("receipt_email"),
        "review": None,
        "setup_future_usage": params.get("setup_future_usage"),
        "shipping": None,
        "source": None,
        "statement_descriptor": params.get("statement_descriptor"),
        "statement_descriptor_suffix": params.get("statement_descriptor_suffix"),
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": params.get("transfer_group"),
        "_session": None,
        "_return_url": None,
    }


def offered_types(currency: str, allowed: list[str] | None) -> list[str]:
    """The method types Stripe offers in the currency, as far as the payment's creator allowed them; at least one."""
    possible = ["card", *{"usd": ["us_bank_account"], "eur": ["sepa_debit"]}.get(currency, [])]
    offered = [type_ for type_ in possible if allowed is None or type_ in allowed]
    if not offered:
        raise invalid(
            f"None of the allowed payment method types can be used in {currency}; these can: {', '.join(possible)}.",
            param="allowed_payment_method_types",
        )
    return offered


def next_action(unit: Unit, intent: Json) -> Json:
    """Where a card's bank asks its holder, for a PaymentIntent or SetupIntent: by redirect when there is a way back."""
    page = f"{unit.base_url}/authenticate/{intent['id']}?key={intent['client_secret']}"
    if intent["_return_url"]:
        return {"type": "redirect_to_url", "redirect_to_url": {"url": page, "return_url": intent["_return_url"]}}
    return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect", "stripe_js": page}}


def charge(unit: Unit, intent: Json, paid_with: Json, method: TestMethod) -> Json:
    """A Charge that is still pending; settling it or failing it is up to the caller."""
    ident = unit.new_id("ch")
    kept = paid_with[method.type]
    details = {name: kept[name] for name in _CHARGED_DETAILS[method.type]}
    if method.type == "card":
        details |= {
            "amount_authorized": intent["amount"],
            "authorization_code": "123456",
            "installments": None,
            "mandate": None,
            "network": kept["brand"],
            "network_token": {"used": False},
            "three_d_secure": None,
        }
    elif method.type == "us_bank_account":
        details |= {"payment_reference": None}
    else:
        details |= {"mandate": None}
    return {
        "id": ident,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": paid_with["billing_details"],
        "calculated_statement_descriptor": intent["statement_descriptor"] or "ROCHDALE",
        "captured": False,
        "created": unit.now,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),
        "on_behalf_of": None,
        "outcome": None,
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": paid_with["id"],
        "payment_method_details": {"type": method.type, method.type: details},
        "presentment_details": None,
        "radar_options": {},
        "receipt_email": intent["receipt_email"],
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": None,
        "source": None,
        "source_transfer": None,
        "statement_descriptor": intent["statement_descriptor"],
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": "pending",
        "transfer_data": None,
        "transfer_group": intent["transfer_group"],
    }


def balance_transaction(
    unit: Unit, type_: str, source: str, amount_minor: int, fee_minor: int, currency: str, available_on: int,
    *, category: str | None = None, fee_for: str = "Stripe processing fees", description: str | None = None,
) -> Json:  # fmt: skip
    """Money that moved: `amount` signed, `net` = `amount` - `fee`; `category` for types that have no one category."""
    fees: list[Json] = []
    if fee_minor:
        fees.append(
            {
                "amount": fee_minor,
                "application": None,
                "currency": currency,
                "description": fee_for,
                "type": "stripe_fee",
            }
        )
    return {
        "id": unit.new_id("txn"),
        "object": "balance_transaction",
        "amount": amount_minor,
        "available_on": available_on,
        "balance_type": "payments",
        "created": unit.now,
        "currency": currency,
        "description": description,
        "exchange_rate": None,
        "fee": fee_minor,
        "fee_details": fees,
        "net": amount_minor - fee_minor,
        "reporting_category": category or _REPORTING_CATEGORIES[type_],
        "source": source,
        "status": "pending",  # shown as "available" from `available_on` on
        "type": type_,
    }


def webhook_endpoint(unit: Unit, url: str, secret: str, params: Json) -> Json:
    """A WebhookEndpoint; its secret is shown only in the answer to its creation."""
    return {
        "id": unit.new_id("we"),
        "object": "webhook_endpoint",
        "api_version": api_version,
        "application": None,
        "created": unit.now,
        "description": params.get("description") or None,
        "enabled_events": params["enabled_events"],
        "livemode": False,
        "metadata": params.get("metadata") or {},
        "status": "enabled",
        "url": url,
        "_connect": params.get("connect", False),
        "_secret": secret,
    }


def checkout_session(unit: Unit, params: Json, currency: str, total_minor: int, expires_at: int) -> Json:
    """A Checkout Session that waits for its buyer."""
    ident = unit.new_id("cs_test")
    buyer = params.get("customer")
    return {
        "id": ident,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": None,
        "allowed_payment_method_types": params.get("allowed_payment_method_types"),
        "amount_subtotal": total_minor,
        "amount_total": total_minor,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": params.get("billing_address_collection"),
        "branding_settings": None,
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "created": unit.now,
        "currency": currency,
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None, "shipping_address": None, "submit": None, "terms_of_service_acceptance": None,
        },
        "customer": buyer,
        "customer_account": None,
        "customer_creation": None if buyer else params.get("customer_creation", "if_required"),
        "customer_details": None,
        "customer_email": params.get("customer_email"),
        "discounts": [],
        "expires_at": expires_at,
        "invoice": None,
        "invoice_creation": {
            "enabled": False,
            "invoice_data": {
                "account_tax_ids": None, "custom_fields": None, "description": None, "footer": None, "issuer": None,
                "metadata": {}, "rendering_options": None,
            },
        },
        "livemode": False,
        "locale": params.get("locale"),
        "metadata": params.get("metadata") or {},
        "mode": "payment",
        "origin_context": params.get("origin_context"),
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": "if_required",
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": offered_types(currency, params.get("allowed_payment_method_types")),
        "payment_status": "unpaid",
        "permissions": None,
        "phone_number_collection": {"enabled": False},
        "presentment_details": None,
        "recovered_from": None,
        "redirect_on_completion": None,
        "return_url": None,
        "saved_payment_method_options": None,
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": params.get("submit_type"),
        "subscription": None,
        "success_url": params["success_url"],
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": params.get("ui_mode", "hosted_page"),
        "url": f"{unit.base_url}/c/pay/{ident}",
        "wallet_options": None,
        "_intent_data": params.get("payment_intent_data") or {},
    }  # fmt: skip


def customer_details(buyer: Json) -> Json:
    """What a completed Checkout Session tells of its buyer, of whom `email` and `name` are known."""
    nothing: Json = dict.fromkeys(("address", "business_name", "individual_name", "phone"))
    return {**nothing, "tax_exempt": "none", "tax_ids": [], **buyer}


def line_item(unit: Unit, item: Json, currency: str) -> Json:
    """One line of a Checkout Session, with the Price that Stripe makes up for inline price data."""
    data, quantity = item["price_data"], item["quantity"]
    total = data["unit_amount"] * quantity
    return {
        "id": unit.new_id("li"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": total,
        "amount_tax": 0,
        "amount_total": total,
        "currency": currency,
        "description": data["product_data"]["name"],
        "metadata": {},
        "price": {
            "id": unit.new_id("price"),
            "object": "price",
            "active": False,
            "billing_scheme": "per_unit",
            "created": unit.now,
            "currency": currency,
            "custom_unit_amount": None,
            "livemode": False,
            "lookup_key": None,
            "metadata": {},
            "nickname": None,
            "product": unit.new_id("prod"),
            "recurring": None,
            "tax_behavior": "unspecified",
            "tiers_mode": None,
            "transform_quantity": None,
            "type": "one_time",
            "unit_amount": data["unit_amount"],
            "unit_amount_decimal": str(data["unit_amount"]),
        },
        "quantity": quantity,
    }
