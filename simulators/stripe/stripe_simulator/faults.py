"""Faults on demand: what goes wrong, where, and how many times. Leaves out how each is carried out."""

from dataclasses import asdict, dataclass

from .errors import Json

READ_FAULTS = ("429", "500", "slow", "timeout")
REQUEST_FAULTS = (*READ_FAULTS, "lose_response_after_commit", "deliver_before_response")
WEBHOOK_FAULTS = (
    "webhook_duplicate",
    "webhook_reorder",
    "webhook_drop",
    "webhook_delay",
    "webhook_tamper",
    "webhook_old_timestamp",
)


@dataclass
class Fault:
    """One fault waiting to happen `count` times.

    `match` narrows it: the beginning of the path for requests (`/v1/refunds`), of the event type for webhooks.
    `seconds` is the length of `slow`, `timeout` and `webhook_delay`, and the most that `deliver_before_response` waits.
    `stored` makes a `500` be remembered under its idempotency key, as Stripe does when it fails midway; otherwise it
    fails before the endpoint began.
    """

    kind: str
    count: int = 1
    seconds: float = 1.0
    match: str = ""
    stored: bool = False

    def __post_init__(self) -> None:
        if self.kind not in REQUEST_FAULTS + WEBHOOK_FAULTS:
            known = ", ".join(REQUEST_FAULTS + WEBHOOK_FAULTS)
            raise ValueError(f"There is no fault {self.kind!r}; there are {known}.")
        if type(self.count) is not int or self.count < 1:
            raise ValueError(f"A fault's count is a whole number from 1, not {self.count!r}.")
        if type(self.seconds) not in (int, float) or not 0 <= self.seconds < 3_600:
            raise ValueError(f"A fault's seconds are a number from 0 to an hour, not {self.seconds!r}.")


class Faults:
    """The faults still to come, in the order they were asked for."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, kind: str, *, count: int = 1, seconds: float = 1.0, match: str = "", stored: bool = False) -> None:
        """Has `kind` happen the next `count` times it can; raises ValueError for a kind that does not exist."""
        self._waiting.append(Fault(kind, count, seconds, match, stored))

    def clear(self) -> None:
        """Forgets every fault that has not happened yet."""
        self._waiting.clear()

    def take(self, kinds: tuple[str, ...], where: str) -> Fault | None:
        """The next fault among `kinds` that applies to `where`, counted as having happened."""
        for fault in self._waiting:
            if fault.kind in kinds and where.startswith(fault.match):
                fault.count -= 1
                if fault.count == 0:
                    self._waiting.remove(fault)
                return fault
        return None

    def describe(self) -> list[Json]:
        """The faults still to come, as the control endpoint shows them."""
        return [asdict(fault) for fault in self._waiting]
