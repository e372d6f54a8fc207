"""The auditor of money: the ledger by itself, Stripe's movements, orders, what went back, and where it lies. True after
every step. Members and cooperatives' own books are in money_audit_members.py."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal

from money_reading import (
    DEBIT_KINDS,
    FEE_BPS,
    LOST_DISPUTE,
    NEVER_BELOW,
    OPEN_DISPUTES,
    PAID,
    RELEASED,
    RETURNED,
    Money,
    Reader,
    Snapshot,
    borne,
    clean,
    half_up,
    less,
    require,
    same,
    summed,
    together,
    worth,
)


class BookAudit(Reader):
    """What must be true of the market's own book after every step."""

    def _ledger(self, rows: Snapshot) -> None:
        books: Counter[tuple[str, str]] = Counter()
        for account in rows.accounts:
            name = f"{account['code']} of {account['book']} in {account['currency']}"
            books[account["book"], account["currency"]] += account["total"]
            normal = account["total"] if account["kind"] in DEBIT_KINDS else -account["total"]
            if account["balance_minor"] is not None:
                same(f"cached balance of {name}", account["balance_minor"], account["total"])
                same(f"version of {name}", (account["version"], account["chained"]), (account["last_version"],) * 2)
            if account["code"].rsplit(":", 1)[-1] in NEVER_BELOW or account["code"] in ("dividend_pool", "unclaimed"):
                require(normal >= 0 or account["code"].startswith("stripe"), f"{name} is at {normal}")
        for (book, currency), total in books.items():
            same(f"sum of {book} in {currency}", total, 0)

    async def _stripe(self, rows: Snapshot) -> None:
        query = {"ending_before": self._newest} if self._newest else {}
        while True:
            # Newest first; before the newest one known is what came since, oldest page last.
            page = (await self._get("/v1/balance_transactions", limit=100, **query))["data"]
            for moved in page:
                self._moved[moved["id"]] = moved
            if page and query:
                self._newest = page[0]["id"]
                query = {"ending_before": self._newest}
                continue
            if page:
                self._newest = page[0]["id"]
            break
        booked = [one for one in rows.journals if one["book"] == "platform" and one["external_ref"].startswith("txn_")]
        again = [name for name, count in Counter(one["external_ref"] for one in booked).items() if count > 1]
        require(not again, f"booked more than once: {again}")
        for journal in booked:
            moved = self._moved.get(journal["external_ref"], {})
            same(
                f"what {journal['key']} books of {journal['external_ref']}",
                (journal["stripe_minor"], journal["currency"]),
                (moved.get("net"), moved.get("currency", "").upper()),
            )
        clearing = together(
            self._balance(rows, "platform", "stripe:pending"), self._balance(rows, "platform", "stripe:available")
        )
        names = {one["external_ref"] for one in booked}
        same("clearing accounts", clearing, summed((one["currency"].upper(), self._moved[name]["net"])
             for name in names for one in [self._moved[name]]))  # fmt: skip
        there = await self._get("/v1/balance")
        balance = summed((one["currency"].upper(), one["amount"]) for one in (*there["available"], *there["pending"]))
        self.unbooked = {name: one for name, one in self._moved.items() if name not in names and one["net"]}
        waits = summed((one["currency"].upper(), one["net"]) for one in self.unbooked.values())
        same("Stripe's balance less what was not heard of yet", less(balance, waits), clearing)
        for one in self.unbooked.values():
            require(one["type"] != "payout", f"nobody pays out the market's balance, but {one['id']} did")

    def _orders(self, rows: Snapshot) -> None:
        agreed = {line["license"]: line for line in self._said.all("agreed")}
        shares = Counter(share["order_id"] for share in rows.shares)
        for id, order in rows.orders.items():
            terms = agreed[order["license"]]
            if order["kind"] == 1:
                same(f"net of {id}", order["net_minor"], terms["net"])
            tax = half_up(Decimal(order["net_minor"]) * Decimal(terms["tax_percent"]) / 100)
            same(f"tax of {id}", order["amount_minor"] - order["net_minor"], tax)
            same(f"parties of {id}", (order["buyer"], order["seller"]), (terms["buyer"], terms["cooperative"]))
            paid = order["state"] == PAID and order["amount_minor"] > 0
            same(f"shares of {id}", shares[id], int(paid))
        licenses = Counter(one["license"] for one in rows.orders.values() if one["kind"] == 1)
        require(all(count == 1 for count in licenses.values()), f"more than one order: {licenses}")
        succeeded = Counter(one["order_id"] for one in rows.payments if one["state"] == 3)
        for order_id, count in succeeded.items():
            same(f"payments that paid {order_id}", count, 1)
        by_card = {f"charge:{share['charge_id']}" for share in rows.shares if share["rail"] == "stripe"}
        same("charges booked as sales", self._keys(rows, "charge"), Counter(by_card))
        by_bank = {f"order:{share['order_id']}" for share in rows.shares if share["rail"] == "bank"}
        booked = self._keys(rows, "bank_payment") + self._keys(rows, "matched_from_suspense")
        same("bank transfers booked as sales", booked, Counter(by_bank))

    def _went_back(self, rows: Snapshot) -> None:
        fresh: Counter[str] = Counter()
        for refund in rows.refunds:
            if refund["id"] not in self._known_refunds:
                self._known_refunds.add(refund["id"])
                fresh[refund["order_id"]] += refund["tax_minor"] + refund["fee_minor"] + refund["cooperative_minor"]
        for order_id, amount in fresh.items():
            self._back[order_id] = self._back.get(order_id, 0) + amount
            require(self._back[order_id] <= rows.orders[order_id]["amount_minor"], f"more than all of {order_id} back")
        for dispute in rows.disputes:
            if dispute["state"] == LOST_DISPUTE and dispute["id"] not in self._known_losses:
                order_id, gross = dispute["order_id"], rows.orders[dispute["order_id"]]["amount_minor"]
                before = self._back.get(order_id, 0)
                # An inquiry that was given up never moved money.
                moved = self._keys(rows, "dispute_opened")[f"dispute:{dispute['id']}"]
                part = min(dispute["amount_minor"], gross - before) if moved else 0
                self._back[order_id] = before + part
                self._known_losses[dispute["id"]] = part
        issued = Counter(one["order_id"] for one in rows.invoices if one["kind"] == 1)
        credited: Counter[str] = Counter()
        for note in rows.invoices:
            credited[note["order_id"]] += note["amount_minor"] if note["kind"] == 2 else 0
        for id, order in rows.orders.items():
            same(f"what went back of {id}", order["refunded_minor"], self._back.get(id, 0))
            if order["state"] == PAID and order["amount_minor"]:
                same(f"invoices and credit notes of {id}", (issued[id], credited[id]), (1, self._back.get(id, 0)))

    def _shares(self, rows: Snapshot) -> None:
        fees, taxes = Money(), Money()
        for share in rows.shares:
            order, name = rows.orders[share["order_id"]], share["id"]
            net, tax, fee = share["net_minor"], share["tax_minor"], share["fee_minor"]
            same(f"net and tax of {name}", (net, net + tax), (order["net_minor"], order["amount_minor"]))
            same(f"fee of {name}", fee, net * FEE_BPS // 10_000)
            of_tax, of_fee, of_cooperative = borne(net + tax, tax, fee, self._back.get(order["id"], 0))
            same(f"what {name} gave back", share["refunded_minor"], of_cooperative)
            require(0 <= share["reserve_minor"] <= worth(share) or not share["reserve_minor"], f"reserve of {name}")
            fees[share["currency"]] += fee - of_fee
            taxes[share["currency"]] += tax - of_tax
        same("fees earned", self._owed(rows, "platform", "fee_revenue"), clean(fees))
        same("taxes owed", self._owed(rows, "platform", "tax:payable"), clean(taxes))

    def _lies_where(self, rows: Snapshot) -> None:
        """Of each cooperative: what its shares are worth is held, free, on its way, or with it."""
        places: dict[str, dict[str, Money]] = defaultdict(lambda: defaultdict(Money))
        for share in rows.shares:
            place = places[share["cooperative"]]
            side = "all" if share["state"] == RELEASED else "frozen" if share["frozen"] else "pending"
            place[side][share["currency"]] += worth(share)
            place["reserve"][share["currency"]] += share["reserve_minor"]
        payouts = {payout["id"]: payout for payout in rows.payouts}
        reversed_ = Counter[str]()
        for reversal in rows.reversals:
            if reversal["state"] == 2:
                reversed_[reversal["transfer_id"]] += reversal["amount_minor"]
        for transfer in rows.transfers:
            payout = payouts[transfer["payout_id"]]
            place, currency = places[payout["cooperative"]], payout["currency"]
            same(f"what was reversed of {transfer['id']}", transfer["reversed_minor"], reversed_[transfer["id"]])
            if transfer["state"] == 1:
                place["in_transit"][currency] += transfer["amount_minor"]
            elif transfer["state"] == 2:
                place["sent"][currency] += transfer["amount_minor"] - transfer["reversed_minor"]
        for cooperative, place in places.items():
            owed = {
                side: self._owed(rows, "platform", f"coop:{cooperative}:{side}")
                for side in ("pending", "frozen", "available", "reserve", "in_transit")
            }
            receivable = self._balance(rows, "platform", f"coop:{cooperative}:receivable")
            for side in ("pending", "frozen", "reserve", "in_transit"):
                same(f"{side} of {cooperative}", owed[side], clean(place[side]))
            with_it = together(owed["available"], owed["reserve"], owed["in_transit"], clean(place["sent"]))
            same(f"what {cooperative} has, free or sent, less what it owes", less(with_it, receivable),
                 clean(place["all"]))  # fmt: skip

    def _refunds(self, rows: Snapshot) -> None:
        same("refunds decided", self._keys(rows, "refund_owed"), Counter(f"refund:{one['id']}" for one in rows.refunds))
        credit: dict[str, Money] = defaultdict(Money)
        paid = self._keys(rows, "refund_paid")
        bounced = self._keys(rows, "refund_bounced")
        for refund in rows.refunds:
            id = refund["id"]
            total = refund["tax_minor"] + refund["fee_minor"] + refund["cooperative_minor"]
            times = paid[f"refund_paid:{id}:stripe"] + paid[f"refund_paid:{id}:bank"] - bounced[f"refund_bounced:{id}"]
            require(times in (0, 1), f"{id} was paid {times} times")
            credit[rows.orders[refund["order_id"]]["buyer"]][refund["currency"]] += total * (1 - times)
        for buyer, amount in credit.items():
            same(f"credit of {buyer}", self._owed(rows, "platform", f"buyer:{buyer}:credit"), clean(amount))

    def _disputes(self, rows: Snapshot) -> None:
        held, exchange = Money(), Money()
        for dispute in rows.disputes:
            if dispute["state"] in OPEN_DISPUTES and self._keys(rows, "dispute_opened")[f"dispute:{dispute['id']}"]:
                held[dispute["currency"]] += dispute["amount_minor"]
            if dispute["state"] == LOST_DISPUTE and self._keys(rows, "dispute_opened")[f"dispute:{dispute['id']}"]:
                exchange[dispute["currency"]] += dispute["amount_minor"] - self._known_losses[dispute["id"]]
        same("held by banks", self._balance(rows, "platform", "dispute:held"), clean(held))
        same("beyond the charge", self._balance(rows, "platform", "fx"), clean(exchange))
        same("rounding", self._balance(rows, "platform", "rounding"), Money())

    def _bank(self, rows: Snapshot) -> None:
        """The market's account at its bank, by what the bank did and the market was told of."""
        inside, waits = Money(), Money()
        told = {one["bank_reference"] for one in rows.credits} | {one["reference"] for one in rows.payouts}
        told |= {one["id"] for one in rows.payouts if one["state"] == RETURNED}
        for line in self._said.all("credit arrived"):
            inside[line["currency"]] += line["amount"] if line["reference"] in told else 0
        for line in self._said.all("left the bank"):
            inside[line["currency"]] -= line["amount"] if line["reference"] in told else 0
        for line in self._said.all("came back to the bank"):
            inside[line["currency"]] += line["amount"] if line["payout"] in told else 0
        same("at the market's bank", self._balance(rows, "platform", "bank"), clean(inside))
        for credit in rows.credits:
            if credit["order_id"] is None:
                waits[credit["currency"]] += credit["amount_minor"]
        unexpected = {one["key"].removeprefix("charge:") for one in rows.journals if one["kind"] == "unexpected_charge"}
        sold = {share["charge_id"] for share in rows.shares if share["rail"] == "stripe"}
        require(not unexpected & sold, f"both sales and unexpected: {unexpected & sold}")
        for payment in rows.payments:
            if payment["charge_id"] in unexpected and not payment["refund_id"]:
                waits[payment["taken_currency"]] += payment["taken_minor"]
        same("in suspense", self._owed(rows, "platform", "suspense"), clean(waits))

    def _payouts(self, rows: Snapshot) -> None:
        parts: Counter[str] = Counter()
        for transfer in rows.transfers:
            parts[transfer["payout_id"]] += transfer["amount_minor"] if transfer["state"] != 3 else 0
        live = Counter((one["cooperative"], one["currency"]) for one in rows.payouts if one["state"] == 1)
        require(all(count == 1 for count in live.values()), f"two payouts at once: {live}")
        done = self._keys(rows, "payout_done")
        for payout in rows.payouts:
            if payout["state"] in (1, 2, 3):
                same(f"parts of {payout['id']}", parts[payout["id"]], payout["amount_minor"])
        require(all(count <= 2 for count in done.values()), "a payout was done twice")
