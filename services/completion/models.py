"""What can be called and at what price, and a plain choice among it for when the router does not answer.

The own catalogue says which upstream has a model; what the router lists (prices, limits, capabilities) goes before the
own file, as the router may have been given a newer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace

from services.catalogue.catalogue import Catalogue
from services.catalogue.decision_ids import EXPLICIT_POLICY, new_id
from services.catalogue.money import price
from services.catalogue.tokens import RequestTokens, TokenCounter, soon_counted
from services.catalogue.values import Capability, Model, Prices, Tier
from services.chassis.errors import AntiphonError, FailedPrecondition, InvalidRequest, Reason
from services.completion.ports import Candidate, ListedModel, Routing
from services.completion.request import Constraints, Objective, Request
from services.llm.values import Usage

PRUDENT_TIER = Tier.MODERATE
"""Nobody has judged the prompt; a model for middling ones is good enough for most, and dear for few."""

EXPECTED_OUTPUT = 400
"""Output tokens to plan with: about half a page. For comparing models, not a forecast."""

FALLBACK_POLICY = "fallback/1"

_NO_CONSTRAINTS = Constraints()


class ModelBook:
    """The catalogue with the router's last word on it."""

    def __init__(self, catalogue: Catalogue, counter: TokenCounter) -> None:
        self._catalogue = catalogue
        self._counter = counter
        self._models: Mapping[str, Model] = {model.name: model for model in catalogue.models}
        self._listed: Set[str] = frozenset()

    def resolve(self, name: str, *, field: str) -> str:
        """Return the catalogue's name for a name or alias; `InvalidRequest(UNKNOWN_MODEL)` on `field`."""
        return self._catalogue.get(name, field=field).name

    def find(self, name: str) -> Model | None:
        """Return the model of this name, if it can be called from here."""
        return self._models.get(name)

    def update(self, listed: Sequence[ListedModel]) -> None:
        """Take over what the router lists; a model that it no longer offers keeps its last price."""
        news = {model.name: model for model in listed}
        self._models = {
            name: _merged(model, news[name]) if name in news else model for name, model in self._models.items()
        }
        self._listed = news.keys() & self._models.keys()

    def unlisted(self) -> None:
        """The router does not answer: what it listed last is no longer its word."""
        self._listed = frozenset()

    def explicit(self, request: Request) -> Routing | None:
        """Return what the router would decide if there is nothing to decide, else None: it has to be asked.

        So it is where the caller names a model and wishes nothing more, and the router lists the model with room enough
        for the question. A call of the router would cost as much as all that is done around the model's own.
        """
        question = request.question
        if question.model not in self._listed or request.routing_policy or request.constraints != _NO_CONSTRAINTS:
            return None
        if not soon_counted(question.messages, question.tools, question.options):
            return None
        model = self._models[question.model]
        tokens = self._counter.request(question.messages, question.tools, question.options)
        if _refusal(model, request, tokens) is not None:
            return None
        return Routing(
            candidates=(Candidate(model.name, model.upstream),),
            decision_id=new_id(request.caller.tenant),
            reasons=("explicit model",),
            policy_version=EXPLICIT_POLICY,
            foregone=True,
        )

    def route(self, request: Request) -> Routing:
        """Choose without the router: constraints first, then the cheapest of the models that are prudent.

        Raises `FailedPrecondition(NO_MODEL_FITS)` or `InvalidRequest(CONTEXT_TOO_LONG)`. Counts tokens: CPU-bound.
        """
        tokens = self._counter.request(request.question.messages, request.question.tools, request.question.options)
        fitting: list[tuple[Model, int, float]] = []
        refusals: list[AntiphonError] = []
        for model in self._pool(request):
            refusal = _refusal(model, request, tokens)
            if refusal is None:
                cost, latency = _expected(model, request, tokens)
                fitting.append((model, cost, latency))
            else:
                refusals.append(refusal)
        if not fitting:
            too_long = next((error for error in refusals if error.reason is Reason.CONTEXT_TOO_LONG), None)
            raise too_long or FailedPrecondition(
                "no model of the catalogue satisfies the request", reason=Reason.NO_MODEL_FITS
            )
        fitting.sort(key=lambda each: _rank(request.objective, *each))
        return Routing(
            candidates=tuple(Candidate(model.name, model.upstream) for model, _, _ in fitting),
            reasons=("explicit model" if request.question.model else "the router does not answer",),
            policy_version=FALLBACK_POLICY,
        )

    def _pool(self, request: Request) -> Iterable[Model]:
        if request.question.model:
            return [self._models[request.question.model]]
        only_stand_ins = all(model.stand_in for model in self._models.values())
        return [
            model
            for model in self._models.values()
            if only_stand_ins or not model.stand_in or model.name in request.constraints.allowed
        ]


