"""What is asked, as it is looked up; of questions that come again it is known what their lookup begins with.

A question that is asked again in the same words is the same object again (`services.cache.recent_proto`), and so is its
policy.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.cache.ask import Ask
from services.cache.decision import Judge, rule_for
from services.cache.scope import Addresses
from services.cache.searching import Search
from services.cache.values import Asked, Policy, Query

KEPT = 1_024
"""Questions that are remembered, some 2 kB each. What was learned in their namespaces stays in memory with them, beside
`services.cache.learning.namespaces.MOST`."""

MOST_CHARACTERS = 1_000
"""Of a question that is remembered."""


@dataclass(slots=True)
class Asking:
    """A question of one tenant with its policy. `search`: what was searched for when it was asked last, if anything."""

    tenant: str
    query: Query
    policy: Policy
    ask: Ask
    search: Search | None = None

    def by(self, token: str) -> Ask:
        """What is asked by the attempt with this token."""
        return self.ask if not token else Ask(self.ask.address, self.ask.policy, self.ask.rule, token)


class Asks:
    """For one event loop. By tenant: how fast an answer comes must not tell what others asked."""

    def __init__(self, addresses: Addresses, judge: Judge) -> None:
        self._addresses = addresses
        self._judge = judge
        self._recent: dict[int, Asking] = {}
        """By the query's identity, which is kept so that no other gets it."""

    def of(self, tenant: str, asked: Asked) -> Asking:
        """What is asked, without its token. The same as before if that was of late, by the same tenant and policy."""
        query, policy = asked.query, asked.policy
        known = self._recent.get(id(query))
        if known is not None and known.query is query and known.policy is policy and known.tenant == tenant:
            return known
        address = self._addresses.of(tenant, query)
        rule = rule_for(policy, self._judge, semantic=address.question.semantic)
        asking = Asking(tenant, query, policy, Ask(address, policy, rule, ""))
        if len(query.messages) == 1 and len(address.question.text) <= MOST_CHARACTERS:
            self._recent[id(query)] = asking
            if len(self._recent) > KEPT:
                del self._recent[next(iter(self._recent))]
        return asking
