"""The two pages buyers see, Checkout and 3-D Secure, as plain forms without scripts. Leaves out what paying does."""

from collections.abc import Callable
from html import escape
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from . import money, payments, sessions, setup_intents, setup_sessions
from .errors import Json, StripeError
from .unit import Unit

FORM_LIMIT_BYTES = 65_536
TITLE = "Stripe simulator: no real money moves here"
_STYLE = (
    "body{font:1rem/1.5 system-ui;max-width:30rem;margin:3rem auto;padding:0 1rem}label,button{display:block;"
    "margin:.8rem 0;width:100%}input{font:inherit;width:100%;padding:.4rem;box-sizing:border-box}button{font:inherit;"
    "padding:.6rem}.note{color:#555}.problem{color:#a00}"
)


class Pages:
    """`GET` shows, `POST` acts and redirects with 303."""

    def __init__(self, new_unit: Callable[[Request], Unit], announce: Callable[[list[Json]], None]) -> None:
        self._new_unit = new_unit
        self._announce = announce

    async def checkout(self, request: Request) -> Response:
        """The hosted page of a Checkout Session.

        The form's fields: `card_number`, `email`, `name` and `pay_with`: `card`, `declined_card`, `bank` or
        `bank_fails`. Paid: 303 to the success URL. Declined: 402 and the form again.
        """
        form = await read_form(request)
        unit = self._new_unit(request)
        session = unit.find("checkout.session", request.path_params["id"])
        if session is None:
            return html_page("There is no such Checkout Session.", status=404)
        if session["status"] == "complete":
            return _to_success(session)
        if session["status"] == "expired" or session["expires_at"] <= unit.now:
            return html_page("This Checkout Session has expired.", status=410)
        if request.method != "POST":
            return self._checkout_form(session)
        choice = {"pay_with": "card", "card_number": "", **form, "currency": session["currency"]}
        buyer = {"email": form.get("email") or session["customer_email"], "name": form.get("name") or None}
        setup = session["mode"] == "setup"
        try:
            act = setup_sessions.keep if setup else sessions.pay
            session = act(unit, session, sessions.chosen_method(choice), buyer)
        except StripeError as problem:
            if problem.commits:
                self._announce(unit.commit())
            return self._checkout_form(session, str(problem), problem.status)
        self._announce(unit.commit())
        if session["status"] == "complete":
            return _to_success(session)
        kind = "setup_intent" if setup else "payment_intent"
        intent = unit.need(kind, session[kind])
        return RedirectResponse(intent["next_action"]["redirect_to_url"]["url"], 303)

    async def authenticate(self, request: Request) -> Response:
        """The page on which a card's bank asks its holder; the form's field `answer` is `complete` or `fail`."""
        form = await read_form(request)
        unit = self._new_unit(request)
        ident = request.path_params["id"]
        kind = "setup_intent" if ident.startswith("seti_") else "payment_intent"
        intent = unit.find(kind, ident)
        if intent is None or request.query_params.get("key") != intent["client_secret"]:
            return html_page("There is no such payment.", status=404)
        if intent["status"] != "requires_action":
            return html_page("This payment needs no authentication any more.", status=410)
        if request.method != "POST":
            question = "do you want to keep this card for later payments"
            if kind == "payment_intent":
                amount = escape(money.display(intent["amount"], intent["currency"]))
                question = f"do you want to pay <strong>{amount}</strong>"
            return html_page(
                f"<p>The card's bank asks: {question}?</p><form method=post>"
                "<button name=answer value=complete>Complete authentication</button>"
                "<button name=answer value=fail>Fail authentication</button></form>"
            )
        authenticate = setup_intents.authenticate if kind == "setup_intent" else payments.authenticate
        try:
            intent = authenticate(unit, intent, passed=form.get("answer") == "complete")
        except StripeError as problem:
            if not problem.commits:
                raise
            intent = unit.need(kind, ident)
        session = (sessions if kind == "payment_intent" else setup_sessions).follow(unit, intent)
        self._announce(unit.commit())
        if session is not None and session["status"] == "complete":
            return _to_success(session)
        if intent["_return_url"] is None:
            return html_page(
                f"<p>Done: the {kind.split('_')[0]} is now {escape(intent['status'])}. You may close this page.</p>"
            )
        return RedirectResponse(_return_url(intent), 303)

    def _checkout_form(self, session: Json, problem: str = "", status: int = 200) -> Response:
        if session["mode"] == "setup":
            return self._setup_form(session, problem, status)
        currency = session["currency"]
        lines = "".join(
            f"<li>{escape(item['description'])} × {item['quantity']}:"
            f" {escape(money.display(item['amount_total'], currency))}</li>"
            for item in session["_line_items"]
        )
        total = escape(money.display(session["amount_total"], currency))
        warning = f"<p class=problem role=alert>{escape(problem)}</p>" if problem else ""
        bank = ""
        if {"us_bank_account", "sepa_debit"} & set(session["payment_method_types"]):
            bank = (
                "<button name=pay_with value=bank>Pay from a bank account (settles later)</button>"
                "<button name=pay_with value=bank_fails>Pay from an empty bank account (fails later)</button>"
            )
        return html_page(
            f"<ul>{lines}</ul><p>Total: <strong>{total}</strong></p>{warning}<form method=post>"
            f"<label>Email <input name=email type=email value='{escape(session['customer_email'] or '')}'></label>"
            "<label>Name <input name=name></label>"
            "<label>Test card number <input name=card_number value='4242 4242 4242 4242' inputmode=numeric></label>"
            f"<button name=pay_with value=card>Pay {total}</button>{bank}"
            "<button name=pay_with value=declined_card>Pay with a card that is declined</button></form>"
            "<p class=note>4000 0000 0000 9995 has no funds; 4000 0027 6000 3184 asks its bank first;"
            " 4000 0000 0000 0259 is disputed once it has paid.</p>" + _way_back(session),
            status=status,
        )

    def _setup_form(self, session: Json, problem: str, status: int) -> Response:
        warning = f"<p class=problem role=alert>{escape(problem)}</p>" if problem else ""
        return html_page(
            f"<p>Your card is kept for later payments; nothing is paid now.</p>{warning}<form method=post>"
            "<label>Name <input name=name></label>"
            "<label>Test card number <input name=card_number value='4242 4242 4242 4242' inputmode=numeric></label>"
            "<button name=pay_with value=card>Save card</button></form>"
            "<p class=note>4000 0027 6000 3184 asks its bank each time; 4000 0000 0000 0341 is declined later.</p>"
            + _way_back(session),
            status=status,
        )


