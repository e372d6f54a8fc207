"""A year of a cooperative's money, told in a terminal: 5,912 members, twelve dividend runs, closed to the cent.

It types the same `rochdale` commands a treasurer would, against a market whose time is moved on with `rochdale rehearse`:
the periods, holds and deadlines are those of life. One refund, one dispute and one killed posting are part of the year.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
from demo import (
    ROCHDALE,
    Electorate,
    Story,
    Unexpected,
    buyer,
    console,
    expect,
    join,
    market,
    money,
    offer,
    pay_by_card,
    read_codes,
    rule,
    source,
    until,
    wait_for,
)
from demo import charter as quick_charter
from schwifty import IBAN

from rochdale.billing.v1 import dividends_pb2

MONTHS = 12
COOPERATIVE = "valley-health"
PRICE_MINOR = 4_500_000
# How many members say where they are paid. The others' dividends stay theirs, and wait.
PAYEES = 100
POLICY = {
    "reserve_bps": 2000,
    "commons_bps": 300,
    "solidarity_bps": 200,
    "equal_bps": 2500,
    "basis": "CONTRIBUTION_BASIS_RECORDS",
    "member_cap_bps": 100,
    "min_payout": {"amount_minor": "1000", "currency": "EUR"},
    "objection_seconds": str(2 * 86_400),
}


class Year(Story):
    """A story in which time is moved on."""

    def rehearse(self, by: str) -> datetime:
        answer = subprocess.run(
            [ROCHDALE, "rehearse", by, "--market", str(self.market), "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        return datetime.fromisoformat(json.loads(answer.stdout)["now"])

    def until_day(self, day: int) -> datetime:
        """Moves time on to noon of the next such day of a month."""
        at = self.rehearse("0s")
        target = pd.Timestamp(at).normalize().replace(day=day) + pd.Timedelta(hours=12)
        if target <= at:
            target = target + pd.DateOffset(months=1)
        return self.rehearse(f"{int((target - at).total_seconds())}s")


def found(story: Year, references: list[str], randhie: Path) -> Electorate:
    story.chapter(
        "1. The cooperative",
        "Valley Health has 5,912 members, who are the persons in its data. 100 of them have a key of their own here.",
    )
    join(story, COOPERATIVE, "cooperative", "Valley Health", "ada@valley.example")
    (story.folder / "charter.json").write_text(json.dumps(quick_charter(10)))
    story.type(COOPERATIVE, "cooperative", "create", "--name", "Valley Health",
               "--description", "Health records of the people of six towns.", "--charter", "charter.json")  # fmt: skip
    story.type(COOPERATIVE, "member", "add", "--file", "-", stdin="\n".join(references),
               shown="rochdale member add --file persons.txt")  # fmt: skip
    story.type(COOPERATIVE, "dataset", "add", str(randhie), "--dataset", "randhie", "--title",
               "RAND Health Insurance Experiment", "--description", "Outpatient visits of 5,912 persons.",
               "--language", "en", "--member-column", "zper", "--yes",
               shown="rochdale dataset add randhie.csv --dataset randhie --member-column zper …")  # fmt: skip
    (story.folder / "form.txt").write_text("What we ask you to agree to when you join. Edition 3.\n")
    story.type(COOPERATIVE, "consent", "record", "randhie", "--file", "-", "--purpose", "ResearchAndDevelopment",
               "--category", "company", "--evidence", "joining form, edition 3", "--notice", "form.txt",
               stdin="\n".join(references), shown="rochdale consent record randhie --file signed.txt …")  # fmt: skip
    story.type(COOPERATIVE, "member", "invite", "--file", "-", "--output", "codes.csv",
               stdin="\n".join(references[:PAYEES]), shown="rochdale member invite --file people.csv")  # fmt: skip
    codes = read_codes(story.folder / "codes.csv")
    for who in ("rosa", "tom"):
        story.type(who, "member", "join", COOPERATIVE, "--code", codes.pop(next(iter(codes))),
                   "--save-key", f"{who}.key", shown=f"rochdale member join {COOPERATIVE} --code …")  # fmt: skip
    members = Electorate(story, COOPERATIVE, codes)
    members.join()
    return members


def decide(story: Year, members: Electorate, columns: list[str]) -> str:
    """The rule, the policy, and the offering that stands on them."""
    story.chapter(
        "2. Members decide: who may have it for how much, and how it is divided",
        "Companies pay 45,000 euros each month. A fifth of what is earned is kept in reserve, 3 % is for common projects,\n"
        "2 % for members in need; of the rest a quarter goes to all alike and three quarters by rows contributed.",
    )
    (story.folder / "rules.json").write_text(json.dumps({"rules": [rule(COOPERATIVE, "randhie", columns, "COMPANY",
                                                                        PRICE_MINOR)]}))  # fmt: skip
    (story.folder / "policy.json").write_text(json.dumps(POLICY))
    drafts = [
        ("Companies pay 45,000 euros a month", ["--delta-file", "rules.json"]),
        ("A fifth in reserve, the rest to us", ["--dividend-policy", "policy.json"]),
    ]
    rules: list[str] = []
    for title, words in drafts:
        made = story.type("rosa", "proposal", "create", "--title", title, "--body", title, *words, "--submit")
        proposal = made["name"].rsplit("/", 1)[1]
        story.type("tom", "proposal", "sponsor", proposal)
        story.type("rosa", "proposal", "freeze", proposal)
        frozen = until(story, "rosa", proposal, "VOTING")
        for who in ("rosa", "tom"):
            story.type(who, "proposal", "vote", proposal, "yes")
        members.vote(frozen, 0.9)
        until(story, "rosa", proposal, "AWAITING_SIGNATURE")
        enacted = story.type(COOPERATIVE, "proposal", "enact", proposal)
        rules += [one["name"] for one in enacted.get("sharing_rules", [])]
    published = offer(story, COOPERATIVE, "Health insurance and visits, each month", [("company", "45000 EUR", rules[0])],
                      "--every", "month")  # fmt: skip
    return published.replace("cooperatives/", "").replace("/offerings/", "/")


def name_accounts(story: Year, members: Electorate) -> None:
    """Where the money goes: the cooperative's account at Stripe, and members' own banks."""
    story.chapter(
        "3. Where money goes",
        "Rosa and Tom become stewards, for money needs two people. The cooperative answers Stripe's questions; Stripe pays\n"
        "out to its bank. Members name their own accounts.",
    )
    for who in ("rosa", "tom"):
        id = story.ask(who, "member", "show")["name"].rsplit("/", 1)[1]
        story.type(COOPERATIVE, "member", "steward", id)
    account = story.type(COOPERATIVE, "billing", "onboard", "--country", "NL")
    answers = {
        "business_type": "non_profit",
        "external_account": "NL91ABNA0417164300",
        "representative.first_name": "Rosa",
        "representative.last_name": "Vos",
        "tos_acceptance": "yes",
        "finish": "now",
    }
    answered = httpx.post(account["onboarding_url"], data=answers, timeout=30)
    expect(answered.status_code == 303, f"the onboarding page answered {answered.status_code}")
    wait_for(story, "the account", lambda: story.ask(COOPERATIVE, "billing", "account"),
             lambda answer: answer["state"] == "PAYOUT_ACCOUNT_STATE_ACTIVE")  # fmt: skip
    story.say("A person answered the questions on Stripe's page; the account can be paid.")

    def name_one(item: Any) -> None:
        index, (market, _, _) = item
        iban = IBAN.generate("NL", bank_code="ABNA", account_code=f"{index:010d}")
        market.call(
            market.dividends.SetPayee,
            dividends_pb2.SetPayeeRequest(
                request_id=f"payee-{index:04d}", parent=market.member, iban=str(iban), holder=f"Member {index}"
            ),
        )

    told = f"{len(members.people)} members say where they are paid, each by their own session."
    with story.timed(told), ThreadPoolExecutor(8) as pool:
        list(pool.map(name_one, enumerate(members.people)))


def subscribe(story: Year, offering: str) -> str:
    story.chapter("4. A company subscribes", "Acme saves a card and licenses the data for a year, paid each month.")
    buyer(story, "acme", "Acme Models", "company", "Register of companies 4711", "DE")
    saved = story.type("acme", "order", "save-card")
    httpx.post(
        saved["setup_url"],
        data={"card_number": "4242424242424242", "email": "ap@acme.example", "name": "Acme"},
        timeout=30,
    )
    wait_for(story, "the card", lambda: story.ask("acme", "order", "save-card", "--show"), lambda one: one["label"])
    license = story.type("acme", "license", "request", offering)["license"].rsplit("/", 1)[1]
    payment = wait_for(story, "the order", lambda: _pay(story, license), lambda answer: answer)
    if payment.get("checkout_url"):
        pay_by_card(story, payment["checkout_url"])
    wait_for(story, "activation", lambda: story.ask("acme", "license", "show", license),
             lambda answer: answer["state"] == "LICENSE_STATE_ACTIVE")  # fmt: skip
    return str(license)


def _pay(story: Year, license: str) -> Any:
    try:
        return story.ask("acme", "order", "pay", license)
    except Unexpected:
        return None


def orders(story: Year, license: str) -> list[dict[str, Any]]:
    """The orders of a license, oldest first."""
    found = story.ask("acme", "order", "list", "--limit", "0")["orders"]
    return [one for one in reversed(found) if one["license"].endswith(license)]


def deliver(story: Year, license: str) -> None:
    """Acme lists what it may read and reads the first file; the gateway tells billing that something left."""

    def read() -> bool:
        try:
            token = story.ask("acme", "token", license)
        except Unexpected:
            return False
        headers = {"Authorization": f"Bearer {token['token']}"}
        listed = httpx.get(f"{token['gateway_url']}/v1/licenses/{license}/files", headers=headers, timeout=30)
        if listed.status_code != 200:
            return False
        return httpx.get(listed.json()["files"][0]["url"], headers=headers, timeout=60).status_code == 200

    wait_for(story, "a delivery", read, bool, 30)


def post_and_kill(story: Year, run: str) -> None:
    """Posts a run, and kills the command in the middle of it; the same command goes on where it was."""
    words = [ROCHDALE, "dividends", "post", run, "--json", "--market", str(story.market)]
    process = subprocess.Popen(
        [*words, "--key-file", str(story.key("rosa"))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def posted() -> int:
        return int(story.ask("rosa", "dividends", "show", run)["posted_count"])

    while process.poll() is None and not posted():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    story.say(f"The command was killed when {posted():,} of 5,912 members were posted; it is typed again.")


def run_month(story: Year, month: str, shown: bool, kill: bool) -> dict[str, Any]:
    """A month's dividends from opening to settling."""
    ask = story.type if shown else story.ask
    started = time.perf_counter()
    opened = ask("rosa", "dividends", "open", month)
    run = opened["name"].rsplit("/", 1)[1]
    ask("rosa", "dividends", "publish", run)
    story.rehearse("3d")
    for who in ("rosa", "tom"):
        ask(who, "dividends", "approve", run)
    if kill:
        post_and_kill(story, run)
    ask("rosa", "dividends", "post", run)
    ask("rosa", "dividends", "pay", run, "--format", "csv", "-o", f"payments-{month}.csv")
    if find_paid(story, run):
        ask("rosa", "dividends", "settle", run, "--bank-reference", f"batch {month}")
    closed = story.ask("rosa", "dividends", "show", run)
    if not shown:
        story.say(
            f"{month}: {money(closed['surplus'])} divided among {int(closed['member_count']):,} members, "
            f"{money(closed.get('paid'))} paid, {money(closed.get('carried'))} carried forward  "
            f"[dim]{time.perf_counter() - started:.1f} s[/]"
        )
    return dict(closed)


