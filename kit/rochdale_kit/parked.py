"""What an operator sees of parked events: the list, and the outcome of a replay. How one is handled is in inbox.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rochdale_kit.database import Database
from rochdale_kit.inbox import Consumer, ParkedEvent, parked_events
from rochdale_kit.telemetry import redact


def _line(outcome: str, event: ParkedEvent, reason: str = "", sentence: str = "") -> None:
    why = f"  {reason}: {sentence}" if reason else ""
    # A publisher's text may hold anything; what a terminal would obey is shown instead.
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in why)
    time = f"{event.park_time:%Y-%m-%d %H:%M:%S}"
    sys.stdout.write(f"{outcome}  {time}  {event.consumer}  {event.message_type}  {event.event_id}{redact(text)}\n")


async def show(database_url: str) -> int:
    """Prints the parked events of a service, oldest first, and returns how many there are."""
    database = Database(database_url, pool_size=1)
    try:
        events = await parked_events(database)
    finally:
        await database.close()
    for event in events:
        _line("parked", event, event.reason, event.message)
    sys.stdout.write(f"{len(events)} parked.\n")
    return len(events)


async def replay(database_url: str, consumers: Sequence[Consumer]) -> int:
    """Handles every parked event again, oldest first, prints each outcome, and returns how many are still parked.

    May run beside the service, and twice: an event that was handled has its effect once.
    """
    database = Database(database_url, pool_size=1)
    try:
        events = await parked_events(database)
    finally:
        await database.close()
    by_name = {consumer.name: consumer for consumer in consumers}
    left = 0
    for event in events:
        consumer = by_name.get(event.consumer)
        if consumer is None:
            left += 1
            _line("parked", event, "CONSUMER_UNKNOWN", "this version has no such consumer")
        elif (refusal := await consumer.replay(event)) is not None:
            left += 1
            _line("parked", event, refusal.reason, refusal.message)
        else:
            _line("handled", event)
    sys.stdout.write(f"{len(events) - left} handled, {left} still parked.\n")
    return left
