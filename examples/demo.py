"""The market's main job, told in a terminal: members vote, real data is licensed, paid for and delivered, one withdraws.

It types the same `rochdale` commands anybody would, against a market of its own in a temporary folder, and stops at the
first thing that is not as it should be. It leaves nothing running.
"""

from __future__ import annotations

import csv
import importlib.resources
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import delta_sharing
import httpx
import pandas as pd
from rich.console import Console
from rich.panel import Panel
from rich.progress import Progress

from rochdale.client.keys import key_hash, make_secret
from rochdale.client.market import Market, read_addresses
from rochdale.governance.v1 import membership_pb2, proposals_pb2

console = Console(highlight=False)
# How many of the 5,912 members have a key of their own and vote.
VOTERS = 200
ROCHDALE = str(Path(sys.executable).with_name("rochdale"))


class Unexpected(Exception):
    """Something the story did not foresee; ends it with a sentence and a status other than zero."""


class Story:
    """Somebody types a command; we show it, what came of it, and how long it took."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.market = folder / "market" / "market.json"

    def chapter(self, title: str, text: str) -> None:
        console.print()
        console.print(Panel(text.replace("\n", " "), title=title, title_align="left", width=min(100, console.width)))

    def say(self, text: str) -> None:
        console.print(f"  {text}", soft_wrap=True)

    def key(self, who: str) -> Path:
        return self.folder / "market" / "keys" / "operator.key" if who == "operator" else self.folder / f"{who}.key"

    def type(
        self,
        who: str,
        *words: str,
        shown: str = "",
        stdin: str | None = None,
        refused: bool = False,
        silent: bool = False,
    ) -> Any:
        """Runs `rochdale …` as somebody and returns its JSON answer; with refused, the refusal it has to get."""
        started = time.perf_counter()
        done = subprocess.run(
            [ROCHDALE, *words, "--json"],
            env={
                **os.environ,
                "ROCHDALE_MARKET": str(self.market),
                "ROCHDALE_KEY_FILE": str(self.key(who)),
                "NO_COLOR": "1",
            },
            cwd=self.folder,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=180,
        )
        seconds = time.perf_counter() - started
        if not silent:
            console.print(
                f"  [cyan]{who}$[/] {shown or 'rochdale ' + shlex.join(words)}  [dim]{seconds:.1f} s[/]", soft_wrap=True
            )
        if refused:
            expect(done.returncode == 1, f"{who} was not refused")
            return json.loads(done.stderr)
        if done.returncode != 0:
            raise Unexpected(f"{who} was refused: {done.stderr.strip() or done.stdout.strip()}")
        return json.loads(done.stdout)

    def ask(self, who: str, *words: str) -> Any:
        """The same for what is asked again and again, without a line on the screen."""
        return self.type(who, *words, silent=True)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.say(f"{what}  [dim]{time.perf_counter() - started:.1f} s[/]")


def expect(condition: bool, sentence: str) -> None:
    if not condition:
        raise Unexpected(sentence)


def source(name: str) -> Path:
    """A public-domain table that the statsmodels package carries."""
    folder = Path(str(importlib.resources.files("statsmodels") / "datasets" / name))
    return next(path for path in (folder / "src" / f"{name}.csv", folder / f"{name}.csv") if path.exists())


@contextmanager
def market(story: Story, *options: str) -> Iterator[dict[str, Any]]:
    """`rochdale up` for as long as the story lasts."""
    with console.status("Starting PostgreSQL, NATS, a Stripe simulator and every service …"):
        started = time.perf_counter()
        log = (story.folder / "market.log").open("w")
        up = subprocess.Popen(
            [ROCHDALE, "up", "--home", str(story.folder / "market"), "--json", *options],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        assert up.stdout is not None
        line = up.stdout.readline()
        seconds = time.perf_counter() - started
    try:
        if not line:
            raise Unexpected("the market did not start: " + (story.folder / "market.log").read_text()[-2000:])
        console.print(f"  [cyan]operator$[/] {shlex.join(['rochdale', 'up', *options])}  [dim]{seconds:.1f} s[/]")
        yield json.loads(line)
        expect(up.poll() is None, "the market ended by itself: " + (story.folder / "market.log").read_text()[-2000:])
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(30)
        log.close()


def join(story: Story, id: str, kind: str, name: str, email: str) -> None:
    """An organization registers, and the operator verifies that it exists."""
    story.type(
        id, "organization", "register", id, "--kind", kind, "--name", name, "--email", email, "--save-key", f"{id}.key"
    )
    story.type("operator", "organization", "verify", id)


def charter(voting_seconds: int, *, roll_call: bool = False) -> dict[str, Any]:
    """How a cooperative of this story decides. In life a notice is days and a vote is weeks; every other part is the same."""
    common = {
        "notice_seconds": 0,
        "voting_seconds": voting_seconds,
        "dissent_seconds": 1,
        "sponsor_min": 2,
        "quorum_base": "QUORUM_BASE_ACTIVE",
        "secrecy": "SECRECY_ROLL_CALL" if roll_call else "SECRECY_OPERATOR_TRUSTED",
        "close_when_all_voted": True,
        "min_yes": 3,
    }
    return {
        "required_approvals": 1,
        "text": "One member, one vote. Nobody but the members decides who may have our data.",
        "decision_rules": [
            {"decision_class": "DECISION_CLASS_ROUTINE", "quorum": {"numerator": 1, "denominator": 10},
             "threshold": {"numerator": 1, "denominator": 2}, **common},
            {"decision_class": "DECISION_CLASS_SENSITIVE", "quorum": {"numerator": 1, "denominator": 4},
             "threshold": {"numerator": 2, "denominator": 3}, "inclusive": True, **common},
            {"decision_class": "DECISION_CLASS_CONSTITUTIONAL", "quorum": {"numerator": 2, "denominator": 5},
             "threshold": {"numerator": 3, "denominator": 4}, "inclusive": True, **common},
        ],
    }  # fmt: skip


class Electorate:
    """Members with programs of their own. Each has a key nobody else has, signs in, and votes: one call after another over
    the wire, as their telephones would."""

    def __init__(self, story: Story, cooperative: str, codes: dict[str, str]) -> None:
        self.story = story
        self.cooperative = f"cooperatives/{cooperative}"
        self.addresses = addresses = read_addresses(story.market)
        self.people = [(Market(addresses, secret := make_secret()), secret, code) for code in codes.values()]

    def _each(self, what: str, act: Any) -> list[Any]:
        with Progress(console=console, transient=True) as bar, ThreadPoolExecutor(8) as pool:
            task = bar.add_task(what, total=len(self.people))
            done = []
            for result in pool.map(act, enumerate(self.people)):
                done.append(result)
                bar.advance(task)
        return done

    def join(self) -> None:
        # Nobody has a session yet: the code is what lets them in.
        door = Market(self.addresses)

        def accept(item: Any) -> Any:
            _, (_, secret, code) = item
            request = membership_pb2.AcceptInvitationRequest(
                parent=self.cooperative, code=code, key_hash=key_hash(secret)
            )
            door.call(door.membership.AcceptInvitation, request)

        with self.story.timed(f"{len(self.people)} members accept their invitations, each with a key of their own."):
            self._each("joining", accept)

    def vote(self, proposal: dict[str, Any], share_of_yes: float) -> None:
        """Everybody votes; so many of them yes."""
        yes = round(len(self.people) * share_of_yes)

        def cast(item: Any) -> Any:
            index, (market, _, _) = item
            choice = proposals_pb2.BALLOT_CHOICE_YES if index < yes else proposals_pb2.BALLOT_CHOICE_NO
            request = proposals_pb2.CastBallotRequest(
                name=proposal["name"], frozen_hash=proposal["frozen_hash"], choice=choice
            )
            return market.call(market.proposals.CastBallot, request)

        with self.story.timed(f"{len(self.people)} members vote, each by their own session."):
            self._each("voting", cast)

    def close(self) -> None:
        for market, _, _ in self.people:
            market.close()


def until(story: Story, who: str, proposal: str, *states: str, seconds: float = 60) -> dict[str, Any]:
    """The proposal, once it is in one of these states."""
    shown = wait_for(story, f"{proposal} becoming {' or '.join(states)}",
                     lambda: story.ask(who, "proposal", "show", proposal),
                     lambda answer: answer["state"].removeprefix("PROPOSAL_STATE_") in states, seconds)  # fmt: skip
    return dict(shown)


def pay_by_card(story: Story, url: str) -> None:
    """What a person does on the hosted page: enter a card, press pay."""
    with story.timed("Acme's browser opens the payment page and pays with the test card 4242 4242 4242 4242."):
        answer = httpx.post(
            url,
            data={"card_number": "4242424242424242", "email": "ap@acme.example", "name": "Acme"},
            follow_redirects=True,
            timeout=30,
        )
        expect(answer.status_code == 200, f"the payment page answered {answer.status_code}")


def wait_for(story: Story, what: str, get: Any, done: Any, seconds: float = 20) -> Any:
    """Asks until it is so."""
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        value = get()
        if done(value):
            return value
        time.sleep(0.2)
    raise Unexpected(f"{what} did not happen within {seconds:.0f} seconds")


def check_rows(frame: pd.DataFrame, original: pd.DataFrame, member_column: str) -> None:
    """The delivered table is the source, column by column, but for who the members are."""
    expect(list(frame.columns) == list(original.columns), "the columns are not the source's")
    expect(len(frame) == len(original) == 20190, f"{len(frame)} rows arrived")
    for column in original.columns:
        if column == member_column:
            expect(
                frame[column].nunique() == original[column].nunique() and frame[column].str.startswith("m_").all(),
                "members are not pseudonyms",
            )
            # The same member has the same pseudonym everywhere, and no two share one.
            pairs = pd.DataFrame({"was": original[column], "is": frame[column]}).drop_duplicates()
            expect(len(pairs) == original[column].nunique(), "pseudonyms do not follow the members")
        else:
            same = (frame[column].astype("float64") - original[column].astype("float64")).abs().max() == 0
            expect(bool(same), f"column {column} differs from the source")


def tell(story: Story) -> None:
    randhie = source("randhie")
    original = pd.read_csv(randhie)
    references = [str(member) for member in sorted(original["zper"].unique())]
    with market(story) as document:
        story.say(f"Everything runs on this machine. Its shop window: {document['storefront']}")

        story.chapter(
            "1. A cooperative is founded",
            "Valley Health is owned by 5,912 people who took part in a study of health insurance. They pool what was recorded\n"
            "about them. Its signing key is made here, on the steward's machine; no service of the market ever has it.",
        )
        join(story, "valley-health", "cooperative", "Valley Health", "ada@valley.example")
        (story.folder / "charter.json").write_text(json.dumps(charter(8)))
        story.type("valley-health", "cooperative", "create", "--name", "Valley Health",
                   "--description", "Health records of the people of six towns.", "--charter", "charter.json")  # fmt: skip
        story.say("Votes are open for 8 seconds here. In life it is days; nothing else is different.")
        added = story.type("valley-health", "member", "add", "--file", "-", stdin="\n".join(references),
                           shown="tail -n +2 randhie.csv | cut -d, -f6 | sort -u | rochdale member add --file -")  # fmt: skip
        story.say(f"{added['added_count']:,} members joined.")

        story.chapter(
            "2. It adds its data, and members their consent",
            "The file goes to the cooperative's own gateway, not to the marketplace. Members' numbers become pseudonyms\n"
            "before anything is stored for delivery. A row is served only if a vote allows it and its own member consented.",
        )
        version = story.type("valley-health", "dataset", "add", str(randhie), "--dataset", "randhie", "--title",
                             "RAND Health Insurance Experiment", "--description",
                             "Outpatient visits and health of 5,912 persons over five years.", "--language", "en",
                             "--member-column", "zper", "--yes",
                             shown="rochdale dataset add randhie.csv --dataset randhie --member-column zper …")  # fmt: skip
        story.say(f"Version 1 is published: {int(find(version, 'row_count')):,} rows.")
        (story.folder / "form.txt").write_text("What we ask you to agree to when you join. Edition 3.\n")
        recorded = story.type("valley-health", "consent", "record", "randhie", "--file", "-",
                              "--purpose", "ResearchAndDevelopment", "--category", "academic", "--category", "company",
                              "--evidence", "joining form, edition 3", "--notice", "form.txt",
                              stdin="\n".join(references),
                              shown="rochdale consent record randhie --file signed.txt …")  # fmt: skip
        story.say(f"{recorded['recorded_count']:,} signed forms are recorded.")

        story.chapter(
            "3. Members decide",
            f"{VOTERS} of them have a key of their own. Rosa drafts what she thinks is fair, others say what they think, and\n"
            "everybody votes on exactly the rules that would be enacted. The board of ballots is public; who voted how is not.",
        )
        story.type("valley-health", "member", "invite", "--file", "-", "--output", "codes.csv",
                   stdin="\n".join(references[:VOTERS]),
                   shown="rochdale member invite --file people.csv --output codes.csv")  # fmt: skip
        codes = read_codes(story.folder / "codes.csv")
        for who in ("rosa", "tom"):
            story.type(who, "member", "join", "valley-health", "--code", codes.pop(next(iter(codes))),
                       "--save-key", f"{who}.key",
                       shown=f"rochdale member join valley-health --code … --save-key {who}.key")  # fmt: skip
        members = Electorate(story, "valley-health", codes)
        members.join()
        columns = list(original.columns)
        (story.folder / "delta.json").write_text(json.dumps({"rules": [
            rule("valley-health", "randhie", columns, "ACADEMIC", 0),
            rule("valley-health", "randhie", columns, "COMPANY", 120_000),
        ]}))  # fmt: skip
        drafted = story.type("rosa", "proposal", "create", "--title", "Research is free, companies pay",
                             "--body", "Universities may study us for nothing. Companies pay 1,200 euros.",
                             "--delta-file", "delta.json", "--submit")  # fmt: skip
        proposal = drafted["name"].rsplit("/", 1)[1]
        story.type("tom", "proposal", "sponsor", proposal)
        story.type("tom", "proposal", "comment", proposal, "Is 1,200 enough? They earn a lot with it.")
        story.type(
            "rosa", "proposal", "comment", proposal, "It is what the last two paid. We can vote again in a year."
        )
        frozen = story.type("rosa", "proposal", "freeze", proposal)
        story.say(f"Frozen. What would happen: {frozen['impact']['member_count']} members, "
                  f"{int(frozen['impact']['record_count']):,} rows; it is {frozen['decision_class'].rsplit('_', 1)[1]} "
                  f"because of {', '.join(frozen['class_reasons'])}.")  # fmt: skip
        frozen = until(story, "rosa", proposal, "VOTING")
        story.type("rosa", "proposal", "vote", proposal, "yes", "--save-receipt", "rosa.receipt.json")
        story.type("tom", "proposal", "vote", proposal, "no", "--save-receipt", "tom.receipt.json")
        members.vote(frozen, 0.8)
        shown = until(story, "rosa", proposal, "DISSENT_WINDOW", "AWAITING_SIGNATURE")
        tally = shown["tally"]
        story.say(
            f"Closed: {tally['yes_count']} yes, {tally['no_count']} no, of {int(tally['eligible_count']):,} members."
        )
        expect(int(tally["yes_count"]) + int(tally["no_count"]) == VOTERS, "ballots are missing")
        story.type("tom", "proposal", "verify-receipt", "tom.receipt.json")
        story.say("Tom voted no, and found his ballot among those that were counted.")
        until(story, "rosa", proposal, "AWAITING_SIGNATURE")
        enacted = story.type("valley-health", "proposal", "enact", proposal)
        rules = [one["name"] for one in enacted["sharing_rules"]]
        story.say(
            "The steward's program counted the public board again, then signed the rules with the cooperative's key."
        )
        offering = offer(story, "valley-health", "Health insurance and visits to the doctor",
                         [("academic", "0 EUR", rules[0]), ("company", "1200 EUR", rules[1])])  # fmt: skip

        story.chapter(
            "4. A company buys",
            "Acme builds models of care. It searches, asks the price for companies, requests a license, and pays.",
        )
        buyer(story, "acme", "Acme Models", "company", "Register of companies 4711", "DE")
        found = wait_for(story, "finding the offering", lambda: story.type("acme", "search", "health visits"),
                         lambda answer: answer["hits"])  # fmt: skip
        story.say(f"Found: {found['hits'][0]['offering']['title']}, from {found['hits'][0]['cooperative']}.")
        short = offering.replace("cooperatives/", "").replace("/offerings/", "/")
        quote = story.type("acme", "quote", short)
        story.say(
            f"The price for a company: {int(quote['price']['amount_minor']) / 100:,.2f} {quote['price']['currency']}."
        )
        negotiation = story.type("acme", "license", "request", short)
        license = negotiation["license"].rsplit("/", 1)[1]
        story.say(f"Agreed at once, because it is inside what members voted. The license: {license}")
        pay(story, license)
        paid = time.perf_counter()

        story.chapter(
            "5. The data arrives",
            "A token opens exactly what was licensed, at one gateway, for 15 minutes. The gateway checks every signature\n"
            "from the vote to the token itself. The client is delta-sharing as it comes from PyPI; it knows nothing of us.",
        )
        profile = open_profile(story, "acme", license)
        story.say(f"From payment to a usable token: {time.perf_counter() - paid:.1f} s, the commands above included.")
        table = f"{profile}#valley-health.data.randhie"
        with story.timed("delta_sharing.load_as_pandas('acme.share#valley-health.data.randhie')"):
            frame = delta_sharing.load_as_pandas(table)
        check_rows(frame, original, "zper")
        story.say(f"{len(frame):,} rows, {len(frame.columns)} columns, equal to the source; members are pseudonyms:")
        console.print(frame[["zper", "site", "mdvis", "xage"]].head(3).to_string(index=False), style="dim")
        story.type("acme", "get", license, "files", shown=f"rochdale get {license} files/")
        story.say("The same as files, each verified by its SHA-256 before it got its name.")

        story.chapter(
            "6. A university gets the same for free",
            "By the members' vote, research at universities costs nothing. Same offering, other terms.",
        )
        buyer(story, "uni-lab", "University Lab", "academic", "https://ror.org/02feahw73", "FR")
        free = story.type(
            "uni-lab", "license", "request", short, "--purpose", "AcademicResearch", "--columns", "zper,site,mdvis,xage"
        )
        free_license = free["license"].rsplit("/", 1)[1]
        free_profile = open_profile(story, "uni-lab", free_license)
        with story.timed("delta_sharing.load_as_pandas('uni-lab.share#valley-health.data.randhie')"):
            few = delta_sharing.load_as_pandas(f"{free_profile}#valley-health.data.randhie")
        expect(set(few.columns) == {"zper", "site", "mdvis", "xage"} and len(few) == 20190, "the wrong columns arrived")
        story.say(f"{len(few):,} rows of the four columns it asked for. Nothing was owed, nothing was paid.")

        story.chapter(
            "7. A request outside the mandate",
            "Acme would fine-tune a model, which no vote allows. It is not a dead end: the request becomes a proposal.",
        )
        refused = story.type("acme", "license", "request", short, "--action", "finetune", refused=True)
        story.say(f"Refused: “{refused['message']}”")
        request = story.type("acme", "mandate", "request", short, "--action", "finetune", "--price", "5000 EUR",
                             "--message", "We would fine-tune a model of care with it.")  # fmt: skip
        mandate = request["name"].rsplit("/", 1)[1]
        request = wait_for(story, "the draft", lambda: story.ask("acme", "mandate", "show", mandate),
                           lambda answer: answer["proposal"])  # fmt: skip
        asked_for = request["proposal"].rsplit("/", 1)[1]
        story.say(
            f"Drafted as {asked_for}, the rule exactly as asked. Acme sees the clock: {request['respond_by_time']}."
        )
        story.type("valley-health", "proposal", "sponsor", asked_for)
        frozen = story.type("valley-health", "proposal", "freeze", asked_for)
        story.say(f"One such license would bring each member {money(frozen['impact']['expected_per_member'])}.")
        frozen = until(story, "rosa", asked_for, "VOTING")
        members.vote(frozen, 0.9)
        until(story, "rosa", asked_for, "AWAITING_SIGNATURE")
        story.type("valley-health", "proposal", "enact", asked_for)
        request = wait_for(story, "going on", lambda: story.ask("acme", "mandate", "show", mandate),
                           lambda answer: answer["negotiation"])  # fmt: skip
        talk = story.type("acme", "license", "negotiations", request["negotiation"])
        tuning = talk["license"].rsplit("/", 1)[1]
        story.say(f"The vote passed, and the negotiation went on by itself: {tuning} is agreed. Acme pays.")
        pay(story, tuning)
        tuning_profile = open_profile(story, "acme", tuning, "tuning")
        tuned = delta_sharing.load_as_pandas(f"{tuning_profile}#valley-health.data.randhie")
        expect(len(tuned) == 20190, f"{len(tuned)} rows arrived")
        story.say(f"{len(tuned):,} rows, now licensed for fine-tuning too.")

        story.chapter(
            "8. A member withdraws",
            "Rosa changes her mind. One call, no reason asked. Her rows are gone from the next query on, and everybody who\n"
            "has a copy is told to delete them.",
        )
        mine = story.type("rosa", "member", "uses")
        story.say(f"Rosa sees who received her rows: {', '.join(sorted({one['recipient'] for one in mine['uses']}))}.")
        story.type("rosa", "consent", "withdraw", "randhie")
        started = time.perf_counter()
        her_rows = int((original["zper"].astype(str) == references[0]).sum())
        after = wait_for(story, "her rows going", lambda: load(f"{free_profile}#valley-health.data.randhie"),
                         lambda rows: rows is not None and len(rows) < 20190)  # fmt: skip
        expect(len(after) == 20190 - her_rows, f"{len(after)} rows are left, not {20190 - her_rows}")
        story.say(
            f"{time.perf_counter() - started:.1f} s later the university loads {len(after):,} rows: {her_rows} fewer."
        )
        notices = wait_for(story, "the notice", lambda: story.ask("uni-lab", "deletion", "list", "--open"),
                           lambda answer: answer["deletion_notices"])  # fmt: skip
        notice = notices["deletion_notices"][0]
        story.say(
            f"The university has a signed notice to delete {notice['row_count']} rows until {notice['due_time']}."
        )
        story.type(
            "uni-lab",
            "deletion",
            "attest",
            notice["name"].rsplit("/", 1)[1],
            "--attestation",
            "Deleted from all our disks.",
        )
        seen = wait_for(story, "the attestation", lambda: story.ask("rosa", "member", "uses"),
                        lambda answer: any(one.get("attest_time") for one in answer["uses"]))  # fmt: skip
        attested = next(one for one in seen["uses"] if one.get("attest_time"))
        story.say(f"Rosa sees that {attested['recipient']} attested it at {attested['attest_time']}.")

        story.chapter(
            "9. Access ends",
            "The cooperative ends Acme's first license. The token Acme holds has minutes to live; it stops working now.",
        )
        answer, delay = until_refused(story, profile, license)
        story.say(
            f"Refused {delay:.2f} s after the end was recorded, with {answer.status_code}: “{answer.json()['message']}”"
        )
        try:
            delta_sharing.load_as_pandas(table)
        except Exception as error:
            expect("GRANT_REVOKED" in str(error), f"the client was refused for another reason: {error}")
            story.say("The delta-sharing client is refused in the same way: [dim]401, GRANT_REVOKED[/]")
        else:
            raise Unexpected("the client still loads the data")
        lab = delta_sharing.load_as_pandas(f"{free_profile}#valley-health.data.randhie")
        expect(len(lab) == len(after), "the university lost its access too")
        story.say("The university's license is untouched.")
        proved = story.type("operator", "license", "prove")
        expect(int(proved["proved_count"]) == 2 and not proved.get("failures"), "a license does not hold")
        story.say("Both licenses left were proved again from the vote on, signature by signature; both hold.")
        members.close()


def rule(cooperative: str, dataset: str, columns: list[str], category: str, floor_minor: int) -> dict[str, Any]:
    """A rule as the contract spells it in JSON; what members vote on is this, not the words about it."""
    return {
        "effect": "RULE_EFFECT_ALLOW",
        "scope": {
            "datasets": [
                {
                    "dataset": f"cooperatives/{cooperative}/datasets/{dataset}",
                    "first_version": 1,
                    "columns": columns,
                }
            ],
            "categories": [f"BUYER_CATEGORY_{category}"],
            "purposes": ["ResearchAndDevelopment"],
            "actions": ["USE_ACTION_INSPECT", "USE_ACTION_ANALYZE"],
            "max_mode": "ACCESS_MODE_DOWNLOAD",
            "floor_price": {"amount_minor": str(floor_minor), "currency": "EUR"},
            "territories": ["WORLD"],
            "max_duration_seconds": str(365 * 86_400),
            "max_exclusivity": "EXCLUSIVITY_NONE",
            "duties": ["DUTY_ATTRIBUTION", "DUTY_NO_REIDENTIFICATION", "DUTY_HONOR_DELETIONS"],
        },
    }


def offer(story: Story, id: str, title: str, tiers: list[tuple[str, str, str]], *options: str) -> str:
    """One offering that stands on rules in force, signed with the cooperative's key. Each tier: category, price, rule."""
    words = list(options)
    for category, price, name in tiers:
        words += ["--tier", f"{category}={price}@{name.rsplit('/', 1)[1]}"]
    return str(story.type(id, "offering", "publish", "--title", title, *words)["name"])


