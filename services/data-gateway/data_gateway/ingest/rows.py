"""What every source hands on: rows with their line numbers, and the broken ones; it leaves out the formats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_gateway.ingest.job import Format, IngestJob, IngestRefused

BLOCK_BYTES = 4 << 20


@dataclass(frozen=True)
class Reject:
    """A broken row. `message` and `facts` never hold values of the row; `raw` does, and stays in rejects.jsonl."""

    line: int
    reason: str
    message: str
    raw: str
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """A batch of a source: sound rows in the source's own shape, and the broken ones met on the way.

    `lines` are the 1-based lines of the sound rows (row numbers in Parquet). `bytes_done` is how much of the source
    has been read.
    """

    data: Any
    lines: npt.NDArray[np.int64]
    rejects: list[Reject]
    blank_lines: int
    bytes_done: int

    def __len__(self) -> int:
        return len(self.lines)


class Source(Protocol):
    """A file being read. `rows` reads it from the start each time; `inspect` sees every batch of the first reading."""

    two_passes: bool

    @property
    def format(self) -> Format: ...

    @property
    def delimiter(self) -> str | None: ...

    def rows(self, final: bool) -> Iterator[Rows]: ...

    def inspect(self, rows: Rows) -> None: ...

    def decide(self) -> list[tuple[str, pa.DataType, tuple[str, ...]]]:
        """Name, type and notes per column, once all rows have been inspected."""
        ...

    def convert(self, rows: Rows) -> Iterator[pa.RecordBatch]:
        """The batch in the decided types, the member column as canonical text, in pieces of bounded size."""
        ...


class RejectLog:
    """Either refuses at the first broken row, or writes each to rejects.jsonl, once."""

    def __init__(self, stop: bool, path: Path | None) -> None:
        self._stop = stop
        self._file = None
        if path is not None and not stop:
            path.touch(mode=0o600)
            self._file = path.open("w", encoding="utf-8")
        self._path = path
        self.count = 0

    def take(self, rows: Rows, rows_before: int) -> None:
        for reject in rows.rejects:
            if self._stop:
                sound = rows_before + int(np.searchsorted(rows.lines, reject.line))
                raise IngestRefused(
                    reject.reason,
                    f"{reject.message} {sound} rows before it were sound. Nothing was stored.",
                    line=reject.line,
                    rows_before=sound,
                    **reject.facts,
                )
            self.count += 1
            if self._file:
                entry = {"line": reject.line, "reason": reject.reason, "message": reject.message, "raw": reject.raw}
                self._file.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        if self._file:
            self._file.close()
        if self._path is not None and self.count == 0:
            self._path.unlink(missing_ok=True)


def null_member(line: int, raw: str, unit: str = "Line") -> Reject:
    return Reject(line, "NULL_MEMBER", f"{unit} {line} names no member.", raw)


def require_member_column(job: IngestJob, names: list[str]) -> None:
    if job.member_column is not None and job.member_column not in names:
        raise IngestRefused(
            "COLUMN_UNKNOWN",
            f"The member column {job.member_column!r} is not in the file.",
            column=job.member_column,
        )
