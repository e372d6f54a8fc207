"""rochdale proposal: draft, submit, sponsor, debate, freeze. Voting is in proposal_vote.py, enacting in proposal_enact.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rochdale.client.charter_words import delta_in_short
from rochdale.client.commands import proposal_enact, proposal_vote
from rochdale.client.drafts import from_json_file, scope_of_effect
from rochdale.client.market import Market
from rochdale.client.names import in_collection, in_cooperative, short
from rochdale.client.options import Limit, RequestId, collect, flat, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, document, note, say, table
from rochdale.client.proposal_options import OneProposal, Revision, get_proposal, proposal_name
from rochdale.client.proposal_views import show_proposal, tally_sentence
from rochdale.client.scope_options import ScopeOptions, with_scope_options
from rochdale.client.terms import DECISION_CLASSES, EFFECTS, PROPOSAL_STATES, duration, when
from rochdale.governance.v1 import governance_pb2, proposals_pb2
from rochdale.type.v1 import dividend_policy_pb2

app = typer.Typer(help="Draft, debate, vote, count again, enact.", no_args_is_help=True)

Title = Annotated[str, typer.Option("--title", help="What members read first.")]
Body = Annotated[str, typer.Option("--body", help="Why, in Markdown.")]
BodyFile = Annotated[Path | None, typer.Option("--body-file", metavar="FILE", help="The same, from a file.")]
Effect = Annotated[Any, typer.Option("--effect", parser=parser(EFFECTS.parse), metavar="EFFECT", help="allow or deny.")]
Life = Annotated[
    int,
    typer.Option("--life", parser=parser(duration), metavar="TIME", help="How long the rule lives; default: charter."),
]
Recall = Annotated[
    bool, typer.Option("--member-recall", help="Licenses under it end when members narrow or end the rule.")
]
DeltaFile = Annotated[
    Path | None,
    typer.Option(
        "--delta-file", metavar="FILE", help="What would change, as protobuf JSON; for several rules at once."
    ),
]
EndRule = Annotated[list[str] | None, typer.Option("--end-rule", metavar="RULE", help="A rule that would end; repeat.")]
CharterFile = Annotated[
    Path | None,
    typer.Option(
        "--charter-file",
        metavar="FILE",
        help="A new charter as protobuf JSON; `cooperative charter --json` prints one.",
    ),
]
DividendPolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--dividend-policy",
        metavar="FILE",
        help='How surplus is divided, as protobuf JSON: {"reserve_bps": 1000, "equal_bps": 2000, "basis": '
        '"CONTRIBUTION_BASIS_RECORDS", "min_payout": {"amount_minor": 500, "currency": "EUR"}, …}; decided alone.',
    ),
]


def _delta(
    market: Market,
    scope: ScopeOptions,
    effect: int,
    life: int,
    recall: bool,
    delta_file: Path | None,
    end_rules: list[str] | None,
    charter_file: Path | None,
    dividend_policy: Path | None,
) -> proposals_pb2.PolicyDelta:
    """What the options and files say would change; empty if they say nothing."""
    delta = proposals_pb2.PolicyDelta()
    if delta_file:
        from_json_file(delta_file, delta, "--delta-file")
    if scope != ScopeOptions():
        delta.rules.add(
            effect=effect,
            scope=scope_of_effect(market, effect, scope),
            life_seconds=life,
            member_recall=recall,
        )
    for rule in flat(end_rules):
        delta.end_rules.append(in_cooperative("sharingRules", rule, lambda: market.organization))
    if charter_file:
        delta.charter.CopyFrom(from_json_file(charter_file, governance_pb2.Charter(), "--charter-file"))
    if dividend_policy:
        policy = from_json_file(dividend_policy, dividend_policy_pb2.DividendPolicy(), "--dividend-policy")
        delta.dividend_policy.CopyFrom(policy)
    return delta


def _body(body: str, file: Path | None) -> str:
    return file.read_text("utf-8") if file else body


@app.command()
@with_scope_options
def create(
    context: typer.Context,
    scope: ScopeOptions,
    title: Title,
    body: Body = "",
    body_file: BodyFile = None,
    effect: Effect = "allow",
    life: Life = 0,
    member_recall: Recall = False,
    delta_file: DeltaFile = None,
    end_rule: EndRule = None,
    charter_file: CharterFile = None,
    dividend_policy: DividendPolicyFile = None,
    supersedes: Annotated[
        str, typer.Option("--supersedes", metavar="PROPOSAL", help="The enacted proposal whose rules it replaces.")
    ] = "",
    beneficiary: Annotated[
        list[str] | None,
        typer.Option("--beneficiary", help="Domains, LEIs and licensees that would benefit; repeat."),
    ] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Submit it at once.")] = False,
    request_id: RequestId = None,
) -> None:
    """Draft a proposal: a rule that would allow or forbid, rules that would end, a new charter, or how surplus is divided.

    Where you say nothing, a rule allows: every later version too, all columns of the latest version, research and
    development, to inspect and analyze, downloads, worldwide, licenses of at most 365 days, not exclusive, with the
    duties to delete at the end, to pass nothing on and to identify nobody. One that forbids forbids everything you do
    not narrow.

    [dim]$[/] rochdale proposal create --title "Free for research" --body "Because." --dataset randhie --category academic \
