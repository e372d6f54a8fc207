"""The line of a cooperative's keys: who is believed from which key on, and every forged introduction that is not."""

import datetime as dt
from collections.abc import Callable

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.governance.v1 import governance_pb2
from rochdale_kit.clock import to_timestamp
from rochdale_kit.cooperative_keys import CooperativeKeys, introduce
from rochdale_kit.refusals import Refusal
from rochdale_kit.signing import COOPERATIVE_KEY_PREFIX, OFFERING_PREFIX, RULE_PREFIX, SigningKey, sign_hash

OURS = "cooperatives/valley"
HASH = "ab" * 32
DAYS = [dt.datetime(2026, month, 1, tzinfo=dt.UTC) for month in (1, 3, 5)]
KEYS = [SigningKey.generate() for _ in DAYS]
Line = list[governance_pb2.CooperativeKey]


def a_line(*compromised: int) -> Line:
    """Three keys, each introduced by the one before; those numbered are said to be compromised by their successor."""
    return [
        introduce(OURS, KEYS[0], DAYS[0]),
        introduce(OURS, KEYS[1], DAYS[1], KEYS[0], 0 in compromised),
        introduce(OURS, KEYS[2], DAYS[2], KEYS[1], 1 in compromised),
    ]


def believed(keys: CooperativeKeys, at: dt.datetime | None = None) -> list[int]:
    """The numbers of the keys whose signatures hold."""
    return [n for n, key in enumerate(KEYS) if keys.verify(sign_hash(key, RULE_PREFIX, HASH), RULE_PREFIX, HASH, at)]


def refuse(line: Line, pin: str = "", match: str = "") -> None:
    with pytest.raises(Refusal, match=match) as error:
        CooperativeKeys.follow(OURS, line, pin)
    assert error.value.reason == "COOPERATIVE_KEY_INVALID"


def test_from_the_first_key_to_all_later_ones() -> None:
    keys = CooperativeKeys.follow(OURS, a_line())
    assert keys and keys.latest_id == KEYS[2].key_id
    assert believed(keys) == [0, 1, 2]


def test_a_key_signs_in_its_own_time_only() -> None:
    keys = CooperativeKeys.follow(OURS, a_line())
    second = dt.timedelta(seconds=1)
    assert believed(keys, DAYS[0] - second) == []
    assert believed(keys, DAYS[0]) == believed(keys, DAYS[1] - second) == [0]
    # In the instant of the change both are right: the new key's introduction and a last act of the old one.
    assert believed(keys, DAYS[1]) == [0, 1]
    assert believed(keys, DAYS[1] + second) == [1]
    assert believed(keys, DAYS[2] + dt.timedelta(days=3650)) == [2]


@pytest.mark.parametrize("pin", range(3))
def test_what_is_before_the_pin_is_not_believed(pin: int) -> None:
    keys = CooperativeKeys.follow(OURS, a_line(), KEYS[pin].key_id)
    assert believed(keys) == list(range(pin, 3))


def test_a_line_that_does_not_lead_through_the_pin_is_refused() -> None:
    stranger = SigningKey.generate()
    refuse(a_line(), stranger.key_id, "pinned key")
    refuse([introduce(OURS, stranger, DAYS[0])], KEYS[0].key_id, "pinned key")
    refuse([], KEYS[0].key_id, "shows no keys")


def test_the_operators_own_line_cannot_be_shown_to_who_knows_one_key() -> None:
    """Somebody with every database: they can make keys, and none that the pinned one introduced."""
    theirs = SigningKey.generate()
    refuse([introduce(OURS, theirs, DAYS[0])], KEYS[0].key_id, "pinned key")
    appended = introduce(OURS, theirs, DAYS[2], KEYS[1])
    appended.previous_signature.CopyFrom(sign_hash(theirs, COOPERATIVE_KEY_PREFIX, "00" * 32))
    refuse([*a_line()[:2], appended], KEYS[0].key_id, "not introduced by")
    before = [introduce(OURS, theirs, DAYS[0]), introduce(OURS, KEYS[0], DAYS[1], theirs)]
    # A key of theirs before ours, which ours would have to have agreed to by its own signature; even so, not believed.
    keys = CooperativeKeys.follow(OURS, before, KEYS[0].key_id)
    assert not keys.verify(sign_hash(theirs, RULE_PREFIX, HASH), RULE_PREFIX, HASH)


def test_a_compromised_key_made_no_signature_and_its_successors_do() -> None:
    keys = CooperativeKeys.follow(OURS, a_line(0))
    assert believed(keys) == [1, 2] and believed(keys, DAYS[0]) == []
    assert believed(CooperativeKeys.follow(OURS, a_line(0, 1))) == [2]
    # Who pinned the key that was stolen still finds the way to the next one.
    assert believed(CooperativeKeys.follow(OURS, a_line(0), KEYS[0].key_id)) == [1, 2]


