"""Which version a token's holder reads, and which of its columns and rows: the floor of the members is asked here."""

from __future__ import annotations

from data_gateway.consents import Consents
from data_gateway.enforcement import Enforcement, Leave, Pass
from data_gateway.shelf import Selection, Shelf
from data_gateway.store.versions import Version
from rochdale_kit.refusals import Kind, Refusal, not_found, unavailable

_TRIES = 5
_CACHE_SIZE = 10_000


class Reading:
    def __init__(self, enforcement: Enforcement, shelf: Shelf, consents: Consents) -> None:
        self.enforcement = enforcement
        self.shelf = shelf
        self._consents = consents
        # (grant, version, kind) -> who is excluded, as it was when this was found, and whether the files stand.
        self._stood: dict[tuple[str, str, str], tuple[frozenset[str], bool]] = {}

    async def version(self, holder: Pass, number: int | None, mode: int) -> Version:
        """Refuses with REQUEST_OUTSIDE_TOKEN before it says whether a version exists, and with NOT_FOUND."""
        part = holder.scope.datasets[0]
        if number is None:
            number = await self.shelf.latest(holder.dataset, part.first_version, part.last_version)
        self.enforcement.require_request(holder, number or part.first_version, holder.columns, mode)
        version = await self.shelf.version(holder.dataset, number) if number is not None else None
        name = f"{holder.dataset}/versions/{number or part.first_version}"
        if version is None or not self.columns(holder, version):
            raise not_found(name)
        return version

    def columns(self, holder: Pass, version: Version) -> frozenset[str]:
        """Those of the version that the token opens; a later version may lack some."""
        return holder.columns & {column.name for column in version.document.columns}

    async def select(self, holder: Pass, version: Version) -> Selection:
        """The files with the columns of the token and the rows of the members who agreed. Refuses with
        CONSENTS_UNKNOWN, STORAGE_FULL."""
        for _ in range(_TRIES):
            excluded = self._consents.excluded(version, holder.leave.grant)
            selection = await self.shelf.select(version, self.columns(holder, version), excluded)
            # Making files takes a while, and somebody may have withdrawn meanwhile.
            if self.stands(holder.leave, selection):
                return selection
            version = await self.shelf.version(version.dataset, version.number) or version
        raise unavailable("The list of files, which changed while it was made,")

    def stands(self, leave: Leave, selection: Selection) -> bool:
        """Whether none of the rows in these files is of a member whose rows this grant may not read now. Asked while
        bytes flow: one comparison, unless somebody's consent changed."""
        try:
            excluded = self._consents.excluded(selection.version, leave.grant)
        except Refusal:
            return False
        if not excluded:
            return True
        key = (leave.grant.name, selection.name, selection.kind)
        known = self._stood.get(key)
        if known is None or known[0] is not excluded:
            if len(self._stood) >= _CACHE_SIZE:
                self._stood.clear()
            known = self._stood[key] = (excluded, excluded <= selection.excluded)
        return known[1]

    def allows(self, leave: Leave, selection: Selection) -> bool:
        """Whether bytes of these files may leave at this moment."""
        return self.enforcement.allows(leave) and self.stands(leave, selection)

    def require(self, leave: Leave, selection: Selection) -> None:
        """The same as a refusal: those of enforcement, and FILE_WITHDRAWN."""
        self.enforcement.require(leave)
        if not self.stands(leave, selection):
            raise withdrawn(selection)


def withdrawn(selection: Selection) -> Refusal:
    return Refusal(
        "FILE_WITHDRAWN",
        f"This file of {selection.name} holds rows of somebody who no longer agrees. List the files again, and delete "
        "what was read of this one.",
        Kind.FORBIDDEN,
        version=selection.name,
    )
