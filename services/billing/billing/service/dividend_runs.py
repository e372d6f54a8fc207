"""RPCs of dividend runs up to their approval: opened, worked out, shown, objected to, approved or discarded."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from billing import dividing, store
from billing.dividend_views import Viewer, run_of
from billing.domain import dividend_runs
from billing.domain.dividend_runs import APPROVED, COMPUTED, DISCARDED, DRAFT, IS_POSTED, OBJECTION, SHOWN, Month, Run
from billing.service.base import Context
from billing.service.dividend_base import DividendParts, kept, person, run_for, steward_of, viewer_of
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale.type.v1.dividend_policy_pb2 import DividendPolicy
from rochdale_kit import paging
from rochdale_kit.clock import new_id, now
from rochdale_kit.database import first_answer, remember
from rochdale_kit.identity import caller
from rochdale_kit.money import require_currency
from rochdale_kit.refusals import Kind, Refusal, not_found


class DividendRuns(DividendParts):
    """Runs, until they are approved or given up."""

    async def ListDividendPolicies(
        self, request: pb.ListDividendPoliciesRequest, context: Context
    ) -> pb.ListDividendPoliciesResponse:
        async with self._database.read() as connection:
            viewer = await viewer_of(connection, request.parent)
            found = await store.dividend_policies.every(connection, viewer.cooperative)
        return pb.ListDividendPoliciesResponse(policies=found)

    async def CreateDividendRun(self, request: pb.CreateDividendRunRequest, context: Context) -> pb.DividendRun:
        at = now()
        async with self._database.begin() as connection:
            viewer = await steward_of(connection, request.parent)
            if earlier := await first_answer(connection, caller().organization, request, pb.DividendRun):
                return await run_of(connection, await run_for(connection, earlier.name, viewer), viewer)
            require_currency(request.currency)
            month = Month(request.month)
            dividend_runs.require_over(month, at)
            await store.dividend_runs.hold_alone(connection, viewer.cooperative)
            known = await store.dividend_runs.of_currency(connection, viewer.cooperative, request.currency)
            _require_in_order(request.month, known)
            version = await store.dividend_policies.in_force(connection, viewer.cooperative, month.end_time)
            if version is None:
                raise Refusal(
                    "POLICY_MISSING",
                    f"No policy that members decided was in force at the end of {request.month}.",
                    Kind.STATE,
                    month=request.month,
                )
            run = Run(new_id("run"), viewer.cooperative, request.month, request.currency, version, at)
            if not await store.dividend_runs.insert(connection, run):
                raise _exists(request.month, request.currency)
            await remember(connection, caller().organization, request, kept(run))
            return await run_of(connection, run, viewer)

    async def GetDividendRun(self, request: pb.GetDividendRunRequest, context: Context) -> pb.DividendRun:
        async with self._database.read() as connection:
            viewer = await viewer_of(connection, request.name)
            return await run_of(connection, await run_for(connection, request.name, viewer), viewer)

    async def ListDividendRuns(
        self, request: pb.ListDividendRunsRequest, context: Context
    ) -> pb.ListDividendRunsResponse:
        list_name = f"{request.parent}/dividendRuns"
        size, position = paging.size(request.page_size), paging.decode(list_name, request.page_token, str)
        async with self._database.read() as connection:
            viewer = await viewer_of(connection, request.parent)
            rows = await store.dividend_runs.page(
                connection,
                viewer.cooperative,
                () if viewer.steward else SHOWN,
                str(position[0]) if position else None,
                size + 1,
            )
            shown, token = paging.page(list_name, rows, size, lambda run: (run.id,))
            runs = [await run_of(connection, run, viewer, whole=False) for run in shown]
        return pb.ListDividendRunsResponse(dividend_runs=runs, next_page_token=token)

    async def ComputeDividendRun(self, request: pb.ComputeDividendRunRequest, context: Context) -> pb.DividendRun:
        async with self.turn(request.name), self._database.begin() as connection:
            viewer, run, policy = await self._held(connection, request.name)
            dividend_runs.require_state(run.name, run.state, DRAFT, COMPUTED)
            run = await dividing.work_out(connection, run, policy)
            return await run_of(connection, run, viewer)

    async def OpenObjections(self, request: pb.OpenObjectionsRequest, context: Context) -> pb.DividendRun:
        async with self.turn(request.name), self._database.begin() as connection:
            viewer, run, policy = await self._held(connection, request.name)
            if run.state != OBJECTION:
                dividend_runs.require_state(run.name, run.state, COMPUTED)
                ends = now() + dt.timedelta(seconds=policy.objection_seconds)
                run = replace(run, state=OBJECTION, objection_end_time=ends)
                await store.dividend_runs.save(connection, run)
            return await run_of(connection, run, viewer)

    async def ObjectToDividendRun(self, request: pb.ObjectToDividendRunRequest, context: Context) -> pb.DividendRun:
        at = now()
        async with self.turn(request.name), self._database.begin() as connection:
            viewer = await viewer_of(connection, request.name)
            if not viewer.member_id:
                raise not_found(request.name)
            if earlier := await first_answer(connection, caller().organization, request, pb.DividendRun):
                return await run_of(connection, await run_for(connection, earlier.name, viewer), viewer)
            run = await run_for(connection, request.name, viewer, lock=True)
            dividend_runs.require_state(run.name, run.state, OBJECTION)
            assert run.objection_end_time is not None, "a window has an end"
            dividend_runs.require_window(run.name, run.objection_end_time, at)
            objections = await store.dividend_runs.objections(connection, run.id)
            dividend_runs.require_few(run.name, sum(one.member_id == viewer.member_id for one in objections))
            await store.dividend_runs.object(connection, run.id, viewer.member_id, request.text, at)
            await remember(connection, caller().organization, request, kept(run))
            return await run_of(connection, run, viewer)

    async def AnswerObjection(self, request: pb.AnswerObjectionRequest, context: Context) -> pb.DividendRun:
        async with self.turn(request.name), self._database.begin() as connection:
            viewer = await steward_of(connection, request.name)
            if earlier := await first_answer(connection, caller().organization, request, pb.DividendRun):
                return await run_of(connection, await run_for(connection, earlier.name, viewer), viewer)
            run = await run_for(connection, request.name, viewer, lock=True)
            objections = {row.number: row for row in await store.dividend_runs.objections(connection, run.id)}
            found = objections.get(request.number)
            if found is None:
                raise not_found(f"{request.name}, objection {request.number}")
            if found.answer_time is not None:
                raise Refusal(
                    "OBJECTION_ANSWERED",
                    f"Objection {request.number} to {run.name} was answered.",
                    Kind.STATE,
                    run=run.name,
                    number=request.number,
                )
            await store.dividend_runs.answer(connection, run.id, request.number, request.answer, now())
            await remember(connection, caller().organization, request, kept(run))
            return await run_of(connection, run, viewer)

    async def ApproveDividendRun(self, request: pb.ApproveDividendRunRequest, context: Context) -> pb.DividendRun:
        at = now()
        async with self.turn(request.name), self._database.begin() as connection:
            viewer = await steward_of(connection, request.name)
            if earlier := await first_answer(connection, caller().organization, request, pb.DividendRun):
                return await run_of(connection, await run_for(connection, earlier.name, viewer), viewer)
            run = await run_for(connection, request.name, viewer, lock=True)
            dividend_runs.require_state(run.name, run.state, OBJECTION)
            assert run.objection_end_time is not None, "a window has an end"
            unanswered = await store.dividend_runs.unanswered(connection, run.id)
            dividend_runs.require_heard(run.name, run.objection_end_time, unanswered, at)
            dividend_runs.require_seen(run.name, run.inputs_hash, request.inputs_hash)
            approvers = await store.dividend_runs.approvers(connection, run.id)
            dividend_runs.require_independent(run.name, person(), approvers)
            await store.dividend_runs.approve(connection, run.id, person(), at)
            if len(approvers) + 1 >= dividend_runs.APPROVERS:
                run = replace(run, state=APPROVED)
                await store.dividend_runs.save(connection, run)
            await remember(connection, caller().organization, request, kept(run))
            return await run_of(connection, run, viewer)

    async def DiscardDividendRun(self, request: pb.DiscardDividendRunRequest, context: Context) -> pb.DividendRun:
        async with self.turn(request.name), self._database.begin() as connection:
            viewer = await steward_of(connection, request.name)
            if earlier := await first_answer(connection, caller().organization, request, pb.DividendRun):
                return await run_of(connection, await run_for(connection, earlier.name, viewer), viewer)
            run = await run_for(connection, request.name, viewer, lock=True)
            dividend_runs.require_state(run.name, run.state, DRAFT, COMPUTED, OBJECTION, APPROVED)
            run = replace(run, state=DISCARDED)
            await store.dividend_runs.save(connection, run)
            await remember(connection, caller().organization, request, kept(run))
            return await run_of(connection, run, viewer)

    async def _held(self, connection: AsyncConnection, name: str) -> tuple[Viewer, Run, DividendPolicy]:
        """A steward's run, locked, with the policy it follows."""
        viewer = await steward_of(connection, name)
        run = await run_for(connection, name, viewer, lock=True)
        version = await store.dividend_policies.get(connection, run.cooperative, run.policy_version)
        return viewer, run, version.policy


def _require_in_order(month: str, known: list[tuple[str, int]]) -> None:
    """Each run takes what the one before it left; two at once would divide the same money."""
    for other, state in known:
        if other == month:
            raise _exists(month, "")
        if other > month or state not in IS_POSTED:
            what = "exists" if other > month else "is not posted yet"
            raise Refusal(
                "MONTH_OUT_OF_ORDER",
                f"{month} cannot be divided now: the run of {other} {what}.",
                Kind.STATE,
                month=month,
                other_month=other,
            )


def _exists(month: str, currency: str) -> Refusal:
    what = f"{month} in {currency}" if currency else month
    return Refusal("RUN_EXISTS", f"There is a run of {what}; discard it first.", Kind.EXISTS, month=month)