def buyer(story: Story, id: str, name: str, category: str, evidence: str, territory: str) -> None:
    """A buyer registers and says what it is. Where no register can tell, two operators have to say the same."""
    join(story, id, "buyer", name, f"desk@{id}.example")
    story.type(id, "licensee", "register", "--category", category, "--evidence", evidence, "--territory", territory)
    if not story.key("second-operator").exists():
        story.type("operator", "key", "create", "second operator", "--role", "operator",
                   "--save-key", "second-operator.key")  # fmt: skip
    for who in ("operator", "second-operator"):
        story.type(who, "licensee", "attest", id, "--category", category)


def pay(story: Story, license: str) -> None:
    """Acme pays an order on the provider's page, and waits until the license is active."""
    payment = wait_for(story, "the order", lambda: try_pay(story, license), lambda answer: answer)
    pay_by_card(story, payment["checkout_url"])
    wait_for(story, "activation", lambda: story.type("acme", "license", "show", license),
             lambda answer: answer["state"] == "LICENSE_STATE_ACTIVE")  # fmt: skip


def open_profile(story: Story, who: str, license: str, name: str = "") -> Path:
    """A Delta Sharing profile for a license, once its grant is open."""
    profile = story.folder / f"{name or who}.share"
    wait_for(story, "the grant", lambda: try_profile(story, who, license, profile), lambda done: done)
    return profile


