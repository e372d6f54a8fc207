"""The page on which the person of a connected account gives what Stripe asks for, as a plain form without scripts.

Leaves out what giving it does.
"""

from collections.abc import Callable
from html import escape

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from . import accounts
from .errors import Json
from .pages import html_page, read_form
from .unit import Unit

GOOD_ACCOUNT_NUMBER = "000123456789"
_LABELS = {
    "representative.first_name": "First name",
    "representative.last_name": "Last name",
    "external_account": "Bank account: an IBAN, or a test account number such as 000123456789",
}
_HEADING = "Set up payouts"


class Onboarding:
    """`GET` shows what is still required, `POST` takes it and goes back to the platform with 303."""

    def __init__(self, new_unit: Callable[[Request], Unit], announce: Callable[[list[Json]], None]) -> None:
        self._new_unit = new_unit
        self._announce = announce

    async def answer(self, request: Request) -> Response:
        """The page behind an account link.

        The form's fields are named like the requirements, `tos_acceptance` is one box for both of its parts, and
        `finish` is `now`, or `later` to go back with the rest still owed. A link that expired or was used leads to
        its refresh URL.
        """
        form = await read_form(request)
        unit = self._new_unit(request)
        link = unit.find("account_link", request.path_params["id"])
        account = None if link is None else unit.find("account", link["_account_id"])
        if link is None or account is None:
            return html_page("There is no such account link.", status=404, heading=_HEADING)
        if link["_used"] or link["expires_at"] <= unit.now:
            return RedirectResponse(link["refresh_url"], 303)
        needed = account["_needed"]
        if request.method != "POST":
            return _form_page(account, needed)
        given = _given(form, needed)
        if "external_account" in given and not is_bank_account(given["external_account"]):
            return _form_page(account, needed, "That is neither an IBAN nor one of Stripe's test account numbers.")
        missing = [name for name in needed if name not in given]
        if missing and form.get("finish") != "later":
            return _form_page(account, needed, "Still needed: " + ", ".join(missing) + ".")
        unit.put("account_link", link | {"_used": True})
        accounts.give(unit, account, given)
        self._announce(unit.commit())
        return RedirectResponse(link["return_url"], 303)


def is_bank_account(number: str) -> bool:
    """Whether payouts can be sent there: an IBAN whose check digits are right, or a test account number."""
    if number == GOOD_ACCOUNT_NUMBER or number in accounts.BANK_FAILURES:
        return True
    if not (15 <= len(number) <= 34 and number.isascii() and number.isalnum() and number[:2].isalpha()):
        return False
    digits = "".join(str(int(character, 36)) for character in number[4:] + number[:4])
    return int(digits) % 97 == 1


def _given(form: dict[str, str], needed: list[str]) -> dict[str, str]:
    given = {name: form[name].strip() for name in needed if form.get(name, "").strip()}
    if "external_account" in given:
        given["external_account"] = given["external_account"].replace(" ", "").upper()
    if form.get("tos_acceptance"):
        given |= {name: "yes" for name in needed if name.startswith("tos_acceptance.")}
    return given


def _form_page(account: Json, needed: list[str], problem: str = "") -> Response:
    fields = "".join(_field(name) for name in needed if not name.startswith("tos_acceptance."))
    if any(name.startswith("tos_acceptance.") for name in needed):
        fields += "<label><input type=checkbox name=tos_acceptance value=yes> I accept the terms of service</label>"
    warning = f"<p class=problem role=alert>{escape(problem)}</p>" if problem else ""
    who = escape(account["email"] or account["id"])
    asked = fields or "<p>Nothing is required any more.</p>"
    return html_page(
        f"<p>Account of <strong>{who}</strong></p>{warning}<form method=post>{asked}"
        "<button name=finish value=now>Submit</button><button name=finish value=later>Save for later</button></form>",
        status=400 if problem else 200,
        heading=_HEADING,
    )


def _field(name: str) -> str:
    if name == "business_type":
        options = "".join(
            f"<option value={value}>{value.replace('_', ' ')}</option>"
            for value in ("company", "non_profit", "individual")
        )
        return f"<label>Type of business <select name=business_type>{options}</select></label>"
    return f"<label>{escape(_LABELS.get(name, name))} <input name='{escape(name)}'></label>"
