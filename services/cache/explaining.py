"""What a lookup would do with a question now, and why; nothing is changed, granted or counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from services.cache.adapting import Adapting
from services.cache.decision import Bar, Choice, Judge, Rule, Veto, decide, judge_exact, judge_stale, rule_for
from services.cache.embeddings import Embeddings
from services.cache.entries import Entries
from services.cache.entry import Entry
from services.cache.ports import Readiness
from services.cache.review import Quarantine
from services.cache.scope import Address, Addresses
from services.cache.searching import Search, Searching
from services.cache.values import BypassReason, Decision, Mode, Outcome, Policy, Query, Vector
from services.chassis.deadline import Deadline
from services.chassis.errors import AntiphonError
from simcore import IndexPoisoned

MARGIN_SECONDS = 0.1
"""Of the caller's time that the embedding leaves for the rest of the call."""


class Ruling(StrEnum):
    """What decided how the lookup ends."""

    EXACT = "exact"
    """The question itself is stored."""
    VERIFIER = "verifier"
    """A cosine and a fitted verifier's score."""
    GUARD = "guard"
    """A cosine, and differences that the guard finds."""
    EMPTY = "empty"
    """Nothing in the question's scope can be compared with it."""
    POLICY = "policy"
    """The caller does not want to read."""
    EXACT_ONLY = "exact_only"
    UNCALIBRATED = "uncalibrated"
    MAX_ERROR_RATE = "max_error_rate"
    """As the vetoes of these names: the exact tier only."""
    BYPASS = "bypass"
    """A part is not there."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One candidate; `decision.vetoes` says why it is not served, `features` what the guard measured."""

    entry: Entry
    decision: Decision
    features: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Explanation:
    """How the lookup would end, by which rule, and what it looked at. `bar` None: the exact tier only."""

    outcome: Outcome
    ruling: Ruling
    address: Address
    bar: Bar | None
    decision: Decision = field(default_factory=Decision)
    entry: Entry | None = None
    bypass_reason: BypassReason | None = None
    candidates: tuple[Judged, ...] = ()
    comparable: int = 0
    """Entries in the question's scope that can be found by similarity."""
    quarantine: Quarantine | None = None
    """Of the question's own entry."""


class Explaining:
    """Goes the way of a lookup once more, beside it, with the same rules."""

    def __init__(
        self,
        *,
        addresses: Addresses,
        entries: Entries,
        embeddings: Embeddings,
        judge: Judge,
        adapting: Adapting,
        searching: Searching,
        readiness: Readiness,
        most_stale: float,
        now: Callable[[], float],
    ) -> None:
        """`most_stale`: seconds after an entry's time."""
        self._addresses = addresses
        self._entries = entries
        self._embeddings = embeddings
        self._judge = judge
        self._adapting = adapting
        self._searching = searching
        self._readiness = readiness
        self._most_stale = most_stale
        self._now = now

    async def explain(
        self, tenant: str, query: Query, policy: Policy, *, limit: int, deadline: Deadline
    ) -> Explanation:
        """Explain a lookup, with at most `limit` candidates; the embedding may take until `deadline`."""
        address = self._addresses.of(tenant, query)
        await self._adapting.prepare(tenant, query.namespace)
        learned = self._adapting.learned(tenant, query.namespace)
        rule = rule_for(policy, self._judge, semantic=address.question.semantic, learned=learned)
        own = self._entries.get(address)
        plain = Explanation(
            Outcome.BYPASS,
            Ruling.BYPASS,
            address,
            rule.bar,
            comparable=self._entries.rows(address),
            quarantine=own.review.quarantine if own else None,
        )
        if policy.mode is Mode.BYPASS:
            return replace(plain, ruling=Ruling.POLICY, bypass_reason=BypassReason.POLICY)
        if self._readiness.hydrating:
            return replace(plain, bypass_reason=BypassReason.HYDRATING)
        exact = judge_exact(own, address, rule, self._now())
        semantic: Choice | BypassReason
        try:
            vector = await self._vector(address, deadline)
            semantic = choice = await self._semantic(address, vector, rule)
            if vector is not None:
                doubted = Veto.CONTESTED in choice.decision.vetoes
                candidates = await self._candidates(address, vector, rule, limit, doubted=doubted)
                plain = replace(plain, candidates=candidates)
        except AntiphonError:
            semantic = BypassReason.EMBEDDER_UNAVAILABLE
        except TimeoutError:
            semantic = BypassReason.EMBEDDING_TIMEOUT
        except IndexPoisoned:
            semantic = BypassReason.HYDRATING
        if policy.mode is Mode.REFRESH:
            return replace(plain, outcome=Outcome.MISS, ruling=Ruling.POLICY)
        if exact.entry is None:
            stale = judge_stale(own, address, rule, self._now(), most=self._most_stale)
            if stale.entry is not None:
                return replace(
                    plain, outcome=Outcome.STALE, ruling=Ruling.EXACT, decision=stale.decision, entry=stale.entry
                )
        return self._concluded(plain, rule, exact, semantic)

    async def _vector(self, address: Address, deadline: Deadline) -> Vector | None:
        if not address.question.semantic:
            return None
        return (await self._embeddings.of(address, within=deadline.remaining() - MARGIN_SECONDS)).vector

    async def _candidates(
        self, address: Address, vector: Vector, rule: Rule, limit: int, *, doubted: bool
    ) -> tuple[Judged, ...]:
        """`doubted`: the best one that passes is contested, so no other is served either."""
        bar, now = rule.bar or self._judge.bar, self._now()
        only = () if rule.exact_only is None else (rule.exact_only,)
        listed = []
        for candidate, verdict in await self._searching.look_at(address, vector, limit):
            decision = decide(candidate, verdict, address, rule, bar=bar, now=now)
            vetoes = (Veto.CONTESTED,) if doubted and not decision.vetoes else decision.vetoes
            decision = replace(decision, vetoes=(*only, *vetoes))
            listed.append(Judged(candidate.entry, decision, verdict.features))
        return tuple(listed)

    async def _semantic(self, address: Address, vector: Vector | None, rule: Rule) -> Choice:
        if rule.bar is None or vector is None:
            return Choice(None, Decision(vetoes=(rule.exact_only or Veto.EXACT_ONLY,)))
        (choice,) = await self._searching.choose([Search(address, vector, rule, rule.bar)])
        return choice

    def _concluded(self, plain: Explanation, rule: Rule, exact: Choice, semantic: Choice | BypassReason) -> Explanation:
        if exact.entry is not None:
            return replace(
                plain, outcome=Outcome.EXACT, ruling=Ruling.EXACT, decision=exact.decision, entry=exact.entry
            )
        if isinstance(semantic, BypassReason):
            if rule.bar is not None:
                return replace(plain, bypass_reason=semantic)
            semantic = Choice(None, Decision(vetoes=(rule.exact_only or Veto.EXACT_ONLY,)))
        found = semantic.decision
        if semantic.entry is not None:
            ruling = self._tier()
            return replace(plain, outcome=Outcome.SEMANTIC, ruling=ruling, decision=found, entry=semantic.entry)
        if found.similarity is not None or Veto.NOTHING_SIMILAR in found.vetoes:
            ruling = self._tier()
        else:
            ruling = Ruling(found.vetoes[0]) if found.vetoes else Ruling.EMPTY
        decision = exact.decision if exact.decision.vetoes or not found.vetoes else found
        return replace(plain, outcome=Outcome.MISS, ruling=ruling, decision=decision)

    def _tier(self) -> Ruling:
        return Ruling.VERIFIER if self._judge.calibrated else Ruling.GUARD
