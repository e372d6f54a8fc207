"""What the treasury does unasked: frees shares, pays cooperatives, asks back, and each night compares the books."""

from __future__ import annotations

import asyncio

from billing.config import Config
from billing.keeper import patiently
from billing.paying_out import PayingOut
from billing.reconciling import Reconciling
from billing.releasing import Releasing


class Treasurer:
    """Two loops, so that a long comparison keeps nobody waiting for money."""

    def __init__(self, releasing: Releasing, paying_out: PayingOut, reconciling: Reconciling, config: Config) -> None:
        self._steps = (
            releasing.release,
            releasing.end_reserves,
            paying_out.check_accounts,
            paying_out.start,
            paying_out.send,
            paying_out.recover,
        )
        self._reconciling = reconciling
        self._round_seconds = config.round_seconds

    async def pay(self) -> None:
        """Until canceled: shares, payouts, reversals."""
        while True:
            for step in self._steps:
                await patiently(step)
            await asyncio.sleep(self._round_seconds)

    async def reconcile(self) -> None:
        """Until canceled: a comparison when the last one is old enough."""
        while True:
            await patiently(self._reconciling.nightly)
            await asyncio.sleep(self._round_seconds)
