"""Single queries and batches against the exact peers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simcore import MISSING_ID, Index
from tests.bench.simcore import peers
from tests.bench.simcore.timing import Contender, race
from tests.bench.simcore.vectors import KINDS, Floats, Vectors

CHUNK = 20_000
QUERIES = 1000


@dataclass(frozen=True)
class Data:
    """Rows, queries and what is true about them."""

    rows: Floats
    queries: Floats
    kind: NDArray[np.int64]
    kinds: tuple[str, ...] = KINDS
    largest_intent: int | None = None
    """Rows of the most frequent intent, where rows have one."""
    what: str = ""

    @property
    def name(self) -> str:
        return f"{len(self.rows):,} {self.what} × {self.rows.shape[1]}".replace("  ", " ")


def make(rows: int, dim: int, seed: int) -> Data:
    """Vectors in one array, and a thousand queries."""
    source = Vectors(rows, dim, seed=seed)
    array = np.empty((rows, dim), np.float32)
    at = 0
    for chunk in source.chunks():
        array[at : at + len(chunk)] = chunk
        at += len(chunk)
    return Data(array, *source.queries(QUERIES), largest_intent=source.largest_intent)


@contextmanager
def instruction_set(name: str | None) -> Iterator[None]:
    """Indexes made inside use this instruction set."""
    before = os.environ.get("SIMCORE_ISA")
    if name:
        os.environ["SIMCORE_ISA"] = name
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("SIMCORE_ISA", None)
        else:
            os.environ["SIMCORE_ISA"] = before


def available() -> list[str]:
    """Instruction sets of this machine that are worth a line of their own."""
    names = []
    for name in ("avx512", "avx2"):
        with instruction_set(name):
            try:
                Index(8)
            except ValueError:
                continue
        names.append(name)
    return names or ["portable"]


def fill(rows: Floats, name: str | None = None) -> Index:
    """An index of these rows, numbered from 0, in one group."""
    with instruction_set(name):
        index = Index(rows.shape[1])
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        index.upsert(np.arange(start, start + len(part), dtype=np.uint64), part)
    return index


def compare(
    data: Data, *, k: int, threshold: float, batch: int, rounds: int, asked: int, index_of: dict[str, Index]
) -> dict[str, Any]:
    """Milliseconds of CPU time per query of ours and of the exact peers, interleaved."""
    slow = asked if batch > 1 else max(asked // 5, 20)
    slow = max(slow // batch, 1) * batch
    asked = max(asked // batch, 1) * batch

    def ours(index: Index) -> Callable[[], object]:
        def run() -> None:
            for start in range(0, asked, batch):
                index.search(data.queries[start : start + batch], k, now=0.0, threshold=threshold)

        return run

    def theirs(search: peers.Search) -> Callable[[], object]:
        def run() -> None:
            for start in range(0, slow, batch):
                search(data.queries[start : start + batch], k)

        return run

    contenders = [Contender(f"simcore, {name}", ours(index), asked) for name, index in index_of.items()]
    exact = {**peers.faiss_flat(data.rows), "numpy": peers.numpy_product(data.rows)}
    contenders += [Contender(name, theirs(search), slow) for name, search in exact.items()]
    read_ms = race(contenders, rounds, data.rows.max)
    figures = {contender.name: round(contender.best, 4) for contender in contenders}
    best_peer = min(figures[name] for name in exact)
    faiss = min(figures[name] for name in exact if name.startswith("FAISS"))
    print(f"\n{data.name}, k {k}, threshold {threshold}, {batch} per call (reading f32 once: {read_ms:.1f} ms)")
    for name, figure in figures.items():
        print(f"  {name:24}{figure:10.3f} ms{faiss / figure:8.1f} × FAISS{best_peer / figure:8.1f} × best peer")
    return {
        "data": data.name, "k": k, "threshold": threshold, "batch": batch,
        "read_f32_ms": round(read_ms, 2), "ms": figures,
    }  # fmt: skip


def mismatches(data: Data, index: Index, threshold: float) -> int:
    """Queries whose best row is not that of FAISS, although its score is not the same in f32."""
    flat = peers.faiss_flat(data.rows)["FAISS Flat"](data.queries, 1)[:, 0]
    found, scores = index.search(data.queries, 1, now=0.0, threshold=threshold)
    truth = np.einsum("ij,ij->i", data.queries.astype(np.float64), data.rows[flat].astype(np.float64))
    gone = found[:, 0] == MISSING_ID
    near = np.abs(np.where(gone, threshold, scores[:, 0]) - truth) < 1e-6
    wrong = np.where(gone, truth >= threshold, found[:, 0] != flat.astype(np.uint64)) & ~near
    return int(wrong.sum())
