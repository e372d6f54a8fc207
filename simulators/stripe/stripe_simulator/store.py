"""What the simulator remembers: tables in memory and an append-only journal on disk. Leaves out what rows mean.

A journal line holds everything one request changed, so a crash leaves a request whole or absent. Starting writes the
tables anew to a temporary file and renames it over the journal, which keeps the journal as small as the state.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from .errors import Json

Changes = Mapping[tuple[str, str], Json | None]


class Store:
    """Tables of rows by kind and id, in order of creation."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._tables: dict[str, dict[str, Json]] = {}
        self._journal: TextIO | None = None
        if path is not None:
            self._load(path)
            self._journal = self._compacted(path)

    def get(self, kind: str, ident: str) -> Json | None:
        """A copy of the row, or None."""
        row = self._tables.get(kind, {}).get(ident)
        return None if row is None else copy.deepcopy(row)

    def rows(self, kind: str) -> Iterator[Json]:
        """The rows themselves, oldest first; for reading only."""
        yield from list(self._tables.get(kind, {}).values())

    def commit(self, changes: Changes) -> None:
        """Makes the changes durable, then visible: all of them or none. A row of None is deleted."""
        if not changes:
            return
        if self._journal is not None:
            line = [[kind, ident, row] for (kind, ident), row in changes.items()]
            # Flushed and not fsynced: what we survive is the death of a process, not of a laptop's battery.
            self._journal.write(json.dumps(line, separators=(",", ":")) + "\n")
            self._journal.flush()
        self._apply(changes)

    def close(self) -> None:
        """Closes the journal; a later commit fails."""
        if self._journal is not None:
            self._journal.close()

    def _apply(self, changes: Changes) -> None:
        for (kind, ident), row in changes.items():
            table = self._tables.setdefault(kind, {})
            if row is None:
                table.pop(ident, None)
            else:
                table[ident] = row

    def _load(self, path: Path) -> None:
        if not path.exists():
            return
        lines = path.read_text().split("\n")
        # A line without its newline was being written when the process died; its request was never answered.
        for number, line in enumerate(lines[:-1], start=1):
            try:
                changes = {(kind, ident): row for kind, ident, row in json.loads(line)}
            except ValueError as problem:
                raise ValueError(f"{path} line {number} is not a line of the simulator's journal: {problem}") from None
            self._apply(changes)

    def _compacted(self, path: Path) -> TextIO:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        with fresh.open("w") as file:
            for kind, table in self._tables.items():
                for ident, row in table.items():
                    file.write(json.dumps([[kind, ident, row]], separators=(",", ":")) + "\n")
        fresh.replace(path)
        return path.open("a")