def load(table: str) -> Any:
    """The table, or None where the client was caught between a list of files and their end."""
    try:
        return delta_sharing.load_as_pandas(table)
    except FileNotFoundError:
        return None


def read_codes(path: Path) -> dict[str, str]:
    """Invitation codes by reference."""
    with path.open(newline="") as file:
        return {row["reference"]: row["code"] for row in csv.DictReader(file)}


def money(amount: dict[str, Any] | None) -> str:
    return f"{int((amount or {}).get('amount_minor', 0)) / 100:.2f} {(amount or {}).get('currency', '')}".strip()


def until_refused(story: Story, profile: Path, license: str) -> tuple[httpx.Response, float]:
    """Asks with Acme's token all the while the license is being ended; the first refusal and its delay in seconds."""
    written = json.loads(profile.read_text())
    shares = written["endpoint"].rstrip("/") + "/shares"
    with (
        httpx.Client(headers={"Authorization": f"Bearer {written['bearerToken']}"}, timeout=5) as client,
        ThreadPoolExecutor(1) as other,
    ):
        expect(client.get(shares).status_code == 200, "the token stopped too early")
        end = other.submit(
            story.type, "valley-health", "license", "terminate", license, "--reason", "The project is over."
        )
        deadline = time.monotonic() + 20
        while (answer := client.get(shares)).status_code == 200:
            expect(time.monotonic() < deadline, "the token still works")
            time.sleep(0.01)
        refused = time.time()
        recorded = pd.Timestamp(end.result()["end_time"]).timestamp()
    expect(answer.status_code == 401, f"the gateway answered {answer.status_code}")
    return answer, max(0.0, refused - recorded)