--floor-price "0 EUR"

    [dim]$[/] rochdale proposal create --title "Not for platforms" --body-file why.md --effect deny --dataset randhie \
--category large-platform

    [dim]$[/] rochdale proposal create --title "Enough" --body "It did not pay." --end-rule rule_01J…

    [dim]$[/] rochdale proposal create --title "A tenth in reserve" --body-file why.md --dividend-policy policy.json
    """
    why = _body(body, body_file)
    if not why:
        raise typer.BadParameter("Say why, with --body or --body-file.")
    market = open_market(context)
    delta = _delta(market, scope, effect, life, member_recall, delta_file, end_rule, charter_file, dividend_policy)
    if not delta.ByteSize():
        raise typer.BadParameter(
            "Say what would change: --dataset …, --end-rule, --charter-file, --dividend-policy or --delta-file."
        )
    request = proposals_pb2.CreateProposalRequest(
        request_id=request_id_or_new(request_id),
        parent=in_collection("cooperatives", market.organization),
        title=title,
        body=why,
        delta=delta,
        supersedes=proposal_name(market, supersedes) if supersedes else "",
        beneficiaries=flat(beneficiary),
    )
    answer = market.call(market.proposals.CreateProposal, request)
    if submit:
        answer = market.call(
            market.proposals.SubmitProposal,
            proposals_pb2.SubmitProposalRequest(name=answer.name, revision=answer.revision),
        )
    show_proposal(answer, text=True)


@app.command()
def show(context: typer.Context, proposal: OneProposal) -> None:
    """Show a proposal: its text, what it would change, where it stands. Public from the freeze on.

    [dim]$[/] rochdale proposal show valley-health/prop_01J…
    """
    show_proposal(get_proposal(open_market(context), proposal), text=True)


@app.command("list")
def list_(
    context: typer.Context,
    cooperative: Annotated[
        str | None, typer.Option("--cooperative", metavar="ID", help="Of which cooperative. Default: your own.")
    ] = None,
    state: Annotated[
        Any, typer.Option("--state", parser=parser(PROPOSAL_STATES.parse), metavar="STATE", help=PROPOSAL_STATES.all)
    ] = None,
    limit: Limit = 50,
) -> None:
    """List a cooperative's proposals, newest first, as far as you may see them.

    [dim]$[/] rochdale proposal list --state voting

    [dim]$[/] rochdale proposal list --cooperative valley-health
    """
    market = open_market(context)
    request = proposals_pb2.ListProposalsRequest(
        parent=in_collection("cooperatives", cooperative or market.organization), state=state
    )
    found = collect(market, market.proposals.ListProposals, request, "proposals", limit)
    found.document("proposals")
    rows = [
        [
            short(each.name),
            PROPOSAL_STATES.format(each.state),
            DECISION_CLASSES.format(each.decision_class),
            each.title,
            delta_in_short(each.delta),
            when(each, "close_time"),
            tally_sentence(each.tally) if each.HasField("tally") else "-",
        ]
        for each in found
    ]
    empty = "No proposals yet: rochdale proposal create"
    table(["proposal", "state", "class", "title", "would change", "vote closes", "tally"], rows, empty=empty)


@app.command()
@with_scope_options
def amend(
    context: typer.Context,
    proposal: OneProposal,
    scope: ScopeOptions,
    title: Annotated[str, typer.Option("--title", help="The new title. Default: as it is.")] = "",
    body: Body = "",
    body_file: BodyFile = None,
    effect: Effect = "allow",
    life: Life = 0,
    member_recall: Recall = False,
    delta_file: DeltaFile = None,
    end_rule: EndRule = None,
    charter_file: CharterFile = None,
    dividend_policy: DividendPolicyFile = None,
    revision: Revision = None,
    request_id: RequestId = None,
) -> None:
    """Change a proposal. What would change is replaced as a whole if you say anything about it, else it stays.

    After the freeze this goes back to the debate, and every ballot cast so far is void.

    [dim]$[/] rochdale proposal amend prop_01J… --body-file better.md
    """
    market = open_market(context)
    current = get_proposal(market, proposal)
    delta = _delta(market, scope, effect, life, member_recall, delta_file, end_rule, charter_file, dividend_policy)
    request = proposals_pb2.AmendProposalRequest(
        request_id=request_id_or_new(request_id),
        name=current.name,
        revision=revision or current.revision,
        title=title or current.title,
        body=_body(body, body_file) or current.body,
        delta=delta if delta.ByteSize() else current.delta,
    )
    show_proposal(market.call(market.proposals.AmendProposal, request), text=True)


def _step(context: typer.Context, proposal: str, revision: int | None, method: str, request: type[Any]) -> None:
    """One of the steps that take a name and the revision seen."""
    market = open_market(context)
    name = proposal_name(market, proposal)
    seen = revision or get_proposal(market, name).revision
    show_proposal(market.call(getattr(market.proposals, method), request(name=name, revision=seen)))


@app.command()
def submit(context: typer.Context, proposal: OneProposal, revision: Revision = None) -> None:
    """Submit a draft: a steward's goes straight to the debate, a member's looks for sponsors first.

    [dim]$[/] rochdale proposal submit prop_01J…
    """
    _step(context, proposal, revision, "SubmitProposal", proposals_pb2.SubmitProposalRequest)


@app.command()
def sponsor(context: typer.Context, proposal: OneProposal, revision: Revision = None) -> None:
    """Sponsor a proposal, so that it is debated. A steward's sponsorship is enough alone.

    [dim]$[/] rochdale proposal sponsor prop_01J…
    """
    _step(context, proposal, revision, "SponsorProposal", proposals_pb2.SponsorProposalRequest)


@app.command()
def freeze(context: typer.Context, proposal: OneProposal, revision: Revision = None) -> None:
    """Freeze text and effect under one hash, as author or steward; notice begins.

    [dim]$[/] rochdale proposal freeze prop_01J…
    """
    _step(context, proposal, revision, "FreezeProposal", proposals_pb2.FreezeProposalRequest)


@app.command()
def withdraw(context: typer.Context, proposal: OneProposal, revision: Revision = None) -> None:
    """Take a proposal back before the vote opens, as author or steward.

    [dim]$[/] rochdale proposal withdraw prop_01J…
    """
    _step(context, proposal, revision, "WithdrawProposal", proposals_pb2.WithdrawProposalRequest)


@app.command()
def comment(
    context: typer.Context,
    proposal: OneProposal,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What you say.")],
    request_id: RequestId = None,
) -> None:
    """Say something in the debate.

    [dim]$[/] rochdale proposal comment prop_01J… "What would they pay?"
    """
    market = open_market(context)
    request = proposals_pb2.CommentOnProposalRequest(
        request_id=request_id_or_new(request_id), name=proposal_name(market, proposal), text=text
    )
    answer = market.call(market.proposals.CommentOnProposal, request)
    document(as_dict(answer))
    say(f"Said, as comment {answer.number}.")


@app.command()
def comments(context: typer.Context, proposal: OneProposal, limit: Limit = 50) -> None:
    """Read the debate, oldest first.

    [dim]$[/] rochdale proposal comments prop_01J…
    """
    market = open_market(context)
    request = proposals_pb2.ListCommentsRequest(parent=proposal_name(market, proposal))
    found = collect(market, market.proposals.ListComments, request, "comments", limit)
    found.document("comments")
    rows = [[str(each.number), when(each, "create_time"), short(each.author), each.text] for each in found]
    table(["", "when", "who", "said"], rows, empty="Nobody has said anything yet.")


@app.command()
def interest(
    context: typer.Context,
    proposal: OneProposal,
    statement: Annotated[str, typer.Option("--statement", help="What your interest is.")],
) -> None:
    """Declare an interest of yours before the vote opens. You are then left out of the roll.

    [dim]$[/] rochdale proposal interest prop_01J… --statement "The buyer employs me."
    """
    market = open_market(context)
    request = proposals_pb2.DeclareInterestRequest(name=proposal_name(market, proposal), statement=statement)
    show_proposal(market.call(market.proposals.DeclareInterest, request))
    note("You do not vote on it, sponsor it or sign it.")


for _command in (
    *(proposal_vote.vote, proposal_vote.board, proposal_vote.recount, proposal_vote.verify),
    *(proposal_vote.verify_receipt, proposal_vote.delegate, proposal_vote.delegations),
    *(proposal_enact.challenge, proposal_enact.resolve, proposal_enact.enact),
):
    app.command()(_command)
