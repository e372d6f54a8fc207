"""What is refused, in Stripe's words; idempotency; and the faults one can ask for."""

import asyncio
from typing import Any

import httpx
import pytest
import stripe
from pytest import raises
from stripe_world import OpenWorld, World

from stripe_simulator.routes import ROUTES

# The stripe library hands httpx its body in a way that httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


INTENT = {"amount": "1000", "currency": "usd", "confirm": "true", "payment_method": "pm_card_visa"}
CARD = {**INTENT, "allowed_payment_method_types[0]": "card"}


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"amout": "5"}, "amout", "parameter_unknown"),
        ({"amount": None}, "amount", "parameter_missing"),
        ({"amount": "1.5"}, "amount", "parameter_invalid_integer"),
        ({"amount": "-5"}, "amount", "parameter_invalid_integer"),
        ({"amount": "49"}, "amount", "amount_too_small"),
        ({"amount": "100000000"}, "amount", "amount_too_large"),
        ({"currency": "zzz"}, "currency", None),
        ({"currency": ""}, "currency", "parameter_invalid_empty"),
        ({"confirm": "yes"}, "confirm", None),
        ({"capture_method": "manuel"}, "capture_method", None),
        ({"confirmation_method": "manual"}, "confirmation_method", "not_modeled"),
        ({"application_fee_amount": "5"}, "application_fee_amount", "not_modeled"),
        ({"automatic_payment_methods[enable]": "true"}, "automatic_payment_methods[enable]", "parameter_unknown"),
        ({"allowed_payment_method_types[0]": "telepathy"}, "allowed_payment_method_types[0]", None),
        ({"allowed_payment_method_types[0]": "klarna"}, "allowed_payment_method_types", "not_modeled"),
        ({"payment_method_types[0]": "card"}, "payment_method_types", "parameter_unknown"),
        ({"payment_method": "pm_nothing"}, "payment_method", "resource_missing"),
        ({"payment_method": "pm_card_createIssuerFraudRecord"}, "payment_method", "not_modeled"),
        ({"api_key": "sk_test_x"}, "api_key", "parameter_unknown"),
        ({"idempotency_key": "x"}, "idempotency_key", "parameter_unknown"),
        ({"metadata[a][b]": "c"}, "metadata[a]", None),
        ({"amount[x": "c"}, "amount[x", None),
        ({"amount[x]": "c"}, "amount[x]", None),
    ],
)
async def test_a_wrong_parameter_is_refused_by_name(world: World, change: Any, param: str, code: Any) -> None:
    fields = {name: value for name, value in {**CARD, **change}.items() if value is not None}
    answer = await world.raw.post("/v1/payment_intents", data=fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert (error.get("param"), error.get("code")) == (param, code), error
    assert world.simulator.describe()["payment_intents"] == {}


async def test_a_payment_that_may_redirect_needs_somewhere_to_return_to(world: World) -> None:
    answer = await world.raw.post("/v1/payment_intents", data=INTENT)
    assert "you must provide a `return_url`" in answer.json()["error"]["message"]
    never = {
        **INTENT,
        "automatic_payment_methods[enabled]": "true",
        "automatic_payment_methods[allow_redirects]": "never",
    }
    assert (await world.raw.post("/v1/payment_intents", data=never)).json()["status"] == "succeeded"


@pytest.mark.parametrize(
    ("key", "said"), [("", "did not provide"), ("sk_live_abc", "never a live key"), ("hm", "Invalid")]
)
async def test_only_test_keys_open_the_door(world: World, key: str, said: str) -> None:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=world.url, trust_env=False) as anonymous:
        answer = await anonymous.get("/v1/customers/cus_1", headers=headers)
    assert answer.status_code == 401
    assert said in answer.json()["error"]["message"]


