"""What models' servers do wrong: fallback before content, an error after it, and nothing broken in the cache."""

from __future__ import annotations

import asyncio

import pytest

from services.chassis.errors import (
    AntiphonError,
    DeadlineExceeded,
    Exhausted,
    FailedPrecondition,
    InvalidRequest,
    Reason,
    Unavailable,
)
from services.completion.ports import CallStatus
from services.completion.resilience.policy import MOST_TRIES
from services.completion.upstreams.protocol import RefusalDelta, TextDelta
from services.llm.values import FinishReason, Usage
from tests.unit.completion.completion_parts import Rig, Step, ask, down, rig, words


async def _fails(r: Rig) -> AntiphonError:
    with pytest.raises(AntiphonError) as caught:
        await r.complete()
    await r.settled()
    assert r.cache.commits == []
    assert r.cache.stored == {}
    assert r.cache.open_leases == 0
    return caught.value


@pytest.mark.parametrize(
    "failure",
    [
        down(Reason.UPSTREAM_UNAVAILABLE),
        down(Reason.UPSTREAM_TRUNCATED),
        Exhausted("slow down", reason=Reason.UPSTREAM_RATE_LIMITED),
        Exhausted("too large", reason=Reason.UPSTREAM_MALFORMED),
        FailedPrecondition("key", reason=Reason.UPSTREAM_UNAUTHENTICATED),
        FailedPrecondition("no such model", reason=Reason.UPSTREAM_REJECTED),
        DeadlineExceeded("too slow"),
    ],
)
async def test_before_content_the_next_candidate_is_tried_once(failure: AntiphonError) -> None:
    async with rig() as r:
        r.one.scripts.append([failure])
        answer = (await r.complete()).completed
        assert answer.answer.model == "large"
        assert [(a.model, a.upstream, a.result) for a in answer.attempts] == [
            ("small", "one", failure.reason.value),
            ("large", "two", "OK"),
        ]
        assert (r.one.calls, r.two.calls) == (1, 1)
        await r.settled()
        assert sorted((p.source, p.status, p.model) for p in r.router.reports) == [
            ("completion", CallStatus.OK, "large"),
            ("completion.1", CallStatus.UPSTREAM_ERROR, "small"),
        ]
        assert answer.answer.cost.nano_usd == 10 * 10_000 + 5 * 20_000


@pytest.mark.parametrize(
    "failure",
    [
        InvalidRequest("no", reason=Reason.UPSTREAM_REJECTED, field="options.seed"),
        FailedPrecondition("no", reason=Reason.CONTENT_FILTERED),
    ],
)
async def test_what_is_the_requests_own_fault_is_not_tried_elsewhere(failure: AntiphonError) -> None:
    async with rig() as r:
        r.one.scripts.append([failure])
        error = await _fails(r)
        assert (type(error), error.reason, error.field) == (type(failure), failure.reason, failure.field)
        assert r.calls == 1


async def test_when_all_fail_the_caller_hears_of_the_failure_that_may_pass() -> None:
    async with rig() as r:
        r.one.scripts.append([Exhausted("busy", reason=Reason.UPSTREAM_RATE_LIMITED, retry_after=7.0)])
        r.two.scripts.append([FailedPrecondition("key", reason=Reason.UPSTREAM_UNAUTHENTICATED)])
        error = await _fails(r)
        assert (error.reason, error.retry_after) == (Reason.UPSTREAM_RATE_LIMITED, 7.0)


async def test_an_explicit_model_is_the_only_candidate() -> None:
    async with rig() as r:
        r.two.default = [down()]
        with pytest.raises(Unavailable):
            await r.complete(ask(model="large"))
        assert (r.one.calls, r.two.calls) == (0, MOST_TRIES)


@pytest.mark.parametrize(
    ("ruin", "reason"),
    [
        pytest.param(words("Half an ", finish=None, usage=None), Reason.UPSTREAM_TRUNCATED, id="no finish_reason"),
        pytest.param(
            [*words("Half ", finish=None, usage=None), down(Reason.UPSTREAM_TRUNCATED)],
            Reason.UPSTREAM_TRUNCATED,
            id="cut",
        ),
        pytest.param(
            [*words("Half ", finish=None, usage=None), Exhausted("busy", reason=Reason.UPSTREAM_RATE_LIMITED)],
            Reason.UPSTREAM_TRUNCATED,
            id="error in the stream",
        ),
    ],
)
async def test_after_content_there_is_no_second_attempt_and_nothing_is_cached(ruin: list[Step], reason: Reason) -> None:
    async with rig() as r:
        r.one.scripts.append(ruin)
        error = await _fails(r)
        assert isinstance(error, Unavailable)
        assert error.reason is reason
        written = sum(len(step.text) for step in ruin if isinstance(step, TextDelta))
        assert (error.metadata["offset"], error.metadata["attempts"]) == (str(written), "1")
        assert r.two.calls == 0
        assert [why for _, why in r.cache.aborts] == [reason.value.lower()]
        report = r.router.reports[-1]
        assert (report.status, report.usage.estimated) == (CallStatus.UPSTREAM_ERROR, True)
        assert report.cost.nano_usd > 0


