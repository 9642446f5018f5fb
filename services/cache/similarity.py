"""The rows of the similarity index, and where a search of them runs: on the event loop, or on a thread.

For one event loop; only the search itself may run on a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from services.cache.bucket import Group
from services.cache.values import Vector
from services.chassis.value import value
from simcore import Index, IndexPoisoned

INLINE_ROWS = 32_768
"""Rows that a search on the event loop may always read, those of all its questions together: at 384 dimensions it takes
1.2 ms where no row can be left out. `tests/bench` measures it."""

INLINE_SECONDS = 0.0005
"""That a search of more rows may be expected to take on the event loop. Handing it to a thread costs a few tenths of
that in CPU time, but many milliseconds where there is more work than cores, and then the decision's budget."""

MOST_INLINE_ROWS = 131_072
"""Beyond them a search goes to a thread in any case: a question of another kind may find that no row can be left out,
which here takes 5 ms."""

EASED = 0.9
"""By which what is expected of a group falls at most from one search to the next; it rises at once."""


@value
class Wanted:
    """At most `most` rows of a group that are similar to `vector`."""

    group: Group
    vector: Vector
    most: int


Found = tuple[list[list[int]], list[list[float]]]
"""Rows and their cosines for each question, best first; ends with `simcore.MISSING_ID` where there are fewer."""


class Similarity:
    """The index of one cache server."""

    def __init__(self, dim: int, *, threads: int, executor: Executor, seconds: Callable[[], float]) -> None:
        """`dim`: of vectors; `threads`: that one large search may use; `executor`: where large searches run.

        `seconds`: a clock of its thread, so that what others do at the time does not count.
        """
        self._dim = dim
        self._threads = threads
        self._executor = executor
        self._seconds = seconds
        self._index = Index(dim, threads=threads)
        self.broken = asyncio.Event()
        """Set when the index had an internal fault; until `renew` nothing is found."""

    async def search(self, wanted: Sequence[Wanted], *, least: float, now: float, until: float | None) -> Found:
        """What is similar by at least `least` and not expired at `now`: one search for all.

        `until`: the event loop's time at which it is given up with TimeoutError, if it waits for a thread. Raises
        simcore.IndexPoisoned.
        """
        found = self.search_at_once(wanted, least=least, now=now)
        if found is not None:
            return found
        try:
            async with asyncio.timeout_at(until):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._executor, self._search, self._index, wanted, least, now)
        except IndexPoisoned:
            self.broken.set()
            raise

    def search_at_once(self, wanted: Sequence[Wanted], *, least: float, now: float) -> Found | None:
        """As `search`; None if it would take too long on the event loop."""
        rows = sum([one.group.rows for one in wanted])
        if rows > INLINE_ROWS:
            expected = sum(one.group.rows * one.group.pace for one in wanted)
            if rows > MOST_INLINE_ROWS or expected > INLINE_SECONDS:
                return None
        try:
            return self._search(self._index, wanted, least, now)
        except IndexPoisoned:
            self.broken.set()
            raise

    def _search(self, index: Index, wanted: Sequence[Wanted], least: float, now: float) -> Found:
        read = sum([one.group.rows for one in wanted])
        timed = read > INLINE_ROWS
        begun = self._seconds() if timed else 0.0
        most = max([min(one.most, one.group.rows) for one in wanted])
        if len(wanted) == 1:  # as mostly; a view of its vector costs a tenth of a copy
            group = wanted[0].group.number
            rows, scores = index.search(wanted[0].vector[None, :], most, now=now, threshold=least, groups=group)
        else:
            vectors = np.stack([one.vector for one in wanted])
            groups = np.array([one.group.number for one in wanted], np.uint32)
            rows, scores = index.search(vectors, most, now=now, threshold=least, groups=groups)
        if timed:
            pace = (self._seconds() - begun) / read
            for one in wanted:
                one.group.pace = max(pace, one.group.pace * EASED)
        return rows.tolist(), scores.tolist()

    def upsert(
        self, rows: NDArray[np.uint64], vectors: NDArray[np.float32], groups: list[int], ends: list[float]
    ) -> None:
        """Insert or replace rows, with the number of each one's group and the Unix seconds at which it expires."""
        self._change(lambda: _upsert(self._index, rows, vectors, groups, ends))

    async def upsert_beside(
        self, rows: NDArray[np.uint64], vectors: NDArray[np.float32], groups: list[int], ends: list[float]
    ) -> None:
        """As `upsert`, on a thread."""
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._executor, _upsert, self._index, rows, vectors, groups, ends
            )
        except IndexPoisoned:
            self.broken.set()

    def remove(self, rows: Sequence[int]) -> None:
        """Remove these rows; unknown ones are ignored."""
        if rows:
            self._change(lambda: self._index.remove(np.array(rows, np.uint64)))

    def remove_group(self, number: int) -> None:
        """Remove all rows of a group."""
        self._change(lambda: self._index.remove_group(number))

    def renew(self) -> None:
        """Start an empty index in the place of a broken one."""
        self._index = Index(self._dim, threads=self._threads)
        self.broken.clear()

    def _change(self, change: Callable[[], object]) -> None:
        """A fault of the index costs the semantic tier until it is rebuilt, not the entry that is being stored."""
        try:
            change()
        except IndexPoisoned:
            self.broken.set()


def _upsert(
    index: Index, rows: NDArray[np.uint64], vectors: NDArray[np.float32], groups: list[int], ends: list[float]
) -> None:
    index.upsert(rows, vectors, groups=np.array(groups, np.uint32), expires_at=np.array(ends, np.float64))
