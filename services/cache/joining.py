"""Whether a question shares an answer that is being made: judged as if that answer were stored already."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor

from services.cache.decision import JUDGED, Bar, Candidate, Judge, Rule, choose, shortlist
from services.cache.draft import Draft
from services.cache.entries import Entries
from services.cache.entry import MICROSECONDS, Entry, Source
from services.cache.flight import Flight
from services.cache.flying import Flying, Near
from services.cache.judges import verdicts
from services.cache.scope import Address
from services.cache.values import Vector
from services.llm.values import Answer, FinishReason


class Joining:
    """Judges questions in flight by the rule of the one who asks; grants and counts nothing."""

    def __init__(
        self, *, flying: Flying, entries: Entries, judge: Judge, executor: Executor, now: Callable[[], float]
    ) -> None:
        """`executor`: where long texts are compared; `now`: Unix seconds."""
        self._flying = flying
        self._entries = entries
        self._judge = judge
        self._executor = executor
        self._now = now

    def near(self, address: Address, vector: Vector, bar: Bar) -> Near:
        """What is in flight in the question's scope and similar enough to be judged; its own question is not."""
        epoch = self._entries.epoch(address.tenant, address.namespace)
        found = self._flying.near(address.scope, epoch, vector, most=JUDGED + 1, least=bar.cosine)
        return [one for one in found if one[0].context.address.key != address.key] if found else found

    async def choose(self, address: Address, vector: Vector, rule: Rule, bar: Bar, found: Near) -> Flight[Draft] | None:
        """The flight whose answer would be served to the question, if any.

        `found`: what is near, and what was when the entries were searched. Its answer may have come since, too late for
        that search; then it is chosen all the same, and who waits for it finds the answer at once.
        """
        judged: set[str] = set()
        while left := {flight.key: (flight, cosine) for flight, cosine in found if flight.key not in judged}:
            flight = await self._chosen(address, rule, bar, left.values())
            if flight is not None:
                return flight
            judged.update(left)
            found = self.near(address, vector, bar)  # more may have come while long texts were compared
        return None

    async def _chosen(
        self, address: Address, rule: Rule, bar: Bar, near: Iterable[tuple[Flight[Draft], float]]
    ) -> Flight[Draft] | None:
        now = self._now()
        best = sorted(near, key=lambda one: -one[1])
        flights = {flight.context.address.entry_id: flight for flight, _ in best}
        found = [Candidate(_to_come(flight.context, now), cosine) for flight, cosine in best]
        listed = shortlist(found, address, rule, bar, now)
        judged = await verdicts(self._judge, address.question.text, listed, self._executor)
        entry = choose(listed, judged, address, rule, bar=bar, now=now).entry
        return None if entry is None else flights[entry.id]


def _to_come(draft: Draft, now: float) -> Entry:
    """The entry that a draft becomes if its answer came now."""
    address, now_us = draft.address, int(now * MICROSECONDS)
    return Entry(
        id=address.entry_id,
        tenant=address.tenant,
        namespace=address.namespace,
        scope=address.scope,
        key=address.key,
        question=address.question.text,
        answer=_UNKNOWN,
        created_us=now_us,
        updated_us=now_us,
        expires_us=now_us + max(int(draft.ttl * MICROSECONDS), 1),
        ver=0,
        epoch=draft.epoch,
        source=Source.FILL,
        sources=draft.sources,
    )


_UNKNOWN = Answer("", FinishReason.STOP, "")
