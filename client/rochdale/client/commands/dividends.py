"""rochdale dividends: a month's run from opening to payment. What one member sees is in dividends_member.py."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rochdale.billing.v1 import dividends_pb2
from rochdale.client.commands import dividends_member
from rochdale.client.dividend_views import RunName, policy_lines, run_fields, run_name
from rochdale.client.names import short
from rochdale.client.options import Limit, RequestId, collect, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, count_bar, document, fields, note, say, spinner, table
from rochdale.client.terms import PAYMENT_FILE_FORMATS, RUN_STATES, count, price, when
from rochdale.client.treasury_options import OfTreasury, OutputFile, keep_payments, own_cooperative

app = typer.Typer(help="What members earn: runs, statements, payments.", no_args_is_help=True)
dividends_member.add_to(app)

# A part takes well under a second; a run of a large cooperative that is being worked out may take longer.
_COMPUTE_SECONDS = 600.0


@app.command()
def policies(context: typer.Context, cooperative: OfTreasury = None) -> None:
    """Show how members decided to divide what is earned.

    [dim]$[/] rochdale dividends policies
    """
    market = open_market(context)
    request = dividends_pb2.ListDividendPoliciesRequest(parent=own_cooperative(market, cooperative))
    answer = market.call(market.dividends.ListDividendPolicies, request)
    document(as_dict(answer))
    for one in answer.policies:
        fields(policy_lines(one), title=f"Policy {short(one.name)}")
    if not answer.policies:
        say("Members have not decided yet; a proposal with a dividend policy does it.")


@app.command("open")
def open_(
    context: typer.Context,
    month: Annotated[str, typer.Argument(help="Such as 2026-10; it must be over.")],
    currency: Annotated[str, typer.Option("--currency", help="Such as EUR.")] = "EUR",
    cooperative: OfTreasury = None,
    request_id: RequestId = None,
) -> None:
    """Open the run of a month, and work it out.

    [dim]$[/] rochdale dividends open 2026-10
    """
    market = open_market(context)
    request = dividends_pb2.CreateDividendRunRequest(
        request_id=request_id_or_new(request_id),
        parent=own_cooperative(market, cooperative),
        month=month,
        currency=currency.upper(),
    )
    made = market.call(market.dividends.CreateDividendRun, request)
    with spinner("Working it out"):
        run = market.call(
            market.dividends.ComputeDividendRun,
            dividends_pb2.ComputeDividendRunRequest(name=made.name),
            timeout_seconds=_COMPUTE_SECONDS,
        )
    document(as_dict(run))
    fields(run_fields(run))
    note(f"Look at it, then show it to members: rochdale dividends publish {short(run.name)}")


@app.command()
def compute(context: typer.Context, run: RunName) -> None:
    """Work a run out again, from what is known now.

    [dim]$[/] rochdale dividends compute run_01J…
    """
    market = open_market(context)
    with spinner("Working it out"):
        answer = market.call(
            market.dividends.ComputeDividendRun,
            dividends_pb2.ComputeDividendRunRequest(name=run_name(market, run)),
            timeout_seconds=_COMPUTE_SECONDS,
        )
    document(as_dict(answer))
    fields(run_fields(answer))


@app.command("list")
def list_(context: typer.Context, cooperative: OfTreasury = None, limit: Limit = 50) -> None:
    """List runs, newest first.

    [dim]$[/] rochdale dividends list
    """
    market = open_market(context)
    request = dividends_pb2.ListDividendRunsRequest(parent=own_cooperative(market, cooperative))
    found = collect(market, market.dividends.ListDividendRuns, request, "dividend_runs", limit)
    found.document("dividend_runs")
    rows = [
        [
            short(each.name),
            each.month,
            RUN_STATES.format(each.state),
            price(each.surplus),
            f"{each.member_count:,}",
            price(each.paid) if each.HasField("paid") else "-",
            price(each.carried) if each.HasField("carried") else "-",
        ]
        for each in found
    ]
    table(["run", "month", "state", "to divide", "members", "paid", "carried forward"], rows)


@app.command()
def show(context: typer.Context, run: RunName) -> None:
    """Show a run: what there was, where it went, what each version earned, who objected.

    [dim]$[/] rochdale dividends show run_01J…
    """
    market = open_market(context)
    request = dividends_pb2.GetDividendRunRequest(name=run_name(market, run))
    answer = market.call(market.dividends.GetDividendRun, request)
    document(as_dict(answer))
    fields(run_fields(answer))
    rows = [
        [
            source.version or "(for all)",
            price(source.earned),
            price(source.pool),
            f"{source.member_count:,}",
            f"{source.total_units:,}",
        ]
        for source in answer.sources
    ]
    table(["version", "earned", "to its members", "members", "units"], rows, empty="No version earned anything.")
    if answer.objections:
        objections = [
            [str(one.number), short(one.member) or "-", one.text, one.answer or "no answer yet"]
            for one in answer.objections
        ]
        table(["objection", "member", "says", "answer"], objections)


@app.command()
def publish(context: typer.Context, run: RunName) -> None:
    """Show a run to its members, who may object until the window ends.

    [dim]$[/] rochdale dividends publish run_01J…
    """
    market = open_market(context)
    request = dividends_pb2.OpenObjectionsRequest(name=run_name(market, run))
    answer = market.call(market.dividends.OpenObjections, request)
    document(as_dict(answer))
    say(f"Members can object until {when(answer, 'objection_end_time')}.")


@app.command()
def answer(
    context: typer.Context,
    run: RunName,
    number: Annotated[int, typer.Argument(help="Number of the objection.")],
    text: Annotated[str, typer.Argument(help="What you answer.")],
    request_id: RequestId = None,
) -> None:
    """Answer a member's objection.

    [dim]$[/] rochdale dividends answer run_01J… 1 "Your ten rows of March were excluded because …"
    """
    market = open_market(context)
    request = dividends_pb2.AnswerObjectionRequest(
        request_id=request_id_or_new(request_id), name=run_name(market, run), number=number, answer=text
    )
    document(as_dict(market.call(market.dividends.AnswerObjection, request)))
    say(f"Objection {number} is answered.")


@app.command()
def approve(context: typer.Context, run: RunName, request_id: RequestId = None) -> None:
    """Approve a run whose objection window is over. Two people have to.

    [dim]$[/] rochdale dividends approve run_01J…
    """
    market = open_market(context)
    name = run_name(market, run)
    seen = market.call(market.dividends.GetDividendRun, dividends_pb2.GetDividendRunRequest(name=name))
    fields(run_fields(seen))
    request = dividends_pb2.ApproveDividendRunRequest(
        request_id=request_id_or_new(request_id), name=name, inputs_hash=seen.inputs_hash
    )
    answer = market.call(market.dividends.ApproveDividendRun, request)
    document(as_dict(answer))
    if answer.state == dividends_pb2.RUN_STATE_APPROVED:
        say(f"{short(answer.name)} is approved. Post it: rochdale dividends post {short(answer.name)}")
    else:
        say("Approved by you; another person has to approve it too.")


@app.command()
def discard(context: typer.Context, run: RunName, request_id: RequestId = None) -> None:
    """Give a run up before it is posted. Its month can be run again.

    [dim]$[/] rochdale dividends discard run_01J…
    """
    market = open_market(context)
    request = dividends_pb2.DiscardDividendRunRequest(
        request_id=request_id_or_new(request_id), name=run_name(market, run)
    )
    document(as_dict(market.call(market.dividends.DiscardDividendRun, request)))
    say("Discarded.")


@app.command()
def post(context: typer.Context, run: RunName) -> None:
    """Book a run to its members, part by part. Stop it whenever you like; the same command goes on where it was.

    [dim]$[/] rochdale dividends post run_01J…
    """
    market = open_market(context)
    request = dividends_pb2.PostDividendRunRequest(name=run_name(market, run))
    with count_bar() as bar:
        task = bar.add_task("Posting", total=None)
        while True:
            answer = market.call(market.dividends.PostDividendRun, request)
            bar.update(task, total=answer.member_count, completed=answer.posted_count)
            if answer.state not in (dividends_pb2.RUN_STATE_APPROVED, dividends_pb2.RUN_STATE_POSTING):
                break
    document(as_dict(answer))
    say(f"{count(answer.posted_count, 'member')} posted. Pay them: rochdale dividends pay {short(answer.name)}")


@app.command()
def pay(
    context: typer.Context,
    run: RunName,
    format: Annotated[
        Any,
        typer.Option(
            "--format", parser=parser(PAYMENT_FILE_FORMATS.parse), metavar="FORMAT", help=PAYMENT_FILE_FORMATS.all
        ),
    ] = "pain-001",
    output: OutputFile = None,
) -> None:
    """Make out the payments of a posted run, and write the file for your bank. Again, the same file.

    [dim]$[/] rochdale dividends pay run_01J… --format pain-001
    """
    market = open_market(context)
    name = run_name(market, run)
    answer = market.call(
        market.dividends.PayDividendRun,
        dividends_pb2.PayDividendRunRequest(name=name),
        timeout_seconds=_COMPUTE_SECONDS,
    )
    if answer.HasField("carried") and answer.carried_count:
        note(f"{count(answer.carried_count, 'member')} with {price(answer.carried)} are carried forward.")
    if answer.HasField("paid") and answer.paid.amount_minor:
        request = dividends_pb2.ExportDividendPaymentsRequest(name=name, format=format)
        keep_payments(
            market.call(market.dividends.ExportDividendPayments, request, timeout_seconds=_COMPUTE_SECONDS), output
        )
    else:
        document(as_dict(answer))
        say("Nobody is to be paid with this run; everything is carried forward.")


@app.command()
def settle(
    context: typer.Context,
    run: RunName,
    bank_reference: Annotated[str, typer.Option("--bank-reference", help="The bank's own reference of the batch.")],
    returned: Annotated[
        list[str] | None, typer.Option("--returned", metavar="MEMBER", help="Whose payment came back; repeatable.")
    ] = None,
    cooperative: OfTreasury = None,
    request_id: RequestId = None,
) -> None:
    """Say that the bank made a run's payments, and which of them came back.

    [dim]$[/] rochdale dividends settle run_01J… --bank-reference 2026-11-25/0042

    [dim]$[/] rochdale dividends settle run_01J… --bank-reference 2026-11-25/0042 --returned mem_01J…
    """
    market = open_market(context)
    name = run_name(market, run)
    parent = "/".join(name.split("/")[:2])
    request = dividends_pb2.SettleDividendPaymentsRequest(
        request_id=request_id_or_new(request_id),
        name=name,
        bank_reference=bank_reference,
        returned_members=[one if "/" in one else f"{parent}/members/{one}" for one in returned or ()],
    )
    answer = market.call(market.dividends.SettleDividendPayments, request, timeout_seconds=_COMPUTE_SECONDS)
    document(as_dict(answer))
    fields(run_fields(answer))
