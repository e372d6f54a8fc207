"""rochdale rule: forbid, approve, narrow, end, list and show sharing rules. What may be shared is in proposal.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.client.authority import next_revision, sign_rule, sign_rule_end
from rochdale.client.drafts import forbidden_scope
from rochdale.client.market import Market
from rochdale.client.names import in_collection, in_cooperative, short
from rochdale.client.options import Limit, RequestId, collect, flat, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, document, fields, note, say, table
from rochdale.client.refusals import MarketError
from rochdale.client.scope_options import ScopeOptions, with_scope_options
from rochdale.client.signing_options import SigningKeyFile, current_signing_key, get_cooperative
from rochdale.client.terms import CATEGORIES, EFFECTS, MODES, RULE_STATES, count, moment, moment_of, price, when
from rochdale.client.views import scope_fields
from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1 import scope_pb2

app = typer.Typer(help="Forbid in an emergency, narrow, end and show sharing rules.", no_args_is_help=True)

Rule = Annotated[str, typer.Argument(metavar="RULE", help="rule_…, or valley-health/rule_… of another cooperative.")]

Revision = Annotated[
    int | None,
    typer.Option(
        "--revision", min=1, help="The revision you saw; say it when you retry with --request-id. Default: the latest."
    ),
]

EffectiveTime = Annotated[
    Timestamp | None,
    typer.Option(
        "--effective-time",
        parser=parser(moment),
        metavar="TIME",
        help="From when; say it when you retry with --request-id. Default: now.",
    ),
]


def _fields(rule: governance_pb2.SharingRule) -> dict[str, str]:
    return {
        "rule": short(rule.name),
        "revision": str(rule.revision),
        "state": RULE_STATES.format(rule.state),
        "effect": EFFECTS.format(rule.effect),
        **scope_fields(rule.scope),
        "recall": "licenses end when members narrow or end it" if rule.member_recall else "",
        "rationale": rule.rationale,
        "decided by": f"members, in {short(rule.proposal)}" if rule.proposal else "the board, in an emergency",
        "approvals": ", ".join(rule.approvals),
        "proposed": when(rule, "create_time"),
        "in force since": when(rule, "effective_time"),
        "expires": when(rule, "expire_time"),
        "ended": when(rule, "end_time"),
        "hash": rule.rule_hash,
        "signed with": rule.signature.key_id,
    }


def _get(market: Market, rule: str, revision: int = 0) -> governance_pb2.SharingRule:
    name = in_cooperative("sharingRules", rule, lambda: market.organization)
    request = governance_pb2.GetSharingRuleRequest(name=name, revision=revision)
    return market.call(market.governance.GetSharingRule, request)


@app.command()
@with_scope_options
def forbid(
    context: typer.Context,
    scope: ScopeOptions,
    rationale: Annotated[str, typer.Option("--rationale", help="Why, in words members understand.")],
    request_id: RequestId = None,
) -> None:
    """Forbid something in an emergency, as the board. It suspends live access in its reach and lapses after 30 days.

    In force once as many stewards agree as the charter asks for; you count as one. Where you say nothing, everything
    about the dataset is forbidden. What stays forbidden is for members: rochdale proposal create --effect deny.

    [dim]$[/] rochdale rule forbid --dataset randhie --rationale "A member may be recognizable in it."

    [dim]$[/] rochdale rule forbid --dataset randhie --category large-platform --rationale "Under investigation."
    """
    market = open_market(context)
    request = governance_pb2.ProposeSharingRuleRequest(
        request_id=request_id_or_new(request_id),
        parent=in_collection("cooperatives", market.organization),
        effect=governance_pb2.RULE_EFFECT_DENY,
        scope=forbidden_scope(market, scope),
        rationale=rationale,
    )
    answer = market.call(market.governance.ProposeSharingRule, request)
    document(as_dict(answer))
    fields(_fields(answer))
    if answer.state == governance_pb2.RULE_STATE_PROPOSED:
        note(f"Not in force yet: another steward has to run `rochdale rule approve {short(answer.name)}`.")


@app.command(context_settings={"ignore_unknown_options": True})
def propose(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="…", help="Whatever it took before.")] = None,
) -> None:
    """Members decide now what may be shared; this only says how to ask them.

    [dim]$[/] rochdale rule propose        [dim]# says: rochdale proposal create[/]
    """
    raise MarketError(
        "MEMBERS_DECIDE",
        "What may be shared is decided by members. Put it to them with `rochdale proposal create`, which takes the same "
        "options; to forbid something at once, use `rochdale rule forbid`.",
    )


@app.command()
def approve(context: typer.Context, rule: Rule) -> None:
    """Approve an emergency prohibition as another steward. Approving again changes nothing.

    [dim]$[/] rochdale rule approve rule_01J… --key-file second-steward.key
    """
    market = open_market(context)
    name = in_cooperative("sharingRules", rule, lambda: market.organization)
    answer = market.call(market.governance.ApproveSharingRule, governance_pb2.ApproveSharingRuleRequest(name=name))
    document(as_dict(answer))
    say(f"{short(answer.name)} is {RULE_STATES.format(answer.state)}; {count(len(answer.approvals), 'approval')}.")


@app.command()
@with_scope_options
def narrow(
    context: typer.Context,
    rule: Rule,
    scope: ScopeOptions,
    revision: Revision = None,
    effective_time: EffectiveTime = None,
    signing_key: SigningKeyFile = None,
    request_id: RequestId = None,
) -> None:
    """Narrow a rule in force, at once, signed. What you do not mention stays. Widening takes a vote.

    New offers stop at once. Licenses agreed before run to their term, unless the rule lets members recall them.

    [dim]$[/] rochdale rule narrow rule_01J… --category academic --max-duration 90d

    [dim]$[/] rochdale rule narrow rule_01J… --scope-file narrower.json
    """
    market = open_market(context)
    current = _get(market, rule, revision or 0)
    narrower = scope.from_file() or scope_pb2.SharingScope.FromString(current.scope.SerializeToString())
    if scope.dataset:
        kept = {in_cooperative("datasets", each, lambda: market.organization) for each in flat(scope.dataset)}
        remaining = [entry for entry in narrower.datasets if entry.dataset in kept]
        del narrower.datasets[:]
        narrower.datasets.extend(remaining)
    scope.apply(narrower)
    _narrow(market, current, narrower, signing_key, request_id, effective_time)


@app.command()
def end(
    context: typer.Context,
    rule: Rule,
    revision: Revision = None,
    effective_time: EffectiveTime = None,
    signing_key: SigningKeyFile = None,
    request_id: RequestId = None,
) -> None:
    """End a rule altogether, at once, signed. Offerings on it close.

    [dim]$[/] rochdale rule end rule_01J…
    """
    market = open_market(context)
    _narrow(market, _get(market, rule, revision or 0), None, signing_key, request_id, effective_time)


def _narrow(
    market: Market,
    current: governance_pb2.SharingRule,
    narrower: scope_pb2.SharingScope | None,
    signing_key: Path | None,
    request_id: str | None,
    effective_time: Timestamp | None,
) -> None:
    """Signs the end of a revision, and the next one if there is one. Refuses before signing what is not one's own."""
    cooperative = get_cooperative(market, market.organization)
    if not current.name.startswith(f"{cooperative.name}/"):
        raise MarketError("NOT_FOUND", f"{current.name} is not a rule of {cooperative.name}.", {"name": current.name})
    key = current_signing_key(market, signing_key, cooperative)
    id = request_id_or_new(request_id)
    at = effective_time or moment_of(id)
    request = governance_pb2.NarrowSharingRuleRequest(
        request_id=id,
        name=current.name,
        scope=narrower,
        revision=current.revision,
        effective_time=at,
        signature=sign_rule(next_revision(current, narrower, at), key) if narrower is not None else None,
        end_signature=sign_rule_end(current, at, key),
    )
    answer = market.call(market.governance.NarrowSharingRule, request)
    document(as_dict(answer))
    if narrower is None:
        say(f"{short(answer.name)} ended at {when(answer, 'end_time')}.")
    else:
        fields(_fields(answer))


