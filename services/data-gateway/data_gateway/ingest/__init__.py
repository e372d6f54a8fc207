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
from data_gateway.ingest.members import pseudonym
from data_gateway.ingest.process import run_job
from data_gateway.ingest.stats import ColumnStatistics
from data_gateway.ingest.version import project, read_sample

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
    "project",
    "pseudonym",
    "read_sample",
    "run_job",
]
