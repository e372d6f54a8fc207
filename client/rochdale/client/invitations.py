"""Invitation codes and the file they are kept in until they are handed out. Nothing here talks to the market."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rochdale.client.refusals import MarketError

_HEADER = ["reference", "email", "code"]


@dataclass(frozen=True, slots=True)
class Invited:
    """Somebody to invite, by the cooperative's own reference, and their code once there is one."""

    reference: str
    email: str = ""
    code: str = ""

    @property
    def code_hash(self) -> bytes:
        return hashlib.sha256(self.code.encode()).digest()


def make_code() -> str:
    """16 random bytes in letters and digits that are hard to confuse, such as "K7QD-2XWA-…"."""
    text = base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=")
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def read_people(text: str) -> list[Invited]:
    """People of lines "reference" or "reference,email"; a header and empty lines are passed over, repetitions too."""
    people: dict[str, Invited] = {}
    for row in csv.reader(io.StringIO(text)):
        cells = [cell.strip() for cell in row]
        if cells and cells[0] and cells[0] != "reference":
            people.setdefault(cells[0], Invited(cells[0], cells[1] if len(cells) > 1 else ""))
    return list(people.values())


def written(people: Iterable[Invited]) -> str:
    """The codes as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEADER)
    writer.writerows([each.reference, each.email, each.code] for each in people)
    return out.getvalue()


def with_codes(people: Iterable[Invited], file: Path | None) -> list[Invited]:
    """People with their codes: those in `file` if it is there, else new ones, written to it before anybody hears of them.

    So a command that is said again sends the same codes. Refuses with FILE_EXISTS if the file is about others.
    """
    if file is not None and file.exists():
        kept = {row["reference"]: row["code"] for row in csv.DictReader(io.StringIO(file.read_text("utf-8")))}
        if missing := [each.reference for each in people if each.reference not in kept]:
            raise MarketError(
                "FILE_EXISTS", f"{file} exists already and has no code for {missing[0]}.", {"path": str(file)}
            )
        return [Invited(each.reference, each.email, kept[each.reference]) for each in people]
    coded = [Invited(each.reference, each.email, make_code()) for each in people]
    if file is not None:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(written(coded))
    return coded
