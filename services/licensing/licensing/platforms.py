"""The list of large platforms, from the package or from a file in the settings. What it means is domain/categories."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from licensing.domain.categories import Platforms, plain


def read_platforms(path: str) -> Platforms:
    """path empty: the list that comes with the service. A file that is none stops the start with a sentence."""
    try:
        packaged = resources.files("licensing") / "data" / "large_platforms.json"
        entries = json.loads((Path(path) if path else packaged).read_text())["platforms"]
        return Platforms(
            leis=frozenset(entry["lei"] for entry in entries if entry["lei"]),
            names=frozenset(plain(entry["name"]) for entry in entries),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path or 'The list of large platforms'} cannot be read: {error}.") from None
