"""rochdale deletion: what members withdrew and a licensee has to delete; attesting that it is done."""

from __future__ import annotations

from typing import Annotated

import typer

from rochdale.client.authority import DELETION_NOTICE_PREFIX, canonical_hash_without
from rochdale.client.names import in_collection, short
from rochdale.client.options import Limit, RequestId, collect, open_market, request_id_or_new
from rochdale.client.output import as_dict, document, fields, note, say, table
from rochdale.client.proposal_options import governance_keys
from rochdale.client.refusals import MarketError
from rochdale.client.terms import DELETION_GROUNDS, left_until, when
from rochdale.governance.v1 import membership_pb2

app = typer.Typer(help="Notices to delete what members withdrew.", no_args_is_help=True)

Notice = Annotated[str, typer.Argument(metavar="NOTICE", help="del_…, as `rochdale deletion list` shows it.")]


def _due(notice: membership_pb2.DeletionNotice) -> str:
    if notice.HasField("attest_time"):
        return f"attested {when(notice, 'attest_time')}"
    return f"{when(notice, 'due_time')} ({left_until(notice.due_time)})"


def _fields(notice: membership_pb2.DeletionNotice) -> dict[str, str]:
    return {
        "notice": short(notice.name),
        "cooperative": short(notice.cooperative),
        "license": short(notice.license),
        "to": short(notice.recipient),
        "versions": ", ".join("/".join(name.split("/")[3::2]) for name in notice.versions),
        "rows": f"{notice.row_count:,}",
        "why": DELETION_GROUNDS.format(notice.ground),
        "issued": when(notice, "issue_time"),
        "due": _due(notice),
        "attested": notice.attestation,
        "attested by": notice.attested_by,
    }


@app.command("list")
def list_(
    context: typer.Context,
    open_only: Annotated[bool, typer.Option("--open", help="Only those not yet attested.")] = False,
    limit: Limit = 50,
) -> None:
    """List notices to your organization, or from your cooperative, newest first.

    [dim]$[/] rochdale deletion list --open
    """
    market = open_market(context)
    request = membership_pb2.ListDeletionNoticesRequest(open_only=open_only)
    found = collect(market, market.membership.ListDeletionNotices, request, "deletion_notices", limit)
    found.document("deletion_notices")
    keys = ["notice", "cooperative", "license", "to", "versions", "rows", "why", "due"]
    table(keys, [[_fields(each)[key] for key in keys] for each in found], empty="Nothing has to be deleted.")


@app.command()
def show(context: typer.Context, notice: Notice) -> None:
    """Show one notice, after checking governance's signature.

    [dim]$[/] rochdale deletion show del_01J…
    """
    market = open_market(context)
    request = membership_pb2.GetDeletionNoticeRequest(name=in_collection("deletionNotices", notice))
    answer = market.call(market.membership.GetDeletionNotice, request)
    later = ("signature", "attest_time", "attestation", "attested_by")
    hashed = canonical_hash_without(answer, *later)
    if not governance_keys(market).verify(answer.signature, DELETION_NOTICE_PREFIX, hashed):
        raise MarketError("NOTICE_INVALID", f"Governance did not sign {answer.name} as it is.", {"name": answer.name})
    document(as_dict(answer))
    fields(_fields(answer) | {"hashes of the rows": ", ".join(answer.rows_hashes)})
    if not answer.HasField("attest_time"):
        note(
            f"The gateway lists the rows at /v1/licenses/{short(answer.license)}/withdrawals, with an access token. "
            f'When they are gone: rochdale deletion attest {short(answer.name)} --attestation "…"'
        )


@app.command()
def attest(
    context: typer.Context,
    notice: Notice,
    attestation: Annotated[str, typer.Option("--attestation", help="What was deleted where, and how.")],
    request_id: RequestId = None,
) -> None:
    """Attest that the rows are deleted. The members concerned see it.

    [dim]$[/] rochdale deletion attest del_01J… --attestation "Deleted from our bucket and the two backups."
    """
    market = open_market(context)
    request = membership_pb2.AttestDeletionRequest(
        request_id=request_id_or_new(request_id),
        name=in_collection("deletionNotices", notice),
        attestation=attestation,
    )
    answer = market.call(market.membership.AttestDeletion, request)
    document(as_dict(answer))
    say(f"{short(answer.name)} is attested since {when(answer, 'attest_time')}.")