@app.command("list")
def list_(
    context: typer.Context,
    cooperative: Annotated[
        str | None, typer.Option("--cooperative", metavar="ID", help="Of which cooperative. Default: your own.")
    ] = None,
    limit: Limit = 50,
) -> None:
    """List a cooperative's rules, newest first. Those that were in force are public.

    [dim]$[/] rochdale rule list --cooperative valley-health
    """
    market = open_market(context)
    parent = in_collection("cooperatives", cooperative or market.organization)
    request = governance_pb2.ListSharingRulesRequest(parent=parent)
    found = collect(market, market.governance.ListSharingRules, request, "sharing_rules", limit)
    found.document("sharing_rules")
    rows = [
        [
            short(rule.name),
            str(rule.revision),
            RULE_STATES.format(rule.state),
            EFFECTS.format(rule.effect),
            ", ".join(short(entry.dataset) for entry in rule.scope.datasets),
            CATEGORIES.format_all(rule.scope.categories),
            MODES.format(rule.scope.max_mode),
            price(rule.scope.floor_price) if rule.effect == governance_pb2.RULE_EFFECT_ALLOW else "-",
            short(rule.proposal) or "the board",
            when(rule, "expire_time"),
        ]
        for rule in found
    ]
    columns = [
        "rule",
        "revision",
        "state",
        "effect",
        "data",
        "categories",
        "mode",
        "floor price",
        "decided in",
        "expires",
    ]
    table(columns, rows, empty="No rule has been in force yet, so nothing may be offered.")


@app.command()
def show(
    context: typer.Context,
    rule: Rule,
    revision: Annotated[int, typer.Option("--revision", min=0, help="Which revision; 0 for the latest.")] = 0,
) -> None:
    """Show one rule.

    [dim]$[/] rochdale rule show valley-health/rule_01J…
    """
    answer = _get(open_market(context), rule, revision)
    document(as_dict(answer))
    fields(_fields(answer))
