"""rochdale dividends, the part about one member: statements and their arithmetic, where a member is paid, objections."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from rochdale.billing.v1 import dividends_pb2
from rochdale.client.authority import DIVIDEND_WEIGHTS_PREFIX
from rochdale.client.dividend_views import RunName, run_name, statement_fields
from rochdale.client.market import Market
from rochdale.client.member_options import OneMember, OwnOrMember, member_name
from rochdale.client.names import same_request, short
from rochdale.client.options import Limit, RequestId, collect, existing, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, count_bar, document, fields, note, say, table
from rochdale.client.refusals import MarketError
from rochdale.client.signing_options import SigningKeyFile, current_signing_key, get_cooperative
from rochdale.client.terms import RUN_STATES, STATEMENT_FORMATS, price, when
from rochdale.client.treasury_options import OutputFile, keep_file

# As many as the contract takes at once.
_WEIGHTS = 5000

OfRun = Annotated[str | None, typer.Option("--run", metavar="RUN", help="run_…; default: the newest with a line.")]


def add_to(app: typer.Typer) -> None:
    """Adds its commands."""
    app.command()(explain)
    app.command()(statements)
    app.command()(statement)
    app.command("object")(object_)
    app.command("paid-to")(paid_to)
    app.command()(tax)
    app.command("import-weights")(import_weights)


def _statement_name(market: Market, member: str | None, run: str | None) -> str:
    """Of the run that is named, else of the member's newest statement. Refuses with STATEMENT_NOT_FOUND."""
    name = member_name(market, member)
    if run is not None:
        return f"{name}/statements/{run_name(market, run).rsplit('/', 1)[1]}"
    request = dividends_pb2.ListStatementsRequest(parent=name, page_size=1)
    found = market.call(market.dividends.ListStatements, request).statements
    if not found:
        raise MarketError("STATEMENT_NOT_FOUND", f"{short(name)} has no statement yet.", {"member": name})
    return str(found[0].name)


def explain(context: typer.Context, member: OwnOrMember = None, run: OfRun = None) -> None:
    """Show one member's line of a run with its whole arithmetic.

    [dim]$[/] rochdale dividends explain --key-file me.key

    [dim]$[/] rochdale dividends explain mem_01J… --run run_01J…      [dim]# as a steward[/]
    """
    market = open_market(context)
    request = dividends_pb2.GetStatementRequest(name=_statement_name(market, member, run))
    answer = market.call(market.dividends.GetStatement, request)
    document(as_dict(answer))
    say(answer.explanation)
    fields(statement_fields(answer))
    note(f"What went in has the SHA-256 {answer.run.inputs_hash}.")


def statements(context: typer.Context, member: OwnOrMember = None, limit: Limit = 50) -> None:
    """List a member's statements, newest first, and what the member has by now.

    [dim]$[/] rochdale dividends statements --key-file me.key
    """
    market = open_market(context)
    request = dividends_pb2.ListStatementsRequest(parent=member_name(market, member))
    found = collect(market, market.dividends.ListStatements, request, "statements", limit)
    request.page_size, request.page_token = 1, ""
    payable = market.call(market.dividends.ListStatements, request).payable
    document(
        {
            "statements": [as_dict(each) for each in found],
            "more": found.more,
            "payable": [as_dict(one) for one in payable],
        }
    )
    rows = [
        [
            each.name.rsplit("/", 1)[1],
            each.month,
            RUN_STATES.format(each.state),
            price(each.amount),
            price(each.paid) if each.paid.amount_minor else "-",
            price(each.carried_out) if each.carried_out.amount_minor else "-",
            each.carry_reason.lower().replace("_", " "),
        ]
        for each in found
    ]
    table(["run", "month", "state", "allotted", "paid", "carried forward", "because"], rows)
    if payable:
        say(f"Yours and not paid yet: {', '.join(price(one) for one in payable)}.")


def statement(
    context: typer.Context,
    member: OwnOrMember = None,
    run: OfRun = None,
    format: Annotated[
        Any,
        typer.Option("--format", parser=parser(STATEMENT_FORMATS.parse), metavar="FORMAT", help=STATEMENT_FORMATS.all),
    ] = "pdf",
    output: OutputFile = None,
) -> None:
    """Keep a statement as a file. The JSON has all that is needed to work it out again.

    [dim]$[/] rochdale dividends statement --format json -o - --key-file me.key
    """
    market = open_market(context)
    request = dividends_pb2.ExportStatementRequest(name=_statement_name(market, member, run), format=format)
    answer = market.call(market.dividends.ExportStatement, request)
    path = keep_file(answer.file_name, answer.content, output)
    if path is not None:
        document({"file": str(path)})
        say(f"The statement is in {path}.")


def object_(
    context: typer.Context,
    run: RunName,
    text: Annotated[str, typer.Argument(help="What is wrong with it.")],
    request_id: RequestId = None,
) -> None:
    """Object to a run that is being shown, as a member.

    [dim]$[/] rochdale dividends object run_01J… "I contributed ten rows in March" --key-file me.key
    """
    market = open_market(context)
    request = dividends_pb2.ObjectToDividendRunRequest(
        request_id=request_id_or_new(request_id), name=run_name(market, run), text=text
    )
    document(as_dict(market.call(market.dividends.ObjectToDividendRun, request)))
    say("Your objection is on record; the run is not approved before it is answered.")


