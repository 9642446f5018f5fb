"""The way of one lookup: exact tier, then semantic tier, then the right to fill what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from services.cache.adapting import Adapting
from services.cache.ask import Ask
from services.cache.asks import Asking, Asks
from services.cache.decision import NOTHING, Candidate, Choice, Judge, Veto, judge_exact, judge_stale, rule_for
from services.cache.draft import Draft
from services.cache.embeddings import Embedding, Embeddings
from services.cache.entries import Entries
from services.cache.entry import Entry
from services.cache.fill_values import Granted, InProgress
from services.cache.fills import Fills
from services.cache.flight import Flight
from services.cache.flying import Near
from services.cache.followers import Followers
from services.cache.joining import Joining
from services.cache.ports import Readiness
from services.cache.searching import Search, Searching
from services.cache.storing import Storing
from services.cache.values import Asked, BypassReason, Decision, LookupResult, Mode, Outcome, Vector
from services.chassis.deadline import Deadline
from services.chassis.errors import AntiphonError, Exhausted
from simcore import IndexQuarantined

NO_EMBEDDING = Embedding(None, 0)
"""There is no use for one."""

MARGIN_SECONDS = 0.02
"""Of the caller's time that embedding leaves for the rest of the call."""


class Lookups:
    """Answers lookups. Never waits for someone else's answer, and never fails for want of a part: it bypasses."""

    def __init__(
        self,
        *,
        asks: Asks,
        entries: Entries,
        embeddings: Embeddings,
        fills: Fills[Draft],
        storing: Storing,
        readiness: Readiness,
        judge: Judge,
        adapting: Adapting,
        searching: Searching,
        joining: Joining,
        followers: Followers,
        decision_budget: float,
        most_stale: float,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """`decision_budget`: seconds for everything but the embedding; `most_stale`: seconds after an entry's time."""
        self._asks = asks
        self._entries = entries
        self._embeddings = embeddings
        self._fills = fills
        self._storing = storing
        self._readiness = readiness
        self._judge = judge
        self._adapting = adapting
        self._searching = searching
        self._joining = joining
        self._followers = followers
        self._budget = decision_budget
        self._most_stale = most_stale
        self._now = now
        self._monotonic = monotonic

    async def lookup(self, tenant: str, asked: Asked, deadline: Deadline) -> LookupResult:
        """Serve a stored answer, or say who makes it."""
        if (reason := self._unasked(asked)) is not None:
            return bypass(reason)
        asking = self._asks.of(tenant, asked)
        ask = asking.by(asked.token)
        begun = self._monotonic()
        if (known := self.known(ask)) is not None:
            return known
        try:
            # Mostly nothing has to be waited for: without a coroutine for each step that takes half the time.
            search, looked = self._search_at_once(asking), None
            if search is not None:
                looked = self._at_once(search)
                if looked is not None and looked.entry is not None:
                    return _semantic(looked.entry, looked.decision, NO_EMBEDDING)
            ask = await self.ruled(ask)
            spent = self._monotonic() - begun
            embedding = await self._embedding(ask, deadline) if search is None else Embedding(search.vector, 0)
            return await self._decide(ask, embedding, self._budget - spent, looked=looked is not None)
        except Bypassed as bypassed:
            return bypass(bypassed.reason)

    async def again(self, ask: Ask, vector: Vector, within: float, *, joins: bool) -> LookupResult:
        """The result for a question that has waited for another's answer; `within`: seconds.

        Without `joins` it waits for no other one.
        """
        if self._readiness.hydrating:
            return bypass(BypassReason.HYDRATING)
        if (known := self.known(ask, stale=False)) is not None:
            return known
        ask = replace(ask, rule=rule_for(ask.policy, self._judge, semantic=ask.address.question.semantic))
        try:
            return await self._decide(await self.ruled(ask), Embedding(vector, 0), within, joins=joins)
        except Bypassed as bypassed:
            return bypass(bypassed.reason)

    def _search_at_once(self, asking: Asking) -> Search | None:
        """What to search for, if nothing has to be waited for to know that; mostly the same as when it was asked last.

        Only for a question that has no entry of its own.
        """
        address, search = asking.ask.address, asking.search
        if search is not None and self._adapting.still(search.rule.learned, address.tenant, address.namespace):
            return search
        asking.search = None
        if asking.policy.mode is Mode.REFRESH or not asking.ask.embeds:
            return None
        taught, embedding = self._taught(asking.ask), self._embeddings.known(address)
        if taught is None or taught.rule.bar is None or embedding is None or embedding.vector is None:
            return None
        asking.search = Search(address, embedding.vector, taught.rule, taught.rule.bar)
        return asking.search

    def _at_once(self, search: Search) -> Choice | None:
        """As `Searching.at_once`. Raises Bypassed."""
        try:
            return self._searching.at_once(search)
        except IndexQuarantined as error:
            raise Bypassed(BypassReason.HYDRATING) from error

    async def _decide(
        self, ask: Ask, embedding: Embedding, within: float, *, joins: bool = True, looked: bool = False
    ) -> LookupResult:
        """`looked`: see `Searching.choose`. Raises Bypassed."""
        begun = self._monotonic()
        before = self._near(ask, embedding.vector) if joins else []
        nearest = self.seek(ask, embedding.vector)
        if isinstance(nearest, Search):
            (nearest,) = await self.search([nearest], within, looked=looked)
        left = within - (self._monotonic() - begun)
        return await self.finish(ask, embedding, nearest, left, before=before, joins=joins)

    def begin(self, tenant: str, asked: Asked) -> Ask | LookupResult:
        """What is asked and by which rule, or at once the result if nothing is to be looked for."""
        reason = self._unasked(asked)
        return self._asks.of(tenant, asked).by(asked.token) if reason is None else bypass(reason)

    def _unasked(self, asked: Asked) -> BypassReason | None:
        """Why nothing is to be looked for."""
        if asked.policy.mode is Mode.BYPASS:
            return BypassReason.POLICY
        return BypassReason.HYDRATING if self._readiness.hydrating else None

    async def ruled(self, ask: Ask) -> Ask:
        """The same by the rule that the namespace's traffic has taught, where there is one."""
        if (taught := self._taught(ask)) is not None:
            return taught
        await self._adapting.prepare(ask.address.tenant, ask.address.namespace)
        return self._taught(ask) or ask

    def _taught(self, ask: Ask) -> Ask | None:
        """As `ruled`; None if what is known of the namespace has still to be read."""
        if ask.rule.bar is None:
            return ask
        learned = self._adapting.learned(ask.address.tenant, ask.address.namespace)
        if learned is None:
            return None if self._adapting.learns else ask
        if learned.bar is self._judge.bar:  # as mostly; what the caller asks for has been put on top of it already
            rule = ask.rule.taught(learned)
        else:
            rule = rule_for(ask.policy, self._judge, semantic=True, learned=learned)
        return Ask(ask.address, ask.policy, rule, ask.token)

    def known(self, ask: Ask, *, stale: bool = True) -> LookupResult | None:
        """The result, if it takes neither an embedding nor a search. Without `stale` none whose time is over."""
        exact = self._exact(ask)
        if exact.entry is not None:
            return LookupResult(Outcome.EXACT, exact.entry, exact.decision)
        if stale and (past := self._stale(ask)) is not None:
            return past
        if ask.fills:
            key = self._storing.fill_key(ask.address, ask.policy)
            if (busy := self._fills.in_progress(key, ask.token)) is not None:
                # Its holder has just looked and found nothing; looking again would cost an embedding for each follower.
                return LookupResult(Outcome.MISS, decision=exact.decision, fill=busy)
        return None

    async def _embedding(self, ask: Ask, deadline: Deadline) -> Embedding:
        """The question's embedding, where it is of use. Raises Bypassed."""
        if not ask.embeds:
            return NO_EMBEDDING
        known = self._embeddings.known(ask.address)
        return known or await self.embed(ask, self._embeddings.budget(ask.address), deadline)

    async def embed(self, ask: Ask, within: float, deadline: Deadline) -> Embedding:
        """The question's embedding. Raises Bypassed."""
        try:
            return await self._embeddings.of(ask.address, within=min(within, deadline.remaining() - MARGIN_SECONDS))
        except TimeoutError:
            raise Bypassed(BypassReason.EMBEDDING_TIMEOUT) from None
        except AntiphonError as error:
            raise Bypassed(BypassReason.EMBEDDER_UNAVAILABLE) from error

    def seek(self, ask: Ask, vector: Vector | None) -> Choice | Search:
        """What the semantic tier chooses without a search, or what to search for."""
        # The answer may have come while this call was waiting for its embedding.
        if ask.policy.mode is Mode.REFRESH or self._exact(ask).entry is not None:
            return NOTHING
        if vector is None or ask.rule.bar is None:
            return Choice(None, Decision(vetoes=(ask.rule.exact_only or Veto.EXACT_ONLY,)))
        return Search(ask.address, vector, ask.rule, ask.rule.bar)

    async def search(self, searches: Sequence[Search], within: float, *, looked: bool = False) -> list[Choice]:
        """What the semantic tier chooses for each; `looked`: see `Searching.choose`. Raises Bypassed."""
        until = asyncio.get_running_loop().time() + max(within, 0.0)
        try:
            return await self._searching.choose(searches, until=until, looked=looked)
        except TimeoutError:
            raise Bypassed(BypassReason.DECISION_TIMEOUT) from None
        except IndexQuarantined as error:  # it is being rebuilt; the one who hit the fault was told
            raise Bypassed(BypassReason.HYDRATING) from error

    async def finish(
        self,
        ask: Ask,
        embedding: Embedding,
        nearest: Choice,
        within: float,
        *,
        before: Near | None = None,
        joins: bool = True,
    ) -> LookupResult:
        """The result, and the right to fill what is missing, or to wait for an answer that will do.

        `within`: seconds to compare the question with those in flight; `before`: what was near when the search began.
        """
        joined = None
        if joins and nearest.entry is None:
            joined = await self._join(ask, embedding.vector, before or [], within)
        # From here on nothing waits: of questions that are alike only one gets the right to fill.
        # The answer may have come while this call was searching.
        exact = self._exact(ask)
        if exact.entry is not None:
            return LookupResult(Outcome.EXACT, exact.entry, exact.decision, embedding_tokens=embedding.tokens)
        if nearest.entry is not None:
            return _semantic(nearest.entry, nearest.decision, embedding)
        try:
            fill = joined or (self._fill(ask, embedding.vector, nearest.near) if ask.fills else None)
        except Exhausted:
            return bypass(BypassReason.OVERLOADED)
        found = nearest.decision
        decision = found if found.vetoes and not exact.decision.vetoes else exact.decision
        return LookupResult(
            Outcome.MISS,
            decision=decision,
            fill=fill,
            vector=embedding.vector,
            embedding_tokens=embedding.tokens,
            nearest=found.similarity,
            near_miss=_missed_narrowly(found),
        )

    def _exact(self, ask: Ask) -> Choice:
        if ask.policy.mode is Mode.REFRESH:
            return NOTHING
        entry = self._entries.get(ask.address)
        return NOTHING if entry is None else judge_exact(entry, ask.address, ask.rule, self._now())

    def _near(self, ask: Ask, vector: Vector | None) -> Near:
        if not ask.joins or ask.rule.bar is None or vector is None:
            return []
        return self._joining.near(ask.address, vector, ask.rule.bar)

    async def _join(self, ask: Ask, vector: Vector | None, before: Near, within: float) -> InProgress | None:
        """A place behind the question whose answer will do, if one is in flight."""
        # Who fills this very question is found by its key; also this caller, who asks again.
        if self._fills.filling(self._storing.fill_key(ask.address, ask.policy)):
            return None
        near = self._near(ask, vector)
        if not (before or near) or ask.rule.bar is None or vector is None:
            return None
        flight: Flight[Draft] | None = None
        with suppress(TimeoutError):  # it makes an answer of its own then
            async with asyncio.timeout(max(within, 0.0)):
                flight = await self._joining.choose(ask.address, vector, ask.rule, ask.rule.bar, [*before, *near])
        return None if flight is None else self._followers.add(ask, vector, flight)

    def _stale(self, ask: Ask) -> LookupResult | None:
        """The question's own entry after its time, if the caller takes it; one such caller makes it anew."""
        if ask.policy.mode is Mode.REFRESH or not ask.rule.stale:
            return None
        found = judge_stale(self._entries.get(ask.address), ask.address, ask.rule, self._now(), most=self._most_stale)
        if found.entry is None:
            return None
        try:
            fill = self._fill(ask, None, ()) if ask.fills else None
        except Exhausted:
            fill = None
        return LookupResult(Outcome.STALE, found.entry, found.decision, fill=fill)

    def _fill(self, ask: Ask, vector: Vector | None, near: tuple[Candidate, ...]) -> Granted | InProgress:
        draft = self._storing.draft(ask.address, ask.policy, vector, near)
        return self._fills.acquire(self._storing.fill_key(ask.address, ask.policy), ask.token, draft)


def _semantic(entry: Entry, decision: Decision, embedding: Embedding) -> LookupResult:
    return LookupResult(
        Outcome.SEMANTIC, entry, decision, embedding_tokens=embedding.tokens, nearest=decision.similarity
    )


def _missed_narrowly(found: Decision) -> bool:
    return found.similarity is not None and found.threshold is not None and found.similarity >= found.threshold


class Bypassed(Exception):
    """The lookup cannot be answered in time, or a part is down."""

    def __init__(self, reason: BypassReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def bypass(reason: BypassReason) -> LookupResult:
    """The result of a lookup that the cache was not asked for."""
    return LookupResult(Outcome.BYPASS, bypass_reason=reason)
