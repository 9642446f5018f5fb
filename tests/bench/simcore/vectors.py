"""Unit vectors that look like text embeddings, and queries of known difficulty.

A vector is a common mean, a topic, an intent and noise, each with a power-law spectrum in a random basis. Intents are
shared by several vectors (their shares are Pareto-distributed), five in a hundred vectors are nearly copies. Half of
the queries are near a stored vector (cosine 0.80 … 0.995), a quarter are new intents in known topics, a quarter new
topics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

KINDS = ("near a stored vector", "new intent", "new topic")
TOPICS = 2000
SHARE_MEAN, SHARE_TOPIC = 0.10, 0.35
"""Squared lengths of the mean's and the topic's part."""
CHUNK = 50_000


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


@dataclass(frozen=True)
class _Source:
    """Directions with a power-law spectrum."""

    scale: Floats
    rng: np.random.Generator

    def draw(self, rows: int) -> Floats:
        drawn = np.empty((rows, len(self.scale)), np.float32)
        # In place and in parts: ten million vectors have two million intents, 2 GB that should be there only once.
        for start in range(0, rows, CHUNK):
            part = drawn[start : start + CHUNK]
            self.rng.standard_normal(out=part, dtype=np.float32)
            part *= self.scale
            part /= np.linalg.norm(part, axis=1, keepdims=True)
        return drawn


class Vectors:
    """A seeded stream of vectors, and the queries that belong to it."""

    def __init__(self, rows: int, dim: int, *, seed: int = 1) -> None:
        self.rows, self.dim = rows, dim
        self._rng = np.random.default_rng(seed)
        self._basis = np.linalg.qr(self._rng.standard_normal((dim, dim)))[0].astype(np.float32).T
        self._coarse, self._fine = (self._source(power) for power in (0.65, 0.30))
        self._mean = np.sqrt(SHARE_MEAN) * self._coarse.draw(1)[0]
        self._topics = np.sqrt(SHARE_TOPIC) * self._coarse.draw(TOPICS)
        weights = (np.arange(TOPICS) + 10.0) ** -0.8
        self._topic_weights = weights / weights.sum()
        count = max(rows // 5, 1)
        self._topic_of = self._pick_topics(count)
        self._intents = self._coarse.draw(count)
        shares = self._rng.pareto(1.5, count) + 0.3
        self._intent_of = self._rng.choice(count, rows, p=shares / shares.sum())
        self.largest_intent = int(np.bincount(self._intent_of).max())
        """Vectors of the most frequent intent."""
        self._sample: list[Floats] = []

    def _source(self, power: float) -> _Source:
        energy = np.arange(1, self.dim + 1) ** -power
        return _Source(np.sqrt(energy / energy.sum()).astype(np.float32), self._rng)

    def _pick_topics(self, count: int) -> NDArray[np.int64]:
        return self._rng.choice(TOPICS, count, p=self._topic_weights)

    def chunks(self) -> Iterator[Floats]:
        """All vectors, once; keeps a few of each chunk for the queries."""
        for start in range(0, self.rows, CHUNK):
            intent = self._intent_of[start : start + CHUNK]
            count = len(intent)
            noise = self._rng.uniform(0.02, 0.30, count).astype(np.float32)
            twin = self._rng.random(count) < 0.05
            noise[twin] = self._rng.uniform(0.001, 0.01, int(twin.sum()))
            own = np.sqrt(1 - SHARE_MEAN - SHARE_TOPIC - noise)[:, None] * self._intents[intent]
            own += self._mean + self._topics[self._topic_of[intent]]
            own += np.sqrt(noise)[:, None] * self._fine.draw(count)
            chunk = _unit(own @ self._basis)
            self._sample.append(chunk[self._rng.permutation(count)[: max(1, 1000 * count // self.rows)]])
            yield chunk

    def queries(self, count: int) -> tuple[Floats, NDArray[np.int64]]:
        """Queries and the kind of each, after the chunks."""
        near, known = count // 2, count // 4
        pool = np.concatenate(self._sample)
        base = pool[self._rng.choice(len(pool), near)]
        cosine = self._rng.uniform(0.80, 0.995, near).astype(np.float32)[:, None]
        away = self._fine.draw(near) @ self._basis
        away = _unit(away - (away * base).sum(1, keepdims=True) * base)
        in_topic = np.sqrt(1 - SHARE_MEAN - SHARE_TOPIC) * self._coarse.draw(known)
        in_topic += self._mean + self._topics[self._pick_topics(known)]
        new = np.sqrt(1 - SHARE_MEAN) * self._coarse.draw(count - near - known) + self._mean
        every = np.concatenate(
            [cosine * base + np.sqrt(1 - cosine**2) * away, in_topic @ self._basis, new @ self._basis]
        )
        kind = np.repeat([0, 1, 2], [near, known, count - near - known])
        order = self._rng.permutation(count)
        return np.ascontiguousarray(_unit(every.astype(np.float32))[order]), kind[order]
