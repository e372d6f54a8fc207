"""Answers as the caller asked to see them: ids expanded into objects, our own notes left out."""

from typing import Any

from .errors import Json, invalid
from .routes.charges import as_of
from .unit import Unit, public

_KINDS = {
    "pi": "payment_intent",
    "ch": "charge",
    "txn": "balance_transaction",
    "re": "refund",
    "cus": "customer",
    "pm": "payment_method",
    "seti": "setup_intent",
    "du": "dispute",
    "cs": "checkout.session",
    "py": "charge",
    "pyr": "refund",
    "acct": "account",
    "tr": "transfer",
    "trr": "transfer_reversal",
    "po": "payout",
}


def render(unit: Unit, answer: Json, expand: list[str]) -> Json:
    """The answer without private fields, each path of `expand` (`latest_charge.balance_transaction`) filled in."""
    if answer.get("object") == "list":
        shown: Json = {**answer, "data": [_shown(unit, row) for row in answer["data"]]}
    else:
        shown = _shown(unit, answer)
    for path in expand:
        steps = path.split(".")
        if shown["object"] == "list":
            if steps[0] != "data" or len(steps) == 1:
                raise _unexpandable(path)
            for row in shown["data"]:
                _expand(unit, row, steps[1:], path)
        else:
            _expand(unit, shown, steps, path)
    return shown


def _shown(unit: Unit, row: Json) -> Json:
    if row["object"] == "balance_transaction":
        return public(as_of(row, unit.now))
    return public(row)


def _expand(unit: Unit, node: Json, steps: list[str], path: str) -> None:
    name, rest = steps[0], steps[1:]
    if node["object"] == "checkout.session" and name == "line_items":
        session = unit.need("checkout.session", node["id"])
        url = f"/v1/checkout/sessions/{node['id']}/line_items"
        node[name] = {"object": "list", "data": session["_line_items"], "has_more": False, "url": url}
        return
    if name not in node:
        raise _unexpandable(path)
    value: Any = node[name]
    if value is None:
        return
    if isinstance(value, str):
        kind = _KINDS.get(value.split("_")[0])
        row = None
        if kind is not None:
            row = unit.find(kind, value) or unit.find(f"deleted_{kind}", value)
        if row is None:
            raise _unexpandable(path)
        value = node[name] = _shown(unit, row)
    if rest:
        if not isinstance(value, dict) or "object" not in value:
            raise _unexpandable(path)
        _expand(unit, value, rest, path)


def _unexpandable(path: str) -> Exception:
    return invalid(f"This property cannot be expanded ({path}).", param="expand")
