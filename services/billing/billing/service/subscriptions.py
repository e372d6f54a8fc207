"""RPCs of subscriptions, of budgets, and of what buyers save to be charged with."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import metering, store
from billing.domain import payments, saved_methods, subscriptions, usage
from billing.domain.saved_methods import Setup
from billing.domain.subscriptions import Subscription
from billing.rail import RailRefused, RailUnavailable
from billing.service.base import READERS, Context, Parts, organization
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.identity.v1 import identity_pb2
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller, roles
from rochdale_kit.refusals import not_found

_BUYERS = roles(identity_pb2.ROLE_BUYER)
ACCESS = {
    "SetUpPaymentMethod": _BUYERS,
    "GetPaymentMethod": _BUYERS,
    "RemovePaymentMethod": _BUYERS,
    "GetSubscription": READERS,
    "CancelSubscription": _BUYERS,
    "SetBudget": _BUYERS,
}


class Subscriptions(Parts):
    """Subscriptions and saved payment methods."""

    async def SetUpPaymentMethod(
        self, request: pb.SetUpPaymentMethodRequest, context: Context
    ) -> pb.SavedPaymentMethod:
        buyer = caller().organization
        if not self._cards:
            raise saved_methods.rail_unavailable(enabled=False)
        setup = await self._setup(request, buyer)
        try:
            setup = await self._saving.open(setup)
        except (RailUnavailable, RailRefused):
            raise saved_methods.rail_unavailable(self._cards) from None
        async with self._database.read() as connection:
            method = await store.saved_methods.current(connection, buyer)
        return saved_methods.resource(buyer, method, setup.url)

    async def _setup(self, request: pb.SetUpPaymentMethodRequest, buyer: str) -> Setup:
        """The page, written down before the rail hears of it; for a second arrival the same one."""
        async with self._database.begin() as connection:
            if await first_answer(connection, buyer, request, pb.SavedPaymentMethod):
                found = await store.saved_methods.setup_of_request(connection, buyer, request.request_id)
                assert found is not None, "what was answered is never deleted"
                return found
            success_url, cancel_url = payments.pages(request.return_url, self._public_url)
            setup = Setup(
                id=new_id("set"),
                organization=buyer,
                request_id=request.request_id,
                success_url=success_url,
                cancel_url=cancel_url,
                create_time=now(),
            )
            await store.saved_methods.insert_setup(connection, setup)
            # Only a name is kept: the answer is made anew each time.
            await remember(connection, buyer, request, saved_methods.resource(buyer, None))
            return setup

    async def GetPaymentMethod(self, request: pb.GetPaymentMethodRequest, context: Context) -> pb.SavedPaymentMethod:
        buyer = caller().organization
        async with self._database.read() as connection:
            return saved_methods.resource(buyer, await store.saved_methods.current(connection, buyer))

    async def RemovePaymentMethod(
        self, request: pb.RemovePaymentMethodRequest, context: Context
    ) -> pb.SavedPaymentMethod:
        buyer = caller().organization
        try:
            await self._saving.remove(buyer)
        except RailUnavailable:
            # It is charged no more from now on, and detached there as soon as the rail answers.
            raise saved_methods.rail_unavailable(self._cards) from None
        return saved_methods.resource(buyer, None)

    async def GetSubscription(self, request: pb.GetSubscriptionRequest, context: Context) -> pb.Subscription:
        async with self._database.read() as connection:
            found = await store.subscriptions.get(connection, request.license, organization())
            if found is None or not found.begun:
                raise not_found(request.license)
            return await self._shown(connection, found)

    async def CancelSubscription(self, request: pb.CancelSubscriptionRequest, context: Context) -> pb.Subscription:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Subscription):
                return earlier
            found = await _own(connection, request.license)
            subscriptions.check_not_ended(found)
            canceled = replace(found, cancel_time=found.cancel_time or now())
            await store.subscriptions.save(connection, canceled)
            return await remember(connection, caller().organization, request, await self._shown(connection, canceled))

    async def SetBudget(self, request: pb.SetBudgetRequest, context: Context) -> pb.Subscription:
        async with self._database.begin() as connection:
            if earlier := await first_answer(connection, caller().organization, request, pb.Subscription):
                return earlier
            found = await _own(connection, request.license)
            subscriptions.check_not_ended(found)
            budget = usage.check_budget(found.license, found.plan, request.meter, request.cap)
            await metering.set_cap(connection, found, request.meter, budget, now())
            return await remember(connection, caller().organization, request, await self._shown(connection, found))

    async def _shown(self, connection: AsyncConnection, subscription: Subscription) -> pb.Subscription:
        unpaid = await store.subscriptions.unpaid(connection, subscription.license)
        used = await metering.shown(connection, subscription)
        return subscriptions.resource(subscription, unpaid, used, self._rules)


async def _own(connection: AsyncConnection, license: str) -> Subscription:
    """The buyer's own subscription, locked; another's answers as if it did not exist."""
    found = await store.subscriptions.lock(connection, license)
    if found is None or not found.begun or found.buyer != caller().organization:
        raise not_found(license)
    return found
