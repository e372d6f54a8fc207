"""What governance does when a buyer asks for something no rule allows: the request becomes a drafted proposal."""

from __future__ import annotations

import datetime as dt
import logging

from sqlalchemy.ext.asyncio import AsyncConnection

from governance import domain, store
from governance.domain.proposals import NOT_OPENED
from governance.service.course import Course
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import proposals_pb2 as pb
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale_kit.clock import now
from rochdale_kit.refusals import Refusal

log = logging.getLogger(__name__)


class MandateEvents:
    """Handlers of licensing's events. Each re-reads what it acts on; the same event twice changes nothing."""

    def __init__(self, course: Course) -> None:
        self._course = course

    async def mandate_requested(self, connection: AsyncConnection, event: licensing_events.MandateRequested) -> None:
        """Drafts the proposal: the rule exactly as asked, for members to sponsor, debate and vote on."""
        request, at = event.mandate_request, now()
        cooperative = await store.cooperatives.cooperative(connection, request.cooperative.rsplit("/", 1)[-1])
        if cooperative is None:
            raise Refusal(
                "COOPERATIVE_UNKNOWN",
                f"{request.name} asks {request.cooperative}, which is not known.",
                name=request.name,
            )
        if await store.proposals.proposal_of_request(connection, request.name) is not None:
            return
        delta = pb.PolicyDelta(rules=[pb.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=request.scope)])
        wish = pb.Proposal(
            title=f"{request.licensee.rsplit('/', 1)[-1]} asks for what no rule allows",
            body=_body(request),
            author=cooperative.name,
            beneficiaries=dict.fromkeys([request.licensee, *request.beneficiaries]),
            mandate_request=request.name,
        )
        until = at + dt.timedelta(seconds=domain.charter.response_seconds(cooperative.charter))
        proposal = await self._course.draft(connection, cooperative, wish, delta, at, until)
        log.info("%s is drafted as %s", request.name, proposal.name)

    async def mandate_request_closed(
        self, connection: AsyncConnection, event: licensing_events.MandateRequestClosed
    ) -> None:
        """A request taken back, or answered by nobody in time, takes its proposal along before the vote opens."""
        request = event.mandate_request
        if request.state == licensing.MANDATE_REQUEST_STATE_CONTINUED:
            return
        name = await store.proposals.proposal_of_request(connection, request.name)
        if name is None:
            return
        at = now()
        proposal = await store.proposals.proposal(connection, name, lock=True)
        assert proposal is not None, "proposals are never deleted"
        proposal = await self._course.settle(connection, proposal, at)
        if proposal.state in NOT_OPENED:
            proposal.state = pb.PROPOSAL_STATE_WITHDRAWN
            await self._course.moved(connection, proposal, at)


def _body(request: licensing.MandateRequest) -> str:
    lines = [
        f"{request.licensee} asks for something that no rule of ours allows. Below is what it says; the rule this proposal "
        "would enact allows exactly what was asked, and no more.",
        "",
        "What is outside our rules:",
        *(f"- {one}" for one in request.outside),
        "",
        "What the buyer says:",
        "",
        *(f"> {line}" for line in request.message.splitlines()),
    ]
    return "\n".join(lines)[:20000]
