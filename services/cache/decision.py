"""Which stored answer is served: pure rules over candidates. Nothing here reads a clock or the index.

An answer is served to the same text, or if its cosine and a fitted verifier's score both reach what is asked for; the
cosine ranks, the verifier only vetoes. Without a verifier whatever the guard finds is a veto.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from services.cache.entry import MICROSECONDS, Entry
from services.cache.review import FeedbackSource
from services.cache.scope import Address
from services.cache.values import Decision, Policy
from services.chassis.value import value

JUDGED = 4
"""Candidates that are judged, best first: further ones are hardly ever right where four more similar ones were not."""


class Veto(StrEnum):
    """Why the nearest entry was not served; after `unsure` the guard's findings follow, which `simcore` names."""

    BELOW_THRESHOLD = "below_threshold"
    NOTHING_SIMILAR = "nothing_similar"
    UNSURE = "unsure"
    """The verifier's score is below what is asked for."""
    TOO_OLD = "too_old"
    OUTDATED = "outdated"
    """It was not made from the version of a source that the caller names."""
    EXPIRED = "expired"
    QUARANTINED = "quarantined"
    """It was said to be wrong; see `services.cache.quarantine`."""
    EXACT_ONLY = "exact_only"
    UNCALIBRATED = "uncalibrated"
    """The caller states an error rate, and nothing is fitted that could promise one."""
    MAX_ERROR_RATE = "max_error_rate"
    """The caller states an error rate that no threshold keeps."""
    ERROR_BUDGET = "error_budget"
    """In this namespace, or for this entry, no threshold keeps the promised share of wrong hits."""
    CONTESTED = "contested"
    """A rival is near, too: an entry of a question that is alike, whose answer is known to be another."""
    NOT_FETCHED = "not_fetched"
    """Its answer is in the store only, which is down, slow, or has another one by now."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What a candidate has to reach: a cosine and, with a verifier, its score."""

    cosine: float
    score: float | None = None

    def tightened(self, other: Bar) -> Bar:
        """What reaches both; only bars of the same judge can be joined."""
        score = None if self.score is None or other.score is None else max(self.score, other.score)
        return Bar(max(self.cosine, other.cosine), score)


class Report(Protocol):
    """What the guard found; its features are put into a mapping when they are asked for, which few lookups do."""

    @property
    def features(self) -> Mapping[str, float]:
        """By name."""
        ...


@value
class Verdict:
    """What a judge makes of one candidate; `score` and `p_wrong` are None without a fitted verifier."""

    reasons: tuple[str, ...] = ()
    score: float | None = None
    p_wrong: float | None = None
    report: Report | None = None
    """Of the guard."""

    @property
    def features(self) -> Mapping[str, float]:
        """What the two questions differ in, by name."""
        return {} if self.report is None else self.report.features


@value
class Candidate:
    """A stored entry and the cosine between its question and the one that is asked."""

    entry: Entry
    similarity: float


Judged = tuple[Candidate, Verdict]


class Judge(Protocol):
    """The operator's rule: what has to be reached, and how candidates are judged."""

    @property
    def bar(self) -> Bar:
        """What every candidate has to reach."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the same two texts might be judged otherwise."""
        ...

    @property
    def calibrated(self) -> bool:
        """Whether it can promise an error rate."""
        ...

    def bar_for(self, max_error_rate: float) -> Bar | None:
        """What keeps this share of wrong hits; None if nothing does."""
        ...

    def judge(self, question: str, cached: Sequence[str], cosines: Sequence[float]) -> list[Verdict]:
        """A verdict for each cached question."""
        ...


class Learned(Protocol):
    """What a namespace's traffic has made of the operator's rule."""

    @property
    def bar(self) -> Bar:
        """What its candidates have to reach, in the place of the judge's."""
        ...

    def bar_of(self, entry_id: str) -> Bar | None:
        """What one entry has to reach, at least `bar`; None: it is served to its own question only."""
        ...

    def rivals(self, entry: Entry) -> Set[str]:
        """The ids of entries whose answers differed from this one's, though their questions are near."""
        ...

    def contested(self, best: Judged, beside: Iterable[Judged]) -> bool:
        """Whether one of the others is a rival of the best, and near enough to the question to cast doubt on it."""
        ...


