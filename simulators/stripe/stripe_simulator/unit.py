"""One request's work: what it reads, what it changes, what it announces. Leaves out HTTP and delivery."""

import copy
import secrets
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from stripe import api_version

from .errors import Json, missing
from .store import Store

NewId = Callable[[str], str]
_ALPHABET = string.ascii_letters + string.digits


def random_id(prefix: str) -> str:
    """`pi_3Qx…`: the prefix and as many characters as Stripe's ids have."""
    length = 58 if prefix.startswith("cs_") else 14 if prefix == "req" else 24
    return f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(length))


def public(row: Json) -> Json:
    """The row without our own notes, whose names begin with an underscore."""
    return {name: value for name, value in row.items() if not name.startswith("_")}


@dataclass
class Unit:
    """Reads see the unit's own changes; nothing is visible to others until `commit`."""

    store: Store
    now: int
    new_id: NewId
    base_url: str
    processing_seconds: float
    request_id: str | None = None
    idempotency_key: str | None = None
    changes: dict[tuple[str, str], Json | None] = field(default_factory=dict)
    deliveries: list[Json] = field(default_factory=list)

    def find(self, kind: str, ident: str) -> Json | None:
        """The row as this unit sees it, or None."""
        if (kind, ident) in self.changes:
            return self.changes[kind, ident]
        return self.store.get(kind, ident)

    def need(self, kind: str, ident: str, *, param: str = "id", status: int = 404) -> Json:
        """The row, or Stripe's "No such …"; status 400 when a parameter names it."""
        row = self.find(kind, ident)
        if row is None:
            raise missing(kind, ident, param=param, status=status)
        return row

    def rows(self, kind: str) -> Iterator[Json]:
        """Rows as committed before this unit, oldest first."""
        return self.store.rows(kind)

    def put(self, kind: str, row: Json) -> Json:
        """Saves the row under its id, within the unit."""
        self.changes[kind, row["id"]] = row
        return row

    def delete(self, kind: str, ident: str) -> None:
        """Forgets the row, within the unit."""
        self.changes[kind, ident] = None

    def emit(self, type_: str, row: Json, previous: Json | None = None) -> None:
        """Announces the object as it is at this moment to every endpoint that listens for `type_`."""
        endpoints = [
            endpoint["id"]
            for endpoint in self.rows("webhook_endpoint")
            if {"*", type_} & set(endpoint["enabled_events"]) and endpoint["status"] == "enabled"
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
        self.put("event", event)
        for endpoint in endpoints:
            delivery = {"id": self.new_id("delivery"), "event": event["id"], "endpoint": endpoint, "type": type_}
            self.deliveries.append(self.put("delivery", delivery))

    def set_timer(self, action: str, target: str, due: float) -> None:
        """Has `action` done to `target` once the clock reaches `due`; a second timer for both replaces the first."""
        ident = f"{action}:{target}"
        self.put("timer", {"id": ident, "action": action, "target": target, "due": due})

    def commit(self) -> list[Json]:
        """Makes the work durable and visible; returns the deliveries to be made."""
        self.store.commit(self.changes)
        return self.deliveries
