"""The learners of all namespaces of one cache: made when first needed, restored from the store, bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any, Generic, TypeVar

from services.cache.learning.labels import ComparerError
from services.cache.learning.ladder import Ladder
from services.cache.learning.learner import Learner
from services.cache.learning.pool import pooled
from services.cache.learning.state import StateRefused, dumped, restored

Key = TypeVar("Key", bound=Hashable)


class Namespaces(Generic[Key]):
    """By key (tenant and namespace). `refused` counts states that were not used, by the reason."""

    def __init__(
        self, ladder: Ladder, target: float, comparer: str, error: ComparerError, *, most: int = 1_000
    ) -> None:
        """`most` learners are kept; the one that was not used for longest goes."""
        if most < 1:
            raise ValueError("at least one learner is kept")
        self._ladder, self._target, self._comparer, self._most = ladder, target, comparer, most
        self.error = error
        self._learners: dict[Key, Learner] = {}
        self.refused: Counter[str] = Counter()
        self.dropped = 0

    def of(self, key: Key) -> Learner:
        """The learner of a namespace; a new one starts from what the others have in common."""
        learner = self._learners.pop(key, None)
        if learner is None:
            pool = pooled(self._ladder, self._learners.values())
            learner = Learner(self._ladder, pool, self._target, self.error)
        self._keep(key, learner)
        return learner

    def restore(self, key: Key, state: object) -> bool:
        """Go on from a stored state; False: it is of no use here, was counted, and the namespace starts cold."""
        pool = pooled(self._ladder, (one for other, one in self._learners.items() if other != key))
        try:
            learner = restored(state, self._ladder, pool, self._target, error=self.error, comparer=self._comparer)
        except StateRefused as refused:
            self.refused[str(refused)] += 1
            return False
        self._learners.pop(key, None)
        self._keep(key, learner)
        return True

    def states(self) -> Mapping[Key, dict[str, Any]]:
        """What the store is to keep."""
        return {key: dumped(learner, self._comparer) for key, learner in self._learners.items()}

    def _keep(self, key: Key, learner: Learner) -> None:
        self._learners[key] = learner
        while len(self._learners) > self._most:
            del self._learners[next(iter(self._learners))]
            self.dropped += 1