def find_paid(story: Year, run: str) -> int:
    return int((story.ask("rosa", "dividends", "show", run).get("paid") or {}).get("amount_minor", 0))


def live(story: Year, license: str) -> list[dict[str, Any]]:
    """Twelve months: paid, delivered, released, divided."""
    story.chapter(
        "5. Twelve months",
        "Each month the card is charged, the data delivered, the share held for a week and then sent to the cooperative's\n"
        "account; on the tenth of the next month the members' run of the month before is opened.",
    )
    runs = []
    # The twelfth of each month a period begins; when a run is settled, on the thirteenth, the next is paid already.
    for number in range(1, MONTHS + 1):
        wait_for(story, f"payment {number}", lambda count=number: orders(story, license),
                 lambda all, count=number: len([o for o in all if o["state"] == "ORDER_STATE_PAID"]) >= count, 60)  # fmt: skip
        deliver(story, license)
        if number == 5:
            refunded = orders(story, license)[-1]["name"].rsplit("/", 1)[1]
            story.type(COOPERATIVE, "order", "refund", refunded, "--amount", "1500.01 EUR", "--reason", "a late file")
        if number == 8:
            dispute(story, orders(story, license)[-1])
        story.rehearse("8d")
        wait_for(story, "the release", lambda: story.ask(COOPERATIVE, "billing", "shares", "--limit", "0"),
                 lambda answer: not [s for s in answer["shares"] if s["state"] == "SHARE_STATE_HELD"], 60)  # fmt: skip
        at = story.until_day(10)
        month = (pd.Timestamp(at) - pd.DateOffset(months=1)).strftime("%Y-%m")
        runs.append(run_month(story, month, shown=number == 1, kill=number == 6))
    return runs


