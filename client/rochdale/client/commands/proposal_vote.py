"""Voting and counting again: ballots, receipts, the board, delegations. The commands are hung into proposal.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf import json_format

from rochdale.client.drafts import from_json_file
from rochdale.client.market import Market
from rochdale.client.member_options import member_name
from rochdale.client.names import short
from rochdale.client.options import Limit, collect, open_market, parser
from rochdale.client.output import as_dict, document, fields, note, say, table
from rochdale.client.proposal_options import OneProposal, get_proposal, governance_keys, proposal_name, whole_board
from rochdale.client.proposal_views import recount_document, show_recount, show_text, tally_sentence
from rochdale.client.recount import check_receipt, frozen_hash_of, on_roll
from rochdale.client.recount import recount as count_again
from rochdale.client.refusals import MarketError
from rochdale.client.terms import CHOICES, DECISION_CLASSES, when
from rochdale.governance.v1 import decisions_pb2, proposals_pb2


def _receipt_file(market: Market, given: Path | None, proposal: str) -> Path:
    """Where a receipt is kept: as given, else beside market.json, by proposal and member."""
    if given is not None:
        return given
    ids = f"{proposal.rpartition('/')[2]}-{market.member.rpartition('/')[2]}.json"
    return market.addresses.file.parent / "receipts" / ids


def _write_receipt(file: Path, receipt: proposals_pb2.BallotReceipt) -> None:
    """A later receipt takes the place of an earlier one, as the later ballot does. It tells how one voted: 0600."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(json_format.MessageToJson(receipt, preserving_proto_field_name=True) + "\n")


def vote(
    context: typer.Context,
    proposal: OneProposal,
    choice: Annotated[Any, typer.Argument(parser=parser(CHOICES.parse), metavar="yes|no|abstain", help="Your vote.")],
    frozen_hash: Annotated[
        str | None,
        typer.Option("--hash", metavar="HASH", help="The hash of what you read. Default: of what is voted on now."),
    ] = None,
    save_receipt: Annotated[
        Path | None,
        typer.Option("--save-receipt", metavar="FILE", help="Default: receipts/ beside market.json."),
    ] = None,
) -> None:
    """Vote, or change your vote; until the close the last one counts. Shows what is voted on, and saves your receipt.

    With the receipt you find your ballot on the public board. Whoever sees it knows how you voted.

    [dim]$[/] rochdale proposal vote prop_01J… yes --key-file me.key

    [dim]$[/] rochdale proposal vote prop_01J… no --key-file me.key    [dim]# a change of mind[/]
    """
    market = open_market(context)
    found = get_proposal(market, proposal)
    show_text(found)
    if frozen_hash_of(found) != found.frozen_hash:
        raise MarketError(
            "TEXT_MISMATCH",
            f"The hash of {short(found.name)} is not that of its text, so it is not clear what you would vote on.",
            {"name": found.name, "frozen_hash": found.frozen_hash},
        )
    request = proposals_pb2.CastBallotRequest(
        name=found.name, frozen_hash=frozen_hash or found.frozen_hash, choice=choice
    )
    receipt = market.call(market.proposals.CastBallot, request)
    file = _receipt_file(market, save_receipt, found.name)
    _write_receipt(file, receipt)
    document(as_dict(receipt) | {"receipt_file": str(file)})
    say(
        f"You voted {CHOICES.format(receipt.choice)}, as line {receipt.sequence} of the board, on {receipt.frozen_hash}."
    )
    note(f"Receipt: {file}. Check it with: rochdale proposal verify-receipt {file}")


def board(context: typer.Context, proposal: OneProposal, limit: Limit = 50) -> None:
    """Show the public board: a line for each ballot, without names unless it is a roll call.

    [dim]$[/] rochdale proposal board valley-health/prop_01J… --limit 0
    """
    market = open_market(context)
    request = proposals_pb2.ListBoardRequest(parent=proposal_name(market, proposal))
    found = collect(market, market.proposals.ListBoard, request, "entries", limit)
    found.document("entries")
    rows = [
        [
            str(each.sequence),
            short(each.nullifier),
            CHOICES.format(each.choice) if each.choice else "closed",
            short(each.delegate_nullifier) or "-",
            each.entry_hash,
        ]
        for each in found
    ]
    table(["line", "who", "says", "follows", "hash"], rows, empty="Nobody has voted yet.")


def _recount(context: typer.Context, proposal: str) -> None:
    market = open_market(context)
    found = get_proposal(market, proposal)
    counted = count_again(found, whole_board(market, found.name), governance_keys(market))
    document({"proposal": found.name} | recount_document(counted))
    if found.HasField("tally"):
        say(f"{short(found.name)}, as governance tells it: {tally_sentence(found.tally)}.")
    show_recount(counted)
    if not counted.adds_up:
        raise recount_differs(found.name, [each.found for each in counted.wrong])


