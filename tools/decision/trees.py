"""A verifier's trees as its file holds them: the reading that the Rust one must agree with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Tree = dict[str, list[Any]]
"""Inner node `i` sends `x[feature[i]] <= threshold[i]` to `left[i]`, else to `right[i]`; a child `c < 0` is the leaf
`-c - 1`."""


def evaluate(trees: list[Tree], x: NDArray[np.float32], bias: float = 0.0) -> Floats:
    """V of every row of `x` (n, inputs)."""
    total = np.full(len(x), bias)
    for tree in trees:
        value = np.array(tree["value"])
        if not tree["feature"]:
            total += value[0]
            continue
        feature, threshold = np.array(tree["feature"]), np.array(tree["threshold"])
        left, right = np.array(tree["left"]), np.array(tree["right"])
        at = np.zeros(len(x), np.int64)
        inner = np.arange(len(x))
        while len(inner):
            node = at[inner]
            smaller = x[inner, feature[node]].astype(np.float64) <= threshold[node]
            at[inner] = np.where(smaller, left[node], right[node])
            inner = inner[at[inner] >= 0]
        total += value[-at - 1]
    return np.asarray(1.0 / (1.0 + np.exp(-total)))
