"""What governance hears of members' data and money: from gateways, licensing and billing."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncConnection

from governance import domain, store
from governance.withdrawing import issue_notices
from rochdale.billing.v1 import events_pb2 as billing_events
from rochdale.data_gateway.v1 import events_pb2 as gateway_events
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import membership_pb2 as pb
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale_kit.clock import from_timestamp, now
from rochdale_kit.keyring import LiveKeyring
from rochdale_kit.refusals import Kind, Refusal


class DataEvents:
    """Handlers. The same event twice, or late, changes nothing."""

    def __init__(self, keys: LiveKeyring) -> None:
        self._keys = keys

    async def license_agreed(self, connection: AsyncConnection, event: licensing_events.LicenseAgreed) -> None:
        await store.uses.keep_license(connection, event.license)

    async def license_activated(self, connection: AsyncConnection, event: licensing_events.LicenseActivated) -> None:
        await store.uses.keep_license(connection, event.license)

    async def license_terminated(self, connection: AsyncConnection, event: licensing_events.LicenseTerminated) -> None:
        await store.uses.keep_license(connection, event.license, over=True)

    async def contributions_recorded(
        self, connection: AsyncConnection, event: gateway_events.ContributionsRecorded
    ) -> None:
        """What members have in a version, as far as they are the cooperative's own."""
        parts = event.version.split("/")
        if len(parts) != 6 or not parts[5].isdigit():
            raise Refusal("EVENT_ILL_FORMED", f"'{event.version}' is no version.", version=event.version)
        new = await store.contributions.save(connection, parts[1], event.version, event.contributions, now())
        # A gateway may tell of a delivery first, and of whose rows were in it a moment later.
        for license in await store.uses.licenses_delivered(connection, event.version) if new else []:
            await self._first_delivery(connection, license, event.version, set(new))

    async def usage_recorded(self, connection: AsyncConnection, event: gateway_events.UsageRecorded) -> None:
        """Notes a delivery. The first one of a version to somebody is told to the members whose rows were in it; one that
        is heard of after a withdrawal, but was made before, gets its notice to delete."""
        cooperative_id = await store.uses.cooperative_of(connection, event.license)
        if cooperative_id is None:
            raise Refusal(
                "LICENSE_NOT_YET_KNOWN", f"{event.license} was used before it was heard of.", Kind.UNAVAILABLE
            )
        if not event.version.startswith(f"cooperatives/{cooperative_id}/"):
            raise Refusal(
                "EVENT_ILL_FORMED", f"{event.license} is not a license of {event.version}.", license=event.license
            )
        at = from_timestamp(event.record_time)
        if await store.uses.keep_delivery(connection, cooperative_id, event.license, event.version, at):
            await self._first_delivery(connection, event.license, event.version)

    async def _first_delivery(
        self, connection: AsyncConnection, license: str, version: str, only: set[str] | None = None
    ) -> None:
        """Tells members whose rows were in it; those who have withdrawn meanwhile get it back. only: these members (ids)."""
        delivered = [
            (id, one)
            for id, one in await store.uses.delivered_to(connection, license, version)
            if only is None or id in only
        ]
        if not delivered:
            return
        cooperative_id = version.split("/")[1]
        dataset = version.partition("/versions/")[0]
        history = await store.consents.history(connection, [id for id, _ in delivered], [dataset])
        concerned = [id for id, one in delivered if domain.deletions.reached(one, history.get(id, []))]
        recipient, heard = delivered[0][1].recipient, now()
        await store.notices.tell_some(
            connection,
            concerned,
            pb.NOTICE_KIND_USE,
            f"{recipient.rsplit('/', 1)[1]} received your rows of {dataset.rsplit('/', 1)[1]}",
            f"{recipient} received {version} under {license}. Your uses say under which vote, and for how much.",
            license,
            heard,
        )
        for id in concerned:
            live = any(not consent.HasField("end_time") for consent in history[id])
            if not live:
                member = f"cooperatives/{cooperative_id}/members/{id}"
                known = await store.members.member(connection, member)
                erased = known is not None and known.state == governance.MEMBER_STATE_ERASED
                ground = pb.DELETION_GROUND_ERASURE if erased else pb.DELETION_GROUND_WITHDRAWAL
                await issue_notices(connection, member, [dataset], ground, heard, self._keys.current)


async def dividend_posted(connection: AsyncConnection, event: billing_events.DividendPosted) -> None:
    """Tells each member what is theirs, and of nobody else's."""
    await _tell_each(connection, event, domain.dividends.posted_words)


async def dividend_paid(connection: AsyncConnection, event: billing_events.DividendPaid) -> None:
    await _tell_each(connection, event, domain.dividends.paid_words)


async def _tell_each(
    connection: AsyncConnection,
    event: billing_events.DividendPosted | billing_events.DividendPaid,
    words: Callable[[billing_events.MemberDividend, str], tuple[str, str]],
) -> None:
    """A letter for each member of the run's cooperative who gets anything. Told again, it is not written again."""
    cooperative, _, run = event.dividend_run.partition("/dividendRuns/")
    if not run:
        raise Refusal(
            "EVENT_ILL_FORMED", f"'{event.dividend_run}' is no dividend run.", dividend_run=event.dividend_run
        )
    letters = {
        one.member.rsplit("/", 1)[1]: words(one, event.month)
        for one in event.dividends
        if one.member.startswith(f"{cooperative}/members/") and one.amount.amount_minor
    }
    kind = pb.NOTICE_KIND_PAYMENT
    await store.notices.tell_each(connection, cooperative.rsplit("/", 1)[1], letters, kind, event.dividend_run, now())
