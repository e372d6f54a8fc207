"""The sharing rules this gateway has heard of, and when the cooperative itself ended them. Somebody who edits the market's
databases can show a chain an old rule without its end; this memory is in the cooperative's own house.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncConnection

from data_gateway.cooperative_key import OwnKeys
from data_gateway.domain.rules import Window, ended, merged, windows
from data_gateway.store import trust
from rochdale.governance.v1 import governance_pb2
from rochdale.type.v1 import scope_pb2
from rochdale_kit.chain import flaw_of_signed_rule
from rochdale_kit.clock import now
from rochdale_kit.refusals import unavailable

log = logging.getLogger(__name__)

_Key = tuple[str, int, str]


class RuleMemory:
    """Keeps only what the cooperative signed, and emergency prohibitions, which need no signature. An end counts only if
    it is signed."""

    def __init__(self, cooperative: str, own_keys: OwnKeys) -> None:
        self._prefix = f"cooperatives/{cooperative}/sharingRules/"
        self._own_keys = own_keys
        # By name, revision and hash: an unsigned prohibition must not take the place of a signed rule of its name.
        self._rules: dict[_Key, governance_pb2.SharingRule] = {}
        # Called after something new was heard.
        self.on_change: Callable[[], None] = lambda: None

    async def load(self, connection: AsyncConnection) -> None:
        for rule in await trust.rules(connection):
            self._rules[_key(rule)] = rule

    async def take(self, connection: AsyncConnection, rule: governance_pb2.SharingRule) -> bool:
        """Remembers a revision; answers whether anything is new. Refuses with SERVICE_UNAVAILABLE while the cooperative's
        keys are not known."""
        if not rule.name.startswith(self._prefix) or not rule.rule_hash:
            return False
        if not self._own_keys.keys and not rule.emergency:
            raise unavailable("The cooperative's key")
        if flaw := flaw_of_signed_rule(rule, self._own_keys.keys):
            log.error("a rule that was heard is ignored, %s: %s", flaw.reason, flaw.sentence)
            return False
        key = _key(rule)
        known = self._rules.get(key)
        kept = merged(known, rule, self._own_keys.keys)
        if kept is None:
            return False
        await trust.save_rule(connection, kept, now())
        self._rules[key] = kept
        self.on_change()
        return True

    def ended(self, name: str, revision: int, rule_hash: str, at: tuple[int, int]) -> bool:
        """Whether the cooperative had ended this revision by then (seconds and nanoseconds since 1970)."""
        return ended(self._rules.values(), name, revision, rule_hash, at)

    def denials(self) -> list[governance_pb2.SharingRule]:
        return [rule for rule in self._rules.values() if rule.effect == governance_pb2.RULE_EFFECT_DENY]

    def windows(self, scope: scope_pb2.SharingScope, member_recall: bool) -> tuple[Window, ...]:
        """When access under a grant of this scope is forbidden while it lives."""
        return windows(self.denials(), scope, member_recall)


def _key(rule: governance_pb2.SharingRule) -> _Key:
    return rule.name, rule.revision, rule.rule_hash