async def test_a_stream_that_ends_at_once_is_tried_elsewhere() -> None:
    async with rig() as r:
        r.one.scripts.append([])
        answer = (await r.complete()).completed
        assert [a.result for a in answer.attempts] == ["UPSTREAM_TRUNCATED", "OK"]


async def test_silence_before_the_first_token_is_tried_elsewhere() -> None:
    async with rig(timeouts="first_token_timeout_seconds = 0.05") as r:
        r.one.scripts.append([asyncio.Event()])
        answer = (await r.complete()).completed
        assert [a.result for a in answer.attempts] == ["UPSTREAM_UNAVAILABLE", "OK"]
        assert r.one.open == 0


async def test_silence_in_the_middle_breaks_off() -> None:
    async with rig(timeouts="idle_timeout_seconds = 0.05") as r:
        r.one.scripts.append([*words("Half ", finish=None, usage=None), asyncio.Event()])
        error = await _fails(r)
        assert error.reason is Reason.UPSTREAM_TRUNCATED
        assert r.one.open == 0


async def test_a_failure_after_the_end_of_the_answer_does_not_spoil_it() -> None:
    async with rig() as r:
        r.one.scripts.append([*words("Whole.", usage=None), down(Reason.UPSTREAM_TRUNCATED)])
        delivered = await r.complete()
        assert delivered.completed.answer.text == "Whole."
        assert delivered.usage.estimated
        assert delivered.cost.nano_usd > 0


async def test_usage_that_is_missing_is_estimated_from_above_and_never_free() -> None:
    async with rig() as r:
        r.one.scripts.append(words("An answer of seven words, it is.", usage=None))
        delivered = await r.complete()
        assert delivered.usage.estimated
        assert delivered.usage.output >= 7
        assert delivered.usage.input >= 5
        assert delivered.cost.nano_usd == delivered.usage.input * 1_000 + delivered.usage.output * 2_000


async def test_an_explicit_model_is_billed_at_its_own_price() -> None:
    async with rig() as r:
        small = await r.complete(ask(model="small"))
        large = await r.complete(ask(model="large"))
        assert small.usage == large.usage == Usage(10, output=5)
        assert small.cost.nano_usd == 20_000
        assert large.cost.nano_usd == 200_000
        assert small.cost.price_version != large.cost.price_version
        assert r.one.requests[0].model == "small-there"
        assert [request.question.model for request, _ in r.router.requests] == ["small", "large"]


@pytest.mark.parametrize("finish", [FinishReason.LENGTH, FinishReason.CONTENT_FILTER])
async def test_a_cut_or_filtered_answer_is_delivered_with_its_reason_and_not_cached(finish: FinishReason) -> None:
    async with rig() as r:
        r.one.scripts.append(words("Part of ", finish=finish))
        delivered = await r.complete()
        assert delivered.completed.answer.finish_reason is finish
        await r.settled()
        assert r.cache.stored == {}
        assert r.cache.open_leases == 0


async def test_what_is_filtered_before_any_content_is_an_error() -> None:
    async with rig() as r:
        r.one.scripts.append(words(finish=FinishReason.CONTENT_FILTER))
        error = await _fails(r)
        assert isinstance(error, FailedPrecondition)
        assert error.reason is Reason.CONTENT_FILTERED
        assert r.calls == 1


async def test_a_refusal_is_delivered_as_one() -> None:
    async with rig() as r:
        r.one.scripts.append([RefusalDelta("I "), RefusalDelta("must not."), *words()])
        delivered = await r.complete()
        assert delivered.completed.answer.refusal == "I must not."
        await r.settled()
        assert r.cache.stored == {}


@pytest.mark.parametrize("text", ["x", "é"])
async def test_an_answer_beyond_the_limit_is_broken_off(text: str) -> None:
    async with rig(answer_limit=1024) as r:
        r.one.scripts.append(words(*[text * 100] * 20))
        error = await _fails(r)
        assert isinstance(error, Exhausted)
        assert r.one.closed_early == 1
        assert r.router.reports[-1].usage.output >= 1024
