"""The approximate peers at usual settings, each built by one thread and, on request, only if that takes little time."""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.bench.simcore.peers import Search, faiss
from tests.bench.simcore.vectors import Floats

STEP = 50_000
"""Rows that are added before the time of the whole is estimated again."""
TRAINED_PER_CENTROID = 64
"""FAISS asks for 30 to 256."""


@dataclass(frozen=True)
class Approximate:
    """An approximate index that was built."""

    name: str
    search: Search
    build_s: float
    """Seconds of CPU time per build."""
    bytes_per_row: float


class TooSlow(Exception):
    """The build would take longer than it may."""


def _add(add: Callable[[Floats, int], object], rows: Floats, limit_s: float, spent_s: float = 0.0) -> float:
    """Add all rows, with their first number; returns the seconds of CPU time, `spent_s` before included.

    `TooSlow` as soon as the rows so far say so. Later rows cost a graph more than earlier ones, so none is given up
    that would have been in time.
    """
    began = time.process_time()
    taken = 0.0
    for start in range(0, len(rows), STEP):
        part = rows[start : start + STEP]
        add(part, start)
        taken, done = time.process_time() - began, start + len(part)
        if spent_s + taken * len(rows) / done > limit_s:
            raise TooSlow(
                f"its build would take longer than {limit_s:.0f} s: {taken:.1f} s for the first {done:,} rows"
            )
    return spent_s + taken


def _faiss_index(recipe: str, settings: list[str], name: str) -> Callable[[Floats, float], list[Approximate]]:
    """A builder; `{lists}` in the recipe becomes the power of two nearest to 4 √rows, as FAISS' guidelines say."""

    def build(rows: Floats, limit_s: float) -> list[Approximate]:
        library = faiss()
        lists = 2 ** round(math.log2(4 * math.sqrt(len(rows))))
        index = library.index_factory(rows.shape[1], recipe.format(lists=lists), library.METRIC_INNER_PRODUCT)
        before = time.process_time()
        index.train(rows[: lists * TRAINED_PER_CENTROID])
        seconds = _add(lambda part, _: index.add(part), rows, limit_s, time.process_time() - before)
        size = len(library.serialize_index(index)) / len(rows)

        def by(setting: str) -> Search:
            def search(queries: Floats, k: int) -> NDArray[np.int64]:
                library.ParameterSpace().set_index_parameters(index, setting)
                found: NDArray[np.int64] = index.search(queries, k)[1]
                return found

            return search

        full = name.format(lists=lists)
        return [Approximate(f"{full}, {setting}", by(setting), seconds, size) for setting in settings]

    return build


def _usearch(rows: Floats, limit_s: float) -> list[Approximate]:
    library = importlib.import_module("usearch.index")
    index = library.Index(ndim=rows.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=128)

    def add(part: Floats, start: int) -> None:
        index.add(np.arange(start, start + len(part)), part, threads=1)

    seconds = _add(add, rows, limit_s)

    def by(expansion: int) -> Search:
        def search(queries: Floats, k: int) -> NDArray[np.int64]:
            index.expansion_search = expansion
            keys = index.search(queries, k, threads=1).keys
            return np.asarray(keys).astype(np.int64).reshape(len(queries), -1)

        return search

    size = index.memory_usage / len(rows)
    return [Approximate(f"usearch, expansion {e}", by(e), seconds, size) for e in (64, 256)]


def _hnswlib(rows: Floats, limit_s: float) -> list[Approximate]:
    library = importlib.import_module("hnswlib")
    index = library.Index(space="ip", dim=rows.shape[1])
    index.init_index(max_elements=len(rows), M=16, ef_construction=200)
    index.set_num_threads(1)
    seconds = _add(lambda part, _: index.add_items(part, num_threads=1), rows, limit_s)

    def by(width: int) -> Search:
        def search(queries: Floats, k: int) -> NDArray[np.int64]:
            index.set_ef(max(width, k))
            return index.knn_query(queries, k, num_threads=1)[0].astype(np.int64)

        return search

    # Its file holds what its memory holds: links, vectors and labels.
    size = index.index_file_size() / len(rows)
    return [Approximate(f"hnswlib M 16, ef {ef}", by(ef), seconds, size) for ef in (64, 256)]


BUILDERS: dict[str, Callable[[Floats, float], list[Approximate]]] = {
    "hnswlib": _hnswlib,
    "usearch": _usearch,
    "FAISS HNSW32": _faiss_index("HNSW32", ["efSearch=64", "efSearch=256"], "FAISS HNSW32"),
    "FAISS IVF": _faiss_index("IVF{lists},Flat", ["nprobe=16", "nprobe=64"], "FAISS IVF{lists}"),
    "FAISS IVF RaBitQ": _faiss_index("IVF{lists},RaBitQ", ["nprobe=64"], "FAISS IVF{lists} RaBitQ"),
    "FAISS IVF RaBitQ fast scan": _faiss_index(
        "IVF{lists},RaBitQfs,RFlat", ["nprobe=64,k_factor_rf=10"], "FAISS IVF{lists} RaBitQfs, Flat"
    ),
}
_HINTS = {"hnswlib": f"; its source package needs a C++ compiler, see {Path(sys.prefix) / 'hnswlib.log'}"}


def build(rows: Floats, limit_s: float = math.inf) -> tuple[list[Approximate], dict[str, str]]:
    """All that can be had here within the seconds for each, and why the others cannot."""
    found: list[Approximate] = []
    missing: dict[str, str] = {}
    for name, builder in BUILDERS.items():
        try:
            found += builder(rows, limit_s)
        except ImportError as error:
            missing[name] = f"not installed: {error}{_HINTS.get(name, '')}"
        except TooSlow as error:
            missing[name] = str(error)
    return found, missing
