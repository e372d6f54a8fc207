"""Validators built from the TypedDicts in `stripe.params`, and pydantic's findings in Stripe's words."""

import re
import types
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired, Required, TypeVar, Union, get_args, get_origin

import typing_extensions
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from stripe import RequestOptions

from .errors import Json, StripeError, invalid, not_modeled

# What a route does with the parameters Stripe knows: None takes the whole value, a mapping names the parts it takes.
Modeled = Mapping[str, "Modeled | None"]

_T = TypeVar("_T")
# Names the TypedDicts mention and their modules import for type checkers only, or that are no wire shape.
_NAMES = {"UntypedStripeObject": dict[str, _T], "StripeContext": str, "Mapping": Mapping}  # type: ignore[valid-type]
_clones: dict[Any, Any] = {}
_adapters: dict[Any, TypeAdapter[Json]] = {}


def _listed(value: Any) -> Any:
    if isinstance(value, dict) and all(key.isdigit() for key in value):
        return [value[key] for key in sorted(value, key=int)]
    return value


def _filled(value: Any) -> Any:
    if value == "":
        raise PydanticCustomError("empty", "empty")
    return value


def _boolean(value: Any) -> Any:
    if value in ("true", "false"):
        return value == "true"
    raise PydanticCustomError("boolean", "boolean")


def _integer(value: Any) -> Any:
    _filled(value)
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    raise PydanticCustomError("integer", "integer")


_SCALARS: dict[Any, Any] = {
    str: Annotated[str, BeforeValidator(_filled)],
    bool: Annotated[bool, BeforeValidator(_boolean)],
    int: Annotated[int, BeforeValidator(_integer)],
    float: float,
    Decimal: Decimal,
}


def _wire(hint: Any) -> Any:
    """The hint as it is checked on the wire: enums closed, numbers and booleans read from text, dicts closed."""
    origin, arguments = get_origin(hint), get_args(hint)
    if typing_extensions.is_typeddict(hint):
        return _clone(hint)
    if hint in _SCALARS:
        return _SCALARS[hint]
    if origin in (NotRequired, typing_extensions.NotRequired):
        return NotRequired[_wire(arguments[0])]
    if origin in (Required, typing_extensions.Required):
        return Required[_wire(arguments[0])]
    if origin in (Union, types.UnionType):
        # `Literal["a", "b"] | str` leaves room for values that newer APIs return; a request may not use them.
        # `Literal[""] | str` is something else: text that may be unset by an empty value.
        closed = any(get_origin(member) is Literal and get_args(member) != ("",) for member in arguments)
        return Union[tuple(_wire(member) for member in arguments if not (closed and member is str))]  # noqa: UP007
    if origin is list:
        return Annotated[list[_wire(arguments[0])], BeforeValidator(_listed)]  # type: ignore[misc]
    if origin is dict:  # metadata: an empty value unsets its key, so it is allowed
        return dict[str, arguments[1] if arguments[1] is str else _wire(arguments[1])]  # type: ignore[misc]
    return hint


def _clone(shape: Any) -> Any:
    # A copy, because the original belongs to the library and other code in this process may use it.
    if shape not in _clones:
        hints = typing_extensions.get_type_hints(shape, localns=_NAMES, include_extras=True)
        # Options of the call (api_key, idempotency_key …) are in the library's type and travel in headers.
        called = RequestOptions in getattr(shape, "__orig_bases__", ())
        options = set(RequestOptions.__annotations__) if called else set()
        fields = {name: _wire(hint) for name, hint in hints.items() if name not in options}
        make: Any = typing_extensions.TypedDict
        _clones[shape] = make(shape.__name__, fields)
        _clones[shape].__pydantic_config__ = ConfigDict(extra="forbid")
    return _clones[shape]


def validate(shape: Any, raw: Json, modeled: Modeled) -> Json:
    """`raw` form values as typed values of the TypedDict `shape`.

    Refuses as Stripe does what the shape does not know, and with `not_modeled` what Stripe knows and the route
    does not do.
    """
    if shape not in _adapters:
        _adapters[shape] = TypeAdapter(_clone(shape))
    try:
        values = _adapters[shape].validate_python(raw)
    except ValidationError as problem:
        raise _in_stripes_words(problem, raw) from None
    _check_modeled(values, modeled, "")
    return values


def _check_modeled(values: Any, modeled: Modeled, prefix: str) -> None:
    for name, value in values.items():
        path = f"{prefix}[{name}]" if prefix else name
        if name not in modeled:
            raise not_modeled(f"the parameter {path}", param=path)
        inner = modeled[name]
        if inner is not None:
            for index, part in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(part, dict):
                    _check_modeled(part, inner, path if index is None else f"{path}[{index}]")


_ORDER = {"extra_forbidden": 0, "missing": 1}


def _in_stripes_words(problem: ValidationError, raw: Json) -> StripeError:
    findings = [(_path(raw, finding["loc"]), finding) for finding in problem.errors()]
    # Among a union's findings the one that got furthest into the request is about the member that was meant.
    path, finding = min(findings, key=lambda found: (_ORDER.get(found[1]["type"], 2), -len(found[0])))
    name = path[0] + "".join(f"[{step}]" for step in path[1:]) if path else ""
    match finding["type"]:
        case "extra_forbidden":
            return invalid(f"Received unknown parameter: {name}", param=name, code="parameter_unknown")
        case "missing":
            return invalid(f"Missing required param: {name}.", param=name, code="parameter_missing")
        case "empty":
            return invalid(
                f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a parameter;"
                f" however '{name}' cannot be unset. You should remove '{name}' from your request or supply a"
                " non-empty value.",
                param=name,
                code="parameter_invalid_empty",
            )
        case "integer":
            value = finding.get("input")
            return invalid(f"Invalid integer: {value}", param=name, code="parameter_invalid_integer")
        case "boolean":
            return invalid(f"Invalid boolean: {finding.get('input')}", param=name)
        case "literal_error":
            expected = finding.get("ctx", {}).get("expected", "")
            return invalid(f"Invalid {name}: must be one of {expected}", param=name)
        case "dict_type" | "typed_dict_type" | "dict_attributes_type":
            return invalid("Invalid object", param=name)
        case "list_type":
            return invalid("Invalid array", param=name)
        case _:
            return invalid(f"Invalid value for {name}: {finding['msg']}", param=name)


def _path(raw: Any, location: tuple[int | str, ...]) -> list[str]:
    """The finding's place in the request; pydantic also names union members on the way, which nobody sent."""
    path: list[str] = []
    node = raw
    for index, step in enumerate(location):
        if isinstance(node, dict) and str(step) in node:
            node = node[str(step)]
            path.append(str(step))
        elif index == len(location) - 1 and isinstance(node, dict) and not _is_tag(step, node):
            path.append(str(step))
    return path


def _is_tag(step: int | str, node: Json) -> bool:
    return not isinstance(step, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", step) or step in ("str", "int", "bool")