def find(document: Any, name: str) -> Any:
    """The first value under a name, wherever it is."""
    if isinstance(document, dict):
        if name in document:
            return document[name]
        document = list(document.values())
    if isinstance(document, list):
        for part in document:
            if (value := find(part, name)) is not None:
                return value
    return None


def try_pay(story: Story, license: str) -> Any:
    """The order follows the license by an event; asked a moment too early, there is none yet."""
    try:
        return story.type("acme", "order", "pay", license, "--method", "checkout")
    except Unexpected:
        return None


def try_profile(story: Story, who: str, license: str, path: Path) -> bool:
    """The grant follows the payment by two events."""
    try:
        story.type(who, "profile", license, "-o", path.name)
    except Unexpected:
        return False
    return True


def main() -> int:
    started = time.perf_counter()
    console.print("[bold]Rochdale[/]: data cooperatives license what their members agreed to share.")
    with tempfile.TemporaryDirectory(prefix="rochdale-demo-") as folder:
        try:
            tell(Story(Path(folder)))
        except Unexpected as problem:
            console.print(f"\n[red]The story ends here: {problem}[/]", soft_wrap=True)
            return 1
    console.print(f"\n[bold]That was all of it[/], in {time.perf_counter() - started:.0f} s. Nothing is left running.")
    console.print(
        "To keep a market up and look at it in a browser, run [cyan].venv/bin/rochdale up[/] and open the address it prints "
        "for the storefront. [cyan]docs/tour.md[/] goes on from there."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
