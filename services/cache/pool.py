"""Entries that share a limit: those of one namespace, or of one tenant.

What has gone stays in a pool's lists until it is met or swept, so that nothing has to be looked for when it goes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from services.cache.entry import Entry

SPARE = 64
"""Outdated items beyond as many as there are entries, before they are swept out."""


@dataclass(eq=False, slots=True)
class Slot:
    """The place of one question in memory; it stays the same when the question is answered anew."""

    entry: Entry | None
    """None once it has gone: whoever still holds the slot finds out."""
    home: Pool
    """That of its namespace."""
    bytes: int = 0
    """Of question and answer."""
    saving: float = 0.0
    """Nano-USD that a hit saves."""
    since: int = 0
    """When it came, by the clock of its tenant's pool."""
    hits: float = 0.0
    """As they counted at `hit_at`; see `services.cache.worth`."""
    hit_at: int = 0
    """When it was hit last, by the same clock."""
    row: int = -1
    """In the index; -1 without a vector. Rows of an index that was renewed since mean nothing."""
    colder: Slot | None = None
    warmer: Slot | None = None
    """Its neighbours in `services.cache.hot`, by when they were served last; None where it is not in that list."""

    @property
    def visible(self) -> bool:
        """Whether its entry is there, and not one of a namespace that was cleared."""
        return self.entry is not None and not self.home.cleared


class Due:
    """Slots by the end of their entries' time, the earliest first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Slot]] = []
        self._ticket = count()

    def add(self, slot: Slot, expires_us: int, entries: int) -> None:
        """Note when the slot's entry ends; `entries`: how many there are now."""
        heapq.heappush(self._heap, (expires_us, next(self._ticket), slot))
        if len(self._heap) > 2 * entries + SPARE:
            self._heap = [item for item in self._heap if _up_to_date(item)]
            heapq.heapify(self._heap)

    def first(self, now_us: int) -> Entry | None:
        """The entry whose time was over first, if it is over by now."""
        while self._heap and self._heap[0][0] <= now_us:
            if _up_to_date(self._heap[0]):
                return self._heap[0][2].entry
            heapq.heappop(self._heap)
        return None


def _up_to_date(item: tuple[int, int, Slot]) -> bool:
    expires_us, _, slot = item
    return slot.visible and slot.entry is not None and slot.entry.expires_us == expires_us


@dataclass(eq=False, slots=True)
class Pool:
    """How much there is, in the order of ends, and in any order to draw from."""

    tenant: Pool | None = None
    """That of the tenant, where this is one of its namespaces."""
    entries: int = 0
    texts: int = 0
    """Bytes of questions and answers."""
    vectors: int = 0
    """Entries that have one."""
    hot: int = 0
    """Bytes of memory of the bodies that are in `services.cache.hot`."""
    clock: int = 0
    """Answers stored and hits of a tenant; of a namespace it is not counted."""
    cleared: bool = False
    due: Due = field(default_factory=Due)
    _slots: list[Slot] = field(default_factory=list)

    def enter(self, slot: Slot) -> None:
        """Count a slot that is new here."""
        self.entries += 1
        self.texts += slot.bytes
        self._slots.append(slot)
        if len(self._slots) > 2 * self.entries + SPARE:
            self._slots = [one for one in self._slots if one.visible]

    def leave(self, slot: Slot) -> None:
        """Count a slot no more."""
        self.entries -= 1
        self.texts -= slot.bytes

    def drop(self, cleared: Pool) -> None:
        """Count the slots of a cleared namespace no more."""
        self.entries -= cleared.entries
        self.texts -= cleared.texts
        self.vectors -= cleared.vectors
        self.hot -= cleared.hot

    def dissolve(self) -> None:
        """Let go of everything: slots and their pool refer to each other."""
        self._slots = []
        self.due = Due()

    def sample(self, most: int, chance: Callable[[], float]) -> list[tuple[Slot, Entry]]:
        """So many slots with their entries, drawn at random, one perhaps twice; all, where there are not more."""
        if self.entries <= most:
            self._slots = [one for one in self._slots if one.visible]
            return [(one, one.entry) for one in self._slots if one.entry is not None]
        drawn: list[tuple[Slot, Entry]] = []
        while len(drawn) < most:
            place = int(chance() * len(self._slots))
            slot = self._slots[place]
            if slot.entry is not None and not slot.home.cleared:
                drawn.append((slot, slot.entry))
            else:
                self._slots[place] = self._slots[-1]
                self._slots.pop()
        return drawn
