"""Options that several commands share, with the parsers that turn words into values. No command lives here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from ulid import ULID

from rochdale.client.market import Market
from rochdale.client.output import as_dict, document, note, settings

T = TypeVar("T")

RequestId = Annotated[
    str | None,
    typer.Option(
        "--request-id",
        metavar="ID",
        help="Say the same id again to retry safely: the second arrival gets the first answer. Default: a new one.",
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=0, help="Show at most this many; 0 for all.")]


def request_id_or_new(request_id: str | None) -> str:
    """What the user gave, else a new ULID."""
    return request_id or str(ULID())


def parser(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A parser for typer.Option(parser=…): a ValueError's sentence becomes a usage error that names the option."""

    def parse_or_complain(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parse_or_complain


def listed(text: str) -> list[str]:
    """The values of "a, b,c"."""
    return [value for part in text.split(",") if (value := part.strip())]


def flat(texts: Iterable[str] | None) -> list[str]:
    """The values of a repeatable option that also takes commas, each once, in order."""
    return list(dict.fromkeys(value for text in texts or () for value in listed(text)))


def words(enum_words: Any, texts: Iterable[str] | None, option: str) -> list[Any]:
    """The numbers of words given to a repeatable option that also takes commas; a usage error names the option."""
    try:
        return [enum_words.parse(text) for text in flat(texts)]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def open_market(context: typer.Context) -> Market:
    """The market of --market and the key of --key-file, closed when the command ends."""
    market: Market = context.with_resource(Market.open(settings.market_file, settings.key_file))
    return market


class Found(list[Any]):
    """Things of a paged list, and whether there are more of them."""

    more = False

    def document(self, field: str) -> None:
        """Prints them with --json, under the list's name in the contract."""
        document({field: [as_dict(each) for each in self], "more": self.more})


def collect(market: Market, method: Any, request: Any, field: str, limit: int, page: int = 1000) -> Found:
    """Up to `limit` things (0 for all) of a paged list. Says on standard error when there are more."""
    found = Found()
    while True:
        request.page_size = min(page, limit - len(found)) if limit else page
        answer = market.call(method, request)
        found.extend(getattr(answer, field))
        request.page_token = answer.next_page_token
        if not request.page_token:
            return found
        if limit and len(found) >= limit:
            found.more = True
            note(f"There are more; --limit {limit * 4} shows more, --limit 0 all.")
            return found


def existing(path: Path) -> Path:
    """The path if a file is there, else a usage error."""
    if not path.is_file():
        raise typer.BadParameter(f"There is no file {path}.")
    return path


def expand(name: str, options: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: a command's parameter `name` of the dataclass `options` becomes one option for each field of it.

    Several commands describe the same thing; this way its options are written once.
    """
    annotations = inspect.get_annotations(options, eval_str=True)
    added = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotations[field.name]
        )
        for field in fields(options)
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in signature.parameters.values()
            if parameter.name != name
        ]

        @functools.wraps(command)
        def wrapper(**arguments: Any) -> None:
            value = options(**{parameter.name: arguments.pop(parameter.name) for parameter in added})
            command(**{name: value}, **arguments)

        wrapper.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *added]}
        del wrapper.__wrapped__  # Typer would look through it for annotations
        return wrapper

    return decorate
