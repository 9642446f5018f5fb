"""Labelled pairs as a cache would meet them, with cosines, guard features, and the cluster of questions of each."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simcore import FEATURES, Guard
from tools.decision.sets import Pairs, Stream
from tools.decision.vectors import Vectors

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEIGHBOURS = 32
"""Earlier neighbours of a stream's text for which features are made. The cache looks at 4 of those that it has; it has
only those that were misses, so more of all are needed to find its 4 among them."""

NEAR = 0.78
"""Least cosine of such a neighbour: below it nothing is served under any preset."""

NAMES = ("logdist", *FEATURES)


def logdist(cosine: Floats) -> Floats:
    """ln(max(1 − cos, 0) + 0.01): equal steps near 1 weigh more."""
    return np.log(np.maximum(1.0 - cosine, 0.0) + 0.01)


@dataclass
class Examples:
    """One row per pair. `cached` and `query` are numbers of texts; `cluster` is by text."""

    name: str
    cached: Ints
    query: Ints
    label: NDArray[np.bool_]
    cosine: Floats
    x: NDArray[np.float32]
    kind: list[str]


class Texts:
    """Numbers for texts, and clusters: texts that are ever paired or share a class are one cluster."""

    def __init__(self) -> None:
        self.number: dict[str, int] = {}
        self._parent: list[int] = []

    def of(self, text: str) -> int:
        if text not in self.number:
            self.number[text] = len(self._parent)
            self._parent.append(len(self._parent))
        return self.number[text]

    def root(self, at: int) -> int:
        while self._parent[at] != at:
            self._parent[at] = self._parent[self._parent[at]]
            at = self._parent[at]
        return at

    def join(self, a: int, b: int) -> None:
        self._parent[self.root(a)] = self.root(b)

    def folds(self, count: int, seed: int) -> Ints:
        """A fold for every text; a cluster is in one fold."""
        roots = np.array([self.root(at) for at in range(len(self._parent))])
        _, cluster = np.unique(roots, return_inverse=True)
        return np.asarray(np.random.default_rng(seed).integers(0, count, cluster.max() + 1)[cluster], np.int64)


def cluster(pairs: list[Pairs], streams: list[Stream]) -> Texts:
    """Number all texts and join those that belong together."""
    texts = Texts()
    for group in pairs:
        for a, b in zip(group.a, group.b, strict=True):
            texts.join(texts.of(a), texts.of(b))
        if group.name == "templates":
            block: dict[str, int] = {}
            for a, kind in zip(group.a, group.kind, strict=True):
                texts.join(texts.of(a), block.setdefault(kind, texts.of(a)))
    for stream in streams:
        first: dict[str, int] = {}
        for text, cls in zip(stream.text, stream.cls, strict=True):
            at = texts.of(text)
            texts.join(at, first.setdefault(cls, at))
    return texts


def measure(cached: list[str], query: list[str]) -> NDArray[np.float32]:
    """Guard features row by row; each query is read once."""
    rows = np.empty((len(query), len(FEATURES)), np.float32)
    by_query: dict[str, list[int]] = defaultdict(list)
    for at, text in enumerate(query):
        by_query[text].append(at)
    for text, places in by_query.items():
        rows[places] = Guard(text).measure([cached[i] for i in places])
    return rows


def _examples(
    name: str,
    texts: Texts,
    *,
    cached: list[str],
    query: list[str],
    label: list[bool],
    cosine: Floats,
    kind: list[str],
) -> Examples:
    guard = measure(cached, query)
    x = np.hstack([logdist(cosine)[:, None].astype(np.float32), guard])
    numbers = [np.array([texts.of(text) for text in side], np.int64) for side in (cached, query)]
    return Examples(name, numbers[0], numbers[1], np.array(label), cosine, x, kind)


def of_pairs(group: Pairs, texts: Texts, vectors: Vectors) -> Examples:
    """One example for each pair of a set."""
    cosine = np.einsum("ij,ij->i", vectors.of(group.a), vectors.of(group.b)).astype(np.float64)
    return _examples(
        group.name, texts, cached=group.a, query=group.b, label=group.label, cosine=cosine, kind=group.kind
    )


def of_stream(stream: Stream, texts: Texts, vectors: Vectors) -> tuple[Examples, list[list[tuple[int, int]]]]:
    """Each text with its nearest earlier ones; also, per arrival, (row, earlier arrival) by falling cosine."""
    rows = vectors.of(stream.text)
    cached: list[str] = []
    query: list[str] = []
    label: list[bool] = []
    cosine: list[float] = []
    rank: list[str] = []
    near: list[list[tuple[int, int]]] = []
    for at in range(len(rows)):
        scores = rows[:at] @ rows[at]
        best = np.argsort(-scores, kind="stable")[:NEIGHBOURS]
        found = []
        for place, other in enumerate(best):
            if scores[other] < NEAR:
                break
            found.append((len(cached), int(other)))
            cached.append(stream.text[other])
            query.append(stream.text[at])
            label.append(stream.cls[other] == stream.cls[at])
            cosine.append(float(scores[other]))
            rank.append(str(place))
        near.append(found)
    made = _examples(stream.name, texts, cached=cached, query=query, label=label, cosine=np.array(cosine), kind=rank)
    return made, near
