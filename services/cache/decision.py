"""Which stored answer is served: pure rules over candidates. Nothing here reads a clock or the index."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from services.cache.entry import Entry
from services.cache.scope import Address
from services.cache.values import Decision, Policy


class Veto(StrEnum):
    """Why the nearest entry was not served."""

    BELOW_THRESHOLD = "below_threshold"
    NOTHING_SIMILAR = "nothing_similar"
    TOO_OLD = "too_old"
    EXPIRED = "expired"
    UNCALIBRATED = "uncalibrated"
    EXACT_ONLY = "exact_only"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a candidate has to pass. `threshold` None: the exact tier only, for the reason `exact_only`."""

    threshold: float | None
    exact_only: Veto | None
    max_age: float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored entry and the cosine between its question and the one that is asked."""

    entry: Entry
    similarity: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The entry to serve, if any. `exhausted`: no candidate further down can pass either."""

    entry: Entry | None
    decision: Decision
    exhausted: bool = True


def rule_for(policy: Policy, *, min_similarity: float, semantic: bool) -> Rule:
    """The rule for a caller with `policy`, which can only tighten the operator's `min_similarity`.

    `semantic`: whether the question is one that a reworded one may share an answer with. A caller who states an error
    rate gets the exact tier only, since no verifier is fitted that could promise one.
    """
    threshold = max(min_similarity, policy.min_similarity or 0.0)
    if not semantic or threshold >= 1.0:
        return Rule(None, Veto.EXACT_ONLY, policy.max_age)
    if policy.max_error_rate is not None:
        return Rule(None, Veto.UNCALIBRATED, policy.max_age)
    return Rule(threshold, None, policy.max_age)


def judge_exact(entry: Entry | None, address: Address, rule: Rule, now: float) -> Choice:
    """Decide on the entry found under the question's own key."""
    if entry is None or entry.scope != address.scope or entry.key != address.key:
        return Choice(None, Decision())
    veto = _stale(entry, rule, now)
    decision = Decision(similarity=1.0, vetoes=(veto,) if veto else (), age=entry.age(now))
    return Choice(None if veto else entry, decision)


def choose(candidates: Iterable[Candidate], address: Address, rule: Rule, threshold: float, now: float) -> Choice:
    """The best candidate that passes; `candidates` come by falling similarity, `threshold` is the rule's.

    One that is better but expired or too old does not hide a good one behind it. The vetoes are the nearest's.
    """
    nearest: Decision | None = None
    for candidate in candidates:
        entry = candidate.entry
        # The index has filtered by scope already; an answer of another scope must not depend on that alone.
        if entry.scope != address.scope or entry.tenant != address.tenant or entry.namespace != address.namespace:
            continue
        close = candidate.similarity >= threshold
        veto = _stale(entry, rule, now) if close else Veto.BELOW_THRESHOLD
        decision = Decision(candidate.similarity, threshold, (veto,) if veto else (), entry.age(now))
        if veto is None:
            return Choice(entry, decision)
        nearest = nearest or decision
        if not close:
            return Choice(None, nearest)
    return Choice(None, nearest or Decision(threshold=threshold), exhausted=False)


def _stale(entry: Entry, rule: Rule, now: float) -> Veto | None:
    if not entry.live(now):
        return Veto.EXPIRED
    if rule.max_age is not None and entry.age(now) > rule.max_age:
        return Veto.TOO_OLD
    return None
