"""One routing decision: judge the request, drop the models that cannot take it, rank the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.catalogue.catalogue import Catalogue
from services.catalogue.decision_ids import EXPLICIT_POLICY
from services.catalogue.tokens import RequestTokens, TokenCounter
from services.catalogue.values import Model, Tier
from services.chassis.errors import FailedPrecondition, InvalidRequest, Reason
from services.router.constraints import Refusal, Refused, check, pool
from services.router.policies.protocol import Policy
from services.router.ranking import rank
from services.router.values import Assessment, Candidate, Decision, RouteRequest

AUTO = "auto"
"""The model name that means: route."""

SHOWN_REFUSALS = 8
"""So many refused models are named in an error or in reasons."""


_BY_CALLER = frozenset({Refusal.NOT_ALLOWED, Refusal.DENIED})
_AFTER_CONTEXT = frozenset({Refusal.COST, Refusal.LATENCY})
"""Checked when the context suffices."""


class Router:
    """Decides for one catalogue. Pure but for the ids of decisions; safe to share between threads."""

    def __init__(
        self,
        catalogue: Catalogue,
        counter: TokenCounter,
        policies: Mapping[str, Policy],
        default_policy: str,
        new_id: Callable[[str], str],
    ) -> None:
        """`new_id` makes a decision's id for a tenant."""
        if default_policy not in policies:
            raise ValueError("the default policy is none of the policies")
        self.catalogue = catalogue
        self._counter = counter
        self._policies = policies
        self._default_policy = default_policy
        self._new_id = new_id

    def route(self, request: RouteRequest) -> Decision:
        """Return the ranked candidates, at least one.

        Raises `InvalidRequest` (UNKNOWN_MODEL, CONTEXT_TOO_LONG, an unknown policy) and
        `FailedPrecondition(NO_MODEL_FITS)`. CPU-bound, in proportion to the text.
        """
        for name in request.constraints.denied_models:
            self.catalogue.get(name, field="constraints.denied_models")
        policy = self._policy(request.policy)
        choice = pool(self.catalogue, request.constraints)
        tokens = self._counter.request(request.messages, request.tools, request.options)
        if request.model and request.model != AUTO:
            return self._explicit(self.catalogue.get(request.model), request, tokens)
        assessment = policy.assess(request)
        fitting, refused = self._split(choice, request, tokens, assessment.complexity)
        if not fitting:
            raise _nothing_fits(refused)
        ranked = rank(fitting, assessment.complexity, request.objective)
        return Decision(
            self._new_id(request.tenant),
            tuple(ranked),
            assessment.complexity,
            assessment.confidence,
            (*assessment.reasons, *_why(ranked[0], assessment, request), *_shown(refused)),
            policy.version,
        )

    def _policy(self, name: str) -> Policy:
        policy = self._policies.get(name or self._default_policy)
        if policy is None:
            raise InvalidRequest(f"policy: must be one of {', '.join(sorted(self._policies))}", field="policy")
        return policy

    def _explicit(self, model: Model, request: RouteRequest, tokens: RequestTokens) -> Decision:
        result = check(model, request, tokens, Tier.MODERATE, self.catalogue)
        if isinstance(result, Refused):
            raise _nothing_fits([result])
        return Decision(self._new_id(request.tenant), (result,), None, 1.0, ("explicit model",), EXPLICIT_POLICY)

    def _split(
        self, choice: list[Model], request: RouteRequest, tokens: RequestTokens, complexity: Tier
    ) -> tuple[list[Candidate], list[Refused]]:
        fitting: list[Candidate] = []
        refused: list[Refused] = []
        for model in choice:
            result = check(model, request, tokens, complexity, self.catalogue)
            if isinstance(result, Refused):
                refused.append(result)
            else:
                fitting.append(result)
        return fitting, refused


def _why(best: Candidate, assessment: Assessment, request: RouteRequest) -> list[str]:
    """Return what decided between the models that fit."""
    reasons: list[str] = []
    if best.model.quality.tier < assessment.complexity:
        reasons.append(f"no model of tier {assessment.complexity.name.lower()} fits; the most able of the others")
    else:
        reasons.append(f"objective {request.objective.value}")
    if best.tight:
        reasons.append("the context may be too small: the prompt's tokens are estimated")
    return reasons


def _shown(refused: list[Refused]) -> list[str]:
    """Return the refusals that tell something: a model that the caller excluded is no news to it."""
    telling = [r for r in refused if r.refusal not in _BY_CALLER]
    return [str(refusal) for refusal in telling[:SHOWN_REFUSALS]]


def _nothing_fits(refused: list[Refused]) -> InvalidRequest | FailedPrecondition:
    """Return the error: the prompt is too long if nothing but its length stands between it and some model."""
    relevant = [r for r in refused if r.refusal not in _BY_CALLER]
    too_long = [r for r in relevant if r.refusal is Refusal.CONTEXT]
    if too_long and not any(r.refusal in _AFTER_CONTEXT for r in relevant):
        largest = max(r.model.context_tokens for r in too_long)
        return InvalidRequest(
            f"messages: too long for every model that may be used; the largest context is {largest} tokens",
            reason=Reason.CONTEXT_TOO_LONG,
            field="messages",
        )
    shown = "; ".join(str(refusal) for refusal in (relevant or refused)[:SHOWN_REFUSALS])
    return FailedPrecondition(f"no model fits: {shown}", reason=Reason.NO_MODEL_FITS)
