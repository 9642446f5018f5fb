"""The exact peers, asked for the best rows."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.simcore.vectors import Floats

Search = Callable[[Floats, int], NDArray[np.int64]]
"""Queries and k to the numbers of the rows found, (q, k)."""


def faiss() -> Any:
    """The module, held to one thread."""
    module = importlib.import_module("faiss")
    module.omp_set_num_threads(1)
    return module


def faiss_flat(rows: Floats) -> dict[str, Search]:
    """FAISS' brute force by its two paths: the default, and BLAS for any number of queries."""
    library = faiss()
    index = library.IndexFlatIP(rows.shape[1])
    index.add(rows)
    usual = library.cvar.distance_compute_blas_threshold

    def by(threshold: int) -> Search:
        def search(queries: Floats, k: int) -> NDArray[np.int64]:
            # A setting of the whole module: it is put back for those who come later.
            library.cvar.distance_compute_blas_threshold = threshold
            found: NDArray[np.int64] = index.search(queries, k)[1]
            library.cvar.distance_compute_blas_threshold = usual
            return found

        return search

    return {"FAISS Flat": by(usual), "FAISS Flat, BLAS": by(1)}


def numpy_product(rows: Floats) -> Search:
    """One matrix product and a selection; the product runs on one thread if the environment says so."""

    def search(queries: Floats, k: int) -> NDArray[np.int64]:
        scores = queries @ rows.T
        if k == 1:
            return scores.argmax(axis=1)[:, None]
        best = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        return np.take_along_axis(best, order, axis=1)

    return search
