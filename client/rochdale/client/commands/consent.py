"""rochdale consent: give, refuse, withdraw and list consent; receipts, and consents recorded from forms."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf import json_format

from rochdale.client.authority import document_is_genuine
from rochdale.client.drafts import from_json_file
from rochdale.client.market import Market
from rochdale.client.member_options import OwnOrMember, member_name
from rochdale.client.names import in_collection, in_cooperative, same_request, short
from rochdale.client.options import Limit, RequestId, collect, flat, open_market, request_id_or_new, words
from rochdale.client.output import as_dict, document, fields, note, progress_bar, say, table
from rochdale.client.proposal_options import governance_keys
from rochdale.client.refusals import MarketError
from rochdale.client.terms import CATEGORIES, CONSENT_METHODS, CONSENT_STATUSES, count, when
from rochdale.governance.v1 import membership_pb2
from rochdale.type.v1 import signature_pb2

app = typer.Typer(help="Say what may happen with your own rows.", no_args_is_help=True)

# As many as the contract takes at once.
_BATCH = 1000

# Shown, and hashed, where a cooperative has no notice of its own.
NOTICE = """\
Your consent is for one dataset, the kinds of buyers and the purposes you name; a purpose covers what falls under it.
Your rows are given to a buyer only if members voted for it and your consent covers it. You can withdraw at any time,
without a reason: your rows stop being served within a minute, and whoever received them is told to delete them. What
has been learned from them before cannot be taken back.
"""

Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="A dataset of your cooperative.")]
Purposes = Annotated[
    list[str] | None,
    typer.Option("--purpose", help="What for, as DPV terms: AcademicResearch, …; Purpose for everything. Repeat."),
]
Categories = Annotated[list[str] | None, typer.Option("--category", help=f"For whom: {CATEGORIES.all}. Repeat.")]
NoticeFile = Annotated[
    Path | None,
    typer.Option("--notice", metavar="FILE", help="The privacy notice you were shown. Default: the one printed here."),
]
Language = Annotated[str, typer.Option("--language", help="Language of that notice, such as en or hi.")]


def _notice_hash(file: Path | None) -> str:
    """SHA-256 of the notice; the built-in one is shown, because consent is to what was read."""
    if file is not None:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    note(NOTICE)
    return hashlib.sha256(NOTICE.encode()).hexdigest()


def _fields(consent: membership_pb2.Consent) -> dict[str, str]:
    return {
        "consent": consent.name.rpartition("/")[2],
        "dataset": short(consent.dataset),
        "status": CONSENT_STATUSES.format(consent.status),
        "purposes": ", ".join(consent.purposes),
        "for": CATEGORIES.format_all(consent.categories),
        "how": CONSENT_METHODS.format(consent.method),
        "evidence": consent.evidence,
        "given": when(consent, "give_time"),
        "ended": when(consent, "end_time"),
        "notice": f"SHA-256 {consent.notice_hash} ({consent.language})",
    }


def _give(
    context: typer.Context,
    dataset: str,
    purposes: list[str],
    categories: list[Any],
    notice: Path | None,
    language: str,
    request_id: str | None,
) -> None:
    market = open_market(context)
    request = membership_pb2.GiveConsentRequest(
        request_id=request_id_or_new(request_id),
        parent=market.member,
        dataset=in_cooperative("datasets", dataset, lambda: market.organization),
        purposes=purposes,
        categories=categories,
        notice_hash=_notice_hash(notice),
        language=language,
    )
    answer = market.call(market.membership.GiveConsent, request)
    document(as_dict(answer))
    fields(_fields(answer))


@app.command()
def give(
    context: typer.Context,
    dataset: Dataset,
    purpose: Purposes = None,
    category: Categories = None,
    notice: NoticeFile = None,
    language: Language = "en",
    request_id: RequestId = None,
) -> None:
    """Consent to what may happen with your own rows of a dataset. It takes the place of what you said before.

    Your consent is a floor under every vote: without it, your rows are served to nobody.

    [dim]$[/] rochdale consent give randhie --purpose ScientificResearch --category academic,health-nonprofit

    [dim]$[/] rochdale consent give randhie --purpose Purpose --category academic --notice notice.txt --language fr
    """
    if not flat(purpose) or not flat(category):
        raise typer.BadParameter(
            "Say what for and for whom: --purpose and --category. To refuse: rochdale consent refuse."
        )
    _give(context, dataset, flat(purpose), words(CATEGORIES, category, "--category"), notice, language, request_id)


@app.command()
def refuse(
    context: typer.Context,
    dataset: Dataset,
    notice: NoticeFile = None,
    language: Language = "en",
    request_id: RequestId = None,
) -> None:
    """Refuse: no vote overrides it.

    [dim]$[/] rochdale consent refuse randhie --key-file me.key
    """
    _give(context, dataset, [], [], notice, language, request_id)


@app.command()
def withdraw(
    context: typer.Context,
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]", help="One dataset, or --all.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every dataset.")] = False,
) -> None:
    """Withdraw consent: one call, no reason. Live access to your rows ends within a minute.

    Whoever received them gets a notice to delete them; what was earned stays yours.

    [dim]$[/] rochdale consent withdraw randhie --key-file me.key

    [dim]$[/] rochdale consent withdraw --all --key-file me.key
    """
    if bool(dataset) == everything:
        raise typer.BadParameter("Name one dataset, or say --all.")
    market = open_market(context)
    request = membership_pb2.WithdrawConsentRequest(
        parent=market.member,
        dataset=in_cooperative("datasets", dataset, lambda: market.organization) if dataset else "",
    )
    answer = market.call(market.membership.WithdrawConsent, request)
    document(as_dict(answer))
    if not answer.consents:
        say("There was no consent to withdraw.")
        return
    named = ", ".join(short(each.dataset) for each in answer.consents)
    say(f"Withdrawn for {named}. Every live access stops reaching your rows by {when(answer, 'blocked_by_time')}.")


@app.command("list")
def list_(context: typer.Context, limit: Limit = 50) -> None:
    """List your consents, newest first, ended ones too.

    [dim]$[/] rochdale consent list --key-file me.key
    """
    market = open_market(context)
    request = membership_pb2.ListConsentsRequest(parent=market.member)
    found = collect(market, market.membership.ListConsents, request, "consents", limit)
    found.document("consents")
    shown = [_fields(each) for each in found]
    keys = ["consent", "dataset", "status", "purposes", "for", "how", "given", "ended"]
    empty = "You have consented to nothing, so your rows are served to nobody: rochdale consent give"
    table(keys, [[each[key] for key in keys] for each in shown], empty=empty)


def _require_genuine(market: Market, receipt: signature_pb2.SignedDocument) -> dict[str, Any]:
    if not document_is_genuine(receipt, governance_keys(market)):
        raise MarketError("RECEIPT_INVALID", "Nobody of this market signed this receipt as it is.")
    content: dict[str, Any] = json.loads(receipt.content_json)
    return content


@app.command()
def receipt(
    context: typer.Context,
    consent: Annotated[str, typer.Argument(metavar="CONSENT", help="con_…, as `rochdale consent list` shows it.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: CONSENT.json.")
    ] = None,
    member: OwnOrMember = None,
) -> None:
    """Save the signed receipt of a consent, in the shape of ISO/IEC TS 27560, for you to keep.

    [dim]$[/] rochdale consent receipt con_01J… --key-file me.key
    """
    market = open_market(context)
    name = consent if "/" in consent else f"{member_name(market, member)}/consents/{consent}"
    answer = market.call(market.membership.GetConsentReceipt, membership_pb2.GetConsentReceiptRequest(name=name))
    _require_genuine(market, answer)
    file = output or Path(f"{name.rpartition('/')[2]}.json")
    file.write_text(json_format.MessageToJson(answer, preserving_proto_field_name=True) + "\n", "utf-8")
    document(as_dict(answer) | {"file": str(file)})
    say(f"Saved in {file}; the signature is right. Check it any time with: rochdale consent verify {file}")


@app.command()
def verify(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A receipt, as `rochdale consent receipt` saves it.")],
) -> None:
    """Check that a receipt is what governance signed.

    [dim]$[/] rochdale consent verify con_01J….json
    """
    receipt = from_json_file(file, signature_pb2.SignedDocument(), "FILE")
    content = _require_genuine(open_market(context), receipt)
    document({"genuine": True, "content": content})
    say(f"Genuine: signed with {receipt.signature.key_id}.")
    say(json.dumps(content, indent=2, ensure_ascii=False))


@app.command()
def record(
    context: typer.Context,
    dataset: Dataset,
    file: Annotated[
        Path, typer.Option("--file", metavar="FILE", help="Members' references, one a line; - for standard input.")
    ],
    evidence: Annotated[str, typer.Option("--evidence", help='What shows it: "joining form, edition 3, box 2".')],
    notice: Annotated[Path, typer.Option("--notice", metavar="FILE", help="The privacy notice on that form.")],
    purpose: Purposes = None,
    category: Categories = None,
    language: Language = "en",
    request_id: RequestId = None,
) -> None:
    """Record consents given on paper, as a steward. Members who decided for themselves keep their decision.

    [dim]$[/] rochdale consent record randhie --file signed.txt --purpose ScientificResearch --category academic \
