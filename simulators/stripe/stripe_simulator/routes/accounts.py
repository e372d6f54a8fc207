"""Connected accounts and account links over HTTP. Leaves out the onboarding page and the accounts' money."""

from stripe import params as shapes

from .. import accounts, money, payouts
from ..errors import Json, invalid, not_modeled
from ..unit import Unit
from ..validation import Modeled
from .table import Route, listing, merged_metadata, taking

LINK_LIFE_SECONDS = 300
# The one kind of account that is modeled: Express, with the platform answering for losses and fees.
_CONTROLLER = {
    "losses": {"payments": "application"},
    "fees": {"payer": "application"},
    "requirement_collection": "stripe",
    "stripe_dashboard": {"type": "express"},
}


def create(unit: Unit, params: Json, _: str) -> Json:
    """A new account, without anything that only its person can give."""
    if params.get("controller") != _CONTROLLER:
        raise not_modeled(
            "accounts other than those with controller[losses][payments]=application, controller[fees][payer]="
            "application, controller[requirement_collection]=stripe and controller[stripe_dashboard][type]=express",
            param="controller",
        )
    if not any(wanted.get("requested") for wanted in params.get("capabilities", {}).values()):
        raise invalid(
            "When creating an account of this kind, you must request at least one capability.", param="capabilities"
        )
    if "default_currency" in params:
        params["default_currency"] = money.checked_currency(params["default_currency"], "default_currency")
    params["metadata"] = merged_metadata({}, params.get("metadata"))
    account = accounts.open_account(unit, params)
    payouts.set_schedule(unit, account)
    return account


def update(unit: Unit, params: Json, ident: str) -> Json:
    """What a platform may change of an account whose requirements Stripe collects."""
    account = accounts.need(unit, ident)
    if "email" in params:
        account["email"] = params["email"]
    account["metadata"] = merged_metadata(account["metadata"], params.get("metadata"))
    account["business_profile"] |= params.get("business_profile", {})
    accounts.request(account, params.get("capabilities", {}))
    schedule = params.get("settings", {}).get("payouts", {}).get("schedule")
    if schedule is not None:
        kept = account["settings"]["payouts"]["schedule"]
        account["settings"]["payouts"]["schedule"] = {"delay_days": kept["delay_days"], **schedule}
    accounts.changed(unit, account)
    payouts.set_schedule(unit, account)
    return account


def retrieve(unit: Unit, _: Json, ident: str) -> Json:
    """One account; an unknown one is told in the words Stripe has for keys without access."""
    return accounts.need(unit, ident)


def link(unit: Unit, params: Json, _: str) -> Json:
    """A page for the account's person, good for five minutes and one visit that ends in the form being sent."""
    account = accounts.need(unit, params["account"])
    if params["type"] == "account_update":
        raise not_modeled("account links of type account_update, which Stripe has for other accounts", param="type")
    for name in ("refresh_url", "return_url"):
        if not params.get(name, "").startswith(("http://", "https://")):
            raise invalid(f"You must provide a valid {name}.", param=name, code="url_invalid")
    token = unit.new_id("link")
    made: Json = {
        "object": "account_link",
        "created": unit.now,
        "expires_at": unit.now + LINK_LIFE_SECONDS,
        "url": f"{unit.base_url}/connect/onboarding/{token}",
    }
    notes = {"_account_id": account["id"], "_used": False}
    unit.put("account_link", {"id": token, **made, **notes, **{name: params[name] for name in _URLS}})
    return made


_URLS = ("refresh_url", "return_url")
_PATH = "/v1/accounts"
_CAPABILITIES = {"transfers": {"requested": None}, "card_payments": {"requested": None}}
_SCHEDULE = dict.fromkeys(("interval", "weekly_anchor", "monthly_anchor"))
_CHANGING: dict[str, Modeled | None] = {
    "business_profile": dict.fromkeys(("name", "url", "mcc", "product_description", "support_email", "support_url")),
    "capabilities": _CAPABILITIES,
    "settings": {"payouts": {"schedule": _SCHEDULE}},
}
ROUTES = (
    Route(
        "POST", _PATH, shapes.AccountCreateParams,
        taking("business_type", "controller", "country", "default_currency", "email", "metadata", **_CHANGING), create,
    ),
    Route("POST", f"{_PATH}/{{id}}", shapes.AccountUpdateParams, taking("email", "metadata", **_CHANGING), update),
    Route("GET", f"{_PATH}/{{id}}", shapes.AccountRetrieveParams, taking(), retrieve),
    listing("account", _PATH, shapes.AccountListParams),
    Route(
        "POST", "/v1/account_links", shapes.AccountLinkCreateParams,
        taking("account", "collect", *_URLS, "type"), link,
    ),
)  # fmt: skip
