"""The three registers: how an identifier looks, where it is asked for, and how an answer becomes a claim."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from licensing.domain.categories import KINDS_APART, SUBSIDIARY_OF
from licensing.registers.ask import Ask
from licensing.registers.reading import Entry, charity_entry, lei_entry, parent_of, read, ror_entry
from rochdale.licensing.v1 import licensing_pb2 as pb
from rochdale_kit.clock import to_timestamp
from rochdale_kit.refusals import Kind, Refusal

log = logging.getLogger(__name__)

_SHAPES = {
    pb.REGISTER_ROR: re.compile(r"0[a-hj-km-np-tv-z0-9]{6}[0-9]{2}"),
    pb.REGISTER_LEI: re.compile(r"[A-Z0-9]{18}[0-9]{2}"),
    pb.REGISTER_CHARITY: re.compile(r"[0-9]{4,8}(-[0-9]{1,4})?"),
}


@dataclass(frozen=True)
class Found:
    """A claim as the register has it, and the answers it was read from."""

    claim: pb.RegisterClaim
    raw: bytes


class Registers:
    """The registers of this market. An empty address means that a register is not asked here."""

    def __init__(self, ask: Ask, ror_url: str, gleif_url: str, charity_url: str, charity_key: str) -> None:
        self._ask = ask
        self._urls = {
            pb.REGISTER_ROR: ror_url.rstrip("/"),
            pb.REGISTER_LEI: gleif_url.rstrip("/"),
            pb.REGISTER_CHARITY: charity_url.rstrip("/"),
        }
        self._charity_key = charity_key

    async def look_up(self, register: pb.Register.ValueType, identifier: str, at: dt.datetime) -> Found:
        """What a register says of an identifier. Refuses with IDENTIFIER_INVALID, REGISTER_NOT_CONFIGURED and
        REGISTER_UNAVAILABLE."""
        require_identifier(register, identifier)
        word, url = _word(register), self._urls[register]
        if not url:
            raise Refusal(
                "REGISTER_NOT_CONFIGURED", f"The {word} register is not asked here.", Kind.STATE, register=word
            )
        claim = pb.RegisterClaim(register=register, identifier=identifier, check_time=to_timestamp(at))
        if register == pb.REGISTER_ROR:
            entry, raw = await self._ror(url, identifier)
        elif register == pb.REGISTER_LEI:
            entry, raw, claim.ultimate_parent = await self._lei(url, identifier)
        else:
            entry, raw = await self._charity(url, identifier)
        claim.evidence_hash = hashlib.sha256(raw).hexdigest()
        claim.state = pb.CLAIM_STATE_VERIFIED if entry is not None and entry.active else pb.CLAIM_STATE_REFUTED
        if entry is not None:
            claim.found_name = entry.name
            claim.found_kind = KINDS_APART.join(entry.kinds)
            claim.found_domains[:] = entry.domains
        return Found(claim, raw)

    async def _ror(self, url: str, identifier: str) -> tuple[Entry | None, bytes]:
        answer = await self._ask.get("ROR", f"{url}/organizations/{identifier}")
        return _read("ROR", ror_entry, answer.document, identifier), answer.raw

    async def _charity(self, url: str, identifier: str) -> tuple[Entry | None, bytes]:
        number, _, suffix = identifier.partition("-")
        answer = await self._ask.get(
            "CHARITY",
            f"{url}/allcharitydetailsV2/{number}/{suffix or 0}",
            {"Ocp-Apim-Subscription-Key": self._charity_key},
        )
        return _read("CHARITY", charity_entry, answer.document, identifier), answer.raw

    async def _lei(self, url: str, identifier: str) -> tuple[Entry | None, bytes, str]:
        """The entry, the answers, and the ultimate parent: empty if it is not known."""
        base = f"{url}/lei-records/{identifier}"
        record = await self._ask.get("LEI", base)
        entry = _read("LEI", lei_entry, record.document, identifier)
        if entry is None:
            return entry, record.raw, ""
        parent = await self._ask.get("LEI", f"{base}/ultimate-parent")
        raws = [record.raw, parent.raw]
        if parent.document is not None:
            above = _read("LEI", lei_entry, parent.document, "")
            assert above is not None, "an answer that is there is an entry or refused"
            owned = replace(entry, kinds=(*entry.kinds, SUBSIDIARY_OF + above.name))
            return owned if above.lei != identifier else entry, b"\n".join(raws), above.lei
        exception = await self._ask.get("LEI", f"{base}/ultimate-parent-reporting-exception")
        raws.append(exception.raw)
        return entry, b"\n".join(raws), parent_of(exception.document, identifier)


def require_identifier(register: pb.Register.ValueType, identifier: str) -> None:
    """Refuses what cannot be an identifier of a register with IDENTIFIER_INVALID, before anybody is asked."""
    fits = _SHAPES[register].fullmatch(identifier) is not None
    if fits and register == pb.REGISTER_LEI:
        # ISO 7064 MOD 97-10: a slip of the pen is not somebody else's company.
        fits = int("".join(str(int(character, 36)) for character in identifier)) % 97 == 1
    if not fits:
        word = _word(register)
        raise Refusal(
            "IDENTIFIER_INVALID",
            f"'{identifier}' is no identifier of the {word} register.",
            Kind.INVALID,
            register=word,
            identifier=identifier,
        )


def _word(register: pb.Register.ValueType) -> str:
    return pb.Register.Name(register).removeprefix("REGISTER_")


def _read(word: str, reader: Callable[[dict[str, Any], str], Entry], document: Any, identifier: str) -> Entry | None:
    try:
        return read(reader, document, identifier)
    except ValueError as error:
        # Another version of the register's, or another page: it says nothing about the buyer.
        log.error("the %s register answered for %s: %s", word, identifier, error)
        raise Refusal(
            "REGISTER_UNAVAILABLE",
            f"The {word} register gives no answer that can be read; try again.",
            Kind.UNAVAILABLE,
            register=word,
        ) from None
