"""Which model is called next, and when."""

from __future__ import annotations

import random
from datetime import date

import pytest

from services.catalogue.values import Latency, Model, Prices, Quality, Tier
from services.chassis.errors import AntiphonError, Exhausted, InvalidRequest, Reason
from services.completion.resilience.plan import Plan, Step
from services.completion.resilience.targets import Event, Targets, TargetTerms
from services.completion.upstreams import failures
from services.completion.upstreams.failures import Complaint

STUMBLE = failures.of_status("up", 500, Complaint())
GONE = failures.unreachable("up")
TIME = 60.0
"""Seconds until the deadline."""


def model(name: str, *, upstream: str = "", context: int = 1_000, first_token: float = 0.1) -> Model:
    return Model(
        name=name,
        upstream=upstream or f"up-{name}",
        upstream_model=name,
        prices=Prices(0, 0, 0, 0, 0, date(2026, 1, 1), "v"),
        latency=Latency(first_token, 100.0),
        quality=Quality(Tier.SIMPLE, {}),
        context_tokens=context,
        max_output_tokens=100,
        capabilities=frozenset(),
    )


class Asked:
    """A plan, its targets, and the time."""

    def __init__(self, *models: Model, tries: int = 3, patience: float = 5.0, targets: Targets | None = None) -> None:
        self.now = 0.0
        self.happened: list[Event] = []
        self.targets = targets or Targets(
            TargetTerms(),
            rng=random.Random(1),
            monotonic=lambda: self.now,
            happened=lambda _upstream, _model, event: self.happened.append(event),
        )
        self.plan = Plan(
            models,
            self.targets,
            tries=tries,
            patience=patience,
            rng=random.Random(1),
            happened=lambda _upstream, _model, event: self.happened.append(event),
        )

    def next(self, remaining: float = TIME) -> Step | None:
        return self.plan.next(self.now, remaining)

    def fail(self, error: AntiphonError, remaining: float = TIME) -> str:
        """Take the next step, let it fail, and return its model's name."""
        step = self.next(remaining)
        assert step is not None
        self.now += step.wait
        permit = step.target.begin(self.now)
        assert permit is not None
        self.plan.began(step)
        step.target.failed(permit, error, began=self.now, now=self.now)
        self.plan.failed(step, error, self.now, remaining)
        return step.model.name


@pytest.mark.parametrize(
    ("errors", "called"),
    [
        ([STUMBLE, STUMBLE, STUMBLE], ["a", "a", "b"]),
        ([GONE, GONE, GONE], ["a", "b", "c"]),
        ([GONE, STUMBLE, GONE], ["a", "b", "c"]),
        ([STUMBLE, GONE, GONE], ["a", "a", "b"]),
    ],
)
def test_a_stumble_is_tried_again_and_the_last_try_is_anothers(errors: list[AntiphonError], called: list[str]) -> None:
    asked = Asked(model("a"), model("b"), model("c"))
    assert [asked.fail(error) for error in errors] == called
    assert asked.next() is None


def test_a_single_model_is_tried_again_whatever_it_was() -> None:
    asked = Asked(model("a"))
    assert [asked.fail(error) for error in (GONE, STUMBLE, GONE)] == ["a", "a", "a"]
    assert asked.next() is None


def test_retries_stop_with_the_budget_and_fallbacks_do_not_draw_on_it() -> None:
    targets = None
    called: list[str] = []
    for _ in range(40):
        asked = Asked(model("a"), model("b"), targets=targets)
        targets = asked.targets
        called.append(asked.fail(STUMBLE))
        called.append(asked.fail(STUMBLE))
        # Their breakers are no part of this.
        for name in ("a", "b"):
            targets.of(model(name))._breaker._results.clear()
            targets.of(model(name))._breaker._close()
    assert called.count("a") <= 40 * 1.1 + 10
    assert called.count("b") >= 25


