"""RPCs of where a cooperative is paid: an account at the rail, or a bank account that two people named."""

from __future__ import annotations

import logging
from dataclasses import replace

from billing import store
from billing.domain import payments, payout_accounts
from billing.domain.payment_files import checked_holder, checked_iban
from billing.domain.payout_accounts import PayoutAccount
from billing.paying_out import abandon
from billing.rail import RailRefused, RailUnavailable
from billing.service.base import require_still_member
from billing.service.treasury_base import Context, TreasuryParts, own, person, rail_unavailable, seen
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller
from rochdale_kit.refusals import not_found

log = logging.getLogger(__name__)


class PayoutAccounts(TreasuryParts):
    """Where a cooperative is paid."""

    async def GetPayoutAccount(self, request: pb.GetPayoutAccountRequest, context: Context) -> pb.PayoutAccount:
        cooperative = seen(request.parent)
        async with self._database.read() as connection:
            account = await store.payout_accounts.get(connection, cooperative)
        if account is None:
            raise not_found(f"{request.parent}/payoutAccount")
        return account.resource(now())

    async def StartOnboarding(self, request: pb.StartOnboardingRequest, context: Context) -> pb.PayoutAccount:
        cooperative = own(request.parent)
        if self._connect is None:
            raise rail_unavailable(enabled=False)
        back = f"{self._public_url}/onboarded"
        if request.return_url:
            back, _ = payments.pages(request.return_url, self._public_url)
        account = await self._begin(request, cooperative)
        try:
            if not account.stripe_account:
                account = await self._opened(account, await self._connect.open_account(account))
            account = await self._paying_out.look(account)
            url = await self._connect.onboarding(account.stripe_account, back, back)
        except RailUnavailable:
            raise rail_unavailable(enabled=True) from None
        except RailRefused as refused:
            log.error("Stripe does not onboard %s: %s", cooperative, refused)
            raise rail_unavailable(enabled=True, code=refused.code) from None
        return account.resource(now(), url)

    async def _begin(self, request: pb.StartOnboardingRequest, cooperative: str) -> PayoutAccount:
        """The account, written down before Stripe hears of it; for a second arrival the same one as it is now."""
        at = now()
        async with self._database.begin() as connection:
            await require_still_member(connection, request.parent)
            earlier = await first_answer(connection, caller().organization, request, pb.PayoutAccount)
            before = await store.payout_accounts.lock(connection, cooperative)
            if earlier is not None:
                if before is None or before.rail != pb.PAYOUT_RAIL_STRIPE:
                    # A bank account was named meanwhile, and a repeated question must not push it aside.
                    raise not_found(f"{request.parent}/payoutAccount")
                return before
            country = before.country if before is not None and before.country else request.country
            payout_accounts.check_country(self._platform_country, country)
            account = payout_accounts.onboarding(before, cooperative, country, self._cooling, at)
            if account != before:
                await store.payout_accounts.save(connection, account)
                await abandon(connection, cooperative, at)
                log.warning("%s is to be paid through Stripe, says %s", account.name, caller().key)
            await remember(connection, caller().organization, request, pb.PayoutAccount(name=account.name))
            return account

    async def _opened(self, account: PayoutAccount, stripe_account: str) -> PayoutAccount:
        async with self._database.begin() as connection:
            locked = await store.payout_accounts.lock(connection, account.cooperative)
            assert locked is not None, "payout accounts are never deleted"
            if locked.stripe_account:
                return locked
            opened = replace(locked, stripe_account=stripe_account)
            await store.payout_accounts.save(connection, opened)
        return opened

    async def SetBankAccount(self, request: pb.SetBankAccountRequest, context: Context) -> pb.PayoutAccount:
        cooperative, at = own(request.parent), now()
        iban, holder = checked_iban(request.iban), checked_holder(request.holder)
        async with self._database.begin() as connection:
            await require_still_member(connection, request.parent)
            if earlier := await first_answer(connection, caller().organization, request, pb.PayoutAccount):
                return earlier
            before = await store.payout_accounts.lock(connection, cooperative)
            bank = new_id("ban")
            await store.payout_accounts.add_bank(connection, bank, holder, iban)
            account = payout_accounts.named(before, cooperative, bank, iban, holder, person(), at)
            await store.payout_accounts.save(connection, account)
            await abandon(connection, cooperative, at)
            # Somebody who can see the log, or the treasury's page, can still stop a thief: nothing is paid meanwhile.
            log.warning("%s is to be paid to an account ending in %s, says %s", account.name, iban[-4:], account.set_by)
            return await remember(connection, caller().organization, request, account.resource(at))

    async def ApproveBankAccount(self, request: pb.ApproveBankAccountRequest, context: Context) -> pb.PayoutAccount:
        cooperative, at = seen(request.parent), now()
        async with self._database.begin() as connection:
            await require_still_member(connection, request.parent)
            if earlier := await first_answer(connection, caller().organization, request, pb.PayoutAccount):
                return earlier
            before = await store.payout_accounts.lock(connection, cooperative)
            asked = f"{request.parent}/payoutAccount"
            account = payout_accounts.approved(before, asked, person(), request.iban_end, self._cooling, at)
            await store.payout_accounts.save(connection, account)
            log.warning("%s was approved by %s", account.name, account.approved_by)
            return await remember(connection, caller().organization, request, account.resource(at))
