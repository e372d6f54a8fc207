"""Who is looking: sign-in with an API key, the cookie that holds the session, and whether a form came from our own page.

The storefront keeps nothing: the cookie holds the session token itself, which ends after a quarter of an hour, and the
key is forgotten as soon as identity has answered.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from rochdale.identity.v1 import identity_pb2
from rochdale_kit.clock import seconds
from rochdale_kit.identity import SESSION_LIFE_SECONDS, Principal, Sessions
from rochdale_kit.refusals import Kind, Refusal
from storefront.forms import Form

_LONGEST_TOKEN = 4096


@dataclass(frozen=True)
class Visitor:
    """Somebody who is signed in. token: the session, which goes to the services as it is."""

    principal: Principal
    token: str

    @property
    def proof(self) -> str:
        """What every form of ours carries: known to whoever reads the page, which another site's pages cannot."""
        return hmac.new(self.token.encode(), b"rochdale-form", hashlib.sha256).hexdigest()

    @property
    def is_operator(self) -> bool:
        return identity_pb2.ROLE_OPERATOR in self.principal.roles

    @property
    def is_buyer(self) -> bool:
        return identity_pb2.ROLE_BUYER in self.principal.roles

    @property
    def is_steward(self) -> bool:
        return identity_pb2.ROLE_STEWARD in self.principal.roles

    @property
    def member(self) -> str:
        """Resource name of the member behind the key; empty for a key of the organization as a whole."""
        return self.principal.member

    @property
    def cooperative(self) -> str:
        """Resource name of the cooperative whose steward this is; empty for others."""
        return f"cooperatives/{self.principal.organization}" if self.is_steward else ""

    @property
    def roles(self) -> str:
        return ", ".join(
            sorted(identity_pb2.Role.Name(role)[len("ROLE_") :].lower() for role in self.principal.roles)  # type: ignore[arg-type]
        )


class Visitors:
    """Knows visitors by their cookie. public_url: where browsers reach us; empty where nobody said so."""

    def __init__(self, sessions: Sessions, public_url: str) -> None:
        self._sessions = sessions
        self._secure = public_url.startswith("https://")
        self._public_host = urlsplit(public_url).netloc
        # The prefix has browsers take it from this host over HTTPS only; on a laptop without HTTPS it is not allowed.
        prefix = "__Host-" if self._secure else ""
        self._session, self._sign_in = f"{prefix}session", f"{prefix}sign-in"

    async def of(self, request: Request) -> Visitor | None:
        """Who sent this; None for a browser that is not signed in any more."""
        token = request.cookies.get(self._session, "")
        if not token or len(token) > _LONGEST_TOKEN:
            return None
        try:
            return Visitor(await self._sessions.principal(token), token)
        except Refusal as refusal:
            if refusal.kind is not Kind.UNAUTHENTICATED:
                raise
            return None

    def remember(self, response: Response, session: identity_pb2.Session) -> None:
        left = max(1, min(SESSION_LIFE_SECONDS, session.expire_time.seconds - int(seconds())))
        # Lax and not strict: who comes back from the page of a bank or of Stripe is still signed in.
        response.set_cookie(
            self._session, session.token, left, path="/", secure=self._secure, httponly=True, samesite="lax"
        )
        response.delete_cookie(self._sign_in, path="/", secure=self._secure, httponly=True, samesite="strict")

    def forget(self, response: Response) -> None:
        response.delete_cookie(self._session, path="/", secure=self._secure, httponly=True, samesite="lax")

    def proof_for_sign_in(self, request: Request) -> str:
        """What the form for signing in carries beside a cookie of the same browser, so that nobody signs another in."""
        known = request.cookies.get(self._sign_in, "")
        return known if re.fullmatch(r"[A-Za-z0-9_-]{43}", known) else secrets.token_urlsafe(32)

    def keep_proof(self, response: Response, proof: str) -> None:
        response.set_cookie(self._sign_in, proof, 3600, path="/", secure=self._secure, httponly=True, samesite="strict")

    def check_sign_in(self, request: Request, form: Form) -> None:
        known = request.cookies.get(self._sign_in, "")
        self._check_origin(request)
        if not known or not hmac.compare_digest(known.encode(), form.get("proof").encode()):
            raise _foreign()

    def check(self, request: Request, form: Form, visitor: Visitor) -> None:
        """Refuses a form that no page of ours sent."""
        self._check_origin(request)
        if not hmac.compare_digest(visitor.proof.encode(), form.get("proof").encode()):
            raise _foreign()

    def _check_origin(self, request: Request) -> None:
        """What the browser itself says of where a form came from. One that says nothing is judged by the proof alone."""
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise _foreign()
        origin = request.headers.get("origin", "")
        # A proxy in front of us may have given us another host than the one in the browser.
        ours = (request.headers.get("host", ""), self._public_host)
        if origin and (urlsplit(origin).netloc or "-") not in ours:
            raise _foreign()


def _foreign() -> Refusal:
    return Refusal(
        "FORM_FOREIGN",
        "This form did not come from the page you are signed in to, so nothing was done. Open the page again.",
        Kind.FORBIDDEN,
    )


def safe_path(text: str) -> str:
    """Where to go after signing in: a path of ours, and nothing that a browser could take for another host."""
    own = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable() and "\\" not in text
    return text if own and len(text) <= 500 else "/account"
