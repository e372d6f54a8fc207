"""The auditor of money: cooperatives' own books, dividends, what members are owed, and that everything was told once."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from money_audit_books import BookAudit
from money_reading import (
    OPEN_DISPUTES,
    PAID,
    RELEASED,
    Money,
    Snapshot,
    clean,
    less,
    require,
    same,
    summed,
    together,
    worth,
)


class MemberAudit(BookAudit):
    """What must be true of cooperatives' books after every step."""

    def _cooperatives(self, rows: Snapshot) -> None:
        """Each cooperative's own book mirrors the market's."""
        for book in {account["book"] for account in rows.accounts} - {"platform"}:
            cooperative = book.removeprefix("coop:")
            owed = [self._owed(rows, "platform", f"{book}:{side}") for side in ("available", "reserve", "in_transit")]
            same(f"due to {cooperative}", self._balance(rows, book, "due_from_platform"), together(*owed))
            receivable = self._balance(rows, "platform", f"{book}:receivable")
            same(f"due from {cooperative}", self._owed(rows, book, "due_to_platform"), receivable)
            earned = Money()
            for share in rows.shares:
                if share["cooperative"] == cooperative and share["state"] == RELEASED:
                    earned[share["currency"]] += worth(share)
            spent = self._spent(rows, cooperative)
            divided = Money()
            for run in rows.runs:
                if run["cooperative"] == cooperative and run["state"] in (5, 6, 7, 8):
                    divided[run["currency"]] += run["base_minor"] - run["covered_minor"]
            same(f"surplus of {cooperative}", self._owed(rows, book, "surplus"),
                 less(clean(earned), together(spent, clean(divided))))  # fmt: skip

    def _spent(self, rows: Snapshot, cooperative: str) -> Money:
        told = {cost["description"] for cost in rows.costs}
        costs = [one for one in self._said.all("cost") if one["by"] == cooperative and one["why"] in told]
        return summed((one["currency"], one["amount"]) for one in costs)

    def _dividends(self, rows: Snapshot) -> None:
        by_run: dict[str, list[Any]] = defaultdict(list)
        for line in rows.lines:
            by_run[line["run_id"]].append(line)
        payable: Counter[tuple[str, str, str]] = Counter()
        going: Counter[tuple[str, str, str]] = Counter()
        arrived: dict[str, Money] = defaultdict(Money)
        sums: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
        for run in rows.runs:
            lines, place = by_run[run["id"]], (run["cooperative"], run["currency"])
            if run["state"] == 1 or run["state"] == 9:
                continue
            patronage = run["equal_pool_minor"] + run["contribution_pool_minor"]
            same(f"lines of {run['id']}", sum(line["amount_minor"] for line in lines), patronage)
            given = run["reserve_minor"] + run["commons_minor"] + run["solidarity_minor"] + patronage
            same(f"division of {run['id']}", given, run["base_minor"])
            if run["state"] in (5, 6, 7, 8):
                sums["reserve"][place] += run["reserve_minor"] - run["covered_minor"]
                sums["commons"][place] += run["commons_minor"]
                sums["solidarity"][place] += run["solidarity_minor"]
                sums["dividend_pool"][place] += patronage
            for line in lines:
                require(line["amount_minor"] >= 0, f"{line['member_id']} gets {line['amount_minor']}")
                who = (*place, line["member_id"])
                if line["posted"]:
                    payable[who] += line["amount_minor"]
                    sums["dividend_pool"][place] -= line["amount_minor"]
                if run["state"] in (7, 8):
                    came, went = line["amount_minor"] + line["carried_in_minor"], line["carried_out_minor"]
                    same(f"identity of {line['member_id']} in {run['id']}", came,
                         line["paid_minor"] + line["withheld_minor"] + went)  # fmt: skip
                    require(not (line["returned"] and line["paid_minor"]), f"{who} is paid what came back")
                    payable[who] -= line["paid_minor"] + line["withheld_minor"]
                    if run["state"] == 7:
                        going[who] += line["paid_minor"]
                    else:
                        arrived[run["cooperative"]][run["currency"]] += line["paid_minor"]
                    sums["withholding:payable"][place] += line["withheld_minor"]
        whose = {line["member_id"]: run["cooperative"] for run in rows.runs for line in by_run[run["id"]]}
        for apart in rows.unclaimed:
            cooperative, currency = whose[apart["member_id"]], apart["currency"]
            payable[cooperative, currency, apart["member_id"]] -= apart["amount_minor"]
            sums["unclaimed"][cooperative, currency] += apart["amount_minor"]
        for account in rows.accounts:
            parts = account["code"].split(":")
            if account["book"] != "platform" and parts[0] == "member":
                who = (account["book"].removeprefix("coop:"), account["currency"], parts[1])
                due = payable if parts[2] == "payable" else going
                same(f"{parts[2]} of {who}", -account["total"], due.pop(who, 0))
        require(not any(payable.values()) and not any(going.values()), f"nobody owes {payable} and {going}")
        self._cooperatives_banks(rows, arrived)
        for code, found in sums.items():
            for (cooperative, currency), amount in found.items():
                same(f"{code} of {cooperative}", self._owed(rows, f"coop:{cooperative}", code)[currency], amount)

    def _cooperatives_banks(self, rows: Snapshot, arrived: dict[str, Money]) -> None:
        """At a cooperative's bank is what the market and Stripe sent there, less what members were paid."""
        inside: dict[str, Money] = defaultdict(Money)
        for payout in rows.payouts:
            if payout["rail"] == 2 and payout["state"] == 3:
                inside[payout["cooperative"]][payout["currency"]] += payout["amount_minor"]
        for journal in rows.journals:
            if journal["kind"] in ("connected_payout", "connected_payout_returned"):
                inside[journal["book"].removeprefix("coop:")][journal["currency"]] += journal["bank_minor"]
        for cooperative in {account["book"].removeprefix("coop:") for account in rows.accounts} - {"platform"}:
            gone = together(clean(arrived[cooperative]), self._spent(rows, cooperative))
            same(f"at the bank of {cooperative}", self._balance(rows, f"coop:{cooperative}", "bank"),
                 less(clean(inside[cooperative]), gone))  # fmt: skip

    def _told_once(self, rows: Snapshot) -> None:
        counts = Counter(one["message_type"].rsplit(".", 1)[-1] for one in rows.told)
        paid = sum(order["state"] == PAID for order in rows.orders.values())
        same("paid orders told", counts["OrderPaid"], paid)
        released = sum(share["state"] == RELEASED for share in rows.shares)
        same("released shares told", counts["RevenueReleased"], released)
        same("disputes told", counts["DisputeOpened"], len(rows.disputes))
        closed = sum(one["state"] not in OPEN_DISPUTES for one in rows.disputes)
        same("ends of disputes told", counts["DisputeClosed"], closed)
