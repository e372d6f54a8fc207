"""Connected accounts of a Stripe simulator's world: opened, made ready, moved through time, asked what they have."""

from typing import Any

from stripe_world import World

EXPRESS: Any = {
    "losses": {"payments": "application"},
    "fees": {"payer": "application"},
    "requirement_collection": "stripe",
    "stripe_dashboard": {"type": "express"},
}
CAPABILITIES: Any = {"transfers": {"requested": True}, "card_payments": {"requested": True}}
DAY = 86_400
NOON = 1_800_014_400.0 - 1_800_014_400 % DAY + DAY // 2


async def opened(world: World, **more: Any) -> Any:
    params = {"controller": EXPRESS, "capabilities": CAPABILITIES, "country": "US", "email": "till@coop.example"}
    manual = {"payouts": {"schedule": {"interval": "manual"}}}
    return await world.stripe.v1.accounts.create_async({**params, "settings": manual, **more})


async def ready(world: World, **more: Any) -> str:
    """The id of an account whose person has given everything."""
    account = await opened(world, **more)
    await act(world, account.id, "complete")
    return str(account.id)


async def act(world: World, account: str, what: str, status: int = 200, **more: Any) -> Any:
    answer = await world.raw.post(f"/_simulator/accounts/{account}/{what}", json=more)
    assert answer.status_code == status, answer.text
    return answer.json()


async def advance(world: World, seconds: int) -> Any:
    return (await world.raw.post("/_simulator/clock", json={"advance_seconds": seconds})).json()


async def has(world: World, account: str | None = None) -> tuple[int, int]:
    """Available and pending dollars, in cents."""
    options = {"stripe_account": account} if account else {}
    balance = await world.stripe.v1.balance.retrieve_async(options=options)
    sides = [{row.currency: row.amount for row in side} for side in (balance.available, balance.pending)]
    return sides[0].get("usd", 0), sides[1].get("usd", 0)
