"""Payment methods at Stripe: a buyer's customer, the page on which one is saved, and its end. Decides nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from billing.domain.saved_methods import SavedMethod, Setup
from billing.rail import MISSING, Rail, RailRefused

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeenSetup:
    """What Stripe says of a page: still open, or over with what was saved, or with nothing."""

    setup_id: str
    over: bool
    method: SavedMethod | None = None


class Methods:
    """Speaks to one Stripe account through its rail."""

    def __init__(self, rail: Rail) -> None:
        self._rail = rail

    async def customer(self, organization: str) -> str:
        """A customer for an organization. Two made a day apart do no harm: the first is kept. Raises RailUnavailable,
        RailRefused."""
        async with self._rail.call("customer"):
            made = await self._rail.api.customers.create_async(
                {"name": organization, "metadata": {"organization": organization}},
                {"idempotency_key": f"customer:{organization}"},
            )
        return str(made.id)

    async def open(self, setup: Setup, customer_id: str) -> tuple[str, str]:
        """The page on which a method is saved, once however often it is called: its id and its address. Raises
        RailUnavailable, RailRefused."""
        metadata = {"setup": setup.id, "organization": setup.organization}
        async with self._rail.call("set up"):
            session = await self._rail.api.checkout.sessions.create_async(
                {
                    "mode": "setup",
                    "customer": customer_id,
                    # What is saved is charged when nobody is there, so only what can be.
                    "allowed_payment_method_types": ["card"],
                    "success_url": setup.success_url,
                    "cancel_url": setup.cancel_url,
                    "metadata": metadata,
                    "setup_intent_data": {"metadata": metadata},
                },
                {"idempotency_key": setup.idempotency_key},
            )
        return str(session.id), str(session.url)

    async def look(self, session_id: str) -> SeenSetup | None:
        """How a page stands; None for one that saves nothing of ours. Raises RailUnavailable, RailRefused."""
        async with self._rail.call("look at setup"):
            found = await self._rail.api.checkout.sessions.retrieve_async(
                session_id, {"expand": ["setup_intent.payment_method"]}
            )
        session: dict[str, Any] = found.to_dict()
        metadata = session.get("metadata") or {}
        if session.get("mode") != "setup" or "setup" not in metadata:
            return None
        intent = session.get("setup_intent")
        method = intent.get("payment_method") if isinstance(intent, dict) else None
        if session["status"] == "complete" and isinstance(intent, dict) and intent["status"] == "succeeded":
            assert isinstance(method, dict), "a setup that succeeded has its method, and it was asked for whole"
            saved = _saved(method, session["customer"], metadata["organization"])
            return SeenSetup(metadata["setup"], over=True, method=saved)
        return SeenSetup(metadata["setup"], over=session["status"] in ("complete", "expired"))

    async def detach(self, method_id: str) -> None:
        """Has Stripe forget a method. What it has forgotten before is left as it is. Raises RailUnavailable."""
        try:
            async with self._rail.call("detach"):
                await self._rail.api.payment_methods.detach_async(method_id)
        except RailRefused as refused:
            # Stripe's word for one that is detached already is a sentence, not a code.
            level = logging.INFO if refused.code in (MISSING, "rail_refused") else logging.ERROR
            log.log(level, "%s cannot be detached: %s", method_id, refused)


def _saved(method: dict[str, Any], customer_id: str, organization: str) -> SavedMethod:
    type = str(method["type"])
    details: dict[str, Any] = method.get(type) or {}
    brand = str(details.get("brand") or details.get("bank_name") or type).replace("_", " ")
    label = f"{brand} ending in {details['last4']}" if details.get("last4") else brand
    expires = f"{details['exp_year']:04d}-{details['exp_month']:02d}" if details.get("exp_year") else ""
    return SavedMethod(str(method["id"]), customer_id, organization, type, label, expires)
