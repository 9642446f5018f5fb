"""The learners of all namespaces of one cache: made when first needed, restored from the store, bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.cache.learning.labels import Comparer, ComparerError
from services.cache.learning.ladder import Ladder, of_presets
from services.cache.learning.learner import Learner
from services.cache.learning.pool import pooled
from services.cache.learning.state import StateRefused, dumped, restore

Key = tuple[str, str]
"""Tenant and namespace."""

MOST = 2_048
"""Learners in memory, some 20 kB each, 100 kB more where many entries were judged and up to 1.3 MB with many rivals. A
namespace that comes back is read from the store."""

MOST_RIVALS = 100_000
"""Pairs of rivals in memory, some 60 MB, of all namespaces together."""

POOLED = 8
"""A pool holds for a new namespace for each so many that it was made of: making it reads all of them."""


@dataclass(frozen=True)
class Terms:
    """What all learners of a cache have in common; see `Learner`. `comparer`: the version of whose labels they take."""

    ladder: Ladder
    start: int
    target: float
    loosens: bool
    comparer: str
    error: ComparerError


def terms_of(
    presets: Mapping[str, tuple[float, float]],
    error_rates: Sequence[tuple[float, str]],
    preset: str,
    *,
    loosens: bool,
    comparer: Comparer,
) -> Terms:
    """The terms under a verifier with the operator's preset: as many wrong hits as it promises, from where it stands.

    `presets`: least score and cosine by name. ValueError for presets out of order, or one that promises nothing.
    """
    ladder = of_presets(presets, error_rates)
    promised = [rate for rate, name in error_rates if name == preset]
    if not promised:
        raise ValueError(f"no share of wrong hits goes with the preset {preset}")
    return Terms(ladder, ladder.of(*presets[preset]), max(promised), loosens, comparer.version, comparer.error)


class Namespaces:
    """By key. `refused` counts states that were not used, by the reason."""

    def __init__(self, terms: Terms, *, most: int = MOST, evicted: Callable[[Key, Learner], None]) -> None:
        """`most` learners are kept; the one that was not used for longest goes, and `evicted` is told."""
        if most < 1:
            raise ValueError("at least one learner is kept")
        self.terms, self._most, self._evicted = terms, most, evicted
        self._learners: dict[Key, Learner] = {}
        self._pools: dict[str, _Pool] = {}
        """By tenant."""
        self.refused: Counter[str] = Counter()

    def __len__(self) -> int:
        """Count the learners in memory."""
        return len(self._learners)

    def get(self, key: Key) -> Learner | None:
        """The learner of a namespace, if it is in memory; it is then the one used last."""
        learner = self._learners.pop(key, None)
        if learner is not None:
            self._learners[key] = learner
        return learner

    def peek(self, key: Key) -> Learner | None:
        """As `get`, without counting as use."""
        return self._learners.get(key)

    def items(self) -> Iterable[tuple[Key, Learner]]:
        """Those in memory, the one used last at the end; looking does not count as use."""
        return list(self._learners.items())

    def open(self, key: Key, state: object = None) -> Learner:
        """Make the learner of a namespace: from its state, or from what the tenant's others have in common.

        A state that is of no use here is counted, and the namespace starts cold.
        """
        learner = self._new(key[0])
        if state is not None:
            try:
                restore(state, learner, self.terms.comparer)
            except StateRefused as refused:
                self.refused[str(refused)] += 1
                learner = self._new(key[0])
        self._learners.pop(key, None)
        self._learners[key] = learner
        while len(self._learners) > self._most:
            oldest = next(iter(self._learners))
            self._evicted(oldest, self._learners.pop(oldest))
        return learner

    def trim(self) -> None:
        """Let go of those with rivals that were used longest ago, while all together have too many."""
        pairs = sum(len(learner.rivals) for learner in self._learners.values())
        for key, learner in self.items():
            if pairs <= MOST_RIVALS:
                return
            if len(learner.rivals):
                pairs -= len(learner.rivals)
                self._evicted(key, self._learners.pop(key))

    def state(self, learner: Learner) -> dict[str, Any]:
        """What the store is to keep of a learner."""
        return dumped(learner, self.terms.comparer)

    def _new(self, tenant: str) -> Learner:
        terms, pool = self.terms, self._pools.pop(tenant, None)
        if pool is None or pool.left == 0:
            # Of this tenant alone: nobody is to move another's rule by what is sent to namespaces of one's own.
            known = [one for (owner, _), one in self._learners.items() if owner == tenant]
            pool = _Pool(pooled(terms.ladder, known), len(known) // POOLED)
            if len(self._pools) >= self._most:
                del self._pools[next(iter(self._pools))]
        else:
            pool.left -= 1
        self._pools[tenant] = pool
        return Learner(terms.ladder, pool.shares, terms.target, terms.error, start=terms.start, loosens=terms.loosens)


@dataclass(slots=True)
class _Pool:
    """What a tenant's namespaces had in common of late, and for how many new ones that still holds."""

    shares: tuple[float, ...]
    left: int
