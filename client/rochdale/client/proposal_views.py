"""How a proposal, its tally and a recount look in a terminal."""

from __future__ import annotations

from rochdale.client.charter_words import delta_blocks, majority, quorum, secrecy
from rochdale.client.names import short
from rochdale.client.output import as_dict, document, fields, note, say, table
from rochdale.client.recount import Recount
from rochdale.client.terms import CHALLENGE_GROUNDS, DECISION_CLASSES, PROPOSAL_STATES, count, left_until, price, when
from rochdale.governance.v1 import proposals_pb2

# What comes next, by state; {name} is what the command takes.
_NEXT = {
    proposals_pb2.PROPOSAL_STATE_DRAFT: "Nobody else sees it yet: rochdale proposal submit {name}",
    proposals_pb2.PROPOSAL_STATE_SPONSORING: "It needs sponsors: rochdale proposal sponsor {name}",
    proposals_pb2.PROPOSAL_STATE_DELIBERATION: "It is debated: rochdale proposal comment {name}; then freeze it.",
    proposals_pb2.PROPOSAL_STATE_VOTING: "Vote with: rochdale proposal vote {name} yes|no|abstain",
    proposals_pb2.PROPOSAL_STATE_DISSENT_WINDOW: "Count it again: rochdale proposal recount {name}",
    proposals_pb2.PROPOSAL_STATE_AWAITING_SIGNATURE: "A steward signs it: rochdale proposal enact {name}",
}


def show_text(proposal: proposals_pb2.Proposal) -> None:
    """What members read: the text, and what would change, made here from the delta and not taken from anybody's words."""
    say(f"{proposal.title}\n")
    say(f"{proposal.body}\n")
    for title, lines in delta_blocks(proposal.delta):
        fields(lines, title)
    if proposal.HasField("impact"):
        impact = proposal.impact
        fields(
            {
                "members concerned": f"{impact.member_count:,}",
                "not covered by their consent": f"{impact.excluded_member_count:,}",
                "rows": f"{impact.record_count:,}",
                "lowest price": price(impact.floor_price) if impact.HasField("floor_price") else "",
                "for each member, a license": price(impact.expected_per_member)
                if impact.HasField("expected_per_member")
                else "",
                "licenses it concerns": str(impact.live_license_count) if impact.live_license_count else "",
                "in governance's words": impact.summary,
            },
            "What would happen, as worked out at the freeze",
        )


def proposal_fields(proposal: proposals_pb2.Proposal) -> dict[str, str]:
    """Where a proposal stands."""
    rule, tally = proposal.decision_rule, proposal.tally
    shown = {
        "proposal": short(proposal.name),
        "state": PROPOSAL_STATES.format(proposal.state),
        "revision": str(proposal.revision),
        "class": DECISION_CLASSES.format(proposal.decision_class)
        + (f" ({', '.join(proposal.class_reasons)})" if proposal.class_reasons else ""),
        "passes with": majority(rule) if proposal.HasField("decision_rule") else "",
        "takes part": f"at least {quorum(rule)}" if proposal.HasField("decision_rule") else "",
        "secrecy": secrecy(rule) if proposal.HasField("decision_rule") else "",
        "author": short(proposal.author),
        "sponsors": str(proposal.sponsor_count),
        "would benefit": ", ".join(proposal.beneficiaries),
        "answers": short(proposal.mandate_request),
        "takes the place of": short(proposal.supersedes),
        "drafted": when(proposal, "create_time"),
        "frozen": when(proposal, "freeze_time"),
        "vote opens": when(proposal, "open_time"),
        "vote closes": _clock(proposal, "close_time"),
        "may vote": f"{proposal.roll.eligible_count:,}" if proposal.HasField("roll") else "",
        "took part in person so far": f"{proposal.turnout_count:,}" if proposal.turnout_count else "",
        "dissent window ends": _clock(proposal, "dissent_end_time"),
        "enacted": when(proposal, "enact_time"),
        "hash": proposal.frozen_hash,
    }
    if proposal.HasField("tally"):
        shown["tally"] = tally_sentence(tally)
    return shown


def _clock(proposal: proposals_pb2.Proposal, field: str) -> str:
    if not proposal.HasField(field):  # type: ignore[arg-type]  # names of time fields only
        return ""
    left = left_until(getattr(proposal, field))
    return f"{when(proposal, field)} ({left})" if left != "over" else when(proposal, field)


def tally_sentence(tally: proposals_pb2.Tally) -> str:
    """ "passed: 7 yes, 2 no, 1 abstained, of 12"."""
    outcome = "passed" if tally.passed else ("did not pass" if tally.quorum_met else "too few took part")
    if tally.withheld:
        return f"{outcome}; the numbers are withheld, because they could tell who voted how"
    return f"{outcome}: {tally.yes_count} yes, {tally.no_count} no, {tally.abstain_count} abstained, of {tally.eligible_count}"


def show_proposal(proposal: proposals_pb2.Proposal, text: bool = False) -> None:
    """A proposal as a command answers it: one JSON document, or fields and what comes next."""
    document(as_dict(proposal))
    if text:
        show_text(proposal)
    fields(proposal_fields(proposal))
    if proposal.interests:
        rows = [
            [short(each.holder), "declared" if each.declared else "found", each.statement]
            for each in proposal.interests
        ]
        table(["who does not vote on it", "how known", "why"], rows)
    if proposal.challenges:
        rows = [
            [
                str(each.number),
                short(each.member),
                CHALLENGE_GROUNDS.format(each.ground),
                each.statement,
                ("upheld: " if each.upheld else "turned down: ") + each.answer
                if each.HasField("resolve_time")
                else "open",
            ]
            for each in proposal.challenges
        ]
        table(["challenge", "by", "ground", "statement", "answer"], rows)
    if following := _NEXT.get(proposal.state):
        note(following.format(name=short(proposal.name)))


def recount_document(counted: Recount) -> dict[str, object]:
    """A recount for programs."""
    return {
        "adds_up": counted.adds_up,
        "complete": counted.complete,
        "took_part": counted.took_part,
        "yes": counted.yes,
        "no": counted.no,
        "abstain": counted.abstain,
        "checks": [{"what": each.what, "holds": each.holds, "found": each.found} for each in counted.checks],
    }


def show_recount(counted: Recount) -> None:
    """A recount for people."""
    words = {True: "holds", False: "WRONG", None: "unknown"}
    table(["checked", "result", "found"], [[each.what, words[each.holds], each.found] for each in counted.checks])
    if not counted.adds_up:
        return
    say(
        "It adds up."
        if counted.complete
        else f"What can be known adds up; {count(len(counted.unknown), 'thing')} cannot."
    )
