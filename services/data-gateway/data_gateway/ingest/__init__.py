"""Turns a source file into an immutable version: typed Parquet, pseudonyms, statistics; no network and no database."""

from data_gateway.ingest.job import (
    Column,
    CsvOptions,
    DataFile,
    Format,
    IngestJob,
    IngestProgress,
    IngestRefusal,
    IngestRefused,
    IngestResult,
    Limits,
    OnBrokenRow,
    PartTarget,
)
from data_gateway.ingest.members import pseudonym, pseudonym_of_reference
from data_gateway.ingest.process import run_job
from data_gateway.ingest.stats import ColumnStatistics
from data_gateway.ingest.version import project, read_sample
from data_gateway.ingest.withdrawal import Positions, Remainder, member_rows, remove_members, rows_digest

__all__ = [
    "Column",
    "ColumnStatistics",
    "CsvOptions",
    "DataFile",
    "Format",
    "IngestJob",
    "IngestProgress",
    "IngestRefusal",
    "IngestRefused",
    "IngestResult",
    "Limits",
    "OnBrokenRow",
    "PartTarget",
    "Positions",
    "Remainder",
    "member_rows",
    "project",
    "pseudonym",
    "pseudonym_of_reference",
    "read_sample",
    "remove_members",
    "rows_digest",
    "run_job",
]
