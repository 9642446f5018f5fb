"""`simcore.Verifier`: the file in the package, read by Rust and by Python, and files that are wrong.

`DECISION_CAMPAIGN_DATA=/folder` compares both readings on every pair of the sets in it (`make campaign-decision`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import services.cache
import simcore
from tools.decision import sets, templates, trees

PACKAGED = Path(services.cache.__file__).parent / "verifier" / "minilm.json"
INPUTS = ("logdist", *simcore.FEATURES)
CLOSE = 1e-9
"""Sums in another order may differ in their last digits."""


@pytest.fixture(scope="module")
def text() -> str:
    return PACKAGED.read_text("utf-8")


@pytest.fixture(scope="module")
def file(text: str) -> dict[str, Any]:
    return json.loads(text)


def verdicts(file: dict[str, Any], guard: NDArray[np.float32], cosine: NDArray[np.float64]) -> NDArray[np.float64]:
    """V as Python reads the file."""
    logdist = np.log(np.maximum(1.0 - cosine, 0.0) + 0.01).astype(np.float32)
    x = np.hstack([logdist[:, None], guard])[:, [INPUTS.index(name) for name in file["features"]]]
    return trees.evaluate(file["trees"], x, file["bias"])


def disagreements(verifier: simcore.Verifier, file: dict[str, Any], pairs: list[tuple[str, str]], seed: int) -> int:
    """Pairs on which Rust and Python disagree, each with a random cosine."""
    cosine = np.random.default_rng(seed).uniform(0.5, 1.0, len(pairs))
    found, rows = [], []
    for (cached, query), at in zip(pairs, cosine, strict=True):
        guard = simcore.Guard(query)
        rows.append(guard.measure([cached])[0])
        [judged] = verifier.judge(guard, [cached], [at])
        found.append((judged.v, judged.p_wrong))
    v = verdicts(file, np.array(rows), cosine)
    calibration = file["calibration"]
    p_wrong = np.interp(v, calibration["v"], calibration["p_wrong"])
    return int((np.abs(np.array(found) - np.stack([v, p_wrong], axis=1)) > CLOSE).any(axis=1).sum())


def test_rust_and_python_read_the_same_verifier(text: str, file: dict[str, Any]):
    made = templates.pairs(7)
    pairs = list(zip(made.a, made.b, strict=True))[::3]
    assert len(pairs) > 1_000
    assert disagreements(simcore.Verifier.load(text), file, pairs, 7) == 0


@pytest.mark.skipif("DECISION_CAMPAIGN_DATA" not in os.environ, reason="a campaign: make campaign-decision DATA=")
@pytest.mark.timeout(3600)
def test_rust_and_python_agree_on_every_pair_of_the_sets(text: str, file: dict[str, Any]):
    found, streams = sets.read(Path(os.environ["DECISION_CAMPAIGN_DATA"]))
    pairs = [pair for group in found for pair in zip(group.a, group.b, strict=True)]
    for stream in streams:  # neighbours in time are mostly far, those of one class near
        by_class: dict[str, list[str]] = {}
        for text_, cls in zip(stream.text, stream.cls, strict=True):
            by_class.setdefault(cls, []).append(text_)
        for texts in by_class.values():
            pairs += [(a, b) for i, b in enumerate(texts) for a in texts[max(0, i - 6) : i]]
        pairs += list(zip(stream.text, stream.text[1:], strict=False))
    print(f"{len(pairs)} pairs")
    assert len(pairs) >= 100_000
    assert disagreements(simcore.Verifier.load(text), file, pairs, 8) == 0


def test_more_of_a_difference_never_serves_more(file: dict[str, Any]):
    rng = np.random.default_rng(3)
    guard = (rng.integers(0, 3, (400, len(simcore.FEATURES))) * rng.random((400, len(simcore.FEATURES)))).astype(
        np.float32
    )
    cosine = rng.uniform(0.5, 1.0, 400)
    before = verdicts(file, guard, cosine)
    assert (verdicts(file, guard, np.minimum(cosine + 0.02, 1.0)) >= before - CLOSE).all()
    for at, (name, direction) in enumerate(zip(simcore.FEATURES, simcore.DIRECTIONS, strict=True)):
        raised = guard.copy()
        raised[:, at] += rng.random(400).astype(np.float32)
        after = verdicts(file, raised, cosine)
        if direction == "down":
            assert (after <= before + CLOSE).all(), name
        elif direction == "up":
            assert (after >= before - CLOSE).all(), name


def test_presets_tighten_with_the_error_rate(text: str):
    verifier = simcore.Verifier.load(text)
    assert set(verifier.presets) == {"strict", "default", "balanced", "loose"}
    bars = [verifier.presets[name] for name in ("strict", "default", "balanced", "loose")]
    assert [cosine for _, cosine in bars] == sorted((cosine for _, cosine in bars), reverse=True)
    assert verifier.preset_for(0.02) == "default"
    assert verifier.preset_for(0.0) is None
    assert verifier.preset_for(1.0) == "loose"
    assert verifier.embedder.startswith("minilm_")


def test_the_packaged_verifier_is_small(text: str):
    assert 25_000 <= len(text) <= 100_000


def test_p_wrong_falls_as_v_rises(text: str):
    verifier = simcore.Verifier.load(text)
    made = templates.pairs(5)
    judged = [verifier.judge(b, [a], [0.95])[0] for a, b in list(zip(made.a, made.b, strict=True))[:500]]
    judged.sort(key=lambda one: one.v)
    rates = [one.p_wrong for one in judged]
    assert rates == sorted(rates, reverse=True)
    assert all(0.0 <= rate <= 1.0 for rate in rates)


def test_a_query_may_be_read_once_for_all_candidates(text: str):
    verifier = simcore.Verifier.load(text)
    cached = ["How do I cook rice for 4?", "How do I cook rice for 2?"]
    again = verifier.judge(simcore.Guard("Cook rice for 4"), cached, [0.93, 0.93])
    assert [one.v for one in again] == [one.v for one in verifier.judge("Cook rice for 4", cached, [0.93, 0.93])]
    assert again[0].v > again[1].v
    assert "number" in again[1].reasons
    assert again[1].features["num_sub"] == 1.0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "x"}, "format"),
        ({"version": 9}, "version 9"),
        ({"guard": 0}, "guard 0"),
        ({"features": ["nothing"]}, "nothing"),
        ({"unknown": 1}, "unknown"),
        ({"presets": {}}, "does not exist"),
        ({"calibration": {"v": [0.5], "p_wrong": [2.0]}}, "calibration"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(file: dict[str, Any], change: dict[str, Any], says: str):
    with pytest.raises(ValueError, match=says):
        simcore.Verifier.load(json.dumps({**file, **change}))


def test_nonsense_is_refused(text: str):
    verifier = simcore.Verifier.load(text)
    with pytest.raises(ValueError, match=r"EOF"):
        simcore.Verifier.load("")
    with pytest.raises(ValueError, match="1 cosines for 2"):
        verifier.judge("a", ["b", "c"], [0.9])
    for cosine in (float("nan"), float("inf"), 3.0):
        with pytest.raises(ValueError, match="cosine"):
            verifier.judge("a", ["b"], [cosine])
    with pytest.raises(TypeError):
        verifier.judge(1, ["b"], [0.9])
    assert verifier.judge("a", [], []) == []