def dispute(story: Year, order: dict[str, Any]) -> None:
    """The buyer's bank takes a payment back, and decides for the cooperative."""
    simulator = json.loads(story.market.read_text())["stripe"]
    auth = ("sk_test_simulator", "")
    intents = httpx.get(f"{simulator}/v1/charges?limit=1", auth=auth, timeout=10).json()["data"]
    opened = httpx.post(f"{simulator}/_simulator/disputes", json={"charge": intents[0]["id"]}, timeout=10).json()
    found = wait_for(story, "the dispute", lambda: story.ask(COOPERATIVE, "dispute", "list", "--open"),
                     lambda answer: answer["disputes"])["disputes"][0]  # fmt: skip
    story.say(f"Acme's bank disputes {money(found['amount'])}: its share is frozen, its access held.")
    story.type(COOPERATIVE, "dispute", "answer", found["name"].removeprefix("orders/"))
    httpx.post(f"{simulator}/_simulator/disputes/{opened['id']}/decide", json={"outcome": "won"}, timeout=10)
    wait_for(story, "the decision", lambda: story.ask(COOPERATIVE, "dispute", "list", "--open"),
             lambda answer: not answer["disputes"])  # fmt: skip
    story.say("The bank decided for the cooperative, with what the gateway had recorded as delivered.")


