"""An offering from the command, before a real catalog that verifies the cooperative's signature itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from catalog_world import Shop, open_shop
from desk import Desk
from hall import Hall

from rochdale.client.authority import SigningKey, write_signing_key
from rochdale.client.keys import write_key_file
from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_local.postgres import Postgres


class Slow(Hall):
    """A governance whose first answers about a rule are older than what the catalog has heard."""

    def __init__(self) -> None:
        super().__init__()
        self.older: list[governance_pb2.SharingRule] = []

    async def GetSharingRule(
        self, request: governance_pb2.GetSharingRuleRequest, context: Any
    ) -> governance_pb2.SharingRule:
        return self.older.pop() if self.older else await super().GetSharingRule(request, context)


@pytest_asyncio.fixture(scope="module")
async def shop(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    async with open_shop(postgres, tmp_path_factory.mktemp("shop"), Shop) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module")
async def hall() -> AsyncIterator[Slow]:
    hall = Slow()  # type: ignore[abstract]  # the command calls none of the rest
    await hall.start()
    yield hall
    await hall.stop()


async def test_what_the_command_signs_the_catalog_publishes(shop: Shop, hall: Slow) -> None:
    """Signed over the rule as it is; over a rule just narrowed, signed again; with another key, refused."""
    steward = await shop.steward("mill")
    dataset = await shop.dataset(steward)
    rule = await shop.rule(steward)
    hall.cooperatives["cooperatives/mill"], hall.rules[rule.name] = shop.documents["mill"], rule
    desk = Desk.at(shop.house, shop.house.folder, governance=hall.address)
    write_key_file(desk.key("mill"), steward.secret)
    write_signing_key(desk.home / "keys" / "mill.signing.key", SigningKey(shop.authorities["mill"].key.private))

    tier = f"academic=0 EUR@{rule.name.rpartition('/')[2]}"
    publish = ("offering", "publish", "--title", "Visits", "--tier", tier, "--request-id", "publish-1")
    first = await desk.run(*publish, key="mill")
    assert (
        first["scope"]["categories"] == ["BUYER_CATEGORY_ACADEMIC"]
        and first["scope"]["datasets"][0]["dataset"] == dataset
    )
    assert await desk.run(*publish, key="mill") == first, "a retry gets the first answer"

    narrower = scope_pb2.SharingScope.FromString(rule.scope.SerializeToString())
    narrower.max_duration_seconds = 86_400
    hall.older = [rule, rule]  # once for what there is to offer, once for what is signed
    await shop.narrow(steward, rule, narrower)
    hall.rules[rule.name] = await shop.heard(shop._rules[rule.name])
    again = ("offering", "publish", "--title", "Shorter", "--tier", tier, "--max-duration", "1d")
    assert (await desk.run(*again, key="mill"))["rule_hashes"] == [hall.rules[rule.name].rule_hash]
    assert not hall.older

    other = desk.home / "other.signing.key"
    write_signing_key(other, SigningKey.generate())
    told = await desk.run(*again, "--signing-key", str(other), key="mill", code=1)
    assert told["reason"] == "SIGNING_KEY_NOT_CURRENT"
