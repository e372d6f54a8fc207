"""rochdale rule: propose, approve, narrow, end, list and show sharing rules."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rochdale.catalog.v1 import catalog_pb2
from rochdale.client.market import Market
from rochdale.client.names import in_collection, in_cooperative, short
from rochdale.client.options import Limit, RequestId, collect, flat, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, document, fields, note, say, table
from rochdale.client.refusals import MarketError
from rochdale.client.scope_options import ScopeOptions, with_scope_options
from rochdale.client.terms import CATEGORIES, EFFECTS, MODES, RULE_STATES, count, price, when
from rochdale.client.views import scope_fields
from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1 import scope_pb2

app = typer.Typer(help="Propose, approve, narrow and end sharing rules.", no_args_is_help=True)

Rule = Annotated[str, typer.Argument(metavar="RULE", help="rule_…, or valley-health/rule_… of another cooperative.")]

Revision = Annotated[
    int | None,
    typer.Option(
        "--revision", min=1, help="The revision you saw; say it when you retry with --request-id. Default: the latest."
    ),
]

# What a rule says where its proposer says nothing. Who may have the data and the lowest price have no default: they are
# what members vote about.
_PURPOSES = ("ResearchAndDevelopment",)
_ACTIONS = (scope_pb2.USE_ACTION_INSPECT, scope_pb2.USE_ACTION_ANALYZE)
_MAX_DURATION_SECONDS = 365 * 86_400
_DUTIES = (scope_pb2.DUTY_DELETE_AT_END, scope_pb2.DUTY_NO_ONWARD_TRANSFER, scope_pb2.DUTY_NO_REIDENTIFICATION)


def _fields(rule: governance_pb2.SharingRule) -> dict[str, str]:
    return {
        "rule": short(rule.name),
        "revision": str(rule.revision),
        "state": RULE_STATES.format(rule.state),
        "effect": EFFECTS.format(rule.effect),
        **scope_fields(rule.scope),
        "rationale": rule.rationale,
        "approvals": ", ".join(rule.approvals),
        "proposed": when(rule, "create_time"),
        "in force since": when(rule, "effective_time"),
        "ended": when(rule, "end_time"),
        "hash": rule.rule_hash,
    }


def _get(market: Market, rule: str, revision: int = 0) -> governance_pb2.SharingRule:
    name = in_cooperative("sharingRules", rule, lambda: market.organization)
    request = governance_pb2.GetSharingRuleRequest(name=name, revision=revision)
    return market.call(market.governance.GetSharingRule, request)


def latest_columns(market: Market, dataset: str) -> list[str]:
    """Names of all columns of a dataset's latest version. Refuses with VERSION_NOT_PUBLISHED."""
    found = market.call(market.catalog.GetDataset, catalog_pb2.GetDatasetRequest(name=dataset))
    if not found.latest_version:
        raise MarketError(
            "VERSION_NOT_PUBLISHED",
            f"{short(dataset)} has no version yet, so its columns are not known; name them with --columns.",
            {"dataset": dataset},
        )
    request = catalog_pb2.GetVersionRequest(name=f"{dataset}/versions/{found.latest_version}")
    return [column.name for column in market.call(market.catalog.GetVersion, request).columns]


def _proposed_scope(market: Market, options: ScopeOptions) -> scope_pb2.SharingScope:
    scope = options.from_file()
    if scope is None:
        if not options.dataset or not options.category or options.floor_price is None:
            raise typer.BadParameter("A rule needs --dataset, --category and --floor-price, or a --scope-file.")
        scope = scope_pb2.SharingScope(
            purposes=_PURPOSES,
            actions=_ACTIONS,
            max_mode=scope_pb2.ACCESS_MODE_DOWNLOAD,
            territories=["WORLD"],
            max_duration_seconds=_MAX_DURATION_SECONDS,
            max_exclusivity=scope_pb2.EXCLUSIVITY_NONE,
            duties=_DUTIES,
        )
    if options.dataset:
        names = [in_cooperative("datasets", each, lambda: market.organization) for each in flat(options.dataset)]
        del scope.datasets[:]
        for name in names:
            columns = flat(options.columns) or latest_columns(market, name)
            scope.datasets.add(dataset=name, first_version=1, columns=columns)
    options.apply(scope)
    return scope


