"""What an endpoint is, and what all nouns share: retrieving, lists in pages, metadata. Leaves out the nouns."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import Json, invalid
from ..unit import Unit
from ..validation import Modeled

Handler = Callable[[Unit, Json, str], Json]
Keep = Callable[[Json, Json], bool]

METADATA_KEYS, METADATA_KEY_LENGTH, METADATA_VALUE_LENGTH = 50, 40, 500


@dataclass(frozen=True)
class Route:
    """One endpoint: `shape` is the TypedDict of its parameters; `connected` says that the `Stripe-Account` header works.

    `path` may hold `{id}` more than once; the handler is then given the ids joined by `/`.
    """

    method: str
    path: str
    shape: Any
    modeled: Modeled
    handler: Handler
    connected: bool = False

    def match(self, method: str, path: str) -> str | None:
        """The id in the path ("" when it has none), or None when this is another endpoint."""
        found = re.fullmatch(self.path.replace("{id}", "([^/]+)"), path) if method == self.method else None
        return None if found is None else "/".join(found.groups())


def taking(*names: str, **parts: Modeled | None) -> Modeled:
    """The parameters a route does something with; `expand` always."""
    return {"expand": None, **dict.fromkeys(names), **parts}


def retrieving(kind: str, path: str, shape: Any, param: str = "id", *, connected: bool = False) -> Route:
    """`GET` of one thing."""

    def handler(unit: Unit, _: Json, ident: str) -> Json:
        return unit.need(kind, ident, param=param)

    return Route("GET", f"{path}/{{id}}", shape, taking(), handler, connected)


def listing(
    kind: str, path: str, shape: Any, *filters: str, keep: Keep | None = None, also: tuple[str, ...] = (),
    connected: bool = False,
) -> Route:  # fmt: skip
    """`GET` of many, newest first; each of `filters` keeps rows whose field of that name equals the parameter.

    `keep(row, params)` decides about the parameters named in `also`.
    """

    def handler(unit: Unit, params: Json, _: str) -> Json:
        wanted = [
            row
            for row in unit.rows(kind)
            if time_fits(row["created"], params.get("created"))
            and all(row.get(name) == params[name] for name in filters if name in params)
            and (keep is None or keep(row, params))
        ]
        wanted.reverse()
        return page(wanted, params, path, kind)

    dated = {"created"} & set(shape.__annotations__)
    modeled = taking("limit", "starting_after", "ending_before", *dated, *filters, *also)
    return Route("GET", path, shape, modeled, handler, connected)


def page(rows: list[Json], params: Json, url: str, noun: str) -> Json:
    """A list object: at most `limit` rows (1 to 100, 10 by default) beside the cursor."""
    limit = params.get("limit", 10)
    if not 1 <= limit <= 100:
        raise invalid("Invalid limit: must be between 1 and 100", param="limit", code="parameter_invalid_integer")
    ids = [row["id"] for row in rows]
    first, last = 0, len(rows)
    for name in ("starting_after", "ending_before"):
        if name in params and params[name] not in ids:
            raise invalid(f"No such {noun}: '{params[name]}'", param=name, code="resource_missing")
    if "starting_after" in params:
        first = ids.index(params["starting_after"]) + 1
    if "ending_before" in params:
        last = ids.index(params["ending_before"])
        chosen, more = rows[max(first, last - limit) : last], last - limit > first
    else:
        chosen, more = rows[first : first + limit], first + limit < last
    return {"object": "list", "data": chosen, "has_more": more, "url": url}


_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def time_fits(time: int, wanted: Json | int | None) -> bool:
    """Whether a time is the one a filter names, or within its `gt`, `gte`, `lt` and `lte`."""
    if wanted is None:
        return True
    if isinstance(wanted, int):
        return time == wanted
    return all(_COMPARISONS[name](time, bound) for name, bound in wanted.items())


def merged_metadata(old: Json, new: Any) -> Json:
    """Metadata after an update: new keys are added, an empty value removes its key, an empty string removes all."""
    if new == "":
        return {}
    merged = {key: value for key, value in {**old, **(new or {})}.items() if value != ""}
    if len(merged) > METADATA_KEYS:
        raise invalid(f"You can have up to {METADATA_KEYS} metadata keys.", param="metadata")
    for key, value in merged.items():
        if len(key) > METADATA_KEY_LENGTH:
            raise invalid(f"Metadata keys can be up to {METADATA_KEY_LENGTH} characters long: {key}", param="metadata")
        if len(value) > METADATA_VALUE_LENGTH:
            text = f"Metadata values can be up to {METADATA_VALUE_LENGTH} characters long; that of {key} is longer."
            raise invalid(text, param=f"metadata[{key}]")
    return merged
