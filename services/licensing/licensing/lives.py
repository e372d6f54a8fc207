"""How long things wait for somebody, as the settings have it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True)
class Lives:
    """An answer in a negotiation, the payment of an agreed license."""

    negotiation: dt.timedelta
    payment: dt.timedelta