def test_before_the_first_key_nothing_holds() -> None:
    keys = CooperativeKeys.follow(OURS, [])
    assert not keys and keys.latest_id == "" and believed(keys) == []
    assert believed(CooperativeKeys.none(OURS)) == []


def test_a_signature_is_for_one_thing() -> None:
    keys = CooperativeKeys.follow(OURS, a_line())
    signature = sign_hash(KEYS[0], OFFERING_PREFIX, HASH)
    assert keys.verify(signature, OFFERING_PREFIX, HASH)
    assert not keys.verify(signature, RULE_PREFIX, HASH)
    assert not keys.verify(signature, OFFERING_PREFIX, "cd" * 32)
    signature.key_id = KEYS[1].key_id
    assert not keys.verify(signature, OFFERING_PREFIX, HASH)
    signature.key_id, signature.value = KEYS[0].key_id, b""
    assert not keys.verify(signature, OFFERING_PREFIX, HASH)


def test_another_cooperatives_key_is_not_ours() -> None:
    refuse([introduce("cooperatives/rivals", KEYS[0], DAYS[0])], match="not cooperatives/valley's")
    refuse([introduce("", KEYS[0], DAYS[0])], match="nobody's")
    taken = introduce("cooperatives/rivals", KEYS[0], DAYS[0])
    taken.cooperative = OURS
    refuse([taken], match="did not sign its own introduction")


def swap_key(one: governance_pb2.CooperativeKey) -> None:
    one.public_key = SigningKey.generate().public_bytes


def later(one: governance_pb2.CooperativeKey) -> None:
    one.begin_time.seconds += 1


def not_compromised(one: governance_pb2.CooperativeKey) -> None:
    one.previous_compromised = not one.previous_compromised


FORGERIES: dict[str, tuple[Callable[[governance_pb2.CooperativeKey], None], str]] = {
    "another key under its id": (swap_key, "not the thumbprint"),
    "a key of another length": (lambda one: setattr(one, "public_key", b"short"), "not the thumbprint"),
    "another id": (lambda one: setattr(one, "key_id", KEYS[2].key_id), "not the thumbprint"),
    "another begin": (later, "did not sign"),
    "another predecessor": (lambda one: setattr(one, "previous_key_id", KEYS[2].key_id), "did not sign"),
    "the predecessor's shame hidden": (not_compromised, "did not sign"),
    "not signed by itself": (lambda one: one.ClearField("own_signature"), "did not sign"),
    "not signed by the one before": (lambda one: one.ClearField("previous_signature"), "not introduced by"),
    "introduced by itself": (lambda one: one.previous_signature.CopyFrom(one.own_signature), "not introduced by"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_introduction_breaks_the_line(forgery: str) -> None:
    for compromised in ((), (0,)):
        line = a_line(*compromised)
        forge, sentence = FORGERIES[forgery]
        forge(line[1])
        refuse(line, match=sentence)


def test_a_line_has_an_order() -> None:
    first, second, third = a_line()
    refuse([second, third], match="names one before it")
    refuse([first, third], match="does not follow")
    refuse([first, second, second], match="does not follow")
    refuse([first, third, second], match="does not follow")
    refuse([first, introduce(OURS, KEYS[1], DAYS[0], KEYS[0])], match="begins before")
    refuse([first, introduce(OURS, KEYS[1], DAYS[1])], match="does not follow")


def test_no_key_comes_back() -> None:
    """A stolen key that its successor's successor introduced again would have its signatures back."""
    line = [*a_line(0)[:2], introduce(OURS, KEYS[0], DAYS[2], KEYS[1])]
    refuse(line, match="twice")


@pytest.mark.parametrize("seconds", [2**62, -(2**62), 253_402_300_800])
def test_a_time_outside_of_the_calendar_is_no_begin(seconds: int) -> None:
    line = a_line()
    line[1].begin_time.CopyFrom(Timestamp(seconds=seconds))
    refuse(line, match="does not say since when")


def test_a_key_without_a_begin_is_none() -> None:
    line = a_line()
    line[0].ClearField("begin_time")
    refuse(line, match="does not say since when")


def test_the_introduction_says_what_it_was_given() -> None:
    one = introduce(OURS, KEYS[1], DAYS[1], KEYS[0], True)
    assert (one.cooperative, one.key_id, one.public_key) == (OURS, KEYS[1].key_id, KEYS[1].public_bytes)
    assert one.begin_time == to_timestamp(DAYS[1])
    assert one.previous_key_id == KEYS[0].key_id and one.previous_compromised