@value
class Rule:
    """What a candidate has to pass. `bar` None: the exact tier only, for the reason `exact_only`."""

    bar: Bar | None
    exact_only: Veto | None
    max_age: float | None
    learned: Learned | None = None
    stale: float = 0.0
    """Seconds after its time that the question's own entry is served all the same."""
    sources: tuple[tuple[str, str], ...] = ()

    def taught(self, learned: Learned) -> Rule:
        """The same by what was learned, where that has the judge's own bar."""
        return Rule(self.bar, self.exact_only, self.max_age, learned, self.stale, self.sources)


@value
class Choice:
    """The entry to serve, if any, and why. `near`: on a miss what was found, most similar first."""

    entry: Entry | None
    decision: Decision
    near: tuple[Candidate, ...] = ()
    best: Judged | None = None
    """On a hit what was chosen."""


NOTHING = Choice(None, Decision())
"""Nothing was looked at."""


@value
class Shortlist:
    """Candidates that are close and fresh enough to be judged, best first.

    `nearest`: the decision on a more similar one that is not, if there is. `whole`: none is missing further down.
    """

    candidates: tuple[Candidate, ...]
    nearest: Decision | None
    whole: bool


def rule_for(policy: Policy, judge: Judge, *, semantic: bool, learned: Learned | None = None) -> Rule:
    """The rule for a caller with `policy`, which can only tighten the operator's. If it states two limits both count.

    `semantic`: whether the question is one that a reworded one may share an answer with.
    """
    base = judge.bar if learned is None else learned.bar
    bar, exact_only = _bar_for(policy, judge, base, semantic=semantic)
    return Rule(bar, exact_only, policy.max_age, learned, policy.stale or 0.0, policy.sources)


def _bar_for(policy: Policy, judge: Judge, base: Bar, *, semantic: bool) -> tuple[Bar | None, Veto | None]:
    """What a candidate has to reach, or why there is to be none."""
    bar = base
    if policy.min_similarity is not None and policy.min_similarity > base.cosine:
        bar = Bar(policy.min_similarity, base.score)
    if not semantic or bar.cosine >= 1.0:
        return None, Veto.EXACT_ONLY
    if policy.max_error_rate is None:
        return bar, None
    kept = judge.bar_for(policy.max_error_rate)
    if kept is None:
        return None, Veto.MAX_ERROR_RATE if judge.calibrated else Veto.UNCALIBRATED
    return bar.tightened(kept), None


def judge_exact(entry: Entry | None, address: Address, rule: Rule, now: float) -> Choice:
    """Decide on the entry found under the question's own key."""
    if entry is None or entry.scope != address.scope or entry.key != address.key:
        return NOTHING
    veto = unfit(entry, address, rule, now)
    decision = Decision(similarity=1.0, vetoes=(veto,) if veto else (), age=entry.age(now))
    return Choice(None if veto else entry, decision)


def judge_stale(entry: Entry | None, address: Address, rule: Rule, now: float, *, most: float) -> Choice:
    """Decide on the same entry once its time is over: whether it is taken all the same.

    `most`: seconds that the operator allows. A caller's `max_age` ends its time, too (RFC 5861 §3). Only the very
    question gets a stale answer: what is doubtful in two ways at once is not worth it.
    """
    if entry is None or not rule.stale or entry.scope != address.scope or entry.key != address.key:
        return NOTHING
    late = min(rule.stale, most)
    age = entry.age(now)
    over = rule.max_age is not None and age > rule.max_age + late
    if over or (now - late) * MICROSECONDS >= entry.expires_us or entry.from_future(now):
        return NOTHING
    if entry.withheld(own=True) or not _made_from(entry, rule.sources):
        return NOTHING
    return Choice(entry, Decision(similarity=1.0, age=age))


def shortlist(found: Iterable[Candidate], address: Address, rule: Rule, bar: Bar, now: float) -> Shortlist:
    """Which of what was found is judged; `found` comes by falling similarity, `bar` is the rule's.

    One that is better but expired, quarantined or too old does not hide a good one behind it.
    """
    chosen: list[Candidate] = []
    nearest: Decision | None = None
    for candidate in found:
        # The index has filtered by scope already; an answer of another scope must not depend on that alone.
        if not in_scope(candidate.entry, address):
            continue
        close = candidate.similarity >= bar.cosine
        veto = unfit(candidate.entry, address, rule, now) if close else Veto.BELOW_THRESHOLD
        if veto is None:
            chosen.append(candidate)
            if len(chosen) == JUDGED:
                return Shortlist(tuple(chosen), nearest, whole=True)
        elif not chosen and nearest is None:
            nearest = _decision(candidate, bar, Verdict(), (veto,), now)
        if not close:
            return Shortlist(tuple(chosen), nearest, whole=True)
    return Shortlist(tuple(chosen), nearest, whole=False)


