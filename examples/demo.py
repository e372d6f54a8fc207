"""The market's main job, told in a terminal: real data licensed, paid for, delivered, and cut off.

It types the same `rochdale` commands anybody would, against a market of its own in a temporary folder, and stops at the
first thing that is not as it should be. It leaves nothing running.
"""

from __future__ import annotations

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

console = Console(highlight=False)
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

    def type(self, who: str, *words: str, shown: str = "", stdin: str | None = None) -> Any:
        """Runs `rochdale …` as somebody and returns its JSON answer."""
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
        console.print(
            f"  [cyan]{who}$[/] {shown or 'rochdale ' + shlex.join(words)}  [dim]{seconds:.1f} s[/]", soft_wrap=True
        )
        if done.returncode != 0:
            raise Unexpected(f"{who} was refused: {done.stderr.strip() or done.stdout.strip()}")
        return json.loads(done.stdout)

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
def market(story: Story) -> Iterator[dict[str, Any]]:
    """`rochdale up` for as long as the story lasts."""
    with console.status("Starting PostgreSQL, NATS, a Stripe simulator and every service …"):
        started = time.perf_counter()
        log = (story.folder / "market.log").open("w")
        up = subprocess.Popen(
            [ROCHDALE, "up", "--home", str(story.folder / "market"), "--json"],
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
        console.print(f"  [cyan]operator$[/] rochdale up  [dim]{seconds:.1f} s[/]")
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


def publish(story: Story, id: str, dataset: str, title: str, tiers: list[tuple[str, str]]) -> tuple[str, list[str]]:
    """A rule for each group of buyers, then one offering that stands on them. Returns the offering and the rules."""
    rules = []
    for category, price in tiers:
        rule = story.type(
            id, "rule", "propose", "--dataset", dataset, "--category", category, "--floor-price", price,
            "--purpose", "ResearchAndDevelopment", "--duty", "attribution", "--duty", "no-reidentification",
            "--rationale", f"{category.title()} buyers may study this at {price} or more.",
        )  # fmt: skip
        rules.append(rule["name"])
    words = []
    for (category, price), rule in zip(tiers, rules, strict=True):
        words += ["--tier", f"{category}={price}@{rule.rsplit('/', 1)[1]}"]
    offering = story.type(id, "offering", "publish", "--title", title, *words)
    return str(offering["name"]), rules


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
    with market(story) as document:
        story.say(f"Everything runs on this machine. Its shop window: {document['storefront']}")

        story.chapter(
            "1. A cooperative joins",
            "Valley Health is owned by 5,912 people who took part in a study of health insurance. They pool what was recorded\n"
            "about them; the stewards of their cooperative decide, under its charter, who may use it and at which price.",
        )
        join(story, "valley-health", "cooperative", "Valley Health", "ada@valley.example")
        story.type("valley-health", "cooperative", "create", "--name", "Valley Health",
                   "--description", "Health records of the people of six towns.")  # fmt: skip
        members = "\n".join(str(member) for member in sorted(original["zper"].unique()))
        added = story.type("valley-health", "member", "add", "--file", "-", stdin=members,
                           shown="tail -n +2 randhie.csv | cut -d, -f6 | sort -u | rochdale member add --file -")  # fmt: skip
        story.say(f"{added['added_count']:,} members joined.")
        join(story, "open-surveys", "cooperative", "Open Surveys", "desk@surveys.example")
        story.type("open-surveys", "cooperative", "create", "--name", "Open Surveys",
                   "--description", "Answers people gave to surveys.")  # fmt: skip

        story.chapter(
            "2. It adds its data and decides",
            "The file goes to the cooperative's own gateway, not to the marketplace. Members' numbers become pseudonyms\n"
            "before anything is stored for delivery. Rules say who may use it at which price; nothing outside them can be\n"
            "offered.",
        )
        version = story.type("valley-health", "dataset", "add", str(randhie), "--dataset", "randhie", "--title",
                             "RAND Health Insurance Experiment", "--description",
                             "Outpatient visits and health of 5,912 persons over five years.", "--language", "en",
                             "--member-column", "zper", "--yes",
                             shown="rochdale dataset add randhie.csv --dataset randhie --member-column zper …")  # fmt: skip
        story.say(f"Version 1 is published: {int(find(version, 'row_count')):,} rows.")
        offering, _ = publish(story, "valley-health", "randhie", "Health insurance and visits to the doctor",
                              [("academic", "0 EUR"), ("company", "1200 EUR")])  # fmt: skip
        story.type("open-surveys", "dataset", "add", str(source("fair")), "--dataset", "affairs", "--title",
                   "Survey on marriages, 1974", "--language", "en", "--yes",
                   shown="rochdale dataset add fair.csv --dataset affairs …")  # fmt: skip
        publish(
            story, "open-surveys", "affairs", "A survey on marriages", [("academic", "0 EUR"), ("company", "150 EUR")]
        )

        story.chapter(
            "3. A company buys",
            "Acme builds models of care. It searches, asks the price for companies, requests a license, and pays.",
        )
        join(story, "acme", "buyer", "Acme Models", "desk@acme.example")
        story.type("acme", "licensee", "register", "--category", "company", "--evidence", "Register of companies 4711",
                   "--territory", "DE")  # fmt: skip
        story.type("operator", "licensee", "attest", "acme", "--category", "company")
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
        story.say(f"Agreed at once, because it is inside the cooperative's rules. The license: {license}")
        payment = wait_for(story, "the order", lambda: try_pay(story, license), lambda answer: answer)
        pay_by_card(story, payment["checkout_url"])
        paid = time.perf_counter()

        story.chapter(
            "4. The data arrives",
            "A token opens exactly what was licensed, at one gateway, for 15 minutes. The client is delta-sharing as it\n"
            "comes from PyPI; it knows nothing of us.",
        )
        wait_for(story, "activation", lambda: story.type("acme", "license", "show", license),
                 lambda answer: answer["state"] == "LICENSE_STATE_ACTIVE")  # fmt: skip
        profile = story.folder / "acme.share"
        wait_for(story, "the grant", lambda: try_profile(story, "acme", license, profile), lambda done: done)
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
            "5. A university gets the same for free",
            "By the cooperative's rules, research at universities costs nothing. Same offering, other terms.",
        )
        join(story, "uni-lab", "buyer", "University Lab", "lab@uni.example")
        story.type("uni-lab", "licensee", "register", "--category", "academic", "--evidence",
                   "https://ror.org/02feahw73", "--territory", "FR")  # fmt: skip
        story.type("operator", "licensee", "attest", "uni-lab", "--category", "academic")
        free = story.type(
            "uni-lab", "license", "request", short, "--purpose", "AcademicResearch", "--columns", "site,mdvis,xage"
        )
        free_license = free["license"].rsplit("/", 1)[1]
        free_profile = story.folder / "lab.share"
        wait_for(
            story, "the grant", lambda: try_profile(story, "uni-lab", free_license, free_profile), lambda done: done
        )
        with story.timed("delta_sharing.load_as_pandas('lab.share#valley-health.data.randhie')"):
            few = delta_sharing.load_as_pandas(f"{free_profile}#valley-health.data.randhie")
        expect(set(few.columns) == {"site", "mdvis", "xage"} and len(few) == 20190, "the wrong columns arrived")
        story.say(f"{len(few):,} rows of the three columns it asked for. Nothing was owed, nothing was paid.")

        story.chapter(
            "6. Access ends",
            "The cooperative ends Acme's license. The token Acme holds has minutes to live; it stops working now.",
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
        expect(len(lab) == 20190, "the university lost its access too")
        story.say("The university's license is untouched.")


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
