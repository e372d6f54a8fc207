"""The command without a market: help, usage, sentences, and how little it imports to say them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from rochdale.client import cli


def leaves(command: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        return [(path, command)]
    return [leaf for name, child in children.items() for leaf in leaves(child, (*path, name))]


def every_command() -> list[tuple[tuple[str, ...], Any]]:
    group = typer.main.get_command(cli.app)
    context = typer.Context(group, info_name="rochdale")
    return [leaf for noun in cli.NOUNS for leaf in leaves(group.resolve_command(context, [noun])[1], (noun,))]  # type: ignore[attr-defined]


COMMANDS = every_command()
CHANGES = """
organization register, organization verify, key create, cooperative create, member add, member invite, consent give,
consent refuse, consent record, proposal create, proposal amend, proposal comment, proposal challenge, proposal resolve,
proposal enact, rule forbid, rule narrow, rule end, dataset add, offering publish, licensee register, licensee claim,
licensee attest, quote, license request, license counter, license accept, license decline, license terminate,
mandate request, deletion attest, order pay, order confirm-transfer, order invoice, order refund, order confirm-refund,
order save-card, order import-transfers, subscription cancel, subscription budget, dispute answer, billing onboard,
billing set-bank-account, billing approve-bank-account, billing confirm-payout, billing return-payout,
billing resolve-break, billing close-month, billing cost, dividends open, dividends answer, dividends approve,
dividends discard, dividends settle, dividends object, dividends paid-to, dividends tax, dividends import-weights, token,
profile
"""


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_every_command_explains_itself(path: tuple[str, ...], command: Any, rochdale: Callable[..., Any]) -> None:
    ran = rochdale(*path, "--help")
    assert ran.code == 0
    assert f"rochdale {' '.join(path)}" in " ".join(ran.out.split()), "an example"
    for option in ("--json", "--market", "--key-file"):
        assert option in ran.out
    assert "--show-completion" not in ran.out
    assert all("\n" not in paragraph for paragraph in command.help.split("\n\n")), "folded by the terminal, not by us"
    for param in command.params:
        assert param.help or param.param_type_name == "argument", param.name


def test_every_change_can_be_retried() -> None:
    retried = {" ".join(path) for path, command in COMMANDS if any("--request-id" in p.opts for p in command.params)}
    assert retried == {" ".join(name.split()) for name in CHANGES.split(",")}


def test_help_imports_neither_grpc_nor_pandas_nor_arrow(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from rochdale.client.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print('loaded:', sorted(loaded & {'grpc', 'google', 'pandas', 'pyarrow', 'httpx', 'rochdale_kit'}))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "loaded: []" in ran.stdout


def test_no_market_is_a_sentence(rochdale: Callable[..., Any]) -> None:
    for arguments in (["search"], ["status"], ["license", "list"], ["get", "lic_1"]):
        ran = rochdale(*arguments)
        assert (ran.code, ran.out) == (1, "")
        assert "rochdale up" in ran.err
        assert "MARKET_NOT_FOUND" in ran.err


def test_every_value_is_understood_before_a_market_is_asked(rochdale: Callable[..., Any]) -> None:
    wish = shlex.split("--purpose A --action analyze --columns a,b --mode stream --duration 30d --price 1EUR")
    scope = shlex.split(
        "--dataset x --columns a --first-version 1 --last-version 2 --category sme --purpose A --action analyze"
        " --mode stream --floor-price 1EUR --territory FR --max-duration 30d --not-before 2027-01-01"
        " --not-after 2028-01-01 --max-licenses 3 --exclusivity none --duty attribution"
    )
    for arguments in (
        ["quote", "a/off_1", *wish],
        ["license", "request", "a/off_1", *wish],
        ["license", "counter", "neg_1", *wish],
        ["rule", "forbid", "--rationale", "x", *scope],
        ["rule", "narrow", "rule_1", "--effective-time", "2027-01-01", *scope],
        ["proposal", "create", "--title", "x", "--body", "y", "--effect", "deny", "--life", "90d", *scope],
        ["proposal", "list", "--state", "dissent-window"],
        ["proposal", "vote", "prop_1", "abstain"],
        ["proposal", "delegate", "mem_1", "--class", "sensitive"],
        ["proposal", "challenge", "prop_1", "--ground", "roll", "--statement", "x"],
        ["mandate", "request", "a/off_1", "--message", "x", *wish],
        ["licensee", "claim", "ror", "02feahw73"],
        ["offering", "publish", "--title", "x", "--tier", "sme=1 EUR@rule_1", *scope],
        ["search", "--category", "sme", "--max-price", "1EUR", "--order", "price", "--mode", "stream"],
        ["key", "create", "x", "--role", "buyer", "--save-key", "x.key", "--expires", "2027-01-01"],
        ["license", "list", "--state", "active"],
        ["order", "pay", "lic_1", "--method", "card-intent"],
        ["order", "confirm-transfer", "ord_1", "--amount", "1 EUR", "--bank-reference", "x"],
        ["token", "lic_1", "--ttl", "5m"],
        ["licensee", "register", "--category", "sme", "--evidence", "x", "--territory", "fr"],
    ):
        ran = rochdale(*arguments)
        assert "MARKET_NOT_FOUND" in ran.err, (arguments, ran.err)


def test_usage_errors_end_with_two(rochdale: Callable[..., Any]) -> None:
    for arguments in (
        ["serch"],
        ["search", "--category", "nobody"],
        ["order", "pay", "ord_1", "--method", "cash"],
        ["order", "confirm-transfer", "ord_1", "--amount", "-1 EUR", "--bank-reference", "x"],
        ["token", "lic_1", "--ttl", "soon"],
        ["member", "add"],
        ["member", "invite"],
        ["member", "update"],
        ["consent", "give", "randhie", "--purpose", "AcademicResearch"],
        ["consent", "withdraw"],
        ["proposal", "create", "--title", "x"],
        ["proposal", "vote", "prop_1", "maybe"],
        ["proposal", "resolve", "prop_1", "1", "--answer", "x"],
        ["proposal", "delegate"],
        ["dataset", "add", "there-is-no-such-file", "--dataset", "x", "--yes"],
        ["license", "request", "a/off_1", "--quote", "quo_1", "--price", "1 EUR"],
    ):
        ran = rochdale(*arguments)
        assert ran.code == 2, arguments
        assert "Traceback" not in ran.err
    assert "Did you mean 'search'" in rochdale("serch").err


def test_an_empty_file_and_a_key_that_ended_are_refused_at_once(rochdale: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    ran = rochdale("dataset", "add", str(tmp_path / "empty.csv"), "--dataset", "trips", "--yes")
    assert ran.code == 1 and "empty.csv is empty" in ran.err
    key = tmp_path / "old.key"
    ran = rochdale("key", "create", "old", "--role", "steward", "--save-key", str(key), "--expires", "2020-01-01")
    assert ran.code == 2 and "has passed" in ran.err and not key.exists()


def test_nobody_to_ask_is_said_before_anything_is_sent(rochdale: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    ran = rochdale("dataset", "add", str(tmp_path / "x.csv"), "--dataset", "x", "--json")
    assert ran.code == 2
    assert "--yes" in ran.err


def test_who_decides_now_is_said(rochdale: Callable[..., Any]) -> None:
    ran = rochdale("rule", "propose", "--dataset", "x", "--category", "academic", "--rationale", "x")
    assert ran.code == 1 and "rochdale proposal create" in ran.err and "MEMBERS_DECIDE" in ran.err


def test_a_missing_plugin_says_how_to_get_it(rochdale: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_plugins", dict)
    ran = rochdale("up")
    assert ran.code == 1
    assert "pip install rochdale-local" in ran.err
    assert "up" in rochdale("--help").out


def test_a_plugin_adds_a_command(rochdale: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()

    @app.command()
    def hello(name: str) -> None:
        typer.echo(f"hello {name}")

    class Entry:
        name = "hello"

        def load(self) -> typer.Typer:
            return app

    monkeypatch.setattr(cli, "_plugins", lambda: {"hello": Entry()})
    assert rochdale("hello", "rochdale").out == "hello rochdale\n"


def test_a_fault_of_our_own_is_a_sentence_too(rochdale: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(cli, "_plugins", broken)
    ran = rochdale("up")
    assert ran.code == 1
    assert "CLIENT_FAULT" in ran.err
    assert "Traceback" not in ran.err