def choose(
    listed: Shortlist, verdicts: Sequence[Verdict], address: Address, rule: Rule, *, bar: Bar, now: float
) -> Choice:
    """The best candidate that passes, given a verdict on each of the shortlist's. The vetoes are the nearest's."""
    nearest = listed.nearest
    for candidate, verdict in zip(listed.candidates, verdicts, strict=True):
        decision = decide(candidate, verdict, address, rule, bar=bar, now=now)
        if not decision.vetoes:
            return Choice(candidate.entry, decision, best=(candidate, verdict))
        nearest = nearest or decision
    return Choice(None, nearest or Decision(threshold=bar.cosine, score_threshold=bar.score))


def decide(candidate: Candidate, verdict: Verdict, address: Address, rule: Rule, *, bar: Bar, now: float) -> Decision:
    """Decide on one judged candidate of the question's scope: it may be served if the decision has no vetoes."""
    veto = unfit(candidate.entry, address, rule, now)
    return decide_fit(candidate, verdict, address, rule, bar=bar, now=now, veto=veto)


def decide_fit(
    candidate: Candidate,
    verdict: Verdict,
    address: Address,
    rule: Rule,
    *,
    bar: Bar,
    now: float,
    veto: Veto | None = None,
) -> Decision:
    """As `decide`, where what `unfit` says of the entry is known: `veto`."""
    vetoes: tuple[str, ...]
    own = None if rule.learned is None else rule.learned.bar_of(candidate.entry.id)
    if own is not None and own is not bar:
        bar = bar.tightened(own)
    if veto is not None:
        vetoes = (veto,)
    elif candidate.entry.key == address.key:
        vetoes = ()
    elif rule.learned is not None and own is None:
        vetoes = (Veto.ERROR_BUDGET,)
    elif candidate.similarity < bar.cosine:
        vetoes = (Veto.BELOW_THRESHOLD,)
    else:
        vetoes = _differences(verdict, bar)
    return _decision(candidate, bar, verdict, vetoes, now)


def rivals(entry: Entry, address: Address, rule: Rule) -> Set[str]:
    """The entries that cast doubt on this one where they are near, too.

    None for the question it was stored under, nor if an operator has looked at it and said that it is right.
    """
    if rule.learned is None or entry.key == address.key:
        return frozenset()
    if any(one.right and one.source is FeedbackSource.OPERATOR for one in entry.review.said):
        return frozenset()
    return rule.learned.rivals(entry)


def contested(best: Judged, beside: Iterable[Judged], rule: Rule) -> bool:
    """Whether one of its `rivals` that are near casts doubt on what would be served, so that neither is."""
    # What was said to be wrong itself says nothing against another; what only answered others wrongly does.
    return rule.learned is not None and rule.learned.contested(
        best, [one for one in beside if not one[0].entry.withheld(own=True)]
    )


def _differences(verdict: Verdict, bar: Bar) -> tuple[str, ...]:
    if bar.score is None or verdict.score is None:
        return verdict.reasons
    return () if verdict.score >= bar.score else (Veto.UNSURE, *verdict.reasons)


def in_scope(entry: Entry, address: Address) -> bool:
    """Whether an entry may be served to a question at all."""
    return entry.scope == address.scope and entry.tenant == address.tenant and entry.namespace == address.namespace


def unfit(entry: Entry, address: Address, rule: Rule, now: float) -> Veto | None:
    """Why an entry is not served however well it fits."""
    if not entry.live(now):
        return Veto.EXPIRED
    if entry.withheld(own=entry.key == address.key):
        return Veto.QUARANTINED
    if rule.max_age is not None and entry.age(now) > rule.max_age:
        return Veto.TOO_OLD
    if not _made_from(entry, rule.sources):
        return Veto.OUTDATED
    return None


def _made_from(entry: Entry, sources: tuple[tuple[str, str], ...]) -> bool:
    """Whether it is known to be made from these; sources that are not named do not matter."""
    return not sources or set(sources) <= set(entry.sources)


def _decision(candidate: Candidate, bar: Bar, verdict: Verdict, vetoes: tuple[str, ...], now: float) -> Decision:
    return Decision(
        similarity=candidate.similarity,
        threshold=bar.cosine,
        vetoes=vetoes,
        age=candidate.entry.age(now),
        score=verdict.score,
        score_threshold=bar.score,
        p_wrong=verdict.p_wrong,
    )
