"""Which models can take a request at all; every refusal has its reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from services.catalogue.catalogue import Catalogue
from services.catalogue.money import price
from services.catalogue.tokens import RequestTokens
from services.catalogue.values import Capability, Model, Tier
from services.llm.values import Usage
from services.router.values import Candidate, Constraints, RouteRequest

EXPECTED_OUTPUT = {Tier.SIMPLE: 150, Tier.MODERATE: 400, Tier.COMPLEX: 900}
"""Output tokens to plan with when nothing is known: about a paragraph, half a page, a page and a half. They make costs
comparable between models; they are not a forecast."""


class Refusal(StrEnum):
    """Why a model cannot take a request."""

    NOT_ALLOWED = "not allowed"
    DENIED = "denied"
    CAPABILITY = "lacks"
    OUTPUT_LIMIT = "cannot answer that long"
    CONTEXT = "context too small"
    COST = "expected to cost too much"
    LATENCY = "expected to take too long"


@dataclass(frozen=True, slots=True)
class Refused:
    """A model that cannot take the request."""

    model: Model
    refusal: Refusal
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.model.name}: {self.refusal.value}{f' {self.detail}' if self.detail else ''}"


def needed_capabilities(request: RouteRequest, tokens: RequestTokens) -> frozenset[Capability]:
    """Return what the request itself and its constraints ask of a model."""
    needed = set(request.constraints.capabilities)
    if request.tools and request.options.tool_choice != "none":
        needed.add(Capability.TOOLS)
    if tokens.images:
        needed.add(Capability.IMAGES)
    if (request.options.response_format or {}).get("type") == "json_schema":
        needed.add(Capability.JSON_SCHEMA)
    return frozenset(needed)


def pool(catalogue: Catalogue, constraints: Constraints) -> list[Model]:
    """Return the models to choose from: stand-ins only if there is nothing else, or if the caller names them."""
    named = {catalogue.get(name, field="constraints.allowed_models").name for name in constraints.allowed_models}
    only_stand_ins = all(model.stand_in for model in catalogue.models)
    return [model for model in catalogue.models if only_stand_ins or not model.stand_in or model.name in named]


def check(
    model: Model, request: RouteRequest, tokens: RequestTokens, complexity: Tier, catalogue: Catalogue
) -> Candidate | Refused:
    """Return the model as a candidate for a request of this class, or the first reason why it is none."""
    refused = next(_excluded(model, request, tokens, catalogue), None)
    if refused is not None:
        return refused
    estimate = tokens.input(model)
    wanted = request.options.max_output_tokens
    output = min(EXPECTED_OUTPUT[complexity], wanted or model.max_output_tokens, model.max_output_tokens)
    # A caller that sets a limit has the server reserve it; without one there must be room for an answer.
    room = model.context_tokens - (output if wanted is None else wanted)
    if estimate.expected > room:
        return Refused(model, Refusal.CONTEXT, f"({model.context_tokens} tokens)")
    cost = price(Usage(input=estimate.expected, output=output, estimated=True), model)
    latency = model.latency.expected(output)
    constraints = request.constraints
    if constraints.max_cost is not None and cost.nano_usd > constraints.max_cost:
        return Refused(model, Refusal.COST, f"({cost.nano_usd} nano-USD)")
    if constraints.max_latency is not None and latency > constraints.max_latency:
        return Refused(model, Refusal.LATENCY, f"({latency:.1f} s)")
    return Candidate(model, model.quality.p_correct[complexity], cost, latency, estimate, tight=estimate.prudent > room)


def _excluded(model: Model, request: RouteRequest, tokens: RequestTokens, catalogue: Catalogue) -> Iterator[Refused]:
    """Yield what rules the model out before any token is counted."""
    constraints = request.constraints
    if constraints.allowed_models and model.name not in _names(constraints.allowed_models, catalogue):
        yield Refused(model, Refusal.NOT_ALLOWED)
    if model.name in _names(constraints.denied_models, catalogue):
        yield Refused(model, Refusal.DENIED)
    if lacking := needed_capabilities(request, tokens) - model.capabilities:
        yield Refused(model, Refusal.CAPABILITY, ", ".join(sorted(lacking)))
    if (request.options.max_output_tokens or 0) > model.max_output_tokens:
        yield Refused(model, Refusal.OUTPUT_LIMIT, f"({model.max_output_tokens} tokens at most)")


def _names(given: Iterable[str], catalogue: Catalogue) -> set[str]:
    """Return the names behind names and aliases; a name that is not offered cannot be met anyway."""
    return {model.name for name in given if (model := catalogue.find(name)) is not None}
