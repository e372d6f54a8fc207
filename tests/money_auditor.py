"""The auditor of the simulation of money. It reads rows by its own SQL and Stripe by its HTTP interface, keeps its own
model of what was said and done, and does its own arithmetic. It imports nothing of what it audits.

Each `_…` method holds one idea of what must be true after every step; `final` says what must also be true once all that
was under way is done. What is wrong is raised as Wrong, in one sentence with both numbers.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import httpx

# The auditor's own words for the numbers in the tables.
PAID, HELD, RELEASED, RETURNED = 2, 1, 2, 5
LOST_DISPUTE, OPEN_DISPUTES = 4, (1, 2)
FEE_BPS, RESERVE_CARD_BPS = 500, 1000
DEBIT_KINDS = (1, 5)
# Whose money may never be below zero.
NEVER_BELOW = ("pending", "frozen", "available", "reserve", "in_transit", "receivable", "credit", "payable")
Money = Counter[str]


class Wrong(AssertionError):
    """Something that must be true is not."""


def require(truth: object, sentence: str) -> None:
    if not truth:
        raise Wrong(sentence)


def same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Wrong(f"{what}: found {found}, expected {expected}")


def half_up(number: Decimal) -> int:
    return int(number.quantize(Decimal(1), ROUND_HALF_UP))


def borne(gross: int, tax: int, fee: int, back: int) -> tuple[int, int, int]:
    """Of `back` that went back in all: the part of the tax, of the fee, and of the cooperative."""
    of_tax = tax * back // gross
    of_fee = fee * (back - of_tax) // (gross - tax) if gross > tax else 0
    return of_tax, of_fee, back - of_tax - of_fee


class Said:
    """The plain log of a history: what people and banks did, as they meant it."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def add(self, what: str, **facts: Any) -> dict[str, Any]:
        self.lines.append({"what": what, **facts})
        return self.lines[-1]

    def unsay(self, line: dict[str, Any]) -> None:
        """It was meant, and did not happen."""
        self.lines.remove(line)

    def all(self, what: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["what"] == what]


class Snapshot:
    """Every row the audit needs, read at one moment."""

    def __init__(self) -> None:
        self.accounts: list[Any] = []
        self.journals: list[Any] = []
        self.orders: dict[str, Any] = {}
        self.shares: list[Any] = []
        self.refunds: list[Any] = []
        self.disputes: list[Any] = []
        self.payments: list[Any] = []
        self.payouts: list[Any] = []
        self.transfers: list[Any] = []
        self.reversals: list[Any] = []
        self.credits: list[Any] = []
        self.runs: list[Any] = []
        self.lines: list[Any] = []
        self.tallies: list[Any] = []
        self.costs: list[Any] = []
        self.invoices: list[Any] = []
        self.told: list[Any] = []


_ACCOUNTS = """
    SELECT account.id, book, code, currency, kind, floor, balance_minor, version,
           coalesce(sum(entry.amount_minor), 0)::bigint AS total, count(entry.account_version) AS chained,
           coalesce(max(entry.account_version), 0) AS last_version
    FROM account LEFT JOIN entry ON entry.account_id = account.id GROUP BY account.id ORDER BY account.id
"""
# Journals that are not whole: unbalanced, of one line, or with a line in another book or currency.
_BROKEN = """
    SELECT journal.key FROM journal LEFT JOIN entry ON entry.journal_id = journal.id
    LEFT JOIN account ON account.id = entry.account_id
    GROUP BY journal.id HAVING coalesce(sum(amount_minor), 1) <> 0 OR count(*) < 2
        OR bool_or(account.book <> journal.book OR account.currency <> journal.currency)
"""
_UNCHAINED = """
    SELECT account_id FROM (
        SELECT account_id, balance_after_minor,
               sum(amount_minor) OVER (PARTITION BY account_id ORDER BY account_version) AS running
        FROM entry WHERE account_version IS NOT NULL) AS chain WHERE balance_after_minor <> running
"""
_JOURNALS = """
    SELECT journal.id, journal.book, journal.kind, journal.key, journal.currency, external_ref,
           coalesce(sum(amount_minor) FILTER (WHERE account.code IN ('stripe:pending', 'stripe:available')), 0)::bigint
               AS stripe_minor,
           coalesce(sum(amount_minor) FILTER (WHERE account.code = 'bank'), 0)::bigint AS bank_minor,
           coalesce(sum(amount_minor) FILTER (WHERE account.code = 'suspense'), 0)::bigint AS suspense_minor,
           coalesce(sum(amount_minor) FILTER (WHERE account.code LIKE 'buyer:%'), 0)::bigint AS credit_minor
    FROM journal JOIN entry ON entry.journal_id = journal.id JOIN account ON account.id = entry.account_id
    WHERE journal.id > $1 GROUP BY journal.id ORDER BY journal.id
"""


