"""One request's work: what it reads, what it changes, what it announces. Leaves out HTTP and delivery."""

import copy
import secrets
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from stripe import api_version

from .errors import Json, missing
from .store import Store

NewId = Callable[[str], str]
_ALPHABET = string.ascii_letters + string.digits
# Everything else belongs to one account, the platform's own or a connected one, and only that account sees it.
_SHARED_KINDS = frozenset({"account", "delivery", "idempotency", "timer", "webhook_endpoint"})


def random_id(prefix: str) -> str:
    """`pi_3Qx…`: the prefix and as many characters as Stripe's ids have."""
    length = 58 if prefix.startswith("cs_") else 14 if prefix == "req" else 16 if prefix == "acct" else 24
    return f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(length))


def public(row: Json) -> Json:
    """The row without our own notes, whose names begin with an underscore."""
    return {name: value for name, value in row.items() if not name.startswith("_")}


def table_of(kind: str, account: str | None) -> str:
    """Where the store keeps an account's rows of a kind; the platform's own, and what is shared, under the kind."""
    return kind if account is None or kind in _SHARED_KINDS else f"{kind}@{account}"


@dataclass
class Unit:
    """Reads see the unit's own changes; nothing is visible to others until `commit`.

    `account` is the connected account whose things are read and written; None is the platform itself.
    """

    store: Store
    now: int
    new_id: NewId
    base_url: str
    processing_seconds: float
    request_id: str | None = None
    idempotency_key: str | None = None
    account: str | None = None
    changes: dict[tuple[str, str], Json | None] = field(default_factory=dict)
    deliveries: list[Json] = field(default_factory=list)

    def find(self, kind: str, ident: str) -> Json | None:
        """The row as this unit sees it, or None."""
        table = table_of(kind, self.account)
        if (table, ident) in self.changes:
            return self.changes[table, ident]
        return self.store.get(table, ident)

    def need(self, kind: str, ident: str, *, param: str = "id", status: int = 404) -> Json:
        """The row, or Stripe's "No such …"; status 400 when a parameter names it."""
        row = self.find(kind, ident)
        if row is None:
            raise missing(kind, ident, param=param, status=status)
        return row

    def rows(self, kind: str) -> Iterator[Json]:
        """Rows as committed before this unit, oldest first."""
        return self.store.rows(table_of(kind, self.account))

    def rows_now(self, kind: str) -> Iterator[Json]:
        """Rows as this unit sees them, its own changes included; for reading only."""
        table = table_of(kind, self.account)
        mine = {ident: row for (of, ident), row in self.changes.items() if of == table}
        for row in self.rows(kind):
            changed = mine.pop(row["id"], row)
            if changed is not None:
                yield changed
        yield from (row for row in mine.values() if row is not None)

    def acting_for(self, account: str | None) -> "Unit":
        """The same piece of work, seen and done as the connected account, or as the platform."""
        return replace(self, account=account)

    def put(self, kind: str, row: Json) -> Json:
        """Saves the row under its id, within the unit."""
        self.changes[table_of(kind, self.account), row["id"]] = row
        return row

    def delete(self, kind: str, ident: str) -> None:
        """Forgets the row, within the unit."""
        self.changes[table_of(kind, self.account), ident] = None

    def emit(self, type_: str, row: Json, previous: Json | None = None) -> None:
        """Announces the object as it is at this moment to every endpoint that listens for `type_`.

        What happens on a connected account is told to Connect endpoints only, and names the account.
        """
        endpoints = [
            endpoint["id"]
            for endpoint in self.rows("webhook_endpoint")
            if {"*", type_} & set(endpoint["enabled_events"])
            and endpoint["status"] == "enabled"
            and endpoint.get("_connect", False) == (self.account is not None)
        ]
        data: Json = {"object": copy.deepcopy(public(row))}
        if previous is not None:
            data["previous_attributes"] = previous
        event = {
            "id": self.new_id("evt"),
            "object": "event",
            "api_version": api_version,
            "created": self.now,
            "data": data,
            "livemode": False,
            "pending_webhooks": len(endpoints),
            "request": {"id": self.request_id, "idempotency_key": self.idempotency_key},
            "type": type_,
        }
        if self.account is not None:
            event["account"] = self.account
        self.put("event", event)
        for endpoint in endpoints:
            delivery = {
                "id": self.new_id("delivery"), "event": event["id"], "endpoint": endpoint, "type": type_,
                "account": self.account,
            }  # fmt: skip
            self.deliveries.append(self.put("delivery", delivery))

    def set_timer(self, action: str, target: str, due: float) -> None:
        """Has `action` done to `target` once the clock reaches `due`; a second timer for both replaces the first."""
        ident = f"{action}:{target}"
        self.put("timer", {"id": ident, "action": action, "target": target, "due": due, "account": self.account})

    def commit(self) -> list[Json]:
        """Makes the work durable and visible; returns the deliveries to be made."""
        self.store.commit(self.changes)
        return self.deliveries
