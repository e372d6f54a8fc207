"""Tax adapters: who says which taxes are on an order. The market itself says none; a deployment names a table.

The table is a JSON file that whoever runs the market writes with whoever advises them on taxes:

    {
      "seats": {"valley-health": "NL", "acme": "DE"},
      "rules": [
        {"seller": "NL", "buyer": "NL", "taxes": [{"label": "VAT", "rate": "21"}]},
        {"seller": "NL", "buyer": "DE", "taxes": [{"label": "VAT", "rate": "0", "note": "reverse charge"}]},
        {"seller": "NL", "category": "ACADEMIC", "taxes": []}
      ]
    }

`seats` says in which country an organization is seated, because billing is told of none; one that is not named is seated
in "". `seller`, `buyer` and `category` of a rule match anything when they are left out. The first rule that matches
counts; without one there are no taxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from billing.domain.taxes import TaxFacts, tax_line
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.type.v1 import scope_pb2

_PREFIX = "BUYER_CATEGORY_"
Country = Annotated[str, StringConstraints(pattern="^([A-Z]{2})?$")]


class TaxAdapter(Protocol):
    """Says which taxes are on an order. Asked once, when it is made; the answer never changes."""

    def lines(self, facts: TaxFacts) -> Sequence[pb.TaxLine]: ...


class NoTaxes:
    """Says nothing."""

    def lines(self, facts: TaxFacts) -> Sequence[pb.TaxLine]:
        return ()


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tax(_Strict):
    """One tax: what it is called, in percent, and what a reader must be told."""

    label: Annotated[str, StringConstraints(min_length=1, max_length=60)]
    rate: Annotated[str, StringConstraints(pattern=r"^([0-9]{1,3}(\.[0-9]{1,6})?)?$")] = ""
    note: Annotated[str, StringConstraints(max_length=300)] = ""


class Rule(_Strict):
    """Which taxes are on which orders."""

    seller: Country | None = None
    buyer: Country | None = None
    category: Annotated[str, StringConstraints(pattern="^[A-Z_]+$")] | None = None
    taxes: tuple[Tax, ...]


class TaxTable(_Strict):
    """The first rule that matches says it."""

    seats: dict[str, Country] = {}
    rules: tuple[Rule, ...]

    def lines(self, facts: TaxFacts) -> Sequence[pb.TaxLine]:
        asked = (
            self.seats.get(facts.seller, ""),
            self.seats.get(facts.buyer, ""),
            scope_pb2.BuyerCategory.Name(facts.category).removeprefix(_PREFIX),
        )
        for rule in self.rules:
            wanted = (rule.seller, rule.buyer, rule.category)
            if all(want is None or want == is_ for want, is_ in zip(wanted, asked, strict=True)):
                return [tax_line(tax.label, tax.rate, tax.note, facts.net) for tax in rule.taxes]
        return ()


def read_table(path: str) -> TaxTable:
    """The table in a file. ValueError, in a sentence, when it is none."""
    try:
        table = TaxTable.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise ValueError(f"is no table of taxes: {where or 'file'}: {first['msg']}") from None
    known = {name.removeprefix(_PREFIX) for name in scope_pb2.BuyerCategory.keys()}  # noqa: SIM118 - not a dict
    for rule in table.rules:
        if rule.category is not None and rule.category not in known:
            raise ValueError(f"is no table of taxes: there is no category {rule.category}")
    return table


def adapter(path: str) -> TaxAdapter:
    """The one a setting names; empty for none. A file that is no table stops the start, with a sentence."""
    try:
        return read_table(path) if path else NoTaxes()
    except ValueError as error:
        raise SystemExit(f"BILLING_TAX_TABLE: {path} {error}.") from None
