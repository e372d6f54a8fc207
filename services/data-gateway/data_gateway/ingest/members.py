"""Keyed pseudonyms for members, and the count of rows behind each; it leaves out who a member is."""

from __future__ import annotations

import base64
import hmac
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PSEUDONYM_LENGTH = 28
_PREFIX = np.frombuffer(b"m_", np.uint8)
_ALPHABET = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz234567", np.uint8)
_EXACT_FLOAT = 2**53


def pseudonym(key: bytes, canonical: str) -> str:
    """`m_` and the first 26 characters of lowercase base32 of HMAC-SHA256(key, canonical text as UTF-8)."""
    digest = hmac.digest(key, canonical.encode(), "sha256")
    return "m_" + base64.b32encode(digest).decode().lower()[:26]


def canonical_text(values: pa.Array) -> pa.Array:
    """One text per value, the same for the same member in every format: 125024, 125024.0 and '125024' agree.

    Numbers without a fraction become decimal digits (a column of whole numbers with gaps arrives as floats from
    pandas); text stays as it is, so '007' and '7' are two members. Null, NaN and blank text become null.
    """
    if pa.types.is_dictionary(values.type):
        values = pc.cast(values, values.type.value_type)
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
        texts = [None if v is None else _float_text(v) for v in values.to_pylist()]
        return pa.array(texts, pa.string())
    if pa.types.is_decimal(values.type):
        texts = [None if v is None else str(int(v)) if v == int(v) else str(v) for v in values.to_pylist()]
        return pa.array(texts, pa.string())
    text = pc.cast(values, pa.string())
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(text)), 0)
    return pc.if_else(blank, pa.scalar(None, pa.string()), text)


def pseudonym_of_reference(key: bytes, reference: str) -> str | None:
    """The pseudonym of a member the cooperative knows by this text, the same as its rows have; None for blank text."""
    canonical = canonical_text(pa.array([reference], pa.string()))[0].as_py()
    return None if canonical is None else pseudonym(key, canonical)


def _float_text(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) <= _EXACT_FLOAT else repr(value)


class Pseudonymizer:
    """Replaces a column of canonical text, one HMAC per different value of a batch rather than per row."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def replace(self, canonical: pa.Array) -> pa.Array:
        encoded = pc.dictionary_encode(canonical)
        texts = encoded.dictionary.to_pylist()
        digests = b"".join(hmac.digest(self._key, text.encode(), "sha256") for text in texts)
        return _names(digests).take(encoded.indices)


def _names(digests: bytes) -> pa.Array:
    """`pseudonym` for many digests at once: base32 in the standard library takes longer than the HMAC itself."""
    rows = np.frombuffer(digests, np.uint8).reshape(-1, 32)
    bits = np.unpackbits(rows[:, :17], axis=1)[:, : 26 * 5].reshape(-1, 26, 5)
    letters = _ALPHABET[bits @ np.array([16, 8, 4, 2, 1], np.uint8)]
    names = np.concatenate([np.broadcast_to(_PREFIX, (len(rows), 2)), letters], axis=1)
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * PSEUDONYM_LENGTH
    return pa.StringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(names.tobytes()))


class MemberCounter:
    """Rows per pseudonym, held as sorted arrays: about 40 bytes a member, so a million members fit easily."""

    def __init__(self) -> None:
        self._names: npt.NDArray[np.bytes_] = np.empty(0, dtype=f"S{PSEUDONYM_LENGTH}")
        self._rows: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._names)

    def feed(self, pseudonyms: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Counts a batch; answers a 64-bit code of each row's member, and which rows are their member's first ever."""
        raw = np.frombuffer(pseudonyms.buffers()[2], np.uint8)
        start = pseudonyms.offset * PSEUDONYM_LENGTH
        raw = raw[start : start + len(pseudonyms) * PSEUDONYM_LENGTH].reshape(-1, PSEUDONYM_LENGTH)
        # Characters 2 to 17 are 80 random bits; two 8-byte words of them mixed make a code that two members share
        # once in 10^14 or so. A shared code only makes a statistic say less.
        words = np.ascontiguousarray(raw[:, 2:18]).view(np.int64)
        codes: npt.NDArray[np.int64] = words[:, 0] * np.int64(0x9E3779B1) + words[:, 1]
        names = np.ascontiguousarray(raw).view(f"S{PSEUDONYM_LENGTH}").ravel()
        unique, first_row, counts = np.unique(names, return_index=True, return_counts=True)
        position = np.searchsorted(self._names, unique)
        known = np.zeros(len(unique), dtype=bool)
        inside = position < len(self._names)
        known[inside] = self._names[position[inside]] == unique[inside]
        self._rows[position[known]] += counts[known]
        self._names = np.insert(self._names, position[~known], unique[~known])
        self._rows = np.insert(self._rows, position[~known], counts[~known])
        first = np.zeros(len(pseudonyms), dtype=bool)
        first[first_row[~known]] = True
        return codes, first

    def write(self, path: Path) -> None:
        """The private table of pseudonyms and row counts, in pseudonym order; consent work needs it later."""
        names = pc.cast(pa.array(self._names.astype("S"), pa.binary()), pa.string())
        table = pa.table({"pseudonym": names, "row_count": pa.array(self._rows)})
        pq.write_table(table, path, compression="zstd")
        path.chmod(0o600)
