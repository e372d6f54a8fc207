"""The options that describe what a buyer wants out of an offering, shared by quote, license request and counter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from rochdale.client.options import expand, flat, parser, words
from rochdale.client.terms import ACTIONS, MODES, money
from rochdale.client.terms import duration as read_duration
from rochdale.licensing.v1 import licensing_pb2
from rochdale.type.v1 import money_pb2, scope_pb2

_PANEL = "What you want (default: all that is offered)"


def _option(name: str, help: str, **more: Any) -> Any:
    return typer.Option(name, help=help, rich_help_panel=_PANEL, **more)


@dataclass(frozen=True, slots=True)
class WishOptions:
    """What was said; None where nothing was."""

    # No name used in an annotation may be that of a field: annotations are read inside the class.

    purpose: Annotated[list[str] | None, _option("--purpose", "What for, as DPV terms, with commas.")] = None
    action: Annotated[list[str] | None, _option("--action", f"What you would do: {ACTIONS.all}.")] = None
    columns: Annotated[list[str] | None, _option("--columns", "Only these columns, with commas.")] = None
    mode: Annotated[str | None, _option("--mode", f"{MODES.all}.")] = None
    duration: Annotated[
        int | None, _option("--duration", "How long, like 90d.", parser=parser(read_duration), metavar="TIME")
    ] = None
    price: Annotated[
        money_pb2.Money | None,
        _option("--price", 'What you would pay, like "900 EUR".', parser=parser(money), metavar="AMOUNT"),
    ] = None

    def wish(self) -> licensing_pb2.Wish:
        """The wish of the contract."""
        return licensing_pb2.Wish(
            purposes=flat(self.purpose),
            actions=words(ACTIONS, self.action, "--action"),
            columns=flat(self.columns),
            mode=words(MODES, [self.mode], "--mode")[0] if self.mode else scope_pb2.ACCESS_MODE_UNSPECIFIED,
            duration_seconds=self.duration or 0,
            price=self.price,
        )


with_wish_options = expand("wish", WishOptions)
