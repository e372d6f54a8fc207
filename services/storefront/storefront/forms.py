"""What a browser sends back: fields and files of a form, read within bounds. Whether it may be sent is in visitors."""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl

from starlette.requests import Request

from rochdale.billing.v1 import billing_pb2 as billing
from rochdale_kit.refusals import Kind, Refusal
from storefront.money_words import read_money

MAX_BYTES = 1_048_576
MAX_FIELDS = 1_100
# What the contract and the services take at once; a bank statement that has more is sent in parts.
_CREDITS_AT_ONCE = 500
_BYTES_AT_ONCE = 200 * 1024


@dataclass(frozen=True)
class Form:
    """Fields by name; of a name given twice, the last. A file is its bytes."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """What was typed, without the spaces around it; empty when there is no such field."""
        # A browser ends the lines of a text with CR LF; what people wrote has LF.
        return self.fields.get(name, "").replace("\r\n", "\n").strip()

    def number(self, name: str) -> int:
        text = self.get(name)
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise Refusal("REQUEST_INVALID", f"“{text[:40]}” is not a number.", value=text)
        return int(text)

    @property
    def request_id(self) -> str:
        """Made with the form, so that a form sent twice does what it says once."""
        return self.get("request_id")


def new_request_id() -> str:
    return secrets.token_urlsafe(18)


async def read_form(request: Request) -> Form:
    """The form of a POST. Refuses what is larger than MAX_BYTES and what is no form."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise Refusal("REQUEST_TOO_LARGE", "This is more than 1 MiB; send it in parts.", Kind.TOO_LARGE)
    kind = request.headers.get("content-type", "")
    try:
        if kind.startswith("multipart/form-data"):
            return _multipart(kind, bytes(body))
        return Form(dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)))
    except ValueError:
        raise Refusal("REQUEST_INVALID", "This is not what a form of this page sends.") from None


def _multipart(kind: str, body: bytes) -> Form:
    # The library reads mail; the parts of a form are the parts of one. A line break in the header would begin another.
    head = kind.replace("\r", "").replace("\n", "").encode("latin-1")
    whole = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + head + b"\r\n\r\n" + body)
    form = Form()
    if not whole.is_multipart():
        raise ValueError
    for number, part in enumerate(whole.iter_parts()):
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if number >= MAX_FIELDS or not isinstance(name, str) or not isinstance(content, bytes):
            raise ValueError
        if part.get_filename() is None:
            form.fields[name] = content.decode()
        else:
            form.files[name] = content
    return form


def read_credits(content: bytes) -> list[billing.BankTransfer]:
    """The credits of a bank statement: lines of bank reference, amount and text. Refuses with the number of a wrong line."""
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error):
        raise Refusal("REQUEST_INVALID", "The file is not CSV in UTF-8.") from None
    credits: list[billing.BankTransfer] = []
    for number, row in enumerate(rows, start=1):
        if not row:
            continue
        try:
            reference, amount, text = row
            credits.append(billing.BankTransfer(bank_reference=reference.strip(), amount=read_money(amount), text=text))
        except (ValueError, Refusal) as error:
            if number == 1:
                continue  # a header
            what = error.message if isinstance(error, Refusal) else "It has three cells: bank reference, amount, text."
            raise Refusal("REQUEST_INVALID", f"Line {number} is not a credit. {what}", line=number) from None
    if not credits:
        raise Refusal("REQUEST_INVALID", "The file has no credit in it.")
    return credits


def parts_of(credits: Sequence[billing.BankTransfer]) -> Iterator[list[billing.BankTransfer]]:
    """The credits in their order, in parts that one request can carry. The same credits always make the same parts."""
    part: list[billing.BankTransfer] = []
    size = 0
    for credit in credits:
        if part and (len(part) == _CREDITS_AT_ONCE or size + credit.ByteSize() > _BYTES_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(credit)
        size += credit.ByteSize()
    if part:
        yield part