def recount_differs(name: str, found: list[str]) -> MarketError:
    """What a recount that contradicts a tally ends with."""
    return MarketError("RECOUNT_DIFFERS", f"{short(name)} does not add up: {' '.join(found)}", {"name": name})


def recount(context: typer.Context, proposal: OneProposal) -> None:
    """Count a vote again from its public board, by yourself: chain, choices, delegations, quorum, majority, signature.

    [dim]$[/] rochdale proposal recount valley-health/prop_01J…
    """
    _recount(context, proposal)


def verify(context: typer.Context, proposal: OneProposal) -> None:
    """The same as recount.

    [dim]$[/] rochdale proposal verify valley-health/prop_01J…
    """
    _recount(context, proposal)


def verify_receipt(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A receipt, as `rochdale proposal vote` saves it.")],
) -> None:
    """Check that your ballot stands on the public board and counts; and, with your key, that you are on the roll.

    [dim]$[/] rochdale proposal verify-receipt receipts/prop_01J…-mem_01J….json --key-file me.key
    """
    receipt = from_json_file(file, proposals_pb2.BallotReceipt(), "FILE")
    market = open_market(context)
    found = get_proposal(market, receipt.proposal)
    checks = [(each.what, each.holds, each.found) for each in check_receipt(
        receipt, found, whole_board(market, found.name), governance_keys(market)
    )]  # fmt: skip
    checks += _roll_check(market, found)
    document(
        {
            "proposal": found.name,
            "choice": proposals_pb2.BallotChoice.Name(receipt.choice),
            "checks": [{"what": what, "holds": holds, "found": told} for what, holds, told in checks],
        }
    )
    words = {True: "holds", False: "WRONG", None: "note"}
    table(["checked", "result", "found"], [[what, words[holds], told] for what, holds, told in checks])
    if wrong := [told for _, holds, told in checks if holds is False]:
        raise MarketError("RECEIPT_INVALID", f"{file}: {' '.join(wrong)}", {"path": str(file)})


def _roll_check(market: Market, proposal: proposals_pb2.Proposal) -> list[tuple[str, bool | None, str]]:
    """Whether the member of the key is on the roll; nothing without such a key."""
    try:
        market.member  # noqa: B018  # asked for its refusal
    except MarketError:
        return []
    proof = market.call(market.proposals.GetRollProof, proposals_pb2.GetRollProofRequest(name=proposal.name))
    holds = proof.member == market.member and on_roll(proof, proposal.roll)
    return [("the roll", holds, "You are on it." if holds else "Its root does not lead to you.")]


def delegate(
    context: typer.Context,
    member: Annotated[str | None, typer.Argument(metavar="[MEMBER]", help="Who votes for you: mem_….")] = None,
    decision_class: Annotated[
        Any,
        typer.Option(
            "--class", parser=parser(DECISION_CLASSES.parse), metavar="CLASS", help="routine or sensitive decisions."
        ),
    ] = "routine",
    end: Annotated[bool, typer.Option("--end", help="Nobody votes for you any more.")] = False,
) -> None:
    """Let another member vote for you where you do not, if the charter allows it. It goes one step, and you can always vote.

    [dim]$[/] rochdale proposal delegate mem_01J… --class routine --key-file me.key

    [dim]$[/] rochdale proposal delegate --end --key-file me.key
    """
    if bool(member) == end:
        raise typer.BadParameter("Name a member, or say --end.")
    market = open_market(context)
    request = proposals_pb2.SetDelegationRequest(
        parent=market.member,
        decision_class=decision_class,
        delegate=member_name(market, member) if member else "",
    )
    answer = market.call(market.proposals.SetDelegation, request)
    document(as_dict(answer))
    what = f"{DECISION_CLASSES.format(answer.decision_class)} decisions"
    say(f"{short(answer.delegate)} votes for you in {what}." if answer.delegate else f"Nobody votes for you in {what}.")


def delegations(context: typer.Context) -> None:
    """Show who votes for you, and how many count on you.

    [dim]$[/] rochdale proposal delegations --key-file me.key
    """
    market = open_market(context)
    request = proposals_pb2.ListDelegationsRequest(parent=market.member)
    answer = market.call(market.proposals.ListDelegations, request)
    document(as_dict(answer))
    rows = [
        [DECISION_CLASSES.format(each.decision_class), short(each.delegate), when(each, "create_time")]
        for each in answer.delegations
    ]
    table(["decisions", "who votes for you", "since"], rows, empty="Nobody votes for you.")
    classes = (decisions_pb2.DECISION_CLASS_ROUTINE, decisions_pb2.DECISION_CLASS_SENSITIVE)
    entrusted = zip(classes, answer.entrusted_counts, strict=False)
    fields({f"count on you in {DECISION_CLASSES.format(one)} decisions": str(number) for one, number in entrusted})