async def test_what_is_absent_says_so(world: World) -> None:
    with raises(stripe.InvalidRequestError, match="Unrecognized request URL \\(POST: /v1/topups\\)") as refused:
        await world.stripe.v1.topups.create_async({"currency": "usd", "amount": 5})
    assert refused.value.http_status == 404
    with raises(stripe.InvalidRequestError, match="No such payment_intent: 'pi_x'"):
        await world.intents.retrieve_async("pi_x")
    with raises(stripe.InvalidRequestError, match="cannot be expanded"):
        await world.pay(expand=["latest_chrage"])
    with raises(stripe.PermissionError, match="does not have access to account 'acct_1'"):
        await world.intents.list_async(options={"stripe_account": "acct_1"})


async def test_json_and_huge_bodies_are_refused(world: World) -> None:
    assert (await world.raw.post("/v1/customers", json={"name": "x"})).status_code == 400
    assert (await world.raw.post("/v1/customers", data={"name": "x" * 10_000_000})).status_code == 413


async def test_the_second_arrival_gets_the_first_answer(world: World) -> None:
    send: Any = {"url": "/v1/payment_intents", "data": CARD, "headers": {"Idempotency-Key": "order-1"}}
    first, second = await world.raw.post(**send), await world.raw.post(**send)
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["original-request"] == first.headers["request-id"] != second.headers["request-id"]
    assert world.simulator.describe()["charges"] == {"succeeded": 1}


async def test_other_parameters_under_the_same_key_are_refused(world: World) -> None:
    await world.intents.create_async({"amount": 500, "currency": "usd"}, {"idempotency_key": "k"})
    with raises(stripe.IdempotencyError, match="same parameters"):
        await world.intents.create_async({"amount": 501, "currency": "usd"}, {"idempotency_key": "k"})
    with raises(stripe.IdempotencyError):
        await world.stripe.v1.customers.create_async({}, {"idempotency_key": "k"})


async def test_a_decline_is_remembered_and_a_typing_error_is_not(world: World) -> None:
    send = {"allowed_payment_method_types[0]": "card", "payment_method": "pm_card_chargeDeclined"}
    headers = {"Idempotency-Key": "k1"}
    for _ in range(2):
        answer = await world.raw.post("/v1/payment_intents", data={**CARD, **send}, headers=headers)
        assert answer.status_code == 402
    assert world.simulator.describe()["charges"] == {"failed": 1}
    headers = {"Idempotency-Key": "k2"}
    assert (await world.raw.post("/v1/payment_intents", data={"x": "1"}, headers=headers)).status_code == 400
    assert (await world.raw.post("/v1/payment_intents", data=CARD, headers=headers)).status_code == 200


async def test_a_key_is_forgotten_after_a_day(open_world: OpenWorld) -> None:
    now = [1_800_000_000.0]
    world = await open_world(clock=lambda: now[0])
    send: Any = {"url": "/v1/payment_intents", "data": CARD, "headers": {"Idempotency-Key": "k"}}
    await world.raw.post(**send)
    now[0] += 24 * 3600
    assert "idempotent-replayed" not in (await world.raw.post(**send)).headers
    assert world.simulator.describe()["charges"] == {"succeeded": 2}


async def test_a_key_in_use_is_a_conflict(world: World) -> None:
    world.simulator.faults.add("slow", seconds=0.3)
    send: Any = {"url": "/v1/payment_intents", "data": CARD, "headers": {"Idempotency-Key": "k"}}
    slow = asyncio.create_task(world.raw.post(**send))
    await asyncio.sleep(0.1)
    conflict = await world.raw.post(**send)
    assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "idempotency_key_in_use")
    assert (await slow).json() == (await world.raw.post(**send)).json()


