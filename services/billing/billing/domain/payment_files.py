"""Files with which a bank pays many at once: pain.001 and CSV. The same payments always give the same bytes.

Who is paid and how much is decided elsewhere, and an IBAN is checked where it is named and again here.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import schwifty
from schwifty.exceptions import SchwiftyException
from sepaxml import SepaTransfer
from sepaxml.validation import ValidationError, try_valid_xml
from text_unidecode import unidecode

from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.money import require_currency
from rochdale_kit.refusals import Kind, Refusal

SCHEMA = "pain.001.001.09"
_NAMESPACE = f"{{urn:iso:std:iso:20022:tech:xsd:{SCHEMA}}}"
# A spreadsheet would run a text that begins so.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True, slots=True)
class Account:
    """A bank account and whose it is."""

    holder: str
    iban: str


@dataclass(frozen=True, slots=True)
class Payment:
    """One line of a file. `id` names it to the bank and comes back on its statement; `text` is what the payee reads."""

    id: str
    payee: Account
    amount_minor: int
    text: str


def checked_iban(iban: str) -> str:
    """An IBAN without spaces, its check digits and its bank's own included. Refuses with IBAN_INVALID."""
    try:
        return str(schwifty.IBAN(iban, validate_bban=True))
    except SchwiftyException as error:
        # Not the IBAN itself: a refusal is logged, and it may be somebody's with one digit wrong.
        raise Refusal("IBAN_INVALID", f"This is not an IBAN: {_why(error)}.", why=_why(error)) from None


def _why(error: SchwiftyException) -> str:
    # Some of its sentences repeat what was given.
    return type(error).__name__


def checked_holder(holder: str) -> str:
    """Whose account it is, fit for every file. Refuses with REQUEST_INVALID what would spoil one for all who are in it.

    Banks in SEPA take Latin letters, so a name has to leave some when it is written in them.
    """
    stripped = holder.strip()
    if not stripped.isprintable() or not any(sign.isalnum() for sign in unidecode(stripped)):
        raise Refusal("REQUEST_INVALID", "holder: must be a name.", field="holder", rule="printable")
    return stripped


def payment_file(
    format: pb.PaymentFileFormat.ValueType,
    id: str,
    prefix: str,
    payer: Account | None,
    payments: Sequence[Payment],
    currency: str,
    made_time: dt.datetime,
) -> pb.PaymentFile:
    """The file. `id` names it to the bank, which refuses to take it twice; `prefix` begins its file name.

    Refuses with CURRENCY_NOT_EXPORTABLE (pain.001 is for euro and SEPA) and, for pain.001, with PAYOUT_ACCOUNT_MISSING
    when nobody is named to pay.
    """
    if format == pb.PAYMENT_FILE_FORMAT_PAIN_001:
        content, ending = _pain_001(id, payer, payments, currency, made_time), "xml"
    else:
        content, ending = _csv(payments, currency), "csv"
    return pb.PaymentFile(
        file_name=f"{prefix}-{made_time:%Y-%m-%d}-{id[-6:].lower()}.{ending}",
        content=content,
        content_hash=hashlib.sha256(content).hexdigest(),
        payment_count=len(payments),
        total=Money(amount_minor=sum(payment.amount_minor for payment in payments), currency=currency),
    )


def _pain_001(
    id: str, payer: Account | None, payments: Sequence[Payment], currency: str, made_time: dt.datetime
) -> bytes:
    if currency != "EUR":
        raise Refusal(
            "CURRENCY_NOT_EXPORTABLE",
            f"pain.001 is for payments in EUR, not in {currency}; export CSV.",
            Kind.STATE,
            currency=currency,
        )
    if payer is None:
        raise Refusal("PAYOUT_ACCOUNT_MISSING", "pain.001 names the account that pays, and none is known.", Kind.STATE)
    document = SepaTransfer(
        {"name": payer.holder, "IBAN": checked_iban(payer.iban), "batch": True, "currency": currency}, schema=SCHEMA
    )
    for payment in payments:
        document.add_payment(
            {
                "name": payment.payee.holder,
                "IBAN": checked_iban(payment.payee.iban),
                "amount": payment.amount_minor,
                "execution_date": made_time.date(),
                "description": payment.text,
                "endtoend_id": _bank_id(payment.id),
            }
        )
    # The library dates and numbers the file anew each time; a file that is asked for again is the same file.
    root = ET.fromstring(document.export(validate=False))  # noqa: S314 - made a line ago, by us
    for path, text in (
        ("MsgId", _bank_id(id)),
        ("CreDtTm", made_time.strftime("%Y-%m-%dT%H:%M:%S")),
        ("PmtInfId", _bank_id(id)),
    ):
        for element in root.iter(_NAMESPACE + path):
            element.text = text
    content: bytes = b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "utf-8")
    try:
        try_valid_xml(content, SCHEMA)
    except ValidationError:
        # What does not fit is in its cause, which is not logged: it may be somebody's name or IBAN.
        raise ValueError(f"The file {id} is no {SCHEMA}.") from None
    return content


def _csv(payments: Sequence[Payment], currency: str) -> bytes:
    exponent = require_currency(currency).exponent
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\r\n")
    rows.writerow(("payment", "holder", "iban", "amount", "currency", "text"))
    for payment in payments:
        amount = f"{Decimal(payment.amount_minor).scaleb(-exponent):.{exponent}f}"
        texts = (payment.id, payment.payee.holder, payment.payee.iban, amount, currency, payment.text)
        rows.writerow([guarded(text) for text in texts])
    return out.getvalue().encode()


def guarded(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _bank_id(id: str) -> str:
    """An id in the signs that every bank in SEPA takes, at most 35 of them."""
    return id.replace("_", "-")[:35]
