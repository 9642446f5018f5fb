"""The calibration of a verifier: what it states is what was found."""

from __future__ import annotations

import numpy as np

from tools.decision.calibrating import isotonic

COUNT = 20_000


def test_what_is_stated_is_what_was_found() -> None:
    chance = np.random.default_rng(1)
    v = chance.uniform(0, 1, COUNT)
    wrong = (chance.uniform(0, 1, COUNT) < (1 - v) ** 2).astype(float)
    place, p_wrong = isotonic(v, wrong, np.ones(COUNT))
    assert len(place) > 10
    assert place == sorted(place)
    assert p_wrong == sorted(p_wrong, reverse=True)
    asked = np.linspace(0.05, 0.95, 19)
    assert np.abs(np.interp(asked, place, p_wrong) - (1 - asked) ** 2).max() < 0.08


def test_a_step_rests_on_enough_verdicts() -> None:
    v = np.linspace(0, 1, 1_000)
    wrong = np.where(v > 0.95, 0.0, 1.0)
    place, p_wrong = isotonic(v, wrong, np.ones(1_000))
    # The 50 that are right are too few for a step: they do not show how many of their kind are wrong.
    assert len(place) == 1
    assert p_wrong[0] > 0.9


def test_few_verdicts_are_one_step() -> None:
    place, p_wrong = isotonic(np.array([0.2, 0.9]), np.array([1.0, 0.0]), np.ones(2))
    assert (place, p_wrong) == ([0.55], [0.5])
