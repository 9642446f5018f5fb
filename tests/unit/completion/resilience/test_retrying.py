"""Waits and budgets of retries, and what a failure says about the next try."""

from __future__ import annotations

import random

import pytest

from services.catalogue.values import UpstreamKind, UpstreamSpec
from services.chassis.errors import AntiphonError, Exhausted, FailedPrecondition, InvalidRequest, Reason, Unavailable
from services.completion.resilience.backoff import FIRST_SECONDS, MOST_SECONDS, full_jitter
from services.completion.resilience.policy import AttemptPolicy, Timeouts
from services.completion.resilience.retry_budget import MOST_SAVED, PER_SECOND, RetryBudget
from services.completion.resilience.verdict import Verdict, overloads, verdict_on
from services.completion.upstreams import failures
from services.completion.upstreams.failures import Complaint


def test_waits_are_jittered_from_nothing_to_a_bound_that_doubles() -> None:
    rng = random.Random(1)
    for failure, bound in [(1, FIRST_SECONDS), (2, 2 * FIRST_SECONDS), (3, 4 * FIRST_SECONDS), (500, MOST_SECONDS)]:
        waits = [full_jitter(failure, rng) for _ in range(500)]
        assert 0 <= min(waits) < bound / 10
        assert bound * 9 / 10 < max(waits) <= bound


@pytest.mark.fault(55)
def test_an_upstream_that_always_fails_gets_a_tenth_more_calls_and_no_storm() -> None:
    budget, calls = RetryBudget(0.1, 0.0), 0
    for _ in range(10_000):
        budget.earn()
        calls += 1
        for _ in range(2):
            calls += budget.spend(0.0)
    assert calls <= 10_000 * 1.1 + MOST_SAVED


def test_what_is_saved_up_is_bounded_and_time_alone_brings_a_few() -> None:
    budget = RetryBudget(0.1, 0.0)
    for _ in range(10_000):
        budget.earn()
    assert sum(budget.spend(0.0) for _ in range(100)) == MOST_SAVED
    assert not budget.spend(0.0)
    assert budget.spend(1 / PER_SECOND)
    assert not budget.spend(1 / PER_SECOND)


def test_no_share_is_no_retry() -> None:
    budget = RetryBudget(0.0, 0.0)
    budget.earn()
    assert not budget.spend(1e6)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (failures.of_status("up", 500, Complaint()), Verdict.AGAIN),
        (failures.of_status("up", 503, Complaint()), Verdict.AGAIN),
        (failures.of_status("up", 503, Complaint(), retry_after=1.0), Verdict.LATER),
        (failures.of_status("up", 429, Complaint()), Verdict.LATER),
        (failures.of_status("up", 429, Complaint(("insufficient_quota",))), Verdict.BARRED),
        (failures.of_status("up", 402, Complaint()), Verdict.BARRED),
        (failures.of_status("up", 401, Complaint()), Verdict.BARRED),
        (failures.of_status("up", 403, Complaint()), Verdict.BARRED),
        (failures.of_status("up", 307, Complaint()), Verdict.ELSEWHERE),
        (failures.of_status("up", 404, Complaint()), Verdict.UNKNOWN),
        (failures.of_status("up", 400, Complaint(("context_length_exceeded",))), Verdict.LARGER),
        (failures.of_status("up", 400, Complaint(("content_filter",))), Verdict.FATAL),
        (failures.of_status("up", 400, Complaint()), Verdict.FATAL),
        (failures.malformed("up", "nonsense"), Verdict.AGAIN),
        (failures.oversize("up", "too much"), Verdict.ELSEWHERE),
        (failures.unreachable("up"), Verdict.ELSEWHERE),
        (failures.truncated("up"), Verdict.ELSEWHERE),
        (InvalidRequest("wrong"), Verdict.FATAL),
        (FailedPrecondition("?", reason=Reason.NO_MODEL_FITS), Verdict.FATAL),
    ],
)
def test_verdicts(error: AntiphonError, verdict: Verdict) -> None:
    assert verdict_on(error) is verdict


def test_only_what_lies_with_the_server_counts_against_it() -> None:
    assert {verdict for verdict in Verdict if verdict.unhealthy} == {Verdict.AGAIN, Verdict.ELSEWHERE, Verdict.UNKNOWN}


def test_too_many_calls_show_in_429_503_and_529() -> None:
    assert all(overloads(failures.of_status("up", status, Complaint())) for status in (429, 503, 529))
    assert not overloads(failures.of_status("up", 500, Complaint()))
    assert not overloads(Exhausted("account", metadata={"upstream_code": "insufficient_quota"}))
    assert not overloads(Unavailable("?"))


def test_a_caller_tightens_and_never_loosens() -> None:
    operator = AttemptPolicy(total=60.0, idle=10.0, tries=2, continues=True)
    assert operator.tightened(AttemptPolicy()) == AttemptPolicy(total=60.0, idle=10.0, tries=2)
    wish = AttemptPolicy(total=5.0, connect=1.0, first_token=2.0, idle=99.0, tries=3, continues=True)
    assert operator.tightened(wish) == AttemptPolicy(5.0, 1.0, 2.0, 10.0, 2, continues=True)
    assert not AttemptPolicy(continues=False).tightened(wish).continues


def test_the_tighter_of_policy_and_catalogue_holds() -> None:
    spec = UpstreamSpec("up", UpstreamKind.OPENAI, connect_timeout=5, first_token_timeout=30, idle_timeout=20)
    assert AttemptPolicy().timeouts(spec) == Timeouts(5, 30, 20, 600)
    assert AttemptPolicy(None, 1, 60, 2).timeouts(spec) == Timeouts(1, 30, 2, 600)
