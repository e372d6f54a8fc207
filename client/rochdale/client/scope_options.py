"""The options that describe a sharing scope, shared by the commands that write one. Which scope contains which is not here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.client.options import expand, flat, parser, words
from rochdale.client.terms import ACTIONS, CATEGORIES, DUTIES, EXCLUSIVITIES, MODES, duration, moment, money
from rochdale.type.v1 import money_pb2, scope_pb2

_PANEL = "Scope"


def _option(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=_PANEL, **more)


@dataclass(frozen=True, slots=True)
class ScopeOptions:
    """What was said about each dimension; None or empty where nothing was."""

    dataset: Annotated[list[str] | None, _option("--dataset", help="A dataset; repeat for several.")] = None
    columns: Annotated[
        list[str] | None, _option("--columns", help="Columns, with commas. Default: all of the latest version.")
    ] = None
    first_version: Annotated[int | None, _option("--first-version", min=1, help="First version of the dataset.")] = None
    last_version: Annotated[
        int | None, _option("--last-version", min=0, help="Last version; 0 for every later one too.")
    ] = None
    category: Annotated[list[str] | None, _option("--category", help=f"Who: {CATEGORIES.all}.")] = None
    purpose: Annotated[list[str] | None, _option("--purpose", help="What for, as DPV terms: AcademicResearch, …")] = (
        None
    )
    action: Annotated[list[str] | None, _option("--action", help=f"What may be done: {ACTIONS.all}.")] = None
    mode: Annotated[str | None, _option("--mode", help=f"The most exposing access mode: {MODES.all}.")] = None
    floor_price: Annotated[
        money_pb2.Money | None,
        _option("--floor-price", parser=parser(money), metavar="AMOUNT", help='Lowest price, like "1200.00 EUR".'),
    ] = None
    territory: Annotated[list[str] | None, _option("--territory", help="Where: ISO country codes, or WORLD.")] = None
    max_duration: Annotated[
        int | None,
        _option("--max-duration", parser=parser(duration), metavar="TIME", help="Longest license: 365d, 12h."),
    ] = None
    not_before: Annotated[
        Timestamp | None, _option("--not-before", parser=parser(moment), metavar="TIME", help="No access before.")
    ] = None
    not_after: Annotated[
        Timestamp | None, _option("--not-after", parser=parser(moment), metavar="TIME", help="No access from then on.")
    ] = None
    max_licenses: Annotated[
        int | None, _option("--max-licenses", min=0, help="How many licenses at once; 0 for no limit.")
    ] = None
    exclusivity: Annotated[str | None, _option("--exclusivity", help=f"At most: {EXCLUSIVITIES.all}.")] = None
    duty: Annotated[list[str] | None, _option("--duty", help=f"What licensees promise: {DUTIES.all}.")] = None
    scope_file: Annotated[
        Path | None,
        _option("--scope-file", metavar="FILE", help="The whole scope as protobuf JSON; other options then change it."),
    ] = None

    def from_file(self) -> scope_pb2.SharingScope | None:
        """The scope in --scope-file, if one was given."""
        if self.scope_file is None:
            return None
        try:
            return json_format.Parse(self.scope_file.read_text("utf-8"), scope_pb2.SharingScope())
        except (OSError, UnicodeDecodeError, json_format.ParseError) as error:
            raise typer.BadParameter(f"{self.scope_file}: {error}", param_hint="--scope-file") from None

    def apply(self, scope: scope_pb2.SharingScope) -> None:
        """Replaces in `scope` every dimension about which something was said, except the datasets as such."""
        for entry in scope.datasets:
            if self.columns:
                entry.columns[:] = flat(self.columns)
            if self.first_version is not None:
                entry.first_version = self.first_version
            if self.last_version is not None:
                entry.last_version = self.last_version
        if self.category:
            scope.categories[:] = words(CATEGORIES, self.category, "--category")
        if self.purpose:
            scope.purposes[:] = flat(self.purpose)
        if self.action:
            scope.actions[:] = words(ACTIONS, self.action, "--action")
        if self.mode:
            scope.max_mode = words(MODES, [self.mode], "--mode")[0]
        if self.floor_price is not None:
            scope.floor_price.CopyFrom(self.floor_price)
        if self.territory:
            scope.territories[:] = [territory.upper() for territory in flat(self.territory)]
        if self.max_duration is not None:
            scope.max_duration_seconds = self.max_duration
        if self.not_before is not None:
            scope.not_before.CopyFrom(self.not_before)
        if self.not_after is not None:
            scope.not_after.CopyFrom(self.not_after)
        if self.max_licenses is not None:
            scope.max_licenses = self.max_licenses
        if self.exclusivity:
            scope.max_exclusivity = words(EXCLUSIVITIES, [self.exclusivity], "--exclusivity")[0]
        if self.duty:
            scope.duties[:] = words(DUTIES, self.duty, "--duty")


with_scope_options = expand("scope", ScopeOptions)
