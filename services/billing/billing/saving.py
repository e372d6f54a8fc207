"""Saved payment methods: pages opened and looked at, the old one detached. One transaction, one effect."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import replace

from billing import store
from billing.domain.saved_methods import Setup
from billing.keeper import BATCH, each, patiently
from billing.methods import Methods
from billing.rail import RailUnavailable
from billing.settlement import Also
from rochdale_kit.clock import now
from rochdale_kit.database import Database


class Saving:
    """methods is None where no Stripe key is set."""

    def __init__(
        self, database: Database, methods: Methods | None, sweep_seconds: float, sweep_age_seconds: float
    ) -> None:
        self._database = database
        self._methods = methods
        self._sweep_seconds = sweep_seconds
        self._sweep_age = dt.timedelta(seconds=sweep_age_seconds)

    @property
    def methods(self) -> Methods:
        """Raises RailUnavailable where there is no rail."""
        if self._methods is None:
            raise RailUnavailable("No Stripe key is set.")
        return self._methods

    async def open(self, setup: Setup) -> Setup:
        """The page of a setup that was written down; the same one each time. Raises RailUnavailable, RailRefused."""
        if setup.url:
            return setup
        async with self._database.read() as connection:
            customer_id = await store.saved_methods.customer(connection, setup.organization)
        if customer_id is None:
            made = await self.methods.customer(setup.organization)
            async with self._database.begin() as connection:
                customer_id = await store.saved_methods.keep_customer(connection, setup.organization, made)
        session_id, url = await self.methods.open(setup, customer_id)
        opened = replace(setup, session_id=session_id, url=url)
        async with self._database.begin() as connection:
            await store.saved_methods.save_page(connection, opened)
        return opened

    async def hear(self, session_id: str, also: Also | None = None) -> bool:
        """Applies how a page stands, with `also` in the same transaction. False for one that is not ours. Raises
        RailUnavailable, RailRefused."""
        seen = await self.methods.look(session_id)
        if seen is None:
            return False
        async with self._database.begin() as connection:
            if await store.saved_methods.setup(connection, seen.setup_id) is None:
                return False
            # Whoever hears of it first saves it: a method removed since must not come back with a repeated webhook.
            if seen.over and await store.saved_methods.end_setup(connection, seen.setup_id, now()) and seen.method:
                await store.saved_methods.replace(connection, seen.method, now())
            if also is not None:
                await also(connection)
        return True

    async def remove(self, organization: str) -> None:
        """Forgets what is saved, here and at the rail. Raises RailUnavailable, having forgotten it here."""
        async with self._database.begin() as connection:
            await store.saved_methods.forget(connection, organization, now())
            due = await store.saved_methods.to_detach(connection, BATCH, organization)
        for method_id in due:
            await self._detach(method_id)

    async def run(self) -> None:
        """Until canceled."""
        while True:
            await asyncio.sleep(self._sweep_seconds)
            await patiently(self.look)

    async def look(self) -> None:
        """Pages whose webhook may be lost, and methods that are still to be detached."""
        at = now()
        async with self._database.begin() as connection:
            setups = await store.saved_methods.setups_to_ask(connection, at - self._sweep_age, BATCH)
            if setups:
                await store.saved_methods.asked(connection, [setup.id for setup in setups], at)
            due = await store.saved_methods.to_detach(connection, BATCH)
        await each([setup.session_id for setup in setups], self._look_at)
        await each(due, self._detach)

    async def _look_at(self, session_id: str) -> None:
        await self.hear(session_id)

    async def _detach(self, method_id: str) -> None:
        await self.methods.detach(method_id)
        async with self._database.begin() as connection:
            await store.saved_methods.detached(connection, method_id, now())
