"""The promises of `simcore.Index` in numpy, the slow way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MISSING = 2**64 - 1
LANES = 8


def dots(rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """Dot products in f64 over eight lanes, added in the fixed order."""
    n, dim = rows.shape
    padded = -(-dim // LANES) * LANES
    products = np.zeros((n, padded))
    products[:, :dim] = rows.astype(np.float64) * query.astype(np.float64)
    lanes = np.zeros((n, LANES))
    for step in range(0, padded, LANES):
        lanes = lanes + products[:, step : step + LANES]
    a, b, c, d, e, f, g, h = lanes.T
    return ((a + e) + (c + g)) + ((b + f) + (d + h))


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector divided by its length, as it is stored."""
    length = np.sqrt(dots(vector[None, :], vector)[0])
    stored: NDArray[np.float32] = (vector.astype(np.float64) / length).astype(np.float32)
    return stored


@dataclass(frozen=True)
class Entry:
    vector: NDArray[np.float32]
    group: int
    expires_at: float


class BruteForce:
    """Entries by id, searched by scoring all of them."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.entries: dict[int, Entry] = {}

    def upsert(self, entry_id: int, vector: NDArray[np.float32], group: int, expires_at: float) -> None:
        self.entries[entry_id] = Entry(unit(vector), group, expires_at)

    def remove(self, ids: list[int]) -> int:
        return sum(self.entries.pop(entry_id, None) is not None for entry_id in ids)

    def remove_group(self, group: int) -> int:
        return self.remove([entry_id for entry_id, entry in self.entries.items() if entry.group == group])

    def search(
        self, query: NDArray[np.float32], k: int, *, now: float, threshold: float, group: int
    ) -> tuple[list[int], list[float]]:
        live = [
            (entry_id, entry.vector)
            for entry_id, entry in self.entries.items()
            if entry.group == group and entry.expires_at > now
        ]
        rows = np.array([vector for _, vector in live], np.float32).reshape(len(live), self.dim)
        scores = dots(rows, unit(query)).astype(np.float32).tolist()
        ranked = sorted((-score, entry_id) for (entry_id, _), score in zip(live, scores, strict=True))
        best = [(entry_id, -score) for score, entry_id in ranked if -score >= threshold][:k]
        best += [(MISSING, -np.inf)] * (k - len(best))
        return [entry_id for entry_id, _ in best], [score for _, score in best]