def _merged(model: Model, listed: ListedModel) -> Model:
    return replace(
        model,
        prices=Prices(
            input=listed.prices.input,
            output=listed.prices.output,
            cached_input=listed.prices.cached_input,
            cache_write=listed.prices.cache_write,
            per_request=listed.prices.per_request,
            date=listed.prices.date,
            version=listed.prices.version,
        ),
        context_tokens=listed.context_tokens,
        max_output_tokens=listed.max_output_tokens,
        capabilities=listed.capabilities,
    )


def _refusal(model: Model, request: Request, tokens: RequestTokens) -> AntiphonError | None:
    """Return why a model cannot take the request."""
    limits, options = request.constraints, request.question.options
    excluded = (limits.allowed and model.name not in limits.allowed) or model.name in limits.denied
    wanted = options.max_output_tokens
    if excluded or (wanted or 0) > model.max_output_tokens or not _needed(request, tokens) <= model.capabilities:
        return FailedPrecondition("the model does not satisfy the constraints", reason=Reason.NO_MODEL_FITS)
    room = model.context_tokens - (_output(model, request) if wanted is None else wanted)
    if not tokens.fits(model, room):
        return InvalidRequest(
            "the prompt is longer than the context of every allowed model",
            reason=Reason.CONTEXT_TOO_LONG,
            field="messages",
        )
    if limits.max_cost is None and limits.max_latency is None:
        return None
    cost, latency = _expected(model, request, tokens)
    if (limits.max_cost is not None and cost > limits.max_cost) or (
        limits.max_latency is not None and latency > limits.max_latency
    ):
        return FailedPrecondition("the model does not satisfy the constraints", reason=Reason.NO_MODEL_FITS)
    return None


def _needed(request: Request, tokens: RequestTokens) -> set[Capability]:
    question = request.question
    needed = set(request.constraints.capabilities)
    if question.tools and question.options.tool_choice != "none":
        needed.add(Capability.TOOLS)
    if tokens.images:
        needed.add(Capability.IMAGES)
    if (question.options.response_format or {}).get("type") == "json_schema":
        needed.add(Capability.JSON_SCHEMA)
    return needed


def _output(model: Model, request: Request) -> int:
    return min(EXPECTED_OUTPUT, request.question.options.max_output_tokens or EXPECTED_OUTPUT, model.max_output_tokens)


def _expected(model: Model, request: Request, tokens: RequestTokens) -> tuple[int, float]:
    """Return the expected cost in nano-USD and the expected seconds."""
    output = _output(model, request)
    usage = Usage(input=tokens.input(model).expected, output=output, estimated=True)
    return price(usage, model).nano_usd, model.latency.expected(output)


def _rank(objective: Objective, model: Model, cost: int, latency: float) -> tuple[float, ...]:
    """Sort key: smaller is better."""
    imprudent = model.quality.tier < PRUDENT_TIER
    match objective:
        case Objective.COST:
            return (imprudent, cost, latency)
        case Objective.LATENCY:
            return (imprudent, latency, cost)
        case Objective.QUALITY:
            return (-model.quality.tier, cost, latency)