def paid_to(
    context: typer.Context,
    iban: Annotated[
        str | None, typer.Argument(help='Your IBAN; "" to be paid no more; nothing to see what is known.')
    ] = None,
    holder: Annotated[str, typer.Option("--holder", help="Whose account it is.")] = "",
    request_id: RequestId = None,
) -> None:
    """Say where your dividends are paid, or see what is known. A change is used after three days.

    [dim]$[/] rochdale dividends paid-to "NL91 ABNA 0417 1643 00" --holder "R. Vos" --key-file me.key
    """
    market = open_market(context)
    if iban is None:
        answer = market.call(market.dividends.GetPayee, dividends_pb2.GetPayeeRequest(parent=market.member))
    else:
        request = dividends_pb2.SetPayeeRequest(
            request_id=request_id_or_new(request_id), parent=market.member, iban=iban, holder=holder
        )
        answer = market.call(market.dividends.SetPayee, request)
    document(as_dict(answer))
    if not answer.iban_end:
        say("No account is known; your dividends stay yours and wait.")
    else:
        say(f"Paid to …{answer.iban_end}, {answer.holder}, from {when(answer, 'usable_time')} on.")


def tax(
    context: typer.Context,
    member: OneMember,
    classification: Annotated[
        str | None, typer.Argument(help="Such as patronage_dividend; nothing to see what is kept.")
    ] = None,
    withholding: Annotated[int, typer.Option("--withholding", help="In ten-thousandths.")] = 0,
    jurisdiction: Annotated[str, typer.Option("--jurisdiction", help="Such as NL.")] = "",
    basis: Annotated[str, typer.Option("--basis", help="On what the decision rests.")] = "",
    request_id: RequestId = None,
) -> None:
    """Keep how a member's dividends are classified for taxes (stewards). The market does not decide it.

    [dim]$[/] rochdale dividends tax mem_01J… patronage_dividend --jurisdiction US --basis "Counsel, 2026-11-02"
    """
    market = open_market(context)
    name = member_name(market, member)
    if classification is None:
        answer = market.call(market.dividends.GetTaxProfile, dividends_pb2.GetTaxProfileRequest(parent=name))
    else:
        profile = dividends_pb2.TaxProfile(
            name=f"{name}/taxProfile",
            jurisdiction=jurisdiction.upper(),
            classification=classification,
            withholding_bps=withholding,
            basis_note=basis,
        )
        request = dividends_pb2.SetTaxProfileRequest(request_id=request_id_or_new(request_id), tax_profile=profile)
        answer = market.call(market.dividends.SetTaxProfile, request)
    document(as_dict(answer))
    fields(
        {
            "classification": answer.classification,
            "withheld": f"{answer.withholding_bps} ten-thousandths" if answer.withholding_bps else "",
            "jurisdiction": answer.jurisdiction,
            "basis": answer.basis_note,
            "decided by": answer.decided_by,
            "decided": when(answer, "decide_time"),
        }
    )


def _weights(file: Path, parent: str) -> Iterator[dividends_pb2.MemberWeight]:
    with file.open(newline="", encoding="utf-8") as rows:
        for number, row in enumerate(csv.reader(rows), start=1):
            if len(row) != 3 or not row[2].strip().isdecimal():
                if number == 1:
                    continue  # a header
                raise typer.BadParameter(f"Line {number} of {file} is not member,version,units.")
            member, version, units = (cell.strip() for cell in row)
            yield dividends_pb2.MemberWeight(
                member=member if "/" in member else f"{parent}/members/{member}", version=version, units=int(units)
            )


def import_weights(
    context: typer.Context,
    month: Annotated[str, typer.Argument(help="The month they are for, such as 2026-10.")],
    file: Annotated[Path, typer.Argument(help="CSV lines member,version,units, such as data Shapley values.")],
    signing_key: SigningKeyFile = None,
    request_id: RequestId = None,
) -> None:
    """Bring weights that were worked out elsewhere, signed with the cooperative's key.

    [dim]$[/] rochdale dividends import-weights 2026-10 shapley.csv
    """
    market = open_market(context)
    cooperative = get_cooperative(market, market.organization)
    key = current_signing_key(market, signing_key, cooperative)
    weights = list(_weights(existing(file), cooperative.name))
    # With the month, so that what was signed for one counts for no other.
    lines = f"{cooperative.name}\t{month}\n" + "".join(f"{one.member}\t{one.version}\t{one.units}\n" for one in weights)
    weights_hash = hashlib.sha256(lines.encode()).hexdigest()
    signature = key.sign(DIVIDEND_WEIGHTS_PREFIX, weights_hash)
    request_id = request_id_or_new(request_id)
    answer = dividends_pb2.ImportWeightsResponse()
    with count_bar() as bar:
        task = bar.add_task("Importing weights", total=len(weights))
        for number, start in enumerate(range(0, max(len(weights), 1), _WEIGHTS)):
            request = dividends_pb2.ImportWeightsRequest(
                request_id=same_request(request_id, str(number)),
                parent=cooperative.name,
                month=month,
                weights_hash=weights_hash,
                signature=signature,
                weights=weights[start : start + _WEIGHTS],
                offset=start,
                last=start + _WEIGHTS >= len(weights),
            )
            answer = market.call(market.dividends.ImportWeights, request)
            bar.update(task, completed=min(start + _WEIGHTS, len(weights)))
    document(as_dict(answer))
    say(f"{answer.weight_count:,} weights for {month} are in.")
