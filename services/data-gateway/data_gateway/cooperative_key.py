"""The keys of this gateway's own cooperative, from the pinned one on: the root of everything it serves. Whoever runs the
market can change what governance says, and so governance is believed only as far as the pinned key leads.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from google.protobuf.message import DecodeError

from data_gateway.keys import write_json
from rochdale.governance.v1 import governance_pb2
from rochdale_kit.cooperative_keys import CooperativeKeys
from rochdale_kit.refusals import Kind, Refusal, unavailable

log = logging.getLogger(__name__)


class OwnKeys:
    """Believes a line of keys that leads through the pin and goes on from the line it knew. The pin is the setting, or
    else the first key ever seen, kept beside the line in a file of the gateway's own storage."""

    def __init__(self, cooperative: str, pin: str, file: Path) -> None:
        """cooperative: bare id. pin: key id, or empty to trust the first key governance shows."""
        self._name = f"cooperatives/{cooperative}"
        self._pin = pin
        self._file = file
        self._line: list[governance_pb2.CooperativeKey] = []
        self._keys = CooperativeKeys.none(self._name)
        self._asked = False
        # Why the line shown last is not believed; empty while all is well.
        self.trouble = ""
        self.on_change: Callable[[], None] = lambda: None

    @property
    def keys(self) -> CooperativeKeys:
        """None while the line shown last is not believed."""
        return CooperativeKeys.none(self._name) if self.trouble else self._keys

    def load(self) -> None:
        """The pin and the line of the last run. A file that is damaged stops the start: guessing a pin would be worse."""
        try:
            kept = json.loads(self._file.read_text("utf-8"))
            line = [governance_pb2.CooperativeKey.FromString(base64.b64decode(one)) for one in kept["line"]]
            if self._pin and self._pin not in [one.key_id for one in line]:
                # The setting was changed to another line's key; it wins over what was remembered.
                log.warning("the remembered keys do not lead through %s, which is pinned, and are forgotten", self._pin)
                return
            pin = self._pin or str(kept["pin"])
            keys = CooperativeKeys.follow(self._name, line, pin)
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, OSError, DecodeError, Refusal):
            raise SystemExit(
                f"{self._file} cannot be read. It says which key of the cooperative this gateway trusts: restore it, or "
                "set DATA_GATEWAY_COOPERATIVE_KEY to the id of that key and remove the file."
            ) from None
        self._pin, self._line, self._keys, self._asked = pin, line, keys, True

    def take(self, document: governance_pb2.Cooperative) -> None:
        """A cooperative as governance shows it: its keys are followed, or nothing is served until others are shown."""
        self._asked = True
        if document.name != self._name:
            return
        shown, before = list(document.signing_keys), (self.trouble, self.keys.latest_id)
        try:
            keys = self._followed(shown)
        except Refusal as refusal:
            self.trouble = refusal.message
            log.error(
                "the keys of %s are not believed, and no grant is served: %s If the cooperative did start a new line of "
                "keys, ask it for the id over another way, set DATA_GATEWAY_COOPERATIVE_KEY to it, remove %s and start "
                "again. If it did not, somebody pretends to be the cooperative.",
                self._name,
                refusal.message,
                self._file,
            )
        else:
            self.trouble = ""
            if keys is not None:
                self._keep(shown, keys)
        if before != (self.trouble, self.keys.latest_id):
            self.on_change()

    def hear(self, document: governance_pb2.Cooperative) -> None:
        """The same out of an event, which may be old: a line without keys says nothing."""
        if document.signing_keys:
            self.take(document)

    def require(self) -> None:
        """Refuses with COOPERATIVE_KEY_INVALID while the line shown last is not believed."""
        if self.trouble:
            raise Refusal(
                "COOPERATIVE_KEY_INVALID",
                "This gateway does not believe the keys shown for its cooperative, and serves nobody until that is "
                "explained. Ask the cooperative.",
                Kind.FORBIDDEN,
            )

    async def check(self) -> None:
        """For health."""
        if not self._asked:
            raise unavailable("Governance, which was never asked for the cooperative's keys,")
        if self.trouble:
            raise Refusal("COOPERATIVE_KEY_INVALID", self.trouble, Kind.UNAVAILABLE)

    def _followed(self, shown: Sequence[governance_pb2.CooperativeKey]) -> CooperativeKeys | None:
        """The keys to believe; None if nothing changes. Refuses with COOPERATIVE_KEY_INVALID."""
        known, ids = [one.key_id for one in self._line], [one.key_id for one in shown]
        if known and ids == known[: len(ids)]:
            if len(ids) < len(known):
                log.warning("governance shows %d keys of %s; this gateway knows %d", len(ids), self._name, len(known))
            return None
        if ids[: len(known)] != known:
            raise Refusal("COOPERATIVE_KEY_INVALID", f"They leave the line this gateway knew, of {known[-1]}.")
        return CooperativeKeys.follow(self._name, shown, self._pin)

    def _keep(self, shown: list[governance_pb2.CooperativeKey], keys: CooperativeKeys) -> None:
        if not shown:
            return
        if not self._pin:
            self._pin = shown[0].key_id
            log.warning(
                "the key %s of %s is trusted because it is the first one seen. Compare it with the one the cooperative "
                "made, and set DATA_GATEWAY_COOPERATIVE_KEY to it",
                self._pin,
                self._name,
            )
        line = [base64.b64encode(one.SerializeToString(deterministic=True)).decode() for one in shown]
        write_json(self._file, {"pin": self._pin, "line": line})
        self._line, self._keys = shown, keys