async def test_a_lost_response_and_the_same_key_are_one_charge(world: World) -> None:
    world.simulator.faults.add("lose_response_after_commit")
    params = {"amount": 900, "currency": "usd", "confirm": True, "payment_method": "pm_card_visa"}
    params |= {"allowed_payment_method_types": ["card"]}
    with raises(stripe.APIConnectionError):
        await world.intents.create_async(params, {"idempotency_key": "charge:o1:1"})
    assert world.simulator.describe()["charges"] == {"succeeded": 1}
    again = await world.intents.create_async(params, {"idempotency_key": "charge:o1:1"})
    assert (again.status, again.last_response.headers["idempotent-replayed"]) == ("succeeded", "true")
    assert world.simulator.describe()["paid_minor"] == {"usd": 900}
    assert (await world.told()).count("charge.succeeded") == 1


async def test_the_librarys_own_retry_survives_a_lost_response(world: World) -> None:
    stubborn: Any = stripe.StripeClient(
        "sk_test_x", base_addresses={"api": world.url}, http_client=stripe.HTTPXClient(), max_network_retries=2
    )
    world.simulator.faults.add("lose_response_after_commit", match="/v1/customers")
    await stubborn.v1.customers.create_async({"name": "Ada"})
    assert world.simulator.describe()["customers"] == 1
    await stubborn._requestor._client.close_async()


async def test_faults_happen_as_often_as_asked(world: World) -> None:
    asked = await world.raw.post("/_simulator/faults", json={"kind": "429", "count": 2, "match": "/v1/customers"})
    assert asked.json()["faults"][0]["count"] == 2
    for _ in range(2):
        with raises(stripe.RateLimitError):
            await world.stripe.v1.customers.create_async({})
    await world.stripe.v1.customers.create_async({})
    world.simulator.faults.add("500")
    with raises(stripe.APIError):
        await world.stripe.v1.customers.create_async({}, {"idempotency_key": "k"})
    await world.stripe.v1.customers.create_async({}, {"idempotency_key": "k"})
    assert (await world.raw.get("/_simulator/state")).json()["customers"] == 2


async def test_a_stored_500_stays_under_its_key(world: World) -> None:
    world.simulator.faults.add("500", stored=True)
    for _ in range(2):
        with raises(stripe.APIError):
            await world.stripe.v1.customers.create_async({}, {"idempotency_key": "k"})
    assert world.simulator.describe()["customers"] == 0


async def test_a_request_that_hangs_was_never_done(world: World) -> None:
    world.simulator.faults.add("timeout", seconds=0.2, count=2)
    with raises(stripe.APIConnectionError):
        await world.stripe.v1.customers.create_async({}, {"idempotency_key": "k"})
    with raises(stripe.APIConnectionError):
        await world.stripe.v1.customers.list_async()
    assert world.simulator.describe()["customers"] == 0
    await world.stripe.v1.customers.create_async({}, {"idempotency_key": "k"})
    assert world.simulator.describe()["customers"] == 1


async def test_an_unknown_fault_is_refused(world: World) -> None:
    assert (await world.raw.post("/_simulator/faults", json={"kind": "earthquake"})).status_code == 400
    assert (await world.raw.post("/_simulator/faults", json=[1])).status_code == 400
    assert (await world.raw.post("/_simulator/faults", content="{}")).status_code == 415
    world.simulator.faults.add("429", count=5)
    assert (await world.raw.delete("/_simulator/faults")).json() == {"faults": []}


async def test_the_synchronous_library_works_too(world: World) -> None:
    def buy() -> str:
        sync = stripe.HTTPXClient(allow_sync_methods=True)
        shop: Any = stripe.StripeClient("sk_test_sync", base_addresses={"api": world.url}, http_client=sync)
        status: str = shop.v1.payment_intents.create({**CARD_PARAMS}).status
        shop._requestor._client.close()
        return status

    assert await asyncio.to_thread(buy) == "succeeded"


CARD_PARAMS = {
    "amount": 1000,
    "currency": "usd",
    "confirm": True,
    "payment_method": "pm_card_visa",
    "allowed_payment_method_types": ["card"],
}


def test_every_modeled_parameter_exists_at_stripe() -> None:
    for route in ROUTES:
        assert set(route.modeled) - {"expand"} <= set(route.shape.__annotations__), (route.method, route.path)
