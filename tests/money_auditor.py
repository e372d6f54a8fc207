"""The auditor of the simulation of money. It imports nothing of what it audits: see money_reading.py for what it sees.

Each `_…` method holds one idea of what must be true after every step; `final` says what must also be true once all that
was under way is done. What is wrong is raised as Wrong, in one sentence with both numbers.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

from money_audit_members import MemberAudit
from money_reading import Snapshot, Wrong, gigabytes, require, same, summed, together


class Auditor(MemberAudit):
    """Looks at one history after each of its steps, and at its end."""

    async def audit(self) -> Snapshot:
        """Everything that must be true now. Raises Wrong."""
        self.steps += 1
        rows = await self._read()
        self._ledger(rows)
        await self._stripe(rows)
        self._orders(rows)
        self._went_back(rows)
        self._shares(rows)
        self._lies_where(rows)
        self._refunds(rows)
        self._disputes(rows)
        self._bank(rows)
        self._payouts(rows)
        self._cooperatives(rows)
        self._dividends(rows)
        self._told_once(rows)
        return rows

    async def final(self) -> None:
        """After all was heard and done: nothing waits, and Stripe's objects are ours one by one. Raises Wrong."""
        rows = await self.audit()
        await self._disputes_at_stripe(rows)
        unbooked = [one for one in self.unbooked.values() if one["source"] not in self._beyond]
        require(not unbooked, f"Stripe moved, and nobody booked: {unbooked}")
        charges = {one["id"]: one for one in await self._list("/v1/charges") if one["status"] == "succeeded"}
        known = {one["charge_id"]: one for one in rows.payments if one["charge_id"]}
        same("charges", set(charges), set(known))
        for id, charge in charges.items():
            payment = known[id]
            order = rows.orders[payment["order_id"]]
            same(f"amount of {id}", (charge["amount"], charge["currency"].upper()),
                 (order["amount_minor"], order["currency"]))  # fmt: skip
            sale = any(share["charge_id"] == id for share in rows.shares)
            stuck = id in self._beyond.values() and payment["refund_due"]
            back = bool(payment["refund_id"]) or stuck
            require(sale != back, f"{id} paid an order or went back, not both and not neither")
        await self._refunds_at_stripe(rows)
        await self._transfers_at_stripe(rows)
        same("waiting transfers", [one["id"] for one in rows.transfers if one["state"] == 1 and self._by_stripe(rows, one)],
             [])  # fmt: skip
        same("waiting reversals", [one["id"] for one in rows.reversals if one["state"] == 1], [])
        self._use(rows)
        self._cash(rows, charges)

    @staticmethod
    def _by_stripe(rows: Snapshot, transfer: Any) -> bool:
        return any(one["id"] == transfer["payout_id"] and one["rail"] == 1 for one in rows.payouts)

    async def _disputes_at_stripe(self, rows: Snapshot) -> None:
        """A share bears only disputes of the very charge that paid it. What a bank takes of money that paid no order is
        in no journal: it is listed as a difference, for a person."""
        sold = {share["charge_id"]: share["order_id"] for share in rows.shares if share["charge_id"]}
        there = {one["id"]: one["charge"] for one in await self._list("/v1/disputes")}
        self._beyond = {id: charge for id, charge in there.items() if charge not in sold}
        ours = {one["rail_id"]: one["order_id"] for one in rows.disputes}
        same("disputes and the orders they are of", ours, {
            id: sold[charge] for id, charge in there.items() if charge in sold})  # fmt: skip

    def expected_breaks(self) -> set[str]:
        """What reconciliation must list, and nothing else."""
        return {id for id, one in self.unbooked.items() if one["source"] in self._beyond}

    async def _refunds_at_stripe(self, rows: Snapshot) -> None:
        ours = {one["id"]: one for one in rows.refunds}
        self._at_stripe = await self._list("/v1/refunds")
        made = Counter((one["metadata"] or {}).get("refund") for one in self._at_stripe)
        for refund in self._at_stripe:
            name = (refund["metadata"] or {}).get("refund")
            if not name:
                continue
            same(f"refunds of {name} at Stripe", made[name], 1)
            mine = ours[name]
            total = mine["tax_minor"] + mine["fee_minor"] + mine["cooperative_minor"]
            same(f"amount of {name}", (refund["amount"], refund["currency"].upper()), (total, mine["currency"]))

    async def _transfers_at_stripe(self, rows: Snapshot) -> None:
        ours = {one["id"]: one for one in rows.transfers}
        sent = await self._list("/v1/transfers")
        for one in sent:
            mine = ours.pop(one["metadata"]["transfer"], None)
            if mine is None:
                raise Wrong(f"{one['id']} was sent twice, or by nobody")
            same(f"transfer {mine['id']}", (one["amount"], one["amount_reversed"], mine["state"]),
                 (mine["amount_minor"], mine["reversed_minor"], 2))  # fmt: skip
        rest = [one["id"] for one in ours.values() if one["state"] == 2 and self._by_stripe(rows, one)]
        same("transfers that Stripe does not have", rest, [])
        self._to_connected = summed((one["currency"].upper(), one["amount"] - one["amount_reversed"]) for one in sent)
        for line in self._said.all("account opened"):
            balance = await self._get("/v1/balance", line["account"])
            there = summed(
                (one["currency"].upper(), one["amount"]) for one in (*balance["available"], *balance["pending"])
            )
            going = [one for one in await self._list("/v1/payouts", line["account"])
                     if one["status"] in ("pending", "in_transit")]  # fmt: skip
            there = together(there, summed((one["currency"].upper(), one["amount"]) for one in going))
            book = f"coop:{line['cooperative']}"
            same(f"at Stripe for {line['cooperative']}", self._balance(rows, book, "stripe_connect"), there)

    def _cash(self, rows: Snapshot, charges: dict[str, Any]) -> None:
        """What buyers paid is where it lies: at Stripe, at banks, with cooperatives, with Stripe as fees, or back."""
        paid = summed((one["currency"].upper(), one["amount"]) for one in charges.values())
        paid = together(paid, summed((one["currency"], one["amount"]) for one in self._said.all("credit arrived")))
        stripe = summed((one["currency"].upper(), one["net"]) for one in self._moved.values())
        fees = summed((one["currency"].upper(), one["fee"]) for one in self._moved.values())
        back = summed((one["currency"].upper(), one["amount"]) for one in self._at_stripe if one["status"] != "failed")
        taken = summed(
            (one["currency"].upper(), -one["amount"]) for one in self._moved.values() if one["type"] == "adjustment"
        )
        lies = together(
            stripe, fees, back, taken, self._to_connected, self._balance(rows, "platform", "bank"),
            summed((one["currency"], one["amount"]) for one in self._said.all("left the bank")),
            summed((one["currency"], -one["amount"]) for one in self._said.all("came back to the bank")),
        )  # fmt: skip
        same("what buyers paid and where it lies", lies, paid)

    def _use(self, rows: Snapshot) -> None:
        """What was used is counted once, in its period; what is billed is never more."""
        used: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in self._said.all("used"):
            used[line["license"]].append(line)
        agreed = {line["license"]: line for line in self._said.all("agreed")}
        for tally in rows.tallies:
            told = [dt.datetime.fromisoformat(one["at"]) for one in used[tally["license"]]]
            inside = [one for one, at in zip(used[tally["license"]], told, strict=True)
                      if tally["period_start"] <= at < tally["period_end"]]  # fmt: skip
            # What was used after the last period is counted to it, so it may have more.
            require(tally["used"] >= gigabytes(inside), f"use of {tally['license']} in {tally['period_start']} is lost")
            require(tally["billable"] <= tally["used"], f"{tally['license']} is billed more than was used")
            free = max(tally["billable"] - Decimal(agreed[tally["license"]]["included"]), Decimal(0))
            require(tally["billed"] <= free, f"{tally['license']} pays what is free")
        for license, uses in used.items():
            counted = sum((one["used"] for one in rows.tallies if one["license"] == license), Decimal(0))
            same(f"use of {license}", counted, gigabytes(uses))
        for license, terms in agreed.items():
            orders = [one for one in rows.orders.values() if one["license"] == license and one["kind"] == 3]
            billed = sum((one["billed"] for one in rows.tallies if one["license"] == license), Decimal(0))
            exact = billed * Decimal(terms["unit_price"] or 0)
            net = sum(one["net_minor"] for one in orders)
            lines = max(1, 2 * len(orders))
            require(abs(net - exact) <= Decimal(lines) / 2, f"{license} is billed {net} for {exact}")
