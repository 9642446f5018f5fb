"""The learners of namespaces between memory and the store: read when a namespace is first used, written now and then.

Until a namespace's state is read, or while the store is down, nothing is learned there and the operator's preset is in
force. Of several replicas each learns by itself; of their states the one written last is read at the next start.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Any

from services.cache.background import Background
from services.cache.learning.learner import Learner
from services.cache.learning.namespaces import Key, Namespaces, Terms
from services.cache.ports import LearnedState, LearningStore
from services.chassis.errors import AntiphonError

PATIENCE_SECONDS = 0.02
"""That a lookup waits for the state of a namespace that was not used before; then the preset decides this one."""

RETRY_SECONDS = 1.0
"""After the store did not answer, in which no lookup waits for it."""

SAVE_SECONDS = 5.0
"""Between two writes; a process that dies loses the verdicts since the last one."""

ROUNDS = 12
"""Writes until those take part that have served hits and heard no verdict, so once a minute. Putting a state into words
and sending it costs as much as a lookup, and how many hits a rung had of late is soon counted again."""

TOGETHER = 16
"""States that are put into words, or sent, at once: about 2 ms, and about half a megabyte."""

RIVALS_TOGETHER = 2_000
"""Pairs of rivals after which no further state is taken: a namespace may have so many, a quarter of a megabyte."""

WAITING = 256
"""States of namespaces that left memory and wait for the store; the oldest are given up first."""


class States:
    """For one event loop; `run` writes."""

    def __init__(
        self,
        terms: Terms,
        store: LearningStore,
        *,
        background: Background,
        monotonic: Callable[[], float],
        report: Callable[[BaseException], None],
        most: int,
    ) -> None:
        """`most`: learners in memory; `report` is told of the first failure of a series."""
        self.spaces = Namespaces(terms, most=most, evicted=self._evicted)
        self._store = store
        self._background = background
        self._monotonic = monotonic
        self._report = report
        self._dirty: dict[Key, None] = {}
        self._counted: dict[Key, None] = {}
        """Those that have only served hits since they were written."""
        self._gone: OrderedDict[Key, dict[str, Any]] = OrderedDict()
        self._writing: dict[Key, dict[str, Any]] = {}
        """On their way to the store, which may not have them yet."""
        self._loading: dict[Key, asyncio.Task[None]] = {}
        self._not_before = 0.0
        self._failing = False
        self._saving = asyncio.Lock()
        self.given_up = 0
        """States that were lost because the store was down for too long."""

    def changed(self, key: Key) -> None:
        """A learner in memory has heard something that the store does not know."""
        self._dirty[key] = None

    def counted(self, key: Key) -> None:
        """A learner in memory has served more hits than the store knows of."""
        self._counted[key] = None

    async def prepare(self, key: Key) -> None:
        """Have the learner of a namespace in memory, unless the store is down or slow."""
        if self.spaces.get(key) is not None or self._monotonic() < self._not_before:
            return
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = self._background.start("load learned", self._load(key))
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.shield(task)
        except TimeoutError:
            return

    async def run(self) -> None:
        """Write what changed, again and again, until cancelled."""
        for number in count(1):
            await asyncio.sleep(SAVE_SECONDS)
            await self.save(hits=number % ROUNDS == 0)

    async def save(self, *, hits: bool = True) -> None:
        """Write what changed, and with `hits` what was only counted; what the store does not take waits."""
        async with self._saving:
            self.spaces.trim()
            if hits:
                self._dirty |= self._counted
                self._counted.clear()
            while self._gone or self._dirty:
                batch = self._writing = self._next_batch()
                try:
                    await self._store.save_learned([LearnedState(*key, state) for key, state in batch.items()])
                except AntiphonError as error:
                    self._not_saved(batch, error)
                    return
                finally:
                    self._writing = {}
                self._failing = False

    async def _load(self, key: Key) -> None:
        state: object = self._gone.get(key) or self._writing.get(key)
        if state is None:
            try:
                state = await self._store.load_learned(*key)
            except AntiphonError:
                self._not_before = self._monotonic() + RETRY_SECONDS
                return
        if self.spaces.get(key) is None:
            self.spaces.open(key, state)

    def _next_batch(self) -> dict[Key, dict[str, Any]]:
        batch: dict[Key, dict[str, Any]] = {}
        known, pairs = dict(self.spaces.items()), 0
        for key in [*self._gone, *self._dirty][:TOGETHER]:
            if pairs >= RIVALS_TOGETHER:
                break
            if key in self._gone:
                state = self._gone.pop(key)
            else:
                self._dirty.pop(key, None)
                self._counted.pop(key, None)
                if key not in known:
                    continue
                state = self.spaces.state(known[key])
            batch[key] = state
            pairs += len(state["rivals"])
        return batch

    def _not_saved(self, batch: dict[Key, dict[str, Any]], error: AntiphonError) -> None:
        known = dict(self.spaces.items())
        for key, state in batch.items():
            if key in known:
                self._dirty[key] = None
            else:
                self._wait(key, state)
        if not self._failing:
            self._report(error)
        self._failing = True

    def _evicted(self, key: Key, learner: Learner) -> None:
        if key in self._dirty or key in self._counted:
            self._dirty.pop(key, None)
            self._counted.pop(key, None)
            self._wait(key, self.spaces.state(learner))

    def _wait(self, key: Key, state: dict[str, Any]) -> None:
        self._gone[key] = state
        if len(self._gone) > WAITING:
            self._gone.popitem(last=False)
            self.given_up += 1