def balances(story: Year, who: str, *words: str) -> dict[str, int]:
    found = story.ask(who, "billing", "balances", "--limit", "0", *words)["balances"]
    return {one["account"]: int(one["balance_minor"]) for one in found}


def close(story: Year, runs: list[dict[str, Any]]) -> None:
    """To the cent, counted twice: from the runs and from the book, and by an auditor that is not ours."""
    story.chapter(
        "6. The year is closed",
        "The same sums twice, from what members were told and from the book; then bean-check, an auditor that shares no line\n"
        "with us, reads the book; and the operator compares it with Stripe's own.",
    )
    book = balances(story, COOPERATIVE)
    payable = sum(amount for code, amount in book.items() if re.fullmatch(r"member:.*:(payable|in_transit)", code))

    def told(field: str) -> int:
        return sum(int((run.get(field) or {}).get("amount_minor", 0)) for run in runs)

    members = told("equal_pool") + told("contribution_pool")
    story.say(f"Divided in {len(runs)} runs: {euro(told('surplus'))}. Reserve {euro(told('reserve'))}, commons "
              f"{euro(told('commons'))}, solidarity {euro(told('solidarity'))}, members {euro(members)}.")  # fmt: skip
    expect(book["reserve"] == told("reserve") and book["commons"] == told("commons"), "the book has another reserve")
    expect(book.get("solidarity", 0) == told("solidarity"), "the book has another solidarity fund")
    expect(told("surplus") == told("reserve") + told("commons") + told("solidarity") + members, "a cent is missing")
    expect(members == told("paid") + payable, f"members: {members} told, {told('paid')} paid, {payable} payable")
    story.say(f"Members were allotted {euro(members)}: {euro(told('paid'))} paid out, {euro(payable)} still theirs.")
    for name, who, words in ((COOPERATIVE, COOPERATIVE, []), ("market", "operator", ["--of", "market"])):
        file = f"{name}.beancount"
        story.type(who, "billing", "export", "-o", file, *words, shown=f"rochdale billing export -o {file}")
        checker = Path(sys.executable).with_name("bean-check")
        if checker.exists():
            done = subprocess.run([str(checker), file], cwd=story.folder, capture_output=True, text=True)
            expect(done.returncode == 0, f"bean-check: {done.stdout[-1000:]}{done.stderr[-1000:]}")
            story.say(f"bean-check finds nothing wrong in {file} ({(story.folder / file).stat().st_size:,} bytes).")
    reconciled = story.type("operator", "billing", "reconcile")
    expect(reconciled["open_break_count"] == 0, str(story.ask("operator", "billing", "breaks")))
    story.say(f"{reconciled['transaction_count']} of Stripe's transactions compared with the books: everything fits.")
    explained = story.type("tom", "dividends", "explain")
    console.print(explained["explanation"], style="dim", soft_wrap=True)
    treasury = story.type(COOPERATIVE, "billing")
    story.say(f"In the bank: {euro(int(treasury['balances'][0]['bank_minor']))}.")


def euro(amount_minor: int) -> str:
    return f"EUR {amount_minor / 100:,.2f}"


def tell(story: Year) -> None:
    randhie = source("randhie")
    original = pd.read_csv(randhie)
    references = [str(member) for member in sorted(original["zper"].unique())]
    with market(story, "--rehearsal"):
        members = found(story, references, randhie)
        offering = decide(story, members, list(original.columns))
        # From here on nothing is signed on this machine, whose clock stays behind. Away from the end of a month, a period
        # and its run fall into the months they are told of.
        story.until_day(12)
        name_accounts(story, members)
        license = subscribe(story, offering)
        runs = live(story, license)
        close(story, runs)
        members.close()


def main() -> int:
    started = time.perf_counter()
    console.print(
        "[bold]Rochdale[/]: a year of a cooperative's money. The market's time is moved on; all else is real."
    )
    with tempfile.TemporaryDirectory(prefix="rochdale-year-") as folder:
        try:
            tell(Year(Path(folder)))
        except Unexpected as problem:
            console.print(f"\n[red]The story ends here: {problem}[/]", soft_wrap=True)
            return 1
    console.print(f"\n[bold]A year, closed to the cent[/], in {time.perf_counter() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
