"""A decision ranks the models that can take a request, the cheapest good enough first, and says why."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalogue.catalogue import Catalogue
from services.catalogue.tokens import TokenCounter
from services.catalogue.values import Capability, Tier
from services.chassis.errors import FailedPrecondition, InvalidRequest, Reason
from services.llm.values import GenerationOptions, ImagePart, Message, Role, TextPart, Tool
from services.router.complexity import ComplexityModel
from services.router.policies.keywords import KeywordPolicy
from services.router.policies.static import StaticPolicy
from services.router.ranking import rank
from services.router.router import Router
from services.router.values import Constraints, Decision, Objective, RouteRequest

HARD = "Design a multi-region architecture for payments, compare the trade-offs and prove its consistency."
EASY = "How do I reset my password?"


def model(name: str, tier: str, usd: str, *, context: int = 8_000, output: int = 2_000, more: str = "") -> str:
    return f"""
[models.{name}]
upstream = "offline"
context_tokens = {context}
max_output_tokens = {output}
{more}
prices = {{ input = "{usd}", output = "{usd}", date = 2026-01-01 }}
quality = {{ tier = "{tier}" }}
"""


THREE = (
    model(
        "large", "complex", "10", context=100_000, more='capabilities = ["streaming", "tools", "images", "json_schema"]'
    )
    + model("middle", "moderate", "3", more='capabilities = ["streaming", "tools"]\naliases = ["mid"]')
    + model("small", "simple", "1", more="latency = { tokens_per_second = 500 }")
    + model("small-dear", "simple", "2")
)


def router(text: str = THREE, default: str = "static") -> Router:
    catalogue = Catalogue.parse(text, {})
    policies = {policy.name: policy for policy in (StaticPolicy(ComplexityModel.packaged()), KeywordPolicy())}
    ids = map(str, itertools.count())
    return Router(catalogue, TokenCounter.for_catalogue(catalogue), policies, default, lambda _: next(ids))


def ask(
    text: str = EASY, *, model: str = "", options: GenerationOptions | None = None, **constraints: object
) -> RouteRequest:
    return RouteRequest(
        (Message(Role.USER, (TextPart(text),)),),
        options=options or GenerationOptions(),
        constraints=Constraints(**constraints),  # type: ignore[arg-type]
        model=model,
    )


def names(decision: Decision) -> list[str]:
    return [candidate.model.name for candidate in decision.candidates]


def test_the_demo_prompts_go_where_they_should() -> None:
    packaged = router("")
    for policy in ("static", "keywords"):
        easy = packaged.route(RouteRequest(ask(EASY).messages, policy=policy))
        hard = packaged.route(RouteRequest(ask(HARD).messages, policy=policy))
        assert (names(easy)[0], easy.complexity) == ("offline-small", Tier.SIMPLE)
        assert (names(hard)[0], hard.complexity) == ("offline-large", Tier.COMPLEX)


def test_the_cheapest_model_that_is_good_enough_comes_first() -> None:
    assert names(router().route(ask(EASY))) == ["small", "small-dear", "middle", "large"]
    assert names(router().route(ask(HARD))) == ["large", "middle", "small", "small-dear"]


def test_objectives() -> None:
    for objective, first in ((Objective.QUALITY, "large"), (Objective.LATENCY, "small"), (Objective.COST, "small")):
        request = RouteRequest(ask(EASY).messages, objective=objective)
        assert names(router().route(request))[0] == first
    # The fastest is not good enough here.
    assert names(router().route(RouteRequest(ask(HARD).messages, objective=Objective.LATENCY)))[0] == "large"


def test_without_a_model_of_the_tier_the_most_able_is_taken_and_said() -> None:
    decision = router().route(ask(HARD, denied_models=("large",)))
    assert names(decision)[0] == "middle"
    assert any("no model of tier complex" in reason for reason in decision.reasons)


def test_every_candidate_carries_what_to_expect() -> None:
    decision = router().route(ask(HARD))
    for candidate in decision.candidates:
        assert candidate.expected_cost.nano_usd > 0
        assert candidate.expected_cost.price_version == candidate.model.prices.version
        assert candidate.expected_latency > 0
        assert candidate.p_correct == candidate.model.quality.p_correct[Tier.COMPLEX]
    assert decision.policy_version.startswith("static/")
    assert decision.reasons


def test_what_the_request_needs_excludes_models_with_a_reason() -> None:
    picture = RouteRequest((Message(Role.USER, (TextPart("what is it?"), ImagePart("https://h/a.png"))),))
    decision = router().route(picture)
    assert names(decision) == ["large"]
    assert "small: lacks images" in decision.reasons
    tools = RouteRequest(ask().messages, tools=(Tool("look"),))
    assert set(names(router().route(tools))) == {"large", "middle"}
    unused = RouteRequest(ask().messages, tools=(Tool("look"),), options=GenerationOptions(tool_choice="none"))
    assert len(names(router().route(unused))) == 4
    schema = GenerationOptions(response_format={"type": "json_schema", "json_schema": {}})
    assert names(router().route(ask(options=schema))) == ["large"]
    assert names(router().route(ask(capabilities=frozenset({Capability.IMAGES})))) == ["large"]


def test_limits_of_output_cost_and_latency() -> None:
    assert names(router(THREE + model("long", "simple", "50", output=5_000)).route(
        ask(options=GenerationOptions(max_output_tokens=3_000))
    )) == ["long"]  # fmt: skip
    cheapest = router().route(ask()).candidates[0].expected_cost.nano_usd
    assert names(router().route(ask(max_cost=cheapest))) == ["small"]
    with pytest.raises(FailedPrecondition, match="cost too much") as failed:
        router().route(ask(max_cost=cheapest - 1))
    assert failed.value.reason is Reason.NO_MODEL_FITS
    assert names(router().route(ask(max_latency=2.0))) == ["small"]
    with pytest.raises(FailedPrecondition, match="too long"):
        router().route(ask(max_latency=0.1))


def test_the_wanted_output_bounds_the_expected_cost() -> None:
    short = router().route(ask(options=GenerationOptions(max_output_tokens=10)))
    assert short.candidates[0].expected_cost.nano_usd < router().route(ask()).candidates[0].expected_cost.nano_usd


def test_lists_of_models_take_names_and_aliases() -> None:
    assert names(router().route(ask(allowed_models=("mid", "large")))) == ["middle", "large"]
    assert "middle" not in names(router().route(ask(denied_models=("mid",))))
    wrong = {"allowed_models": ask(allowed_models=("nobody",)), "denied_models": ask(denied_models=("nobody",))}
    for field, request in wrong.items():
        with pytest.raises(InvalidRequest) as failed:
            router().route(request)
        assert (failed.value.reason, failed.value.field) == (Reason.UNKNOWN_MODEL, f"constraints.{field}")
    with pytest.raises(FailedPrecondition):
        router().route(ask(allowed_models=("small",), denied_models=("small",)))


def test_stand_ins_are_never_chosen_beside_real_models() -> None:
    assert not any(name.startswith("offline") for name in names(router().route(ask())))
    assert names(router().route(ask(allowed_models=("offline-small",)))) == ["offline-small"]
    assert names(router().route(ask(model="offline-small"))) == ["offline-small"]


def test_a_prompt_beyond_a_context_goes_to_a_larger_one() -> None:
    decision = router().route(ask("word " * 20_000))
    assert names(decision) == ["large"]
    assert any("small: context too small" in reason for reason in decision.reasons)


def test_a_prompt_that_fits_only_as_far_as_one_can_tell_is_tight() -> None:
    text = "plain english words here and there " * 850  # expected just below 8,000 tokens less the answer
    decision = router().route(ask(text))
    tight = {candidate.model.name: candidate.tight for candidate in decision.candidates}
    assert tight["small"] and not tight["large"]
    assert names(decision)[0] == "large"
    assert names(router().route(ask(text, denied_models=("large",))))[0] in {"small", "middle", "small-dear"}


def test_a_prompt_beyond_every_context_is_too_long() -> None:
    with pytest.raises(InvalidRequest, match="100000") as failed:
        router().route(ask("word " * 200_000))
    assert (failed.value.reason, failed.value.field) == (Reason.CONTEXT_TOO_LONG, "messages")
    # The larger one could read it, but may not cost as much: the length is not what stands in the way.
    with pytest.raises(FailedPrecondition) as dear:
        router().route(ask("word " * 20_000, max_cost=1))
    assert dear.value.reason is Reason.NO_MODEL_FITS


def test_an_explicit_model_is_the_only_candidate() -> None:
    decision = router().route(ask(HARD, model="mid"))
    assert names(decision) == ["middle"]
    assert decision.complexity is None
    assert names(router().route(ask(EASY, model="auto"))) == names(router().route(ask(EASY)))
    with pytest.raises(InvalidRequest, match="did you mean") as failed:
        router().route(ask(model="smal"))
    assert (failed.value.reason, failed.value.field) == (Reason.UNKNOWN_MODEL, "model")
    with pytest.raises(FailedPrecondition, match="denied"):
        router().route(ask(model="mid", denied_models=("middle",)))
    with pytest.raises(InvalidRequest) as long:
        router().route(ask("word " * 20_000, model="small"))
    assert long.value.reason is Reason.CONTEXT_TOO_LONG


def test_an_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="keywords, static") as failed:
        router().route(RouteRequest(ask().messages, policy="magic"))
    assert failed.value.field == "policy"
    with pytest.raises(ValueError):
        router(default="magic")


def test_errors_do_not_carry_the_prompt() -> None:
    for request in (ask("hunter2 " * 200_000), ask("hunter2", max_cost=1), ask("hunter2", model="nobody")):
        with pytest.raises((InvalidRequest, FailedPrecondition)) as failed:
            router().route(request)
        assert "hunter2" not in failed.value.message


@given(st.sampled_from(Tier), st.sampled_from(Objective), st.permutations(range(4)))
def test_the_order_does_not_depend_on_the_order_of_the_catalogue(
    tier: Tier, objective: Objective, order: list[int]
) -> None:
    candidates = router().route(ask(HARD)).candidates
    shuffled = [candidates[i] for i in order]
    assert rank(shuffled, tier, objective) == rank(candidates, tier, objective)


def test_every_decision_has_its_own_id() -> None:
    one = router()
    assert one.route(ask()).id != one.route(ask()).id
