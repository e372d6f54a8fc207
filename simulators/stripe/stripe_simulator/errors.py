"""Refusals in Stripe's own words: status, type, code, parameter. Leaves out where they are decided."""

from typing import Any

Json = dict[str, Any]


class StripeError(Exception):
    """One error answer of the API.

    `commits` says that the work done so far stands although the answer is an error, and that the answer is stored
    under the idempotency key: a declined card leaves a failed charge behind.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        commits: bool = False,
        **facts: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.commits = commits
        self.error: Json = {"type": kind, "message": message, **facts}
        if code is not None:
            self.error["code"] = code
            self.error["doc_url"] = f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"
        if param is not None:
            self.error["param"] = param


def invalid(message: str, *, param: str | None = None, code: str | None = None, **facts: Any) -> StripeError:
    """A request that Stripe refuses before doing anything."""
    return StripeError(400, message, param=param, code=code, **facts)


def missing(noun: str, ident: str, *, param: str, status: int = 404) -> StripeError:
    """A thing that does not exist; status 404 when the path names it, 400 when a parameter does."""
    return StripeError(status, f"No such {noun}: '{ident}'", code="resource_missing", param=param)


def not_modeled(what: str, *, param: str | None = None) -> StripeError:
    """Something Stripe accepts and this simulator does not do: refused aloud rather than ignored."""
    return StripeError(400, f"The Stripe simulator does not model {what}.", code="not_modeled", param=param)
