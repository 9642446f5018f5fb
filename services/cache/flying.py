"""Questions in flight by similarity: which answers are being made that a new question might share.

An index of its own beside that of the entries, with one group for each scope and epoch that has something in flight.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import numpy as np

from services.cache.draft import Draft
from services.cache.flight import Flight
from services.cache.values import Vector
from simcore import MISSING_ID, Index, IndexPoisoned

INLINE_ROWS = 8_192
"""Questions in flight in one scope that a search on the event loop may read; with more of them none is found. A tenth
of a millisecond, which every miss pays in a scope that is so busy."""

ANY_TIME = 0.0
"""Rows do not expire here: they leave when their flight ends."""


Near = list[tuple[Flight[Draft], float]]
"""Questions in flight with their cosines."""


@dataclass(eq=False, slots=True)
class _Group:
    number: int
    rows: int = 0


class Flying:
    """The questions in flight whose answers will be stored and found by similarity; a `Watcher` of fills."""

    def __init__(self, dim: int) -> None:
        """`dim`: of vectors."""
        self._dim = dim
        self._index = Index(dim)
        self._groups: dict[tuple[str, int], _Group] = {}
        self._flights: dict[int, Flight[Draft]] = {}
        self._rows: dict[str, int] = {}
        """Row by the key of the flight."""
        self._next_row = count()
        self._next_group = count()
        self._free_groups: list[int] = []

    def __len__(self) -> int:
        """Questions in flight that can be found."""
        return len(self._flights)

    def opened(self, flight: Flight[Draft]) -> None:
        """See `Watcher`."""
        draft = flight.context
        if draft.vector is None or draft.no_store:
            return
        place = draft.address.scope, draft.epoch
        group = self._groups.get(place)
        if group is None:
            number = self._free_groups.pop() if self._free_groups else next(self._next_group)
            group = self._groups[place] = _Group(number)
        row = next(self._next_row)
        self._flights[row] = flight
        self._rows[flight.key] = row
        group.rows += 1
        ids, vectors = np.array([row], np.uint64), draft.vector[None, :]
        self._change(lambda index: index.upsert(ids, vectors, groups=group.number))

    def closed(self, flight: Flight[Draft]) -> None:
        """See `Watcher`."""
        row = self._rows.pop(flight.key, None)
        if row is None:
            return
        del self._flights[row]
        place = flight.context.address.scope, flight.context.epoch
        group = self._groups[place]
        group.rows -= 1
        if not group.rows:
            del self._groups[place]
            self._free_groups.append(group.number)
        self._change(lambda index: index.remove(np.array([row], np.uint64)))

    def near(self, scope: str, epoch: int, vector: Vector, *, most: int, least: float) -> Near:
        """At most `most` of the scope's questions in flight whose cosine is at least `least`, best first."""
        group = self._groups.get((scope, epoch))
        if group is None or group.rows > INLINE_ROWS:
            return []
        try:
            rows, scores = self._index.search(
                vector[None, :], min(most, group.rows), now=ANY_TIME, threshold=least, groups=group.number
            )
        except IndexPoisoned:
            self._renew()
            return []
        found = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
        return [(self._flights[row], score) for row, score in found if row != MISSING_ID]

    def _change(self, change: Callable[[Index], object]) -> None:
        try:
            change(self._index)
        except IndexPoisoned:
            self._renew()

    def _renew(self) -> None:
        """Go on with a new index in the place of a broken one."""
        self._index = Index(self._dim)
        for row, flight in self._flights.items():
            draft = flight.context
            group = self._groups[draft.address.scope, draft.epoch]
            if draft.vector is not None:
                with suppress(IndexPoisoned):  # what is missing is not shared
                    self._index.upsert(np.array([row], np.uint64), draft.vector[None, :], groups=group.number)
