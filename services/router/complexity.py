"""The calibrated score: a weighted sum of features, cut into three classes at two borders.

Coefficients and borders are data: `complexity.json`, written by `tools/fit_complexity.py`, which also says on what they
were fitted and how well they do beside simpler rules.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Self

from services.catalogue.values import Tier
from services.router.features import NAMES, REVISION, Features

PACKAGED = "complexity.json"

CONFIDENCE_SCALE = 2.0
"""Confidence is tanh(2 × distance to the nearest border): 0 on it, 0.76 at half a unit of log-odds, 0.96 at one."""


@dataclass(frozen=True, slots=True)
class ComplexityModel:
    """Coefficients per feature (log-odds per unit) and the two borders of the score."""

    version: int
    coefficients: Mapping[str, float]
    simple_below: float
    complex_from: float

    @classmethod
    def packaged(cls) -> Self:
        """Read the fitted model that comes with the package; `ValueError` if it was fitted for other features."""
        return cls.parse(resources.files(__package__).joinpath(PACKAGED).read_text(encoding="utf-8"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a fitted model from JSON; `ValueError` if it does not belong to these features or makes no sense."""
        content = json.loads(text)
        if content["features_revision"] != REVISION:
            raise ValueError("the coefficients were fitted for another revision of the features")
        coefficients = {str(name): float(value) for name, value in content["coefficients"].items()}
        if unknown := coefficients.keys() - set(NAMES):
            raise ValueError(f"there are no such features: {', '.join(sorted(unknown))}")
        low, high = float(content["simple_below"]), float(content["complex_from"])
        if not all(map(math.isfinite, (low, high, *coefficients.values()))) or low >= high:
            raise ValueError("borders must rise and all numbers must be finite")
        return cls(int(content["version"]), coefficients, low, high)

    def score(self, features: Features) -> float:
        """Return the weighted sum; larger is harder."""
        return sum(weight * features[name] for name, weight in self.coefficients.items())

    def classify(self, score: float) -> tuple[Tier, float]:
        """Return the class of a score and the confidence in it."""
        distance = min(abs(score - self.simple_below), abs(score - self.complex_from))
        confidence = math.tanh(CONFIDENCE_SCALE * distance)
        if score < self.simple_below:
            return Tier.SIMPLE, confidence
        return (Tier.MODERATE if score < self.complex_from else Tier.COMPLEX), confidence
