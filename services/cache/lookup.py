"""The way of one lookup: exact tier, then semantic tier, then the right to fill what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from services.cache.decision import Choice, Judge, Rule, Veto, judge_exact, rule_for
from services.cache.draft import Draft
from services.cache.embeddings import Embedding, Embeddings
from services.cache.entries import Entries
from services.cache.fill_values import Granted, InProgress
from services.cache.fills import Fills
from services.cache.ports import Readiness
from services.cache.scope import Address, Addresses
from services.cache.searching import Searching
from services.cache.storing import Storing
from services.cache.values import (
    BypassReason,
    Decision,
    LookupResult,
    Mode,
    Outcome,
    Policy,
    Query,
    Vector,
)
from services.chassis.deadline import Deadline
from services.chassis.errors import AntiphonError, Exhausted
from simcore import IndexQuarantined

MARGIN_SECONDS = 0.02
"""Of the caller's time that embedding leaves for the rest of the call."""


class Lookups:
    """Answers lookups. Never waits for someone else's answer, and never fails for want of a part: it bypasses."""

    def __init__(
        self,
        *,
        addresses: Addresses,
        entries: Entries,
        embeddings: Embeddings,
        fills: Fills[Draft],
        storing: Storing,
        readiness: Readiness,
        judge: Judge,
        searching: Searching,
        decision_budget: float,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """`decision_budget`: seconds for everything but the embedding."""
        self._addresses = addresses
        self._entries = entries
        self._embeddings = embeddings
        self._fills = fills
        self._storing = storing
        self._readiness = readiness
        self._judge = judge
        self._searching = searching
        self._budget = decision_budget
        self._now = now
        self._monotonic = monotonic

    async def lookup(self, tenant: str, query: Query, policy: Policy, token: str, deadline: Deadline) -> LookupResult:
        """Serve a stored answer, or say who makes it. `token` identifies the caller's attempt, or is empty."""
        if policy.mode is Mode.BYPASS:
            return _bypass(BypassReason.POLICY)
        if self._readiness.hydrating:
            return _bypass(BypassReason.HYDRATING)
        address = self._addresses.of(tenant, query)
        rule = rule_for(policy, self._judge, semantic=address.question.semantic)
        ask = _Ask(address, policy, rule, token, self._monotonic())
        try:
            return await self._look(ask, deadline)
        except _Bypassed as bypassed:
            return _bypass(bypassed.reason)

    async def _look(self, ask: _Ask, deadline: Deadline) -> LookupResult:
        exact = self._exact(ask)
        if exact.entry is not None:
            return LookupResult(Outcome.EXACT, exact.entry, exact.decision)
        if ask.fills and (busy := self._fills.in_progress(self._storing.fill_key(ask.address), ask.token)) is not None:
            # Its holder has just looked and found nothing; looking again would cost an embedding for each follower.
            return LookupResult(Outcome.MISS, decision=exact.decision, fill=busy)
        embedding = await self._embed(ask, deadline)
        # The answer may have come while this call was waiting for its embedding, or comes while it is searching.
        exact = self._exact(ask)
        nearest = Choice(None, Decision()) if exact.entry else await self._nearest(ask, embedding.vector)
        exact = self._exact(ask)
        if exact.entry is not None:
            return LookupResult(Outcome.EXACT, exact.entry, exact.decision, embedding_tokens=embedding.tokens)
        if nearest.entry is not None:
            return LookupResult(
                Outcome.SEMANTIC,
                nearest.entry,
                nearest.decision,
                embedding_tokens=embedding.tokens,
                nearest=nearest.decision.similarity,
            )
        decision = nearest.decision if nearest.decision.vetoes and not exact.decision.vetoes else exact.decision
        return LookupResult(
            Outcome.MISS,
            decision=decision,
            fill=self._fill(ask, embedding.vector) if ask.fills else None,
            vector=embedding.vector,
            embedding_tokens=embedding.tokens,
            nearest=nearest.decision.similarity,
        )

    def _exact(self, ask: _Ask) -> Choice:
        if ask.policy.mode is Mode.REFRESH:
            return Choice(None, Decision())
        return judge_exact(self._entries.get(ask.address), ask.address, ask.rule, self._now())

    async def _embed(self, ask: _Ask, deadline: Deadline) -> Embedding:
        # A refresh does not read, but what it stores is to be found.
        if not ask.address.question.semantic or (ask.rule.bar is None and ask.policy.mode is not Mode.REFRESH):
            return Embedding(None, 0)
        begun = self._monotonic()
        try:
            budget = min(self._embeddings.budget(ask.address), deadline.remaining() - MARGIN_SECONDS)
            return await self._embeddings.of(ask.address, within=budget)
        except TimeoutError:
            raise _Bypassed(BypassReason.EMBEDDING_TIMEOUT) from None
        except AntiphonError as error:
            raise _Bypassed(BypassReason.EMBEDDER_UNAVAILABLE) from error
        finally:
            ask.started += self._monotonic() - begun

    async def _nearest(self, ask: _Ask, vector: Vector | None) -> Choice:
        if ask.policy.mode is Mode.REFRESH:
            return Choice(None, Decision())
        if vector is None or ask.rule.bar is None:
            return Choice(None, Decision(vetoes=(ask.rule.exact_only or Veto.EXACT_ONLY,)))
        try:
            async with asyncio.timeout(max(self._budget - (self._monotonic() - ask.started), 0.0)):
                return await self._searching.choose(ask.address, vector, ask.rule, ask.rule.bar)
        except TimeoutError:
            raise _Bypassed(BypassReason.DECISION_TIMEOUT) from None
        except IndexQuarantined as error:  # it is being rebuilt; the one who hit the fault was told
            raise _Bypassed(BypassReason.HYDRATING) from error

    def _fill(self, ask: _Ask, vector: Vector | None) -> Granted | InProgress:
        draft = self._storing.draft(ask.address, ask.policy, vector)
        try:
            return self._fills.acquire(self._storing.fill_key(ask.address), ask.token, draft)
        except Exhausted as error:
            raise _Bypassed(BypassReason.OVERLOADED) from error


@dataclass(slots=True)
class _Ask:
    """One lookup on its way. `started` (monotonic) moves on by the time that the embedding took."""

    address: Address
    policy: Policy
    rule: Rule
    token: str
    started: float

    @property
    def fills(self) -> bool:
        return self.policy.mode is not Mode.ONLY_IF_CACHED


class _Bypassed(Exception):
    """The lookup cannot be answered in time, or a part is down."""

    def __init__(self, reason: BypassReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def _bypass(reason: BypassReason) -> LookupResult:
    return LookupResult(Outcome.BYPASS, bypass_reason=reason)
