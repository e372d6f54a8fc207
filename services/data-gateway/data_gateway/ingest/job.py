"""What an ingestion is asked and what it answers, as values; it leaves out how any of it is done."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from data_gateway.ingest.stats import ColumnStatistics

MEBIBYTE = 1 << 20


class Format(StrEnum):
    CSV = "CSV"
    JSON_LINES = "JSON_LINES"
    PARQUET = "PARQUET"


class OnBrokenRow(StrEnum):
    """STOP refuses the file at its first broken row; SET_ASIDE writes broken rows to rejects.jsonl and goes on."""

    STOP = "STOP"
    SET_ASIDE = "SET_ASIDE"


@dataclass(frozen=True)
class CsvOptions:
    """`delimiter` is one of , ; tab | or None, which looks at the first lines and chooses."""

    delimiter: str | None = None


@dataclass(frozen=True)
class PartTarget:
    """A Parquet file of the version ends at whichever comes first; bytes are counted before compression."""

    rows: int = 1_000_000
    bytes: int = 128 * MEBIBYTE


@dataclass(frozen=True)
class Limits:
    """What one file may cost.

    `decoded_bytes` caps the table in memory form, summed over the whole file. `expansion` caps it as a multiple of the
    source's size, once it is larger than `expansion_floor_bytes`: a bomb is small on disk and only large when read.
    `memory_bytes` (address space) and `cpu_seconds` are kernel limits of the process that reads; `wall_seconds` is
    kept by the process that waits.
    """

    decoded_bytes: int = 64 * 1024 * MEBIBYTE
    expansion: int = 1_000
    expansion_floor_bytes: int = 256 * MEBIBYTE
    columns: int = 2_000
    row_bytes: int = 16 * MEBIBYTE
    memory_bytes: int = 2 * 1024 * MEBIBYTE
    cpu_seconds: int = 3_600
    wall_seconds: float = 7_200.0


@dataclass(frozen=True)
class IngestJob:
    """One file to become one version.

    `version_folder` must not exist yet: it appears whole, holding `data/part-00000.parquet` and so on, or not at all.
    `job_folder` is private to the cooperative: result.json, members.parquet and rejects.jsonl stay there.
    `format` None lets content and file name decide, and refuses when they disagree.
    With a `member_column`, the pseudonym key (at least 32 bytes) comes from a file that only its owner can read, or
    as bytes, which travel to the subprocess through a pipe; the key is never an argument, an environment variable or
    part of the job file.
    """

    source: Path
    version_folder: Path
    job_folder: Path
    format: Format | None = None
    member_column: str | None = None
    pseudonym_key_file: Path | None = None
    pseudonym_key: bytes | None = field(default=None, repr=False)
    on_broken_row: OnBrokenRow = OnBrokenRow.STOP
    csv: CsvOptions = CsvOptions()
    parts: PartTarget = PartTarget()
    limits: Limits = Limits()


@dataclass(frozen=True)
class IngestProgress:
    """`phase` is INSPECT (first reading), WRITE (second reading) or FINISH; bytes are of the source, per phase."""

    phase: str
    rows: int
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True)
class Column:
    """A column of the version. `type` is a Delta name; `notes` say what was kept as text and why."""

    name: str
    type: str
    is_member: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataFile:
    """One Parquet file, by its path inside the version folder."""

    path: str
    sha256: str
    size_bytes: int
    row_count: int


@dataclass(frozen=True)
class IngestResult:
    """What became of the file.

    `row_count` + `reject_count` is the number of rows in the source; blank lines hold no row and are counted apart.
    `member_count` and `reject_count` are for the cooperative, not for publication; `statistics` may be published
    (see stats.py for the rule). `arrow_schema` is the Arrow IPC schema message in base64; `delta_schema` is the
    Delta `schemaString`.
    """

    format: Format
    source_sha256: str
    source_bytes: int
    row_count: int
    reject_count: int
    blank_line_count: int
    member_count: int | None
    columns: tuple[Column, ...]
    files: tuple[DataFile, ...]
    arrow_schema: str
    delta_schema: str
    statistics: tuple[ColumnStatistics, ...]
    delimiter: str | None = None


@dataclass(frozen=True)
class IngestRefusal:
    """Why there is no version: a reason for programs, a sentence for people, and every value the sentence mentions.

    Reasons: BROKEN_ROW, FILE_TRUNCATED, NULL_MEMBER, NOT_UTF8, ROW_TOO_LARGE, FILE_EMPTY, FORMAT_UNKNOWN,
    FORMAT_MISMATCH, FILE_UNREADABLE, COLUMN_UNKNOWN, COLUMN_REPEATED, COLUMN_NAME_INVALID, TOO_MANY_COLUMNS,
    UNSUPPORTED_TYPE, TOO_LARGE_DECODED, SOURCE_MISSING, SOURCE_CHANGED, VERSION_EXISTS,
    EMPTY_PROJECTION, PSEUDONYM_KEY_MISSING, PSEUDONYM_KEY_EXPOSED, INGESTION_KILLED, INGESTION_FAILED.
    """

    reason: str
    message: str
    facts: dict[str, str] = field(default_factory=dict)


class IngestRefused(Exception):
    """Carries a refusal through code that answers with something else."""

    def __init__(self, reason: str, message: str, **facts: object) -> None:
        super().__init__(f"{reason}: {message}")
        self.refusal = IngestRefusal(reason, message, {name: str(value) for name, value in facts.items()})


def check_names(names: list[str], limit: int) -> None:
    """Refuses names that are empty, too long, hold control characters, or differ from another only by case."""
    if len(names) > limit:
        raise IngestRefused(
            "TOO_MANY_COLUMNS", f"The file has {len(names)} columns; at most {limit} are taken.", columns=len(names)
        )
    seen: dict[str, int] = {}
    for position, name in enumerate(names, start=1):
        if not 1 <= len(name) <= 255 or not name.isprintable():
            # The name itself is not repeated: a file without a header line would show a person's values here.
            raise IngestRefused(
                "COLUMN_NAME_INVALID",
                f"The name of column {position} is not 1 to 255 characters without control characters.",
                column_position=position,
            )
        first = seen.setdefault(name.casefold(), position)
        if first != position:
            raise IngestRefused(
                "COLUMN_REPEATED",
                f"Columns {first} and {position} have the same name, upper and lower case aside.",
                first_position=first,
                column_position=position,
            )


def read_key(job: IngestJob, key_fd: int | None) -> bytes | None:
    """The pseudonym key from the inherited descriptor or the key file; None if the job names no member column."""
    if job.member_column is None:
        return None
    if key_fd is not None:
        with os.fdopen(key_fd, "rb") as pipe:
            key = pipe.read(4_096)
    elif job.pseudonym_key_file is not None:
        try:
            with job.pseudonym_key_file.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise IngestRefused(
                        "PSEUDONYM_KEY_EXPOSED", "The pseudonym key file can be read by others; use mode 0600."
                    )
                key = file.read(4_096)
        except OSError:
            raise IngestRefused("PSEUDONYM_KEY_MISSING", "The pseudonym key file cannot be read.") from None
    else:
        raise IngestRefused("PSEUDONYM_KEY_MISSING", "A member column was named, but no pseudonym key was given.")
    if len(key) < 32:
        raise IngestRefused("PSEUDONYM_KEY_MISSING", "The pseudonym key is shorter than 32 bytes.")
    return key
