"""The policy `static`: the calibrated score of length and form."""

from __future__ import annotations

from services.catalogue.values import Tier
from services.router.complexity import ComplexityModel
from services.router.features import extract
from services.router.values import Assessment, RouteRequest

EXPLAINED = 3
"""How many features the reasons name: the ones that moved the score most."""


class StaticPolicy:
    """Scores the last user message and the shape of the conversation; knows nothing of the topic."""

    name = "static"

    def __init__(self, model: ComplexityModel) -> None:
        self._model = model
        self.version = f"{self.name}/{model.version}"

    def assess(self, request: RouteRequest) -> Assessment:
        """Return the class of the score."""
        features = extract(request.messages, request.tools, request.options)
        score = self._model.score(features)
        complexity, confidence = self._model.classify(score)
        shares = {name: weight * features[name] for name, weight in self._model.coefficients.items()}
        strongest = sorted(shares, key=lambda name: -abs(shares[name]))[:EXPLAINED]
        named = ", ".join(f"{name} {shares[name]:+.2f}" for name in strongest if shares[name])
        return Assessment(
            complexity, confidence, (self._against_borders(score, complexity), *([named] if named else []))
        )

    def _against_borders(self, score: float, complexity: Tier) -> str:
        low, high = self._model.simple_below, self._model.complex_from
        match complexity:
            case Tier.SIMPLE:
                return f"score {score:.2f} < {low:.2f}: simple"
            case Tier.MODERATE:
                return f"{low:.2f} <= score {score:.2f} < {high:.2f}: moderate"
            case _:
                return f"score {score:.2f} >= {high:.2f}: complex"
