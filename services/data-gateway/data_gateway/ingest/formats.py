"""Recognizes what a file is by its first bytes and its name; it leaves out reading it."""

from __future__ import annotations

from pathlib import Path

from data_gateway.ingest.job import Format, IngestRefused

_BY_NAME = {
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".jsonl": Format.JSON_LINES,
    ".ndjson": Format.JSON_LINES,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
}
_OTHERS = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
    b"PARE": "encrypted Parquet",
    b"Obj\x01": "Avro",
    b"ORC": "ORC",
    b"%PDF": "PDF",
}


def recognize(source: Path, declared: Format | None) -> Format:
    """The format of the file. Refuses an empty file, an unknown one, and one that is not what it was said to be."""
    with source.open("rb") as file:
        first = file.read(4_096)
    text = first.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        raise IngestRefused("FILE_EMPTY", "The file is empty.")
    found = _by_content(first, text)
    expected = declared or _BY_NAME.get(source.suffix.lower())
    if expected not in (None, found):
        how = "was declared as" if declared else "is named like"
        raise IngestRefused(
            "FORMAT_MISMATCH",
            f"The file {how} {expected} but its content is {found}.",
            expected=expected,
            found=found,
        )
    return found


def _by_content(first: bytes, text: bytes) -> Format:
    if first.startswith(b"PAR1"):
        return Format.PARQUET
    for magic, name in _OTHERS.items():
        if first.startswith(magic):
            raise _unknown(f"The file is {name}; give CSV in UTF-8, JSON Lines or Parquet.", name)
    if text.startswith(b"{"):
        return Format.JSON_LINES
    if text.startswith((b"[{", b"[\n", b"[\r\n")):
        raise _unknown("The file is one JSON array; give JSON Lines, one object a line.", "a JSON array")
    controls = sum(byte < 32 and byte not in b"\t\n\r\x0c\x1b" for byte in first)
    if controls > 2 + len(first) // 20:
        raise _unknown("The file is binary; give CSV in UTF-8, JSON Lines or Parquet.", "binary")
    return Format.CSV


def _unknown(message: str, found: str) -> IngestRefused:
    return IngestRefused("FORMAT_UNKNOWN", message, found=found)