@app.command()
@with_scope_options
def propose(
    context: typer.Context,
    scope: ScopeOptions,
    rationale: Annotated[str, typer.Option("--rationale", help="Why, in words members understand.")],
    effect: Annotated[
        Any, typer.Option("--effect", parser=parser(EFFECTS.parse), metavar="EFFECT", help="allow or deny.")
    ] = "allow",
    request_id: RequestId = None,
) -> None:
    """Propose a sharing rule. It is in force once as many stewards approved as the charter asks for; you count as one.

    Where you say nothing: every later version too, all columns of the latest version, research and development, to
    inspect and analyze, downloads, worldwide, licenses of at most 365 days, not exclusive, with the duties to delete at
    the end, to pass nothing on and to identify nobody.

    [dim]$[/] rochdale rule propose --dataset randhie --category academic --floor-price "0 EUR" --rationale "Research"

    [dim]$[/] rochdale rule propose --dataset randhie --category sme --floor-price "900 EUR" --rationale "They pay"

    [dim]$[/] rochdale rule propose --scope-file scope.json --rationale "As decided on Monday"
    """
    market = open_market(context)
    request = governance_pb2.ProposeSharingRuleRequest(
        request_id=request_id_or_new(request_id),
        parent=in_collection("cooperatives", market.organization),
        effect=effect,
        scope=_proposed_scope(market, scope),
        rationale=rationale,
    )
    answer = market.call(market.governance.ProposeSharingRule, request)
    document(as_dict(answer))
    fields(_fields(answer))
    if answer.state == governance_pb2.RULE_STATE_PROPOSED:
        note(f"Not in force yet: another steward has to run `rochdale rule approve {short(answer.name)}`.")


@app.command()
def approve(context: typer.Context, rule: Rule) -> None:
    """Approve a proposed rule as another steward. Approving again changes nothing.

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
    context: typer.Context, rule: Rule, scope: ScopeOptions, revision: Revision = None, request_id: RequestId = None
) -> None:
    """Narrow a rule in force, at once. What you do not mention stays. Widening takes a new rule.

    [dim]$[/] rochdale rule narrow rule_01J… --category academic --max-duration 90d

    [dim]$[/] rochdale rule narrow rule_01J… --scope-file narrower.json
    """
    market = open_market(context)
    current = _get(market, rule, revision or 0)
    narrower = scope.from_file() or current.scope
    if scope.dataset:
        kept = {in_cooperative("datasets", each, lambda: market.organization) for each in flat(scope.dataset)}
        remaining = [entry for entry in narrower.datasets if entry.dataset in kept]
        del narrower.datasets[:]
        narrower.datasets.extend(remaining)
    scope.apply(narrower)
    request = governance_pb2.NarrowSharingRuleRequest(
        request_id=request_id_or_new(request_id), name=current.name, scope=narrower, revision=current.revision
    )
    answer = market.call(market.governance.NarrowSharingRule, request)
    document(as_dict(answer))
    fields(_fields(answer))


@app.command()
def end(context: typer.Context, rule: Rule, revision: Revision = None, request_id: RequestId = None) -> None:
    """End a rule altogether, at once. Offerings on it close.

    [dim]$[/] rochdale rule end rule_01J…
    """
    market = open_market(context)
    current = _get(market, rule, revision or 0)
    request = governance_pb2.NarrowSharingRuleRequest(
        request_id=request_id_or_new(request_id), name=current.name, revision=current.revision
    )
    answer = market.call(market.governance.NarrowSharingRule, request)
    document(as_dict(answer))
    say(f"{short(answer.name)} ended at {when(answer, 'end_time')}.")


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
            price(rule.scope.floor_price),
        ]
        for rule in found
    ]
    table(["rule", "revision", "state", "effect", "data", "categories", "mode", "floor price"], rows)


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