class Auditor:
    """Looks at one history, again and again. `connection` is asyncpg's own, `world` a client of Stripe's interface."""

    def __init__(self, connection: Any, world: httpx.AsyncClient, said: Said) -> None:
        self._connection = connection
        self._world = world
        self._said = said
        self._journals: list[Any] = []
        self._told: list[Any] = []
        self._moved: dict[str, dict[str, Any]] = {}
        self._newest = ""
        # The model of what went back of each order: refunds decided and disputes lost, in the order they were seen.
        self._back: dict[str, int] = {}
        self._known_refunds: set[str] = set()
        self._known_losses: dict[str, int] = {}
        self.steps = 0

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

    # Reading

    async def _read(self) -> Snapshot:
        ask, rows = self._connection.fetch, Snapshot()
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            rows.accounts = await ask(_ACCOUNTS)
            broken, unchained = await ask(_BROKEN), await ask(_UNCHAINED)
            last = self._journals[-1]["id"] if self._journals else 0
            self._journals += await ask(_JOURNALS, last)
            rows.orders = {row["id"]: row for row in await ask('SELECT * FROM "order"')}
            rows.shares = await ask("SELECT * FROM share")
            rows.refunds = await ask("SELECT * FROM refund ORDER BY create_time, id")
            rows.disputes = await ask("SELECT * FROM dispute ORDER BY create_time, id")
            rows.payments = await ask("SELECT * FROM payment")
            rows.payouts = await ask("SELECT * FROM payout")
            rows.transfers = await ask("SELECT * FROM transfer")
            rows.reversals = await ask("SELECT * FROM reversal")
            rows.credits = await ask("SELECT * FROM bank_transfer")
            rows.runs = await ask("SELECT * FROM dividend_run ORDER BY month")
            rows.lines = await ask("SELECT * FROM dividend_line")
            rows.invoices = await ask("SELECT order_id, kind, amount_minor FROM invoice")
            rows.costs = await ask("SELECT * FROM cost")
            rows.tallies = await ask("SELECT * FROM tally")
            seen = self._told[-1]["position"] if self._told else 0
            self._told += await ask(
                "SELECT position, message_type, body FROM outbox WHERE position > $1 ORDER BY position", seen
            )
            count = (await ask("SELECT count(*) AS count FROM journal"))[0]["count"]
        rows.journals, rows.told = self._journals, self._told
        require(not broken, f"journals that are not whole: {[row['key'] for row in broken]}")
        require(not unchained, f"running balances do not chain in accounts {[row['account_id'] for row in unchained]}")
        same("journals never vanish", count, len(self._journals))
        return rows

    async def _get(self, path: str, account: str = "", **query: Any) -> Any:
        headers = {"Stripe-Account": account} if account else {}
        answer = await self._world.get(path, params=query, headers=headers)
        require(answer.status_code == 200, f"Stripe says {answer.status_code} to {path}")
        return answer.json()

    async def _list(self, path: str, account: str = "", **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            page = await self._get(path, account, limit=100, **query, **after)
            found += page["data"]
            if not page["has_more"]:
                return found
            after = {"starting_after": found[-1]["id"]}

    # The ledger by itself

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

    @staticmethod
    def _balance(rows: Snapshot, book: str, code: str) -> Money:
        """Debits less credits, by currency."""
        found = [one for one in rows.accounts if one["book"] == book and one["code"] == code]
        return Money({one["currency"]: one["total"] for one in found if one["total"]})

    def _owed(self, rows: Snapshot, book: str, code: str) -> Money:
        return Money({currency: -amount for currency, amount in self._balance(rows, book, code).items()})

    # Stripe

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
        clearing = _total(
            self._balance(rows, "platform", "stripe:pending"), self._balance(rows, "platform", "stripe:available")
        )
        names = {one["external_ref"] for one in booked}
        same("clearing accounts", clearing, _sum((one["currency"].upper(), self._moved[name]["net"])
             for name in names for one in [self._moved[name]]))  # fmt: skip
        there = await self._get("/v1/balance")
        balance = _sum((one["currency"].upper(), one["amount"]) for one in (*there["available"], *there["pending"]))
        self.unbooked = {name: one for name, one in self._moved.items() if name not in names and one["net"]}
        waits = _sum((one["currency"].upper(), one["net"]) for one in self.unbooked.values())
        same("Stripe's balance less what was not heard of yet", _less(balance, waits), clearing)
        for one in self.unbooked.values():
            require(one["type"] != "payout", f"nobody pays out the market's balance, but {one['id']} did")

    # Orders and what paid them

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

    @staticmethod
    def _keys(rows: Snapshot, kind: str) -> Counter[str]:
        return Counter(one["key"] for one in rows.journals if one["kind"] == kind)

    # What went back

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
            require(0 <= share["reserve_minor"] <= _amount(share) or not share["reserve_minor"], f"reserve of {name}")
            fees[share["currency"]] += fee - of_fee
            taxes[share["currency"]] += tax - of_tax
        same("fees earned", self._owed(rows, "platform", "fee_revenue"), _clean(fees))
        same("taxes owed", self._owed(rows, "platform", "tax:payable"), _clean(taxes))

    def _lies_where(self, rows: Snapshot) -> None:
        """Of each cooperative: what its shares are worth is held, free, on its way, or with it."""
        places: dict[str, dict[str, Money]] = defaultdict(lambda: defaultdict(Money))
        for share in rows.shares:
            place = places[share["cooperative"]]
            side = "all" if share["state"] == RELEASED else "frozen" if share["frozen"] else "pending"
            place[side][share["currency"]] += _amount(share)
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
                same(f"{side} of {cooperative}", owed[side], _clean(place[side]))
            with_it = _total(owed["available"], owed["reserve"], owed["in_transit"], _clean(place["sent"]))
            same(f"what {cooperative} has, free or sent, less what it owes", _less(with_it, receivable),
                 _clean(place["all"]))  # fmt: skip

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
            same(f"credit of {buyer}", self._owed(rows, "platform", f"buyer:{buyer}:credit"), _clean(amount))

    def _disputes(self, rows: Snapshot) -> None:
        held, exchange = Money(), Money()
        for dispute in rows.disputes:
            if dispute["state"] in OPEN_DISPUTES and self._keys(rows, "dispute_opened")[f"dispute:{dispute['id']}"]:
                held[dispute["currency"]] += dispute["amount_minor"]
            if dispute["state"] == LOST_DISPUTE and self._keys(rows, "dispute_opened")[f"dispute:{dispute['id']}"]:
                exchange[dispute["currency"]] += dispute["amount_minor"] - self._known_losses[dispute["id"]]
        same("held by banks", self._balance(rows, "platform", "dispute:held"), _clean(held))
        same("beyond the charge", self._balance(rows, "platform", "fx"), _clean(exchange))
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
        same("at the market's bank", self._balance(rows, "platform", "bank"), _clean(inside))
        for credit in rows.credits:
            if credit["order_id"] is None:
                waits[credit["currency"]] += credit["amount_minor"]
        unexpected = {one["key"].removeprefix("charge:") for one in rows.journals if one["kind"] == "unexpected_charge"}
        sold = {share["charge_id"] for share in rows.shares if share["rail"] == "stripe"}
        require(not unexpected & sold, f"both sales and unexpected: {unexpected & sold}")
        for payment in rows.payments:
            if payment["charge_id"] in unexpected and not payment["refund_id"]:
                waits[payment["taken_currency"]] += payment["taken_minor"]
        same("in suspense", self._owed(rows, "platform", "suspense"), _clean(waits))

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

    def _cooperatives(self, rows: Snapshot) -> None:
        """Each cooperative's own book mirrors the market's."""
        for book in {account["book"] for account in rows.accounts} - {"platform"}:
            cooperative = book.removeprefix("coop:")
            owed = [self._owed(rows, "platform", f"{book}:{side}") for side in ("available", "reserve", "in_transit")]
            same(f"due to {cooperative}", self._balance(rows, book, "due_from_platform"), _total(*owed))
            receivable = self._balance(rows, "platform", f"{book}:receivable")
            same(f"due from {cooperative}", self._owed(rows, book, "due_to_platform"), receivable)
            earned = Money()
            for share in rows.shares:
                if share["cooperative"] == cooperative and share["state"] == RELEASED:
                    earned[share["currency"]] += _amount(share)
            spent = self._spent(rows, cooperative)
            divided = Money()
            for run in rows.runs:
                if run["cooperative"] == cooperative and run["state"] in (5, 6, 7, 8):
                    divided[run["currency"]] += run["base_minor"] - run["covered_minor"]
            same(f"surplus of {cooperative}", self._owed(rows, book, "surplus"),
                 _less(_clean(earned), _total(spent, _clean(divided))))  # fmt: skip

    def _spent(self, rows: Snapshot, cooperative: str) -> Money:
        told = {cost["description"] for cost in rows.costs}
        costs = [one for one in self._said.all("cost") if one["by"] == cooperative and one["why"] in told]
        return _sum((one["currency"], one["amount"]) for one in costs)

    # Dividends

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
            gone = _total(_clean(arrived[cooperative]), self._spent(rows, cooperative))
            same(f"at the bank of {cooperative}", self._balance(rows, f"coop:{cooperative}", "bank"),
                 _less(_clean(inside[cooperative]), gone))  # fmt: skip

    # Events

    def _told_once(self, rows: Snapshot) -> None:
        counts = Counter(one["message_type"].rsplit(".", 1)[-1] for one in rows.told)
        paid = sum(order["state"] == PAID for order in rows.orders.values())
        same("paid orders told", counts["OrderPaid"], paid)
        released = sum(share["state"] == RELEASED for share in rows.shares)
        same("released shares told", counts["RevenueReleased"], released)
        same("disputes told", counts["DisputeOpened"], len(rows.disputes))
        closed = sum(one["state"] not in OPEN_DISPUTES for one in rows.disputes)
        same("ends of disputes told", counts["DisputeClosed"], closed)

    # When everything under way is done

    async def final(self) -> None:
        """After all was heard and done: nothing waits, and Stripe's objects are ours one by one. Raises Wrong."""
        rows = await self.audit()
        require(not self.unbooked, f"Stripe moved, and nobody booked: {list(self.unbooked.values())}")
        charges = {one["id"]: one for one in await self._list("/v1/charges") if one["status"] == "succeeded"}
        known = {one["charge_id"]: one for one in rows.payments if one["charge_id"]}
        same("charges", set(charges), set(known))
        for id, charge in charges.items():
            payment = known[id]
            order = rows.orders[payment["order_id"]]
            same(f"amount of {id}", (charge["amount"], charge["currency"].upper()),
                 (order["amount_minor"], order["currency"]))  # fmt: skip
            sale = any(share["charge_id"] == id for share in rows.shares)
            require(sale != bool(payment["refund_id"]), f"{id} paid an order or went back, not both and not neither")
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
        self._to_connected = _sum((one["currency"].upper(), one["amount"] - one["amount_reversed"]) for one in sent)
        for line in self._said.all("account opened"):
            balance = await self._get("/v1/balance", line["account"])
            there = _sum(
                (one["currency"].upper(), one["amount"]) for one in (*balance["available"], *balance["pending"])
            )
            going = [one for one in await self._list("/v1/payouts", line["account"])
                     if one["status"] in ("pending", "in_transit")]  # fmt: skip
            there = _total(there, _sum((one["currency"].upper(), one["amount"]) for one in going))
            book = f"coop:{line['cooperative']}"
            same(f"at Stripe for {line['cooperative']}", self._balance(rows, book, "stripe_connect"), there)

    def _cash(self, rows: Snapshot, charges: dict[str, Any]) -> None:
        """What buyers paid is where it lies: at Stripe, at banks, with cooperatives, with Stripe as fees, or back."""
        paid = _sum((one["currency"].upper(), one["amount"]) for one in charges.values())
        paid = _total(paid, _sum((one["currency"], one["amount"]) for one in self._said.all("credit arrived")))
        stripe = _sum((one["currency"].upper(), one["net"]) for one in self._moved.values())
        fees = _sum((one["currency"].upper(), one["fee"]) for one in self._moved.values())
        back = _sum((one["currency"].upper(), one["amount"]) for one in self._at_stripe if one["status"] != "failed")
        taken = _sum(
            (one["currency"].upper(), -one["amount"]) for one in self._moved.values() if one["type"] == "adjustment"
        )
        lies = _total(
            stripe, fees, back, taken, self._to_connected, self._balance(rows, "platform", "bank"),
            _sum((one["currency"], one["amount"]) for one in self._said.all("left the bank")),
            _sum((one["currency"], -one["amount"]) for one in self._said.all("came back to the bank")),
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
            require(
                tally["used"] >= _gigabytes(inside), f"use of {tally['license']} in {tally['period_start']} is lost"
            )
            require(tally["billable"] <= tally["used"], f"{tally['license']} is billed more than was used")
            free = max(tally["billable"] - Decimal(agreed[tally["license"]]["included"]), Decimal(0))
            require(tally["billed"] <= free, f"{tally['license']} pays what is free")
        for license, uses in used.items():
            counted = sum((one["used"] for one in rows.tallies if one["license"] == license), Decimal(0))
            same(f"use of {license}", counted, _gigabytes(uses))
        for license, terms in agreed.items():
            orders = [one for one in rows.orders.values() if one["license"] == license and one["kind"] == 3]
            billed = sum((one["billed"] for one in rows.tallies if one["license"] == license), Decimal(0))
            exact = billed * Decimal(terms["unit_price"] or 0)
            net = sum(one["net_minor"] for one in orders)
            lines = max(1, 2 * len(orders))
            require(abs(net - exact) <= Decimal(lines) / 2, f"{license} is billed {net} for {exact}")


def _amount(share: Any) -> int:
    return int(share["net_minor"] - share["fee_minor"] - share["refunded_minor"])


def _gigabytes(uses: Iterable[dict[str, Any]]) -> Decimal:
    return sum((Decimal(one["gigabytes"]) for one in uses), Decimal(0))


def _clean(money: Money) -> Money:
    return Money({currency: amount for currency, amount in money.items() if amount})


def _sum(parts: Iterable[tuple[str, int]]) -> Money:
    total = Money()
    for currency, amount in parts:
        total[currency] += amount
    return _clean(total)


def _total(*parts: Money) -> Money:
    return _sum((currency, amount) for money in parts for currency, amount in money.items())


def _less(money: Money, other: Money) -> Money:
    return _total(money, Money({currency: -amount for currency, amount in other.items()}))
