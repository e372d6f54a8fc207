"""Every field of every request, one at a time, with what nobody means: no call is a fault of ours, and none takes long.

The calls are made by whoever may make them about things of their own, so that they get as far as a call can. A market of
its own, because some of them succeed: nothing is left as it was.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from askings import LISTS, PACKAGES, PRIVATE, ask, table
from google.protobuf.message import Message
from hostile_world import Stage, set_stage
from house import Person
from walk import MarketPeople

from rochdale.identity.v1 import identity_pb2 as identity
from rochdale_kit.identity import Access
from rochdale_kit.refusals import Refusal

STRINGS = ["\0", "\u202e\ufdfa\U0010ffff" * 500, "x" * 100_000, "%s{0}';--\\", "../../etc/passwd", "\ud7ff\n\r\t"]
SECONDS = [2**62, -(2**63), 253_402_300_799, -62_135_596_800, 0]
SLOW_SECONDS = 5.0


def hostile_values(field: Any) -> list[Any]:
    if field.type == field.TYPE_STRING:
        return STRINGS
    if field.type == field.TYPE_BYTES:
        return [b"", b"\0", b"\xff" * 100_000]
    if field.type == field.TYPE_BOOL:
        return [True, False]
    if field.type == field.TYPE_ENUM:
        return [0, 99, -1, 2**31 - 1]
    bits = 64 if field.type in (field.TYPE_INT64, field.TYPE_SINT64) else 32
    return [-1, 0, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))]


def bent(message: Message) -> Iterator[tuple[str, Message]]:
    """The message, bent in one field in one way; for each field, fields of parts included, and each way."""
    for field in message.DESCRIPTOR.fields:
        if field.name == "request_id":
            continue
        values = getattr(message, field.name)
        if field.is_repeated:
            yield from bent_list(message, field)
        elif field.message_type is None:
            for value in hostile_values(field):
                made = copied(message)
                setattr(made, field.name, value)
                yield f"{field.name}={str(value)[:20]!r}", made
        elif field.message_type.full_name == "google.protobuf.Timestamp":
            for seconds in SECONDS:
                made = copied(message)
                getattr(made, field.name).seconds = seconds
                yield f"{field.name}={seconds}", made
        else:
            made = copied(message)
            made.ClearField(field.name)
            yield f"no {field.name}", made
            for what, part in bent(values):
                made = copied(message)
                getattr(made, field.name).CopyFrom(part)
                yield f"{field.name}.{what}", made


def bent_list(message: Message, field: Any) -> Iterator[tuple[str, Message]]:
    values = list(getattr(message, field.name))
    if values:
        for count in (2, 3_000):
            made = copied(message)
            getattr(made, field.name).extend(values[:1] * count)
            yield f"{field.name} {count} times", made
        made = copied(message)
        made.ClearField(field.name)
        yield f"no {field.name}", made
    if field.message_type is not None:
        for what, part in bent(values[0]) if values else ():
            made = copied(message)
            getattr(made, field.name)[0].CopyFrom(part)
            yield f"{field.name}[0].{what}", made
        return
    for value in hostile_values(field):
        made = copied(message)
        getattr(made, field.name).append(value)
        yield f"{field.name} and {str(value)[:20]!r}", made


def copied(message: Message) -> Message:
    made = type(message)()
    made.CopyFrom(message)
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def worn(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[MarketPeople, Stage]]:
    market = MarketPeople(tmp_path_factory.mktemp("worn"))
    await market.start()
    try:
        yield market, await set_stage(market)
    finally:
        await market.stop()


def caller_of(access: Access, stage: Stage) -> Person:
    """Somebody that the table lets in, whose things the stage's are."""
    for role, person in (
        (identity.ROLE_STEWARD, stage.steward),
        (identity.ROLE_MEMBER, stage.member),
        (identity.ROLE_BUYER, stage.buyer),
        (identity.ROLE_GATEWAY, stage.gateway),
        (identity.ROLE_OPERATOR, stage.operator),
    ):
        if access.public or role in access.roles:
            return person
    raise AssertionError(access)


@pytest.mark.parametrize("package", PACKAGES)
async def test_no_field_of_any_call_is_a_fault(worn: tuple[MarketPeople, Stage], package: str) -> None:
    market, stage = worn
    met: Counter[str] = Counter()
    wrong = []
    for rpc, asking in (PRIVATE | LISTS).items():
        if not rpc.startswith(f"{package}."):
            continue
        person = caller_of(table(package)[rpc.partition(".")[2]], stage)
        for what, request in bent(asking(stage.victim)):
            begun = time.monotonic()
            async with asyncio.timeout(30):
                answer = await ask(market, rpc, request, person)
            took = time.monotonic() - begun
            reason = answer.reason if isinstance(answer, Refusal) else "OK"
            met[reason] += 1
            if reason == "INTERNAL" or took > SLOW_SECONDS:
                wrong.append((rpc, what, answer, took))
    assert not wrong
    assert met["REQUEST_INVALID"] >= 20 and met.total() > 50, met
