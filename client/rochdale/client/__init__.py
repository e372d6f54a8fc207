"""The Python SDK of a Rochdale market. The names here are imported when they are first used, to keep the command quick.

`download` and `load` have a file each: `from rochdale.client.load import load`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rochdale.client.market import Market
    from rochdale.client.refusals import MarketError

__all__ = ["Market", "MarketError"]

_HOMES = {"Market": "market", "MarketError": "refusals"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"rochdale.client.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'rochdale.client' has no attribute {name!r}")
