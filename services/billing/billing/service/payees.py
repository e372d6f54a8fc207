"""RPCs of what a dividend needs from people: where a member is paid, how it is taxed, and weights worked out elsewhere."""

from __future__ import annotations

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import store
from billing.domain.dividend_runs import UNCLASSIFIED
from billing.domain.payment_files import checked_holder, checked_iban
from billing.service.base import Context
from billing.service.dividend_base import DividendParts, of_member, person, steward_of
from billing.store.payees import Account
from billing.unclaimed import claim
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale_kit.clock import now, to_timestamp
from rochdale_kit.cooperative_keys import keys_of
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller
from rochdale_kit.refusals import Kind, Refusal, not_found
from rochdale_kit.signing import DIVIDEND_WEIGHTS_PREFIX


class Payees(DividendParts):
    """What people say beside the runs."""

    async def SetPayee(self, request: pb.SetPayeeRequest, context: Context) -> pb.Payee:
        at = now()
        async with self._database.begin() as connection:
            _, member_id = await of_member(connection, request.parent, steward_too=False)
            if await first_answer(connection, caller().organization, request, pb.Payee):
                known = await store.payees.get(connection, member_id)
                return _payee(request.parent, known) if known is not None else pb.Payee(name=f"{request.parent}/payee")
            iban = request.iban.replace(" ", "")
            holder = ""
            if iban:
                iban, holder = checked_iban(iban), checked_holder(request.holder)
            await store.payees.hold(connection, member_id)
            known = await store.payees.get(connection, member_id)
            account = _named(known, iban, holder, at, self._config.cooling_off_seconds)
            await store.payees.save(connection, member_id, account)
            if iban:
                await claim(connection, request.parent.split("/")[1], member_id, at)
            # Only its name is kept: whose account it is lies in one place, and is forgotten there.
            await remember(connection, caller().organization, request, pb.Payee(name=f"{request.parent}/payee"))
            return _payee(request.parent, account)

    async def GetPayee(self, request: pb.GetPayeeRequest, context: Context) -> pb.Payee:
        async with self._database.read() as connection:
            _, member_id = await of_member(connection, request.parent, steward_too=False)
            account = await store.payees.get(connection, member_id)
        if account is None:
            return pb.Payee(name=f"{request.parent}/payee")
        return _payee(request.parent, account)

    async def SetTaxProfile(self, request: pb.SetTaxProfileRequest, context: Context) -> pb.TaxProfile:
        at, profile = now(), pb.TaxProfile()
        profile.CopyFrom(request.tax_profile)
        async with self._database.begin() as connection:
            viewer = await steward_of(connection, profile.name)
            member_id = profile.name.split("/")[3]
            if await first_answer(connection, caller().organization, request, pb.TaxProfile):
                return await _tax_profile(connection, profile.name, member_id)
            member = await store.members.member(connection, viewer.cooperative, member_id)
            if member is None or not member.known(at):
                raise not_found(profile.name)
            profile.decided_by = person()
            profile.decide_time.CopyFrom(to_timestamp(at))
            await store.payees.save_tax_profile(connection, member_id, profile)
            # Only its name is kept, so that no copy of it outlives the member's erasure.
            await remember(connection, caller().organization, request, pb.TaxProfile(name=profile.name))
            return profile

    async def GetTaxProfile(self, request: pb.GetTaxProfileRequest, context: Context) -> pb.TaxProfile:
        async with self._database.read() as connection:
            _, member_id = await of_member(connection, request.parent, steward_too=True)
            return await _tax_profile(connection, f"{request.parent}/taxProfile", member_id)

    async def ImportWeights(self, request: pb.ImportWeightsRequest, context: Context) -> pb.ImportWeightsResponse:
        at = now()
        async with self._database.begin() as connection:
            viewer = await steward_of(connection, request.parent)
            if earlier := await first_answer(connection, caller().organization, request, pb.ImportWeightsResponse):
                return earlier
            await _require_signed(connection, request)
            file = (viewer.cooperative, request.month, request.weights_hash)
            count, whole = await store.weights.open_file(connection, *file, request.signature.key_id)
            if whole:
                # Said again under another id: it is there.
                reply = pb.ImportWeightsResponse(weight_count=count, complete=True)
                return await remember(connection, caller().organization, request, reply)
            if request.offset != count:
                raise _invalid(f"this part begins at {request.offset}, and {count} weights are there")
            weights = [_weight(one, request.parent) for one in request.weights]
            if not await store.weights.add(connection, *file, count, weights):
                raise _invalid("a member has two weights in one version")
            count += len(weights)
            if request.last:
                if await store.weights.hash_of(connection, *file) != request.weights_hash:
                    raise _invalid("the parts together have another hash than the one signed")
                await store.weights.complete(connection, *file, at)
            reply = pb.ImportWeightsResponse(weight_count=count, complete=request.last)
            return await remember(connection, caller().organization, request, reply)


async def _tax_profile(connection: AsyncConnection, name: str, member_id: str) -> pb.TaxProfile:
    found = await store.payees.tax_profile(connection, member_id)
    return found or pb.TaxProfile(name=name, classification=UNCLASSIFIED)


def _named(known: Account | None, iban: str, holder: str, at: dt.datetime, cooling_seconds: float) -> Account:
    """The account from now. Whoever takes over a member's key and names another waits, and the member has time to see
    it; clearing it first does not make the next one the first."""
    if known is None:
        return Account(iban, holder, at)
    if (iban, holder) == (known.iban, known.holder):
        return Account(iban, holder, known.usable_time)
    return Account(iban, holder, at + dt.timedelta(seconds=cooling_seconds))


def _payee(parent: str, account: Account) -> pb.Payee:
    return pb.Payee(
        name=f"{parent}/payee",
        iban_end=account.iban[-4:],
        holder=account.holder,
        usable_time=to_timestamp(account.usable_time) if account.iban else None,
    )


async def _require_signed(connection: AsyncConnection, request: pb.ImportWeightsRequest) -> None:
    known = await store.dividend_policies.cooperative(connection, request.parent.split("/")[1])
    keys = keys_of(known, request.parent)
    if known is None or request.signature.key_id not in {key.key_id for key in known.signing_keys}:
        raise Refusal(
            "KEY_UNKNOWN",
            f"{request.signature.key_id or 'No key'} is not known to be a key of {request.parent}.",
            Kind.INVALID,
            key_id=request.signature.key_id,
        )
    if not keys.verify(request.signature, DIVIDEND_WEIGHTS_PREFIX, request.weights_hash):
        raise Refusal(
            "SIGNATURE_INVALID", f"The weights are not signed by {request.parent}.", Kind.INVALID, parent=request.parent
        )


def _weight(one: pb.MemberWeight, cooperative: str) -> tuple[str, str, int]:
    if not one.member.startswith(f"{cooperative}/members/"):
        raise _invalid(f"{one.member or 'nobody'} is no member of {cooperative}")
    if not one.version.startswith(f"{cooperative}/datasets/"):
        raise _invalid(f"{one.version or 'no version'} is no version of {cooperative}")
    return one.member.rsplit("/", 1)[1], one.version, one.units


def _invalid(why: str) -> Refusal:
    return Refusal("WEIGHTS_INVALID", f"The weights cannot be taken: {why}.", Kind.INVALID, why=why)
