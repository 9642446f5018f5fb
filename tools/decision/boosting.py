"""Monotone boosted trees: fitted by LightGBM, kept in the flat form of a verifier's file."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from simcore import DIRECTIONS
from tools.decision.examples import NAMES, Floats
from tools.decision.trees import Tree

TREES = 160
PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "num_leaves": 16,
    "learning_rate": 0.12,
    # Traps of some kinds are rare; a leaf may rest on few of them, and the ridge keeps it modest.
    "min_data_in_leaf": 10,
    "min_sum_hessian_in_leaf": 0.5,
    "lambda_l2": 2.0,
    # "intermediate" and "advanced" let more splits through; out of fold they were no better than "basic".
    "monotone_constraints_method": "basic",
    "max_bin": 127,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "seed": 1,
    "verbosity": -1,
}
DIGITS = 6
"""Significant digits of thresholds and leaves: a verdict changes by less than 0.001, the file shrinks by half."""

MONOTONE = {"up": 1, "down": -1, "free": 0}


def constraints() -> list[int]:
    """Which way each input may move the verdict; a larger distance only away from serving."""
    return [-1, *(MONOTONE[direction] for direction in DIRECTIONS)]


def fit(x: NDArray[np.float32], y: NDArray[np.bool_], weight: Floats) -> list[Tree]:
    """The trees for features `x` (n, f), labels and weights."""
    data = lightgbm.Dataset(x, y.astype(float), weight=weight, feature_name=list(NAMES))
    booster = lightgbm.train({**PARAMETERS, "monotone_constraints": constraints()}, data, num_boost_round=TREES)
    return [_flat(tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]]


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") if abs(value) > 1e-30 else 0.0


def _flat(root: dict[str, Any]) -> Tree:
    """Inner nodes before their children; leaves are -1, -2, …"""
    tree: Tree = {"feature": [], "threshold": [], "left": [], "right": [], "value": []}

    def place(node: dict[str, Any]) -> int:
        if "leaf_value" in node:
            tree["value"].append(_rounded(node["leaf_value"]))
            return -len(tree["value"])
        at = len(tree["feature"])
        tree["feature"].append(node["split_feature"])
        tree["threshold"].append(_rounded(node["threshold"]))
        for side in ("left", "right"):
            tree[side].append(0)
        for side in ("left", "right"):
            tree[side][at] = place(node[f"{side}_child"])
        return at

    place(root)
    return tree
