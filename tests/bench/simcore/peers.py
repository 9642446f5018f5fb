"""The peers: exact ones are asked for the best row, approximate ones at usual settings."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.simcore.vectors import Floats

Search = Callable[[Floats, int], NDArray[np.int64]]
"""Queries and k to the numbers of the rows found, (q, k)."""


@dataclass(frozen=True)
class Approximate:
    """An approximate index that was built."""

    name: str
    search: Search
    build_s: float
    """Seconds per build, one thread."""
    bytes_per_row: float


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


def _built(make: Callable[[], Any]) -> tuple[Any, float]:
    before = time.thread_time()
    index = make()
    return index, time.thread_time() - before


def _faiss_approximate(rows: Floats) -> list[Approximate]:
    library = faiss()
    dim = rows.shape[1]

    def searcher(index: Any) -> Search:
        return lambda queries, k: index.search(queries, k)[1]

    def serialised(index: Any) -> float:
        return len(library.serialize_index(index)) / len(rows)

    found: list[tuple[str, Any, float, str, str]] = []
    for name, recipe, settings in [
        ("FAISS HNSW32", "HNSW32", "efSearch=64"),
        ("FAISS HNSW32", "HNSW32", "efSearch=256"),
        ("FAISS IVF1024", "IVF1024,Flat", "nprobe=16"),
        ("FAISS IVF1024", "IVF1024,Flat", "nprobe=64"),
        ("FAISS IVF1024 RaBitQ", "IVF1024,RaBitQ", "nprobe=64"),
    ]:

        def make(recipe: str = recipe) -> Any:
            index = library.index_factory(dim, recipe, library.METRIC_INNER_PRODUCT)
            index.train(rows)
            index.add(rows)
            return index

        reused = next((entry[1:3] for entry in found if entry[0] == recipe), None)
        index, seconds = reused or _built(make)
        found.append((recipe, index, seconds, name, settings))

    def with_settings(index: Any, settings: str) -> Search:
        def search(queries: Floats, k: int) -> NDArray[np.int64]:
            library.ParameterSpace().set_index_parameters(index, settings)
            answer: NDArray[np.int64] = searcher(index)(queries, k)
            return answer

        return search

    return [
        Approximate(f"{name}, {settings}", with_settings(index, settings), seconds, serialised(index))
        for _, index, seconds, name, settings in found
    ]


def _usearch(rows: Floats) -> list[Approximate]:
    library = importlib.import_module("usearch.index")

    def make() -> Any:
        index = library.Index(ndim=rows.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=128)
        index.add(np.arange(len(rows)), rows, threads=1)
        return index

    index, seconds = _built(make)

    def by(expansion: int) -> Search:
        def search(queries: Floats, k: int) -> NDArray[np.int64]:
            index.expansion_search = expansion
            keys = index.search(queries, k, threads=1).keys
            return np.asarray(keys).astype(np.int64).reshape(len(queries), -1)

        return search

    size = index.memory_usage / len(rows)
    return [Approximate(f"usearch, expansion {e}", by(e), seconds, size) for e in (64, 256)]


def _hnswlib(rows: Floats) -> list[Approximate]:
    library = importlib.import_module("hnswlib")

    def make() -> Any:
        index = library.Index(space="ip", dim=rows.shape[1])
        index.init_index(max_elements=len(rows), M=16, ef_construction=200)
        index.set_num_threads(1)
        index.add_items(rows, num_threads=1)
        return index

    index, seconds = _built(make)

    def by(width: int) -> Search:
        def search(queries: Floats, k: int) -> NDArray[np.int64]:
            index.set_ef(max(width, k))
            return index.knn_query(queries, k, num_threads=1)[0].astype(np.int64)

        return search

    # Its file holds what its memory holds: links, vectors and labels.
    size = index.index_file_size() / len(rows)
    return [Approximate(f"hnswlib M 16, ef {ef}", by(ef), seconds, size) for ef in (64, 256)]


def approximate(rows: Floats) -> tuple[list[Approximate], dict[str, str]]:
    """All that can be had here, and why the others cannot."""
    found: list[Approximate] = []
    missing: dict[str, str] = {}
    for name, build in {"hnswlib": _hnswlib, "usearch": _usearch, "FAISS": _faiss_approximate}.items():
        try:
            found += build(rows)
        except ImportError as error:
            missing[name] = f"not installed: {error}"
    return found, missing
