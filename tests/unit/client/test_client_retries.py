"""What is called again, by the channel or by the client, and what is not, so that no answer is bought twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon_client import errors
from antiphon_client._repeat import FIRST_PAUSE, LONGEST_PAUSE, Repeats
from antiphon_client._service_config import default_timeouts, packaged, service_config
from antiphon_client.streams import Event
from tests.faults.proxy import Proxy
from tests.unit.client.completion_server import GUARD, Caller, Scripted, answer, breaks, fails, serving, stays

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
WORDS = "one two three"


@pytest.fixture
def service() -> Scripted:
    return Scripted()


@pytest.fixture
async def proxy(service: Scripted) -> AsyncIterator[Proxy]:
    async with serving(service) as address:
        host, _, port = address.rpartition(":")
        async with Proxy.to(host, int(port)) as proxy:
            yield proxy


@pytest.fixture(params=["of a loop", "of a thread"])
def caller(request: pytest.FixtureRequest, proxy: Proxy) -> Caller:
    return Caller(proxy.address, of_a_thread=request.param == "of a thread")


async def test_unavailable_is_tried_again_until_it_is_not(service: Scripted, caller: Caller) -> None:
    service.steps += [fails(UNAVAILABLE), fails(UNAVAILABLE)]
    assert await caller.complete("hello") == "hello!"
    assert service.calls == 3


@pytest.mark.parametrize("right", ["no", "", 0, 1])
async def test_feedback_is_not_taken_of_what_is_neither_true_nor_false(
    service: Scripted, caller: Caller, right: object
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as refused:
        await caller.feedback("c", right=right)
    assert set(refused.value.fields) == {"right"}
    assert service.feedback == []


async def test_feedback_says_what_it_was_given_and_is_tried_again(service: Scripted, caller: Caller) -> None:
    assert await caller.feedback("c", right=False, user="ada")
    service.steps += [fails(UNAVAILABLE), fails(UNAVAILABLE)]
    assert not await caller.feedback("c", right=True, source=cache_pb2.FEEDBACK_SOURCE_JUDGE)
    assert len(service.feedback) == 4
    first, *_, last = service.feedback
    assert (first.completion_id, first.verdict, first.user) == ("c", cache_pb2.VERDICT_WRONG, "ada")
    assert (first.source, last.source) == (cache_pb2.FEEDBACK_SOURCE_UNSPECIFIED, cache_pb2.FEEDBACK_SOURCE_JUDGE)
    assert last.verdict == cache_pb2.VERDICT_RIGHT


async def test_three_attempts_are_all(service: Scripted, caller: Caller) -> None:
    service.steps += [fails(UNAVAILABLE)] * 4
    with pytest.raises(errors.UnavailableError):
        await caller.complete("hello")
    assert service.calls == 3


async def test_a_lost_connection_is_tried_again_before_a_model_was_called(
    service: Scripted, caller: Caller, proxy: Proxy
) -> None:
    service.steps.append(breaks(proxy.cut))
    assert await caller.complete("hello") == "hello!"
    assert service.calls == 2


@pytest.mark.fault(87)
async def test_a_lost_connection_is_not_tried_again_once_a_model_was_called(
    service: Scripted, caller: Caller, proxy: Proxy
) -> None:
    """The servers send their initial metadata then; what has response headers is not retried (gRFC A6)."""
    padding = "x" * 4096

    async def headers_then_cut(_service: Scripted, context: grpc.aio.ServicerContext[object, object]) -> None:
        before = proxy.bytes["down"]
        await context.send_initial_metadata((("x-padding", padding),))
        while proxy.bytes["down"] < before + len(padding):  # noqa: ASYNC110 -- the network's state
            await asyncio.sleep(0.005)
        proxy.half_close("server")
        await asyncio.Event().wait()

    service.steps.append(headers_then_cut)
    with pytest.raises(errors.UnavailableError):
        await caller.complete("hello")
    assert service.calls == 1


@pytest.mark.fault(87)
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_server_that_has_bought_an_answer_stops_the_retries(
    service: Scripted, caller: Caller, streamed: bool
) -> None:
    service.steps.append(fails(UNAVAILABLE, pushback=True))
    with pytest.raises(errors.UnavailableError):
        if streamed:
            await caller.stream(WORDS, [])
        else:
            await caller.complete(WORDS)
    assert service.calls == 1


async def test_with_a_key_the_client_asks_again_even_then(service: Scripted, caller: Caller) -> None:
    service.steps += [fails(UNAVAILABLE, pushback=True), fails(UNAVAILABLE, headers=True, retry_after=0.01)]
    assert await caller.complete("hello", idempotency_key="k1") == "hello!"
    assert [each.request.idempotency_key for each in service.requests] == ["k1"] * 3


async def test_other_errors_are_raised_at_once_with_a_key_too(service: Scripted, caller: Caller) -> None:
    service.steps.append(fails(grpc.StatusCode.FAILED_PRECONDITION))
    with pytest.raises(errors.FailedPreconditionError):
        await caller.complete("hello", idempotency_key="k1")
    assert service.calls == 1


async def test_a_server_that_asks_for_more_time_than_there_is_gets_no_second_call(
    service: Scripted, caller: Caller
) -> None:
    service.steps.append(fails(UNAVAILABLE, pushback=True, retry_after=3600.0))
    with pytest.raises(errors.UnavailableError) as caught:
        await caller.complete("hello", idempotency_key="k1", timeout=GUARD)
    assert (caught.value.retry_after, service.calls) == (3600.0, 1)


async def test_the_deadline_holds(service: Scripted, caller: Caller) -> None:
    service.steps.append(stays)
    with pytest.raises(errors.DeadlineExceededError):
        await caller.complete("hello", idempotency_key="k1", timeout=0.2)
    assert service.calls == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_who_runs_out_of_time_learns_why_it_had_to_ask_again(
    service: Scripted, caller: Caller, streamed: bool
) -> None:
    service.steps += [fails(UNAVAILABLE, pushback=True), stays]
    with pytest.raises(errors.DeadlineExceededError, match="the attempt before failed") as caught:
        if streamed:
            await caller.stream(WORDS, [], idempotency_key="k1", timeout=3.0)
        else:
            await caller.complete("hello", idempotency_key="k1", timeout=3.0)
    assert caught.value.metadata["last_reason"] == "SOME_REASON"
    assert service.calls == 2


async def test_a_broken_stream_goes_on_where_it_was_with_a_key(service: Scripted, caller: Caller, proxy: Proxy) -> None:
    events = answer(WORDS)
    got: list[Event] = []
    service.steps.append(breaks(proxy.cut, after=events[:4], until=lambda: len(got) == 4))
    await caller.stream(WORDS, got, idempotency_key="k1", timeout=GUARD)
    assert service.calls == 2
    assert "".join(event.delta.text for event in got) == "one two three "
    assert sum(event.HasField("started") for event in got) == 1
    assert got[-1] == events[-1]


async def test_a_broken_stream_is_incomplete_without_a_key(service: Scripted, caller: Caller, proxy: Proxy) -> None:
    events = answer(WORDS)
    got: list[Event] = []
    service.steps.append(breaks(proxy.cut, after=events[:4], until=lambda: len(got) == 4))
    with pytest.raises(errors.UnavailableError):
        await caller.stream(WORDS, got)
    assert (got, service.calls) == (events[:4], 1)


async def test_another_answer_is_not_glued_to_the_beginning_of_the_first(
    service: Scripted, caller: Caller, proxy: Proxy
) -> None:
    got: list[Event] = []
    other = [Event(delta=completion_pb2.Delta(text="un "), sequence=1)]
    service.steps.append(breaks(proxy.cut, after=other, until=lambda: len(got) == 1))
    with pytest.raises(errors.UnavailableError):
        await caller.stream(WORDS, got, idempotency_key="k1", timeout=GUARD)
    assert [event for event in got if event.HasField("delta")] == other


def test_pauses_grow_to_a_bound_on_top_of_what_the_server_asks() -> None:
    now = 100.0
    repeats = Repeats(1000.0, monotonic=lambda: now, uniform=lambda _low, high: high)
    pauses = [repeats.pause(errors.UnavailableError("x")) for _ in range(8)]
    assert pauses == [FIRST_PAUSE * 2**n for n in range(6)] + [LONGEST_PAUSE] * 2
    assert repeats.pause(errors.UnavailableError("x", retry_after=7.0)) == 7.0 + LONGEST_PAUSE


def test_no_pause_reaches_over_the_deadline() -> None:
    now = 0.0
    repeats = Repeats(10.0, monotonic=lambda: now, uniform=lambda low, _high: low)
    assert repeats.pause(errors.UnavailableError("x", retry_after=9.9)) == 9.9
    assert repeats.pause(errors.UnavailableError("x", retry_after=10.0)) is None
    now = 11.0
    assert (repeats.remaining(), repeats.pause(errors.UnavailableError("x"))) == (0.0, None)


def test_every_method_has_a_timeout_and_only_waiting_and_importing_are_not_retried() -> None:
    retried = {
        f"{name['service']}/{name['method']}": "retryPolicy" in method
        for method in packaged()["methodConfig"]
        for name in method["name"]
    }
    assert set(retried) == set(default_timeouts())
    assert [name.rpartition("/")[2] for name, policy in retried.items() if not policy] == ["WaitFill", "Import"]
    assert '"timeout"' not in service_config()
