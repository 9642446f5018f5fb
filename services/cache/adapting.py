"""The rule of each namespace as its own traffic has taught it, and what teaches it: fresh answers, audits, feedback.

Without a `Setup`, and in a namespace whose state is not read yet, the operator's preset is the rule and nothing is
learned.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from concurrent.futures import Executor
from dataclasses import dataclass
from operator import itemgetter

from services.cache.audits import Audit, Audits
from services.cache.background import Background
from services.cache.decision import Bar, Candidate, Judge, Judged, Learned, Shortlist, in_scope
from services.cache.draft import Draft
from services.cache.entry import Entry
from services.cache.judges import verdicts
from services.cache.learning.audited import Audited, audited
from services.cache.learning.budget import Budget
from services.cache.learning.labels import Comparer, ComparerError, Label, Source
from services.cache.learning.ladder import Ladder
from services.cache.learning.learner import Learned as Taught
from services.cache.learning.learner import Learner
from services.cache.learning.namespaces import MOST, Terms
from services.cache.learning.rivals import Answered
from services.cache.outline import digest_of, same_body
from services.cache.ports import LearningStore
from services.cache.scope import Address
from services.cache.states import States
from services.cache.storable import semantically
from services.cache.values import Decision
from services.chassis.errors import AntiphonError
from services.llm.values import Answer, FinishReason

PACE_SECONDS = 0.1
"""For two embeddings, some 20 ms: at most a fifth of a core beside lookups. Comparing a fresh answer with several takes
one for it and one for each."""

WAITING = 256
"""Fresh answers that wait to be compared; more are dropped and counted. Each holds an answer and four entries."""

DIGITS = 16
"""Of the digest of an answer, in hexadecimal: 64 bits tell one answer of an entry from its next one."""


@dataclass(frozen=True)
class Setup:
    """How a cache learns. `audit_share`: of the semantic hits that are answered again; `most`: learners in memory.

    `pace`: seconds after each two embeddings for comparisons of fresh answers.
    """

    terms: Terms
    comparer: Comparer
    store: LearningStore
    audit_share: float
    most: int = MOST
    pace: float = PACE_SECONDS


@dataclass(slots=True)
class InForce:
    """A `Learned` rule."""

    bar: Bar
    _learner: Learner
    _bars: tuple[Bar, ...]

    def holds(self, learner: Learner) -> bool:
        """Whether it is the rule of this learner as it is now."""
        return self._learner is learner and self.bar is self._bars[max(learner.level, 0)]

    def bar_of(self, entry_id: str) -> Bar | None:
        """See `Learned`."""
        level = self._learner.level_for(entry_id)
        return None if level < 0 else self._bars[level]

    def rivals(self, entry: Entry) -> Set[str]:
        """See `Learned`."""
        known = self._learner.rivals
        return known.of(_answered(entry)) if entry.id in known else frozenset()

    def contested(self, best: Judged, beside: Iterable[Judged]) -> bool:
        """See `Learned`."""
        ladder = self._learner.ladder
        others = [(_answered(candidate.entry), _rung(ladder, (candidate, verdict))) for candidate, verdict in beside]
        return self._learner.contested(_answered(best[0].entry), _rung(ladder, best), others)


@dataclass(frozen=True, slots=True)
class Heard:
    """What became of an audit. `counted`: it was open, and the answers could be compared."""

    counted: bool
    agrees: bool = False


@dataclass(frozen=True, slots=True)
class _Fresh:
    address: Address
    near: tuple[Candidate, ...]
    answer: Answer


class Adapting:
    """For one event loop; `run` compares and writes what was learned."""

    def __init__(
        self,
        setup: Setup | None,
        *,
        judge: Judge,
        executor: Executor,
        background: Background,
        counted: Callable[[str, str, str, bool | None], None],
        withdraw: Callable[[Entry], None],
        find: Callable[[str, str, str], Entry | None],
        whole: Callable[[Entry], Awaitable[Entry | None]],
        monotonic: Callable[[], float],
        chance: Callable[[], float],
        report: Callable[[BaseException], None],
    ) -> None:
        """`counted` is told tenant, namespace, `free` or `audit`, and what the comparer said (None: an audit was asked
        for).

        `withdraw` is told of entries that a verdict takes out of service; `find`: see `Entries.find`, `whole`:
        `Bodies.whole`.
        """
        self._setup = setup
        self._judge = judge
        self._executor = executor
        self._counted = counted
        self._withdraw = withdraw
        self._find = find
        self._whole = whole
        self._chance = chance
        self._audits = Audits(monotonic)
        self._fresh: asyncio.Queue[_Fresh] = asyncio.Queue(WAITING)
        self._states: States | None = None
        self._bars: tuple[Bar, ...] = ()
        self._events: Counter[str] = Counter()
        if setup is not None:
            bars = [Bar(rung.cosine, rung.score) for rung in setup.terms.ladder.rungs]
            # Where nothing was learned yet the bar is the very one of the judge, so that a glance tells.
            self._bars = tuple(judge.bar if bar == judge.bar else bar for bar in bars)
            self._states = States(
                setup.terms,
                setup.store,
                background=background,
                monotonic=monotonic,
                report=report,
                most=setup.most,
            )

    @property
    def waiting(self) -> int:
        """Fresh answers that were not compared yet."""
        return self._fresh.qsize()

    @property
    def learns(self) -> bool:
        """Whether namespaces may have rules of their own."""
        return self._states is not None

    def audits(self) -> Audited | None:
        """What all audits since the start said."""
        return self.share_of(self._events["audit_agreed"], self._events["audit_differed"])

    def share_of(self, agreed: int, differed: int) -> Audited | None:
        """What so many audits say of the share of wrong hits."""
        return audited(agreed, differed, ComparerError() if self._setup is None else self._setup.terms.error)

    def happened(self) -> Counter[str]:
        """Counts since the start.

        `free_agreed`, `free_differed` and those of audits; `dropped` and `failed` comparisons; `refused` and `given_up`
        states; `alarms`.
        """
        events = self._events.copy()
        if self._states is not None:
            events.update(refused=self._states.spaces.refused.total(), given_up=self._states.given_up)
        return events

    def budget(self, tenant: str | None = None, namespace: str | None = None) -> Budget | None:
        """What was promised of semantic hits, and what was spent, over the learners in memory; None without any."""
        budgets = [learner.budget for learner in self.learners(tenant, namespace)]
        if not budgets:
            return None
        return Budget(budgets[0].target, sum(one.hits for one in budgets), sum(one.wrong for one in budgets))

    def learners(self, tenant: str | None = None, namespace: str | None = None) -> list[Learner]:
        """Those in memory: of all, of a tenant, or of one of its namespaces."""
        if self._states is None:
            return []
        return [
            learner
            for (owner, name), learner in self._states.spaces.items()
            if tenant in {None, owner} and namespace in {None, name}
        ]

    async def run(self) -> None:
        """Compare fresh answers and write what was learned, until cancelled."""
        if self._setup is None or self._states is None:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._compare(self._setup.pace))
            group.create_task(self._states.run())

    async def save(self) -> None:
        """Write what was learned since the last time."""
        if self._states is not None:
            await self._states.save()

    def learned(self, tenant: str, namespace: str) -> Learned | None:
        """The rule that a namespace's traffic has taught; None: the operator's."""
        learner = self._learner(tenant, namespace)
        if learner is None:
            return None
        return InForce(self._bars[max(learner.level, 0)], learner, self._bars)

    def still(self, learned: Learned | None, tenant: str, namespace: str) -> bool:
        """Whether this is what `learned` would say now, and nothing has to be read for that."""
        learner = self._learner(tenant, namespace)
        if learner is None or not isinstance(learned, InForce):
            return not self.learns
        return learned.holds(learner)

    def p_wrong(self, entry: Entry) -> float:
        """Probability that what an entry is served for as a semantic hit is another question; 0 if nothing is known."""
        learner = None if self._states is None else self._states.spaces.peek((entry.tenant, entry.namespace))
        return 0.0 if learner is None else min(learner.target * learner.entries.factor(entry.id), 1.0)

    async def prepare(self, tenant: str, namespace: str) -> None:
        """Read what is known of a namespace, for a short time at most."""
        if self._states is not None:
            await self._states.prepare((tenant, namespace))

    def served(self, entry: Entry, decision: Decision) -> str:
        """Count a semantic hit; not empty: the id of an audit that the caller is asked for."""
        learner = self._learner(entry.tenant, entry.namespace)
        if self._setup is None or learner is None or decision.score is None or decision.similarity is None:
            return ""
        rung = learner.ladder.of(decision.score, decision.similarity)
        if rung == len(learner.ladder):
            return ""
        learner.served(rung)
        if self._states is not None:
            self._states.counted((entry.tenant, entry.namespace))
        if self._chance() >= self._setup.audit_share:
            return ""
        self._counted(entry.tenant, entry.namespace, Source.AUDIT, None)
        return self._audits.ask(entry, rung)

    def committed(self, draft: Draft, answer: Answer) -> None:
        """A miss was answered: the answer will be compared with those of the nearest entries, if there were any."""
        if self._setup is None or not draft.near or not comparable(answer):
            return
        try:
            self._fresh.put_nowait(_Fresh(draft.address, draft.near, answer))
        except asyncio.QueueFull:
            self._events["dropped"] += 1

    async def audited(self, tenant: str, audit_id: str, answer: Answer) -> Heard:
        """Compare the fresh answer of an audit with what was served."""
        audit = self._audits.close(tenant, audit_id)
        if self._setup is None or audit is None or not comparable(answer):
            return Heard(counted=False)
        same = await self._same(answer.text, audit.entry)
        if same is None:
            return Heard(counted=False)
        self._learn_audit(audit, same=same)
        return Heard(counted=True, agrees=same)

    def judged(self, tenant: str, namespace: str, entry_id: str, source: Source, *, right: bool) -> None:
        """Learn from what a client, a judge or an operator says of an entry that answered another question.

        What becomes of the entry is not decided here, but by `services.cache.quarantine`.
        """
        if (learner := self._learner(tenant, namespace)) is not None:
            self._changed(tenant, namespace)
            learner.tell(source, entry_id, same=right)

    def settled(self, entry: Entry) -> None:
        """An operator has looked at an entry and called it right: what spoke against it alone is forgotten."""
        if (learner := self._learner(entry.tenant, entry.namespace)) is not None:
            self._changed(entry.tenant, entry.namespace)
            learner.entries.forget(entry.id)

    async def _compare(self, pace: float) -> None:
        while True:
            compared = await self._learn_fresh(await self._fresh.get())
            await asyncio.sleep(pace * (compared + 1) / 2)

    async def _learn_fresh(self, fresh: _Fresh) -> int:
        """A free label: what the pair that was not served would have been worth; and who is whose rival.

        Returns how many answers were compared with the fresh one.
        """
        address = fresh.address
        near = [now for one in fresh.near if (now := self._by_now(one)) is not None and _other(now.entry, address)]
        if self._setup is None or not near or self._learner(address.tenant, address.namespace) is None:
            return 0
        ladder = self._setup.terms.ladder
        listed = Shortlist(tuple(near), None, whole=True)
        judged = await verdicts(self._judge, address.question.text, listed, self._executor)
        pairs = [(one.entry, _rung(ladder, (one, verdict))) for one, verdict in zip(near, judged, strict=True)]
        close = [pair for pair in sorted(pairs, key=itemgetter(1)) if pair[1] < len(ladder)]
        said = [await self._same(fresh.answer.text, entry) for entry, _ in close]
        # It may have left memory, or come back, meanwhile; from here on nothing waits.
        learner = self._learner(address.tenant, address.namespace)
        if learner is not None and close:
            if said[0] is not None:
                self._learn_nearest(learner, close, same=said[0])
            self._note_rivals(learner, fresh, zip((entry for entry, _ in close), said, strict=True))
            self._changed(address.tenant, address.namespace)
        return len(close)

    def _learn_nearest(self, learner: Learner, close: Sequence[tuple[Entry, int]], *, same: bool) -> None:
        """`close`: entries and their rungs, best first; `same`: whether the first one's answer and the fresh agree."""
        (entry, rung), beside = close[0], [(_answered(other), at) for other, at in close[1:]]
        learner.missed(rung)
        # What is not served for a rival's sake says nothing about what is.
        if not learner.contested(_answered(entry), rung, beside):
            self._note(learner.learn(Label(Source.FREE, entry.id, rung, same)), entry)
        self._compared(entry, Source.FREE, same=same)

    def _note_rivals(self, learner: Learner, fresh: _Fresh, said: Iterable[tuple[Entry, bool | None]]) -> None:
        """Only of answers that are stored by now as they were compared."""
        address = fresh.address
        own = self._find(address.tenant, address.namespace, address.entry_id)
        if own is None or not same_body(own.answer, fresh.answer):
            return
        for entry, same in said:
            now = self._find(entry.tenant, entry.namespace, entry.id)
            if same is not None and now is not None and same_body(now.answer, entry.answer):
                learner.rivals.note(_answered(own), _answered(entry), same=same)

    def _by_now(self, one: Candidate) -> Candidate | None:
        """The same entry as it is stored by now."""
        entry = self._find(one.entry.tenant, one.entry.namespace, one.entry.id)
        return None if entry is None else Candidate(entry, one.similarity)

    def _learn_audit(self, audit: Audit, *, same: bool) -> None:
        entry = audit.entry
        self._compared(entry, Source.AUDIT, same=same)
        learner = self._learner(entry.tenant, entry.namespace)
        if learner is not None:
            self._note(learner.learn(Label(Source.AUDIT, entry.id, audit.rung, same)), entry)
        elif not same:
            self._withdraw(entry)

    def _note(self, taught: Taught, entry: Entry) -> None:
        self._changed(entry.tenant, entry.namespace)
        self._events["alarms"] += taught.alarm
        if taught.quarantine:
            self._withdraw(entry)

    def _compared(self, entry: Entry, source: Source, *, same: bool) -> None:
        self._events[f"{source.value}_{'agreed' if same else 'differed'}"] += 1
        self._counted(entry.tenant, entry.namespace, source, same)

    async def _same(self, fresh: str, entry: Entry) -> bool | None:
        if self._setup is None:
            return None
        try:
            whole = await self._whole(entry)
            if whole is not None:
                return await self._setup.comparer.same(fresh, whole.whole_answer.text, tenant=entry.tenant)
        except AntiphonError:
            pass
        self._events["failed"] += 1
        return None

    def _learner(self, tenant: str, namespace: str) -> Learner | None:
        return None if self._states is None else self._states.spaces.get((tenant, namespace))

    def _changed(self, tenant: str, namespace: str) -> None:
        if self._states is not None:
            self._states.changed((tenant, namespace))


def _answered(entry: Entry) -> Answered:
    return entry.id, digest_of(entry.answer).hex()[:DIGITS]


def _other(entry: Entry, address: Address) -> bool:
    """Whether an entry might be served to a question that is not its own."""
    return in_scope(entry, address) and entry.key != address.key


def _rung(ladder: Ladder, judged: Judged) -> int:
    candidate, verdict = judged
    return ladder.of(-1.0 if verdict.score is None else verdict.score, candidate.similarity)


def comparable(answer: Answer) -> bool:
    """Whether an answer is whole and in words, so that comparing it says something."""
    whole = answer.finish_reason is FinishReason.STOP and not answer.refusal
    return whole and semantically(answer) and bool(answer.text.strip())
