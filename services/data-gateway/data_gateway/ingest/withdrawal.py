"""Takes members' rows out of a version, as a new one with counts and statistics of its own; and says whose rows are where."""

from __future__ import annotations

import hmac
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_gateway.ingest.job import Column, DataFile
from data_gateway.ingest.members import MemberCounter
from data_gateway.ingest.stats import ColumnObserver, ColumnStatistics, K
from data_gateway.ingest.version import project

Positions = dict[str, list[int]]


@dataclass(frozen=True)
class Remainder:
    """A version without some members. statistics are made anew, so that they say nothing about who left."""

    files: tuple[DataFile, ...]
    row_count: int
    member_count: int
    statistics: tuple[ColumnStatistics, ...]


def member_rows(folder: Path, files: Sequence[DataFile], column: str) -> dict[str, Positions]:
    """Each pseudonym's rows: positions from 0 in each file, ascending, in the files' order."""
    found: dict[str, Positions] = {}
    for file in files:
        names = pq.ParquetFile(folder / file.path).read(columns=[column], use_threads=False)[column]
        encoded = names.combine_chunks().dictionary_encode()
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        order = np.argsort(codes, kind="stable")
        cuts = np.searchsorted(codes[order], np.arange(len(encoded.dictionary) + 1))
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            found.setdefault(name, {})[file.path] = order[cuts[code] : cuts[code + 1]].tolist()
    return found


def remove_members(
    folder: Path,
    files: Sequence[DataFile],
    columns: Sequence[Column],
    removed: Collection[str],
    out_folder: Path,
    members_file: Path,
) -> Remainder:
    """Writes a version without the rows of these pseudonyms, and its private table of members, in bounded memory."""
    member = next(column.name for column in columns if column.is_member)
    made = project(folder, files, [column.name for column in columns], out_folder, member, removed)
    counter = MemberCounter()
    observers = [ColumnObserver(column.name, column.type) for column in columns if not column.is_member]
    row_count = 0
    for file in made:
        parquet = pq.ParquetFile(out_folder / file.path)
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group, use_threads=False).combine_chunks()
            names = pa.concat_arrays(table[member].chunks)
            codes, first = counter.feed(names)
            for observer, column in zip(observers, [one for one in columns if not one.is_member], strict=True):
                observer.feed(pa.concat_arrays(table[column.name].chunks), codes, first)
            row_count += table.num_rows
    counter.write(members_file)
    statistics = tuple(observer.publish() for observer in observers) if len(counter) >= K else ()
    return Remainder(made, row_count, len(counter), statistics)


def rows_digest(key: bytes, content_hash: str, pseudonym: str, positions: Positions) -> str:
    """The salted hash that stands for a member's rows in a version: nobody without the key can guess rows against it."""
    text = json.dumps([content_hash, pseudonym, positions], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hmac.digest(key, b"rochdale-rows-v1" + text.encode(), "sha256").hex()
