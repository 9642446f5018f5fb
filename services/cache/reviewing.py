"""Writes what is said about entries: first into the store, then into memory, so that what is told is kept.

The record in the store comes first also because another replica may have heard something there: voices are added to the
newest review of the same answer, never to an older copy of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from services.cache.background import Background
from services.cache.entries import Entries
from services.cache.entry import MICROSECONDS, SAID, Entry
from services.cache.feedback import Feedback, Heed, Reviewed, Verdict
from services.cache.outline import same
from services.cache.ports import EntryStore, Sealed, Write
from services.cache.quarantine import reviewed
from services.cache.recovery import Recovery
from services.cache.review import FeedbackSource, Said
from services.cache.scope import Addresses
from services.cache.storing import Storing
from services.cache.writer import Writer
from services.chassis.errors import NotFound, Reason, Unavailable

ATTEMPTS = 4
"""To write a review while other replicas write the same entry; each of them is behind what the last one read."""

BATCH = 256
"""Entries that are rewritten with one request to the store; between two batches others write."""


class Reviewing:
    """Takes feedback. What has begun is finished, also when its caller has gone."""

    def __init__(
        self,
        *,
        addresses: Addresses,
        entries: Entries,
        store: EntryStore,
        storing: Storing,
        writer: Writer,
        recovery: Recovery,
        background: Background,
        heed: Heed,
        settle: Callable[[Entry], None],
        users: int,
        now: Callable[[], float],
    ) -> None:
        """`settle` hears of each entry that an operator has called right.

        `users`: people who must call an entry wrong before it is quarantined; `now`: Unix seconds.
        """
        self._addresses = addresses
        self._entries = entries
        self._store = store
        self._storing = storing
        self._writer = writer
        self._recovery = recovery
        self._background = background
        self._heed = heed
        self._settle = settle
        self._users = users
        self._now = now

    async def feedback(self, tenant: str, feedback: Feedback) -> Reviewed:
        """Take one feedback; durable when it returns.

        Raises NotFound if the tenant has no such entry, or another answer in it than the one that is meant;
        Unavailable, and then nothing has changed.
        """
        self._recovery.require_all()
        return await self._background.finish("feedback", self._feedback(tenant, feedback))

    async def say(self, entries: Sequence[Entry], key_id: str, *, right: bool) -> None:
        """Let an operator say the same about many entries. Raises Unavailable; some may be written then."""
        said = self._said(Feedback("", FeedbackSource.OPERATOR, right, semantic=False, key_id=key_id))
        for start in range(0, len(entries), BATCH):
            await self._rewrite(entries[start : start + BATCH], said, named=False)

    async def _feedback(self, tenant: str, feedback: Feedback) -> Reviewed:
        meant, said = self._find(tenant, feedback), self._said(feedback)
        recorded = await self._rewrite([meant], said, named=bool(feedback.id))
        entry = self._find(tenant, feedback)
        if not same(entry.answer, meant.answer):  # another replica has stored it, or someone here meanwhile
            raise _another_answer()
        if recorded:
            self._heed(Verdict(feedback, entry))
        return Reviewed(entry, recorded)

    def _find(self, tenant: str, feedback: Feedback) -> Entry:
        if feedback.namespace:
            entry = self._entries.find(tenant, feedback.namespace, feedback.entry_id)
        else:
            entry = self._entries.find_any(tenant, feedback.entry_id)
        if entry is None or not entry.live(self._now()):
            raise NotFound("the entry does not exist", field="entry_id")
        # The second is what an entry says of itself where its answer does not say when it was made.
        if feedback.answered_us not in {0, round(entry.answer.created_at * MICROSECONDS), entry.created_us}:
            raise _another_answer()
        return entry

    def _said(self, feedback: Feedback) -> Said:
        source = feedback.source.value
        return Said(
            source=feedback.source,
            by=self._addresses.mark(source, feedback.key_id, feedback.user),
            id=self._addresses.mark(source, feedback.key_id, feedback.user, feedback.id),
            right=feedback.right,
            semantic=feedback.semantic,
            at_us=int(self._now() * MICROSECONDS),
        )

    async def _rewrite(self, entries: Sequence[Entry], said: Said, *, named: bool) -> bool:
        """Add a voice to each; whether it was new to any. An entry that has another answer by now is left alone."""
        left, recorded = list(entries), False
        for _ in range(ATTEMPTS):
            async with self._writer.exclusive():
                writes = await self._changed(left, said, named=named)
                outcomes = await self._store.save([write for write, stored in writes if stored])
                kept = iter(outcomes)
                beaten = []
                for write, stored in writes:
                    if stored and not next(kept):
                        beaten.append(write.entry)
                    else:
                        recorded = True
                        self._take(write.entry, stored=stored)
                        if said.right and said.source is FeedbackSource.OPERATOR:
                            self._settle(write.entry)
            if not beaten:
                return recorded
            left = beaten
        raise Unavailable("the entry is being rewritten elsewhere", reason=Reason.STORE_UNAVAILABLE, retry_after=1.0)

    async def _changed(self, entries: Sequence[Entry], said: Said, *, named: bool) -> list[tuple[Write, bool]]:
        """What has to be written, and whether the store has the entry. One that only memory has stays there only."""
        waiting = self._writer.waiting([entry.id for entry in entries])
        found = await self._store.read([entry.id for entry in entries])
        self._storing.adopt([one for one in found if not isinstance(one, Sealed)])
        stored = {one.id: one for one in found if isinstance(one, Write)}
        changed = []
        for entry in entries:
            current = self._entries.find(entry.tenant, entry.namespace, entry.id)
            if current is None or not same(current.answer, entry.answer):
                continue
            known = (write for write in (waiting.get(entry.id), stored.get(entry.id)) if write is not None)
            source = next((write for write in known if same(write.entry.answer, current.answer)), None)
            if source is None and not current.whole:
                self._entries.remove(current)  # the store has lost it, and with it the answer's body
                continue
            review = reviewed(current.review, said, users=self._users, named=named)
            if review is current.review:
                continue
            now_us = int(self._now() * MICROSECONDS)
            again = replace(
                current,
                answer=source.entry.answer if source else current.answer,
                review=review,
                ver=current.ver + SAID,
                updated_us=now_us,
                answered_us=current.written_us,
            )
            changed.append((Write(again, source.vector if source else None), source is not None))
        return changed

    def _take(self, entry: Entry, *, stored: bool) -> None:
        self._writer.forget(entry)
        if self._entries.amend(entry):
            if stored:
                self._entries.hot.saved(entry)
        elif self._entries.find(entry.tenant, entry.namespace, entry.id) is None:
            self._writer.remove([entry])  # its time was over, or it made room, while it was written


def _another_answer() -> NotFound:
    return NotFound("the entry has another answer by now", field="entry_id")
