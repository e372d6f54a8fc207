"""What members and stewards do in a history of money: a cooperative with members and a policy, and its months divided."""

from __future__ import annotations

import datetime as dt
from typing import Any

from authority import Authority
from google.protobuf.message import Message
from money_acts import IBANS
from money_banks import BankActs
from money_history import DAY, HOUR, Cooperative

from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale.data_gateway.v1 import events_pb2 as gateway
from rochdale.governance.v1 import events_pb2 as governance
from rochdale.type.v1 import dividend_policy_pb2 as policies
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.chain import hash_of_dividend_policy
from rochdale_kit.clock import to_timestamp
from rochdale_kit.signing import DIVIDEND_POLICY_PREFIX, SigningKey, sign_hash

POSTED, PAYING, CLOSED = 6, 7, 8


class MemberActs(BankActs):
    """A history with members in it."""

    async def found(self, coop: Cooperative) -> bool:
        """Members, what they contributed, where they are paid, and the policy they voted."""
        authority = Authority(coop.id, SigningKey.from_seed(self.random.randbytes(32)))
        coop.members = [f"mem_{self.seed:010d}{coop.id[0].upper()}{number:015d}" for number in range(7)]
        names = [f"cooperatives/{coop.id}/members/{member}" for member in coop.members]
        policy = policies.DividendPolicy(
            reserve_bps=self.random.choice((0, 1000, 2000)),
            commons_bps=self.random.choice((0, 333)),
            equal_bps=self.random.choice((0, 3000, 10_000)),
            basis=policies.CONTRIBUTION_BASIS_RECORDS,
            member_cap_bps=self.random.choice((0, 2500)),
            min_payout=Money(amount_minor=self.random.choice((0, 500, 2500, 2500)), currency="EUR"),
            objection_seconds=3600,
        )
        enacted = governance.DividendPolicyEnacted(
            cooperative=authority.name, version=1, policy=policy, effective_time=to_timestamp(self.now - DAY)
        )
        enacted.policy_hash = hash_of_dividend_policy(enacted)
        enacted.signature.CopyFrom(sign_hash(authority.key, DIVIDEND_POLICY_PREFIX, enacted.policy_hash))
        version = f"cooperatives/{coop.id}/datasets/visits/versions/1"
        rows = [gateway.MemberContribution(member=name, row_count=self.random.randint(0, 900)) for name in names]
        told: list[Message] = [
            governance.CooperativeCreated(cooperative=authority.document()),
            enacted,
            governance.MemberJoined(members=names, join_time=to_timestamp(self.now - DAY)),
            gateway.ContributionsRecorded(version=version, contributions=rows),
        ]
        for event in told:
            self.tell(event)
        await self.hear(everything=True)
        for name in names[:6]:
            request = pb.SetPayeeRequest(request_id=self.request(), parent=name, iban=IBANS[2], holder="A member")
            await self.ask(coop.member(name.rsplit("/", 1)[1]), "dividends", "SetPayee", request)
        profile = pb.TaxProfile(
            name=f"{names[0]}/taxProfile", classification="patronage_dividend", withholding_bps=1500
        )
        profiled = pb.SetTaxProfileRequest(request_id=self.request(), tax_profile=profile)
        await self.ask(coop.steward(), "dividends", "SetTaxProfile", profiled)
        return True

    async def divide(self, coop: Cooperative | None = None) -> bool:
        """A month is divided, from the draft until its payments are made out."""
        coops = [coop] if coop else [one for one in self.cooperatives if one.members]
        currencies = sorted({one["currency"] for one in self.rows.shares if one["state"] == 2})
        if not coops or not currencies:
            return False
        coop, currency = self.random.choice(coops), self.random.choice(currencies)
        month = (self.now.replace(day=1) - DAY).strftime("%Y-%m")
        if any(run["month"] == month and run["cooperative"] == coop.id and run["currency"] == currency
               and run["state"] != 9 for run in self.rows.runs):  # fmt: skip
            return False
        create = pb.CreateDividendRunRequest(
            request_id=self.request(), parent=f"cooperatives/{coop.id}", month=month, currency=currency
        )
        self.note(f"{coop.id} divides {month} in {currency}")
        run = await self.ask(coop.steward(), "dividends", "CreateDividendRun", create)
        if run is None:
            return True
        computed = await self._of_run(coop, "ComputeDividendRun", pb.ComputeDividendRunRequest(name=run.name))
        if computed is None:
            return True
        await self.audit()
        await self._of_run(coop, "OpenObjections", pb.OpenObjectionsRequest(name=run.name))
        await self.pass_time(2 * HOUR)
        for number in (1, 2):
            request = pb.ApproveDividendRunRequest(
                request_id=self.request(), name=run.name, inputs_hash=computed.inputs_hash
            )
            await self.ask(coop.steward(number), "dividends", "ApproveDividendRun", request)
        await self.audit()
        return await self.go_on(run.name)

    async def _of_run(self, coop: Cooperative, rpc: str, request: Message) -> Any:
        return await self.ask(coop.steward(), "dividends", rpc, request)

    async def go_on(self, name: str = "") -> bool:
        """An approved run is posted part by part, and paid once the bank has the money."""
        waiting = [run for run in self.rows.runs if run["state"] in (4, 5, POSTED)]
        if not name and not waiting:
            return False
        if not name:
            run = self.random.choice(waiting)
            name = f"cooperatives/{run['cooperative']}/dividendRuns/{run['id']}"
        coop = next(one for one in self.cooperatives if one.id == name.split("/")[1])
        parts = 0
        while True:
            posted = await self._of_run(coop, "PostDividendRun", pb.PostDividendRunRequest(name=name))
            if posted is None:
                discard = pb.DiscardDividendRunRequest(request_id=self.request(), name=name)
                await self._of_run(coop, "DiscardDividendRun", discard)
                return True
            parts += 1
            await self.audit()
            if posted.state >= POSTED:
                break
            if self.random.random() < 0.1:
                # Nobody calls again for now.
                return True
        if parts > 1:
            self.met["dividends posted in parts"] += 1
        paid = await self._of_run(coop, "PayDividendRun", pb.PayDividendRunRequest(name=name))
        if paid is not None:
            self.met["dividends made out"] += 1
            await self.audit()
            id = name.rsplit("/", 1)[1]
            lines = [line for line in self.rows.lines if line["run_id"] == id]
            if any(line["carried_out_minor"] for line in lines):
                self.met["carried forward"] += 1
            if any(line["carried_in_minor"] and line["paid_minor"] for line in lines):
                self.met["carried in and paid"] += 1
        return True

    async def bank_pays_members(self, returned: int | None = None) -> bool:
        """The bank's answer about a run's payments; later, some of them come back."""
        found = [run for run in self.rows.runs if run["state"] in (PAYING, CLOSED)]
        if not found:
            return False
        run = self.random.choice(found)
        paid = sorted(
            line["member_id"] for line in self.rows.lines
            if line["run_id"] == run["id"] and line["payment_reference"] and not line["returned"]
        )  # fmt: skip
        if run["state"] == CLOSED and not paid:
            return False
        count = self.random.choice((0, 0, 1, 2)) if returned is None else returned
        back = self.random.sample(paid, min(count, len(paid)))
        if run["state"] == CLOSED and not back:
            return False
        name = f"cooperatives/{run['cooperative']}"
        request = pb.SettleDividendPaymentsRequest(
            request_id=self.request(), name=f"{name}/dividendRuns/{run['id']}", bank_reference=f"batch-{run['id']}",
            returned_members=[f"{name}/members/{member}" for member in back],
        )  # fmt: skip
        coop = next(one for one in self.cooperatives if one.id == run["cooperative"])
        if await self._of_run(coop, "SettleDividendPayments", request) is not None and back:
            late = run["state"] == CLOSED
            self.met["dividend came back after it had arrived" if late else "dividend came back"] += 1
        return True

    async def next_month(self) -> bool:
        """Time passes until the month is over."""
        first = (self.now.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + 32 * DAY).replace(day=1)
        return await self.pass_time(first - self.now + dt.timedelta(hours=1))
