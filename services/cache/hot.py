"""Whose bodies stay in memory: those of the answers that were served last, up to so many bytes.

Only a body that the store has may leave memory; an answer that was not saved yet is not in the list, and stays whole.
Least recently used first, in a list that runs through the slots: 16 bytes for each, where an ordered dict takes 130.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from services.cache.bucket import Bucket
from services.cache.entry import Entry
from services.cache.outline import INLINE_BYTES, body_memory, outline
from services.cache.pool import Pool, Slot
from services.llm.values import Answer

ALL_HOT = 1 << 62
"""Bytes: no body ever leaves memory."""


class Hot:
    """For one event loop. Changes nothing about an entry but whether its body is here."""

    def __init__(self, capacity: int, bucket: Callable[[str, str], Bucket | None]) -> None:
        """`capacity`: bytes of memory of the bodies in the list; `bucket` finds one by tenant and namespace."""
        self._capacity = capacity
        self._bucket = bucket
        self._cold, self._warm = Slot(None, Pool()), Slot(None, Pool())
        """The ends of the list, and part of it."""
        self._cold.warmer, self._warm.colder = self._warm, self._cold
        self.bytes = 0
        """Of memory, of the bodies in the list."""

    def saved(self, entry: Entry) -> None:
        """The store has this entry, which was made or said something about here: its body may leave from now on."""
        slot = self._slot(entry)
        if slot is not None and slot.warmer is None:
            self._enter(slot, unasked=False)
            self._shrink()

    def offer(self, entry: Entry) -> None:
        """This entry was read from the store and nobody has asked for it: its body stays while there is room."""
        slot = self._slot(entry)
        if slot is None or slot.entry is None or not isinstance(slot.entry.answer, Answer):
            return
        if self.bytes + body_memory(slot.entry.answer) <= self._capacity:
            self._enter(slot, unasked=True)
        else:
            self._cool(slot)

    def touch(self, slot: Slot) -> None:
        """The slot's entry was served."""
        colder, warmer, last = slot.colder, slot.warmer, self._warm.colder
        if colder is None or warmer is None or last is None or last is slot:
            return
        # Each hit does this: written out, it takes half as long.
        colder.warmer, warmer.colder = warmer, colder
        slot.colder, slot.warmer = last, self._warm
        last.warmer = self._warm.colder = slot

    def warm(self, entry: Entry, answer: Answer) -> Entry | None:
        """Take a body that was fetched; the entry with it, or None if that is not what memory has any more."""
        slot = self._slot(entry)
        if slot is None or slot.entry is None:
            return None
        if slot.entry.whole:
            return slot.entry
        whole = replace(slot.entry, answer=answer)
        self._set(slot, whole)
        self._enter(slot, unasked=False)
        self._shrink()
        return whole

    def leave(self, slot: Slot) -> None:
        """The slot's entry goes, or another comes in its place."""
        if slot.warmer is None or slot.entry is None:
            return
        self._count(slot, -body_memory(slot.entry.whole_answer))
        _unlink(slot)

    def _enter(self, slot: Slot, *, unasked: bool) -> None:
        answer = None if slot.entry is None else slot.entry.answer
        if not isinstance(answer, Answer) or (memory := body_memory(answer)) <= INLINE_BYTES:
            return
        self._count(slot, memory)
        if unasked:
            _link(slot, self._cold, self._cold.warmer or self._warm)
        else:
            _link(slot, self._warm.colder or self._cold, self._warm)

    def _shrink(self) -> None:
        while self.bytes > self._capacity and (coldest := self._cold.warmer) is not None:
            self._cool(coldest)

    def _cool(self, slot: Slot) -> None:
        """Let go of the slot's body."""
        self.leave(slot)
        entry = slot.entry
        if entry is not None and isinstance(entry.answer, Answer) and body_memory(entry.answer) > INLINE_BYTES:
            self._set(slot, replace(entry, answer=outline(entry.answer)))

    def _set(self, slot: Slot, entry: Entry) -> None:
        slot.entry = entry
        bucket = self._bucket(entry.tenant, entry.namespace)
        if bucket is not None and bucket.slots.get(entry.id) is slot:  # not one that was cleared
            bucket.entries[entry.id] = entry

    def _slot(self, entry: Entry) -> Slot | None:
        """That of this very entry, if it is visible."""
        bucket = self._bucket(entry.tenant, entry.namespace)
        slot = None if bucket is None else bucket.slots.get(entry.id)
        return slot if slot is not None and slot.entry is not None and slot.entry.ver == entry.ver else None

    def _count(self, slot: Slot, memory: int) -> None:
        self.bytes += memory
        home = slot.home
        if not home.cleared:
            home.hot += memory
            if home.tenant is not None:
                home.tenant.hot += memory


def _link(slot: Slot, colder: Slot, warmer: Slot) -> None:
    slot.colder, slot.warmer = colder, warmer
    colder.warmer = warmer.colder = slot


def _unlink(slot: Slot) -> None:
    if slot.colder is not None and slot.warmer is not None:
        slot.colder.warmer, slot.warmer.colder = slot.warmer, slot.colder
    slot.colder = slot.warmer = None
