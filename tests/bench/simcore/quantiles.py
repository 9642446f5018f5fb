"""How near the best row of a query is, and whether that is as in the reference distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.simcore.vectors import KINDS, Floats

AT = (0.1, 0.5, 0.9)
REFERENCE_ROWS, REFERENCE_DIM = 100_000, 384
REFERENCE: dict[str, tuple[float, float, float]] = {
    "near a stored vector": (0.820, 0.897, 0.975),
    "new intent": (0.470, 0.541, 0.597),
    "new topic": (0.333, 0.383, 0.443),
}
"""Quantiles of the best cosine in the reference distribution, which `vectors.py` is meant to have: means of eight seeds
of 100,000 × 384 vectors with 1,000 queries each. Other numbers of rows and dimensions have others."""
REFERENCE_SPREAD = 0.021
"""The most that a quantile of one of those seeds differs from the mean."""

Quantiles = dict[str, list[float]]
"""By kind of query, at `AT`."""


def best_cosines(rows: Floats, queries: Floats, kind: NDArray[np.int64], kinds: tuple[str, ...]) -> Quantiles:
    """Quantiles of the cosine with the nearest row, for each kind of query."""
    best = np.empty(len(queries), np.float32)
    for start in range(0, len(best), 100):
        best[start : start + 100] = (queries[start : start + 100] @ rows.T).max(axis=1)
    return {name: np.quantile(best[kind == number], AT).round(3).tolist() for number, name in enumerate(kinds)}


def beside_reference(found: Quantiles, rows: int, dim: int) -> dict[str, Any] | None:
    """Print them, beside the reference where it is one for these rows; returns the largest difference from it."""
    comparable = (rows, dim, tuple(found)) == (REFERENCE_ROWS, REFERENCE_DIM, KINDS)
    print(f"  {'best cosine at .1, .5, .9':28}{'here':>24}{'reference' if comparable else '':>24}".rstrip())
    for name, values in found.items():
        print(f"  {name:28}{_shown(values)}{_shown(REFERENCE[name]) if comparable else ''}")
    if not comparable:
        return None
    largest = max(abs(a - b) for name, values in found.items() for a, b in zip(values, REFERENCE[name], strict=True))
    verdict = "within" if largest <= REFERENCE_SPREAD else "BEYOND"
    print(
        f"  largest difference {largest:.3f}, {verdict} what seeds of the reference differ by, {REFERENCE_SPREAD:.3f}"
    )
    return {"largest_difference": round(largest, 4), "spread_of_reference": REFERENCE_SPREAD}


def _shown(values: list[float] | tuple[float, ...]) -> str:
    return "".join(f"{value:8.3f}" for value in values)