--evidence "joining form, edition 3" --notice form.pdf
    """
    if not flat(purpose) or not flat(category):
        raise typer.BadParameter("Say what for and for whom: --purpose and --category.")
    text = typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text("utf-8")
    references = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not references:
        raise typer.BadParameter(f"{file} names nobody.", param_hint="--file")
    market = open_market(context)
    request_id, own = request_id_or_new(request_id), market.organization
    notice_hash, recorded, kept = _notice_hash(notice), 0, 0
    with progress_bar() as bar:
        task = bar.add_task("Recording consents", total=len(references))
        for number, start in enumerate(range(0, len(references), _BATCH)):
            batch = references[start : start + _BATCH]
            request = membership_pb2.RecordConsentsRequest(
                request_id=same_request(request_id, str(number)),
                parent=in_collection("cooperatives", own),
                references=batch,
                dataset=in_cooperative("datasets", dataset, lambda: own),
                purposes=flat(purpose),
                categories=words(CATEGORIES, category, "--category"),
                evidence=evidence,
                notice_hash=notice_hash,
                language=language,
            )
            answer = market.call(market.membership.RecordConsents, request)
            recorded, kept = recorded + answer.recorded_count, kept + answer.kept_count
            bar.update(task, completed=start + len(batch))
    document({"recorded_count": recorded, "kept_count": kept})
    say(f"{count(recorded, 'consent')} recorded; {count(kept, 'member')} had decided for themselves and keep that.")