async def read_form(request: Request) -> dict[str, str]:
    """What a browser sent, the last value of each field; nothing for other methods or when it is too much."""
    if request.method != "POST":
        return {}
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > FORM_LIMIT_BYTES:
            return {}
    return {name: values[-1] for name, values in parse_qs(received.decode(errors="replace")).items()}


def _way_back(session: Json) -> str:
    if not session["cancel_url"]:
        return ""
    return f"<p><a href='{escape(_filled(session['cancel_url'], session))}'>Cancel and go back</a></p>"


def _filled(url: str, session: Json) -> str:
    filled: str = url.replace("{CHECKOUT_SESSION_ID}", session["id"])
    return filled


def _to_success(session: Json) -> Response:
    return RedirectResponse(_filled(session["success_url"], session), 303)


def _return_url(intent: Json) -> str:
    parts = urlsplit(intent["_return_url"])
    kind = intent["object"]
    failed = intent["last_setup_error" if kind == "setup_intent" else "last_payment_error"]
    outcome = {
        kind: intent["id"],
        f"{kind}_client_secret": intent["client_secret"],
        "redirect_status": "failed" if failed else "succeeded",
    }
    query = "&".join(filter(None, (parts.query, urlencode(outcome))))
    return urlunsplit(parts._replace(query=query))


def html_page(content: str, *, status: int = 200, heading: str = "Checkout") -> Response:
    """A whole page around `content`, which is HTML already."""
    text = (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{TITLE}</title><style>{_STYLE}</style><main><h1>{heading}</h1><p class=note>{TITLE}.</p>{content}</main>"
    )
    return HTMLResponse(text, status)
