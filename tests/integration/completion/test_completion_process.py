"""The completion service as a process of its own, with neither cache nor router: what callers see over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2, completion_pb2_grpc
from antiphon.llm.v1 import llm_pb2
from antiphon_client import AsyncCompletionClient
from antiphon_client.channel import open_channel
from antiphon_client.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    UnavailableError,
    from_rpc_error,
)
from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour, Gate
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.completion.conftest import Start
from tests.integration.completion.processes import ServiceProcess

Sent = completion_pb2.CompleteRequest


@pytest.fixture
def process(start: Start, catalogue: str) -> ServiceProcess:
    return start("completion", ANTIPHON_CATALOGUE=catalogue)


@pytest.fixture
async def channel(process: ServiceProcess) -> AsyncIterator[grpc.aio.Channel]:
    address = await asyncio.to_thread(process.listening)
    async with open_channel(address) as opened:
        yield opened


@pytest.fixture
def client(channel: grpc.aio.Channel) -> AsyncCompletionClient:
    return AsyncCompletionClient(channel=channel)


@pytest.mark.fault(40)
async def test_it_answers_alone_and_says_what_is_missing(client: AsyncCompletionClient, upstream: FakeOpenAI) -> None:
    upstream.default = behaviours.answering("All ", "alone.")
    response = await client.complete(Sent(prompt="Are you there?", request_id="mine"))
    info = response.info
    assert response.answer.text == "All alone."
    assert (info.model, info.request_id) == ("small", "mine")
    assert list(info.degraded) == ["cache_unavailable", "router_unavailable"]
    assert info.cache.outcome == cache_pb2.OUTCOME_BYPASS
    assert info.completion_id
    assert [(a.model, a.upstream, a.result) for a in info.attempts] == [("small", "fake", "OK")]
    assert 0 < info.time_to_first_token.ToNanoseconds() <= info.latency.ToNanoseconds()
    assert (await client.complete("Again?")).info.request_id, "without an id of the caller's one is made"


async def test_the_usage_chunk_without_choices_is_what_is_billed(
    client: AsyncCompletionClient, upstream: FakeOpenAI
) -> None:
    upstream.default = behaviours.answering(
        "x", usage={"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
    )
    info = (await client.complete("Reported?")).info
    assert info.usage == llm_pb2.Usage(input_tokens=11, output_tokens=3)
    assert info.cost.nano_usd == 11 * 1_000 + 3 * 10_000
    upstream.default = behaviours.answering("x", report_usage=False)
    info = (await client.complete("Not reported?")).info
    assert info.usage.estimated
    assert info.cost.nano_usd > 0


async def test_a_stream_names_the_model_with_its_first_content_and_ends_with_the_whole(
    client: AsyncCompletionClient, upstream: FakeOpenAI
) -> None:
    gate = Gate()
    upstream.enqueue(behaviours.answering("One ", "two ", "three.", gate=gate, gate_after=1))
    kinds, text = [], ""
    async with client.stream("Count!") as events:
        async for event in events:
            kinds.append(event.WhichOneof("event"))
            text += event.delta.text
            if text == "One ":
                gate.open.set()
    assert kinds[:2] == ["started", "delta"]
    assert kinds[-1] == "finished"
    assert text == event.finished.answer.text == "One two three."


async def test_an_answer_that_breaks_off_fails_the_stream_after_its_deltas(
    channel: grpc.aio.Channel, upstream: FakeOpenAI
) -> None:
    upstream.default = behaviours.clean_end_after(2, "one ", "two ", "three")
    stub: completion_pb2_grpc.CompletionServiceAsyncStub = completion_pb2_grpc.CompletionServiceStub(channel)
    call = stub.StreamComplete(completion_pb2.StreamCompleteRequest(request=Sent(prompt="Go on!", model="small")))
    text = ""
    with pytest.raises(grpc.RpcError) as caught:
        async for event in call:
            text += event.delta.text
    error = from_rpc_error(caught.value)
    assert isinstance(error, UnavailableError)
    assert error.reason == "UPSTREAM_TRUNCATED"
    assert error.retry_after is not None
    assert text == "one two "
    trailing = dict(await call.trailing_metadata() or ())
    assert trailing["grpc-retry-pushback-ms"] == "-1", "gRPC's own retries would buy a second answer"


async def test_what_is_wrong_is_named_by_its_path_in_the_request_that_was_sent(client: AsyncCompletionClient) -> None:
    wrong = Sent(prompt="Hi", namespace="?")
    with pytest.raises(InvalidArgumentError) as unary:
        await client.complete(wrong)
    assert list(unary.value.fields) == ["namespace"]
    with pytest.raises(InvalidArgumentError) as streamed:
        async with client.stream(wrong) as events:
            await anext(events)
    assert list(streamed.value.fields) == ["request.namespace"]
    with pytest.raises(InvalidArgumentError) as unknown:
        await client.complete(Sent(prompt="Hi", model="smal"))
    assert unknown.value.reason == "UNKNOWN_MODEL"
    assert "small" in unknown.value.message


@pytest.mark.parametrize("interval", [Duration(nanos=999_000_000), Duration(seconds=61), Duration(seconds=-1)])
async def test_a_heartbeat_out_of_bounds_is_refused(channel: grpc.aio.Channel, interval: Duration) -> None:
    stub: completion_pb2_grpc.CompletionServiceAsyncStub = completion_pb2_grpc.CompletionServiceStub(channel)
    request = completion_pb2.StreamCompleteRequest(request=Sent(prompt="Hi"), heartbeat_interval=interval)
    with pytest.raises(grpc.RpcError) as caught:
        await anext(aiter(stub.StreamComplete(request)))
    assert list(from_rpc_error(caught.value).fields) == ["heartbeat_interval"]


async def test_a_stream_without_a_request_is_refused(channel: grpc.aio.Channel) -> None:
    stub: completion_pb2_grpc.CompletionServiceAsyncStub = completion_pb2_grpc.CompletionServiceStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        await anext(aiter(stub.StreamComplete(completion_pb2.StreamCompleteRequest())))
    assert from_rpc_error(caught.value).reason == "MISSING_FIELD"


async def test_a_silent_model_is_bridged_by_heartbeats(channel: grpc.aio.Channel, upstream: FakeOpenAI) -> None:
    gate = Gate()
    upstream.enqueue(Behaviour(gate=gate, gate_after=0))
    stub: completion_pb2_grpc.CompletionServiceAsyncStub = completion_pb2_grpc.CompletionServiceStub(channel)
    request = completion_pb2.StreamCompleteRequest(request=Sent(prompt="Hi"), heartbeat_interval=Duration(seconds=1))
    kinds = []
    async for event in stub.StreamComplete(request):
        kinds.append(event.WhichOneof("event"))
        gate.open.set()
    assert kinds[:2] == ["heartbeat", "started"]
    assert kinds[-1] == "finished"


@pytest.mark.fault(7)
async def test_a_deadline_that_has_all_but_passed_buys_nothing(
    client: AsyncCompletionClient, upstream: FakeOpenAI
) -> None:
    await client.complete("Is the connection up?")
    for seconds in (0.0, 0.001):
        with pytest.raises(DeadlineExceededError):
            await client.complete("Too late?", timeout=seconds)
    await client.complete("Later")
    assert [call.body["messages"][0]["content"] for call in upstream.chat_calls] == ["Is the connection up?", "Later"]


async def test_asked_to_stop_it_finishes_what_it_has_begun(
    client: AsyncCompletionClient, process: ServiceProcess, upstream: FakeOpenAI
) -> None:
    gate = Gate()
    upstream.enqueue(behaviours.answering("To ", "the ", "end.", gate=gate, gate_after=1))
    text = ""
    async with client.stream("Finish?") as events:
        async for event in events:
            text += event.delta.text
            if event.HasField("delta") and not gate.open.is_set():
                process.ask_to_stop()
                gate.open.set()
    assert text == "To the end."
    status, log = await asyncio.to_thread(process.wait)
    assert status == 0, log


async def test_the_pace_of_the_stand_in_is_for_streams_only(start: Start, upstream: FakeOpenAI) -> None:
    process = start("completion", ANTIPHON_OFFLINE_PACE="0.02")
    async with AsyncCompletionClient(await asyncio.to_thread(process.listening)) as client:
        at_once = (await client.complete("Quick?")).info
        async with client.stream("Slow?") as events:
            *_, last = [event async for event in events]
    words = len(last.finished.answer.text.split())
    assert last.finished.info.latency.ToNanoseconds() / 1e9 >= words * 0.02
    assert at_once.latency.ToNanoseconds() < last.finished.info.latency.ToNanoseconds() / 2


def test_a_catalogue_that_cannot_be_read_ends_the_start_with_the_settings_name(start: Start) -> None:
    status, errors = start("completion", ANTIPHON_CATALOGUE="/nowhere/at/all.toml").wait()
    assert status == 78
    assert "ANTIPHON_CATALOGUE" in errors


def test_a_model_whose_servers_key_is_absent_ends_the_start(start: Start, catalogue: str) -> None:
    with Path(catalogue).open("a", encoding="utf-8") as file:
        file.write(
            '[upstreams.locked]\nkind = "openai"\nbase_url = "http://127.0.0.1:9/v1"\napi_key_env = "NO_KEY_HERE"\n'
        )
        file.write(
            '[models.locked]\nupstream = "locked"\ncontext_tokens = 1000\nmax_output_tokens = 100\n'
            'capabilities = ["streaming"]\nprices = { input = "1", output = "1", date = 2026-01-01 }\n'
            'latency = { first_token_seconds = 0.1, tokens_per_second = 50 }\nquality = { tier = "simple" }\n'
        )
    status, errors = start("completion", ANTIPHON_CATALOGUE=catalogue).wait()
    assert status == 78
    assert "NO_KEY_HERE" in errors
