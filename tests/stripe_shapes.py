"""Whether an answer has the shape that the stripe library declares for its object. Leaves out what values mean."""

import types
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, ClassVar, ForwardRef, Literal, Union, get_args, get_origin

import stripe
from stripe import checkout

_OTHERWISE: dict[str, Any] = {"checkout.session": checkout.Session, "item": stripe.LineItem}
# Declared as always there, and sent by Stripe only for payments to other accounts or by other methods.
_SOMETIMES = {"charge.transfer"}


def misfits(answer: Any) -> list[str]:
    """What of an object, a list or an event does not fit, each as `path: what is wrong`; empty when all of it fits."""
    if answer["object"] == "list":
        return [problem for row in answer["data"] for problem in misfits(row)]
    name = answer["object"]
    found = list(_fits(answer, _declared_as(name), name))
    if name == "event":
        found += [f"{answer['type']} {problem}" for problem in misfits(answer["data"]["object"])]
    return found


def _declared_as(name: str) -> Any:
    return _OTHERWISE.get(name) or getattr(stripe, name.title().replace("_", ""))


def _fits(value: Any, hint: Any, path: str) -> Iterator[str]:
    if isinstance(hint, (str, ForwardRef)):
        name = hint if isinstance(hint, str) else hint.__forward_arg__
        hint = getattr(stripe, name, None)
        if hint is None:
            yield f"{path}: {value!r} is no {name}, which the library names and does not export"
            return
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        tried = [list(_fits(value, member, path)) for member in arguments]
        yield from min(tried, key=_far)
    elif origin is Literal:
        if value not in arguments:
            yield f"{path}: {value!r} is none of {arguments}"
    elif origin is list:
        if not isinstance(value, list):
            yield f"{path}: {value!r} is no list"
            return
        for row in value:
            yield from _fits(row, arguments[0], f"{path}[]")
    elif origin is stripe.ListObject:
        yield from _fits(value["data"], list[arguments[0]], path)  # type: ignore[valid-type]
    elif origin is not None:  # an object that the library leaves untyped, such as metadata
        if not isinstance(value, dict):
            yield f"{path}: {value!r} is no object"
    elif hint in (None, type(None), str, int, bool):
        if type(value) is not (hint or type(None)):
            yield f"{path}: {value!r} is no {hint}"
    elif hint in (float, Decimal):  # decimals travel as text
        if not isinstance(value, (int, float, str)):
            yield f"{path}: {value!r} is no number"
    elif isinstance(hint, type) and issubclass(hint, stripe.StripeObject):
        yield from _object_fits(value, hint, path)


def _object_fits(value: Any, shape: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is no object"
        return
    declared = {name: hint for name, hint in shape.__annotations__.items() if get_origin(hint) is not ClassVar}
    if value.get("deleted") is True:
        declared = {name: declared[name] for name in ("id", "object", "deleted")}
    for name in declared:
        if name not in value and not _optional(declared[name]) and f"{path}.{name}" not in _SOMETIMES:
            yield f"{path}.{name}: missing"
    for name, inner in value.items():
        if name not in declared:
            # Dicts of the library's own kinds of object without declared fields hold anything.
            if declared:
                yield f"{path}.{name}: not declared"
        else:
            yield from _fits(inner, declared[name], f"{path}.{name}")


def _optional(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _far(found: list[str]) -> tuple[int, int]:
    # Among a union's members the one meant is the one whose findings lie deepest, unless one fits.
    return (len(found) > 0, -max((problem.split(":")[0].count(".") for problem in found), default=0))