def test_a_fault_of_the_request_ends_it() -> None:
    asked = Asked(model("a"), model("b"))
    asked.fail(InvalidRequest("wrong", reason=Reason.UPSTREAM_REJECTED))
    assert asked.next() is None


def test_a_refused_key_bars_all_models_of_its_upstream() -> None:
    asked = Asked(model("a", upstream="one"), model("b", upstream="one"), model("c", upstream="two"))
    assert asked.fail(failures.of_status("one", 401, Complaint())) == "a"
    step = asked.next()
    assert step is not None
    assert step.model.name == "c"
    later = Asked(model("b", upstream="one"), targets=asked.targets)
    later.now = asked.now + 59.0
    assert later.next() is None
    assert later.plan.refusals[0].reason is Reason.UPSTREAM_UNAUTHENTICATED
    later.now = asked.now + 61.0
    assert later.next() is not None


def test_a_too_long_prompt_goes_to_larger_models_only() -> None:
    asked = Asked(model("a", context=1_000), model("b", context=1_000), model("c", context=2_000))
    asked.fail(failures.of_status("up", 400, Complaint(("context_length_exceeded",))))
    step = asked.next()
    assert step is not None
    assert step.model.name == "c"


@pytest.mark.parametrize(
    ("seconds", "remaining", "others", "expected"),
    [
        (2.0, TIME, True, "a"),
        (6.0, TIME, True, "b"),  # longer than the plan's patience while another could answer
        (6.0, TIME, False, "a"),
        (6.0, 5.0, False, None),
        (2.0, 1.0, True, "b"),
    ],
)
def test_a_wait_is_waited_for_if_there_is_time(
    seconds: float, remaining: float, others: bool, expected: str | None
) -> None:
    asked = Asked(model("a"), *([model("b")] if others else []))
    asked.fail(Exhausted("busy", reason=Reason.UPSTREAM_RATE_LIMITED, retry_after=seconds), remaining)
    step = asked.next(remaining)
    assert (step.model.name if step is not None else None) == expected
    if step is not None and expected == "a":
        assert seconds <= step.wait < seconds + 0.2


def test_who_comes_while_a_model_is_paused_goes_elsewhere_or_waits_for_it() -> None:
    asked = Asked(model("a"), tries=1)
    asked.fail(Exhausted("busy", reason=Reason.UPSTREAM_RATE_LIMITED, retry_after=3.0))
    elsewhere = Asked(model("a"), model("b"), targets=asked.targets).next()
    assert elsewhere is not None
    assert (elsewhere.model.name, elsewhere.wait) == ("b", 0.0)
    alone = Asked(model("a"), targets=asked.targets).next()
    assert alone is not None
    assert (alone.model.name, alone.wait) == ("a", 3.0)
    assert Asked(model("a"), targets=asked.targets).next(remaining=2.0) is None


def test_an_open_breaker_is_not_waited_for() -> None:
    asked = Asked(model("a"), tries=1)
    targets = asked.targets
    for _ in range(5):
        Asked(model("a"), tries=1, targets=targets).fail(GONE)
    later = Asked(model("a"), targets=targets)
    assert later.next() is None
    (refusal,) = later.plan.refusals
    assert refusal.reason is Reason.UPSTREAM_UNAVAILABLE
    assert 0.8 <= (refusal.retry_after or 0) <= 1.2
    assert Event.OPENED in asked.happened


def test_a_model_leaves_time_for_the_next_unless_it_is_known_to_be_slow() -> None:
    quick, slow = model("a"), model("s", first_token=10.0)
    asked = Asked(quick, model("b"))
    step = asked.next()
    assert step is not None
    assert asked.plan.first_token(step, 30.0, 0.0, 60.0) == 30.0
    assert asked.plan.first_token(step, 30.0, 0.0, 10.0) == 5.0
    alone, patient = Asked(quick), Asked(slow, model("b"))
    for other in (alone, patient):
        only = other.next()
        assert only is not None
        assert other.plan.first_token(only, 30.0, 0.0, 10.0) == 30.0
