"""What a proposal or a prohibition would change, put together from options and files: scopes, rules, deltas, charters."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import typer
from google.protobuf import json_format
from google.protobuf.message import Message

from rochdale.catalog.v1 import catalog_pb2
from rochdale.client.market import Market
from rochdale.client.names import in_cooperative, short
from rochdale.client.options import flat
from rochdale.client.refusals import MarketError
from rochdale.client.scope_options import ScopeOptions
from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1 import money_pb2, scope_pb2

M = TypeVar("M", bound=Message)

# What a rule says where its author says nothing. Who may have the data and the lowest price have no default: they are
# what members vote about.
_PURPOSES = ("ResearchAndDevelopment",)
_ACTIONS = (scope_pb2.USE_ACTION_INSPECT, scope_pb2.USE_ACTION_ANALYZE)
_MAX_DURATION_SECONDS = 365 * 86_400
_DUTIES = (scope_pb2.DUTY_DELETE_AT_END, scope_pb2.DUTY_NO_ONWARD_TRANSFER, scope_pb2.DUTY_NO_REIDENTIFICATION)


def from_json_file(path: Path, message: M, option: str) -> M:
    """The message in a file of protobuf JSON; a usage error names the option."""
    try:
        return json_format.Parse(path.read_text("utf-8"), message)
    except (OSError, UnicodeDecodeError, json_format.ParseError) as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint=option) from None


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


def allowed_scope(market: Market, options: ScopeOptions) -> scope_pb2.SharingScope:
    """What a rule would allow: a file, or research on a dataset, not more than has to be said."""
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
    return _with_options(market, scope, options)


def forbidden_scope(market: Market, options: ScopeOptions) -> scope_pb2.SharingScope:
    """What a rule would forbid: a file, or everything about a dataset that the options do not narrow."""
    scope = options.from_file()
    if scope is None:
        if not options.dataset:
            raise typer.BadParameter("A prohibition needs --dataset, or a --scope-file.")
        # Overlapping any of it is forbidden, so what is left unsaid is everything; price and duration play no part.
        scope = scope_pb2.SharingScope(
            categories=[number for number in scope_pb2.BuyerCategory.values() if number],
            purposes=["Purpose"],
            actions=[number for number in scope_pb2.UseAction.values() if number],
            max_mode=scope_pb2.ACCESS_MODE_DOWNLOAD,
            floor_price=money_pb2.Money(amount_minor=0, currency="EUR"),
            territories=["WORLD"],
            max_duration_seconds=_MAX_DURATION_SECONDS,
            max_exclusivity=scope_pb2.EXCLUSIVITY_FULL,
        )
    return _with_options(market, scope, options)


def _with_options(market: Market, scope: scope_pb2.SharingScope, options: ScopeOptions) -> scope_pb2.SharingScope:
    if options.dataset:
        names = [in_cooperative("datasets", each, lambda: market.organization) for each in flat(options.dataset)]
        del scope.datasets[:]
        for name in names:
            columns = flat(options.columns) or latest_columns(market, name)
            scope.datasets.add(dataset=name, first_version=1, columns=columns)
    options.apply(scope)
    return scope


def scope_of_effect(market: Market, effect: int, options: ScopeOptions) -> scope_pb2.SharingScope:
    """The scope of a rule that allows or forbids."""
    if effect == governance_pb2.RULE_EFFECT_DENY:
        return forbidden_scope(market, options)
    return allowed_scope(market, options)
