"""What is asked of the router and what it decides, as plain values.

Units: tokens, nano-USD, seconds, probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from services.catalogue.tokens import TokenEstimate
from services.catalogue.values import Capability, Model, Tier
from services.chassis.auth.values import ANYONE
from services.llm.values import Cost, GenerationOptions, Message, Tool


class Objective(StrEnum):
    """What the caller cares about, among models that are good enough."""

    COST = "cost"
    QUALITY = "quality"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Constraints:
    """What a model must satisfy besides what the request itself needs."""

    allowed_models: tuple[str, ...] = ()
    """Names or aliases; empty: all."""
    denied_models: tuple[str, ...] = ()
    max_cost: int | None = None
    """Expected cost of the call in nano-USD."""
    max_latency: float | None = None
    """Expected seconds to the whole answer."""
    capabilities: frozenset[Capability] = frozenset()
    """On top of what the request itself needs."""


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """A request to be routed."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    options: GenerationOptions = field(default_factory=GenerationOptions)
    constraints: Constraints = field(default_factory=Constraints)
    objective: Objective = Objective.COST
    policy: str = ""
    """Empty: the operator's default."""
    model: str = ""
    """An explicit model; empty or `auto`: route."""
    tenant: str = ANYONE.tenant
    """Whose decision it will be."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """How hard a policy judges a request."""

    complexity: Tier
    confidence: float
    """0 to 1: how far from the nearest border between classes."""
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that can take the request, with what to expect of it."""

    model: Model
    p_correct: float
    expected_cost: Cost
    expected_latency: float
    input_tokens: TokenEstimate
    tight: bool = False
    """The prompt fits as far as one can tell, but not with the margin that an estimate deserves."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The router's answer: candidates, best first, and why."""

    id: str
    candidates: tuple[Candidate, ...]
    complexity: Tier | None
    """None when an explicit model was asked for: nothing was judged."""
    confidence: float
    reasons: tuple[str, ...]
    policy_version: str
