"""The members' floor: whose rows a grant may read now. What was consented to is heard from governance; the rows are here,
under pseudonyms. Which files hold whose rows is not here.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow.parquet as pq
from sqlalchemy.ext.asyncio import AsyncConnection

from data_gateway.ingest import pseudonym_of_reference
from data_gateway.storage import Storage
from data_gateway.store import members
from data_gateway.store.versions import Version
from rochdale.governance.v1 import membership_pb2
from rochdale_kit.clock import now
from rochdale_kit.consent import covers
from rochdale_kit.refusals import Kind, Refusal

_CACHE_SIZE = 1_000
_VERSIONS_HELD = 16


class Reader(Protocol):
    """What of a grant decides whose rows it reads."""

    @property
    def category(self) -> int: ...

    @property
    def purposes(self) -> frozenset[str]: ...


@dataclass(frozen=True)
class _Agreed:
    """What a consent covers; shared by all who agreed to the same."""

    purposes: frozenset[str]
    categories: frozenset[int]


class Consents:
    """In memory, with an epoch per dataset that moves whenever somebody's consent does: whoever kept an answer compares
    the epoch, and asks again only when it moved. Serving a file therefore costs no query."""

    def __init__(self, cooperative: str, pseudonym_key: bytes, storage: Storage) -> None:
        self._prefix = f"cooperatives/{cooperative}/members/"
        self._key = pseudonym_key
        self._storage = storage
        # Dataset -> member -> (pseudonym, what is agreed to); only consents that stand.
        self._live: dict[str, dict[str, tuple[str, _Agreed]]] = {}
        self._agreed: dict[_Agreed, _Agreed] = {}
        self._epochs: dict[str, int] = {}
        self._members_of: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._excluded: dict[tuple[str, int, frozenset[str]], tuple[int, frozenset[str]]] = {}
        # Whether governance was asked since the start: before, a withdrawal may have been missed.
        self.known = False
        # Called after somebody's consent changed.
        self.on_change: Callable[[], None] = lambda: None

    async def load(self, connection: AsyncConnection) -> None:
        for row in await members.live_consents(connection):
            self._hold(row.member, row.pseudonym, row.consent)

    async def check(self) -> None:
        """For health."""
        if not self.known:
            raise _unknown()

    async def record(self, connection: AsyncConnection, items: Iterable[membership_pb2.ConsentItem]) -> None:
        """Consents as they stand; an older one than is known changes nothing. In memory at once."""
        own = [item for item in items if item.member.startswith(self._prefix)]
        if not own:
            return
        found = await members.meet(connection, {one.member: self._pseudonym(one.reference) for one in own}, now())
        heard = [(one.member, one.consent) for one in own if one.member in found]
        kept = await members.save_consents(connection, heard, now())
        for member, consent in kept:
            self._hold(member, found[member], consent)
        if kept:
            self.on_change()

    async def withdraw(self, connection: AsyncConnection, items: Iterable[membership_pb2.ConsentItem]) -> None:
        """Consents that ended, for whatever reason the event has."""
        ended = []
        for item in items:
            over = membership_pb2.ConsentItem()
            over.CopyFrom(item)
            over.consent.status = membership_pb2.CONSENT_STATUS_WITHDRAWN
            if not over.consent.HasField("end_time"):
                over.consent.end_time.FromDatetime(now())
            ended.append(over)
        await self.record(connection, ended)

    async def erase(self, connection: AsyncConnection, member: str) -> None:
        """A member is no more. The pseudonym stays until its rows are gone, and to keep them gone."""
        if not member.startswith(self._prefix):
            return
        for dataset, held in self._live.items():
            if held.pop(member, None) is not None:
                self._move(dataset)
        self.on_change()
        await members.erase(connection, member, now())

    async def end_all_but(
        self, connection: AsyncConnection, standing: Collection[tuple[str, str]], begun: dt.datetime
    ) -> None:
        """After every consent that stands was heard: those heard of before and not among them have ended."""
        for member, dataset in await members.end_all_but(connection, standing, begun):
            if self._live.get(dataset, {}).pop(member, None) is not None:
                self._move(dataset)
        self.known = True
        self.on_change()

    def excluded(self, version: Version, reader: Reader) -> frozenset[str]:
        """The pseudonyms in a version whose rows this reader may not have now. Refuses with CONSENTS_UNKNOWN."""
        if version.member_column is None:
            return frozenset()
        if not self.known:
            raise _unknown()
        epoch = self._epochs.get(version.dataset, 0)
        key = (version.ingestion_id, reader.category, reader.purposes)
        kept = self._excluded.get(key)
        if kept is None or kept[0] != epoch:
            if len(self._excluded) >= _CACHE_SIZE:
                self._excluded.clear()
            kept = (epoch, self._members(version) - self._covered(version.dataset, reader))
            self._excluded[key] = kept
        return kept[1]

    def forget_version(self, ingestion_id: str) -> None:
        """After rows were taken out of its files."""
        self._members_of.pop(ingestion_id, None)
        self._excluded = {key: value for key, value in self._excluded.items() if key[0] != ingestion_id}

    def _covered(self, dataset: str, reader: Reader) -> set[str]:
        answers: dict[_Agreed, bool] = {}
        found = set()
        for pseudonym, agreed in self._live.get(dataset, {}).values():
            answer = answers.get(agreed)
            if answer is None:
                consent = membership_pb2.Consent(
                    dataset=dataset,
                    purposes=agreed.purposes,
                    categories=agreed.categories,  # type: ignore[arg-type] # the enum's ints
                    status=membership_pb2.CONSENT_STATUS_GIVEN,
                )
                answer = answers[agreed] = covers(consent, dataset, reader.category, reader.purposes)
            if answer:
                found.add(pseudonym)
        return found

    def _members(self, version: Version) -> frozenset[str]:
        found = self._members_of.get(version.ingestion_id)
        if found is None:
            found = read_members(self._storage.members_file(version.ingestion_id)) - version.purged
            self._members_of[version.ingestion_id] = found
            if len(self._members_of) > _VERSIONS_HELD:
                self._members_of.popitem(last=False)
        return found

    def _hold(self, member: str, pseudonym: str, consent: membership_pb2.Consent) -> None:
        held = self._live.setdefault(consent.dataset, {})
        if consent.status == membership_pb2.CONSENT_STATUS_GIVEN:
            agreed = _Agreed(frozenset(consent.purposes), frozenset(consent.categories))
            held[member] = (pseudonym, self._agreed.setdefault(agreed, agreed))
        else:
            held.pop(member, None)
        self._move(consent.dataset)

    def _move(self, dataset: str) -> None:
        self._epochs[dataset] = self._epochs.get(dataset, 0) + 1

    def _pseudonym(self, reference: str) -> str:
        """Empty for a reference that no row could have."""
        return pseudonym_of_reference(self._key, reference) or ""


def read_members(path: Path) -> frozenset[str]:
    """The pseudonyms in a version's private table of members."""
    return frozenset(pq.read_table(path, columns=["pseudonym"])["pseudonym"].to_pylist())


def _unknown() -> Refusal:
    return Refusal(
        "CONSENTS_UNKNOWN",
        "This gateway has not heard since its start whose consent stands, and serves no member's rows until it has. Try "
        "again soon.",
        Kind.FORBIDDEN,
    )
