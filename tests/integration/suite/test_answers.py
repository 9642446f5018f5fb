"""What the whole suite promises about answers: bought once, never crossed, never ruined."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon_client import AntiphonError, AsyncCompletionClient
from services.chassis import runfile
from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour, Gate
from tests.fakes.openai_server import FakeOpenAI
from tests.suite_process import SuiteProcess, free_ports

QUESTION = "How do I reset my password?"
REWORDED = "How can I reset my password?"
MISS, EXACT, SEMANTIC = cache_pb2.OUTCOME_MISS, cache_pb2.OUTCOME_EXACT, cache_pb2.OUTCOME_SEMANTIC


def user(text: str) -> llm_pb2.Message:
    return llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text=text)])


def system(text: str) -> llm_pb2.Message:
    return llm_pb2.Message(role=llm_pb2.ROLE_SYSTEM, parts=[llm_pb2.ContentPart(text=text)])


def request(prompt: str = QUESTION, **fields: object) -> completion_pb2.CompleteRequest:
    return completion_pb2.CompleteRequest(prompt=prompt, **fields)


def outcomes(responses: Sequence[completion_pb2.CompleteResponse]) -> list[int]:
    return [response.info.cache.outcome for response in responses]


async def test_a_thousand_equal_questions_at_once_are_one_call(suite: SuiteProcess, upstream: FakeOpenAI) -> None:
    upstream.default = Behaviour(delay_first=1.0)
    async with AsyncCompletionClient(suite.address("completion")) as client:
        responses = await asyncio.gather(*(client.complete(request()) for _ in range(1_000)))
    assert len(upstream.chat_calls) == 1
    assert len({response.answer.text for response in responses}) == 1
    paid = [response for response in responses if response.info.cost.nano_usd]
    assert len(paid) == 1, "exactly one request pays"
    others = [response for response in responses if not response.info.cost.nano_usd]
    assert {r.info.served_from.cost_saved.nano_usd for r in others} == {paid[0].info.cost.nano_usd}


async def test_two_completion_processes_buy_at_most_two(
    suite: SuiteProcess, upstream: FakeOpenAI, tmp_path: Path
) -> None:
    upstream.default = Behaviour(delay_first=1.0)
    state = tmp_path / "second"
    second = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.completion",
        env={
            **suite.environ,
            "ANTIPHON_STATE_DIR": str(state),
            "ANTIPHON_CACHE_TARGET": suite.address("cache"),
            "ANTIPHON_ROUTER_TARGET": suite.address("router"),
            "ANTIPHON_COMPLETION_LISTEN": f"127.0.0.1:{free_ports(1)[0]}",
        },
    )
    try:
        async with asyncio.timeout(30):
            while (found := runfile.read(state, "completion")) is None:  # noqa: ASYNC110 -- a file has no event
                await asyncio.sleep(0.02)
        async with (
            AsyncCompletionClient(suite.address("completion")) as first,
            AsyncCompletionClient(found.address) as other,
        ):
            responses = await asyncio.gather(
                *((first if number % 2 else other).complete(request()) for number in range(1_000))
            )
    finally:
        second.terminate()
        await second.wait()
    assert 1 <= len(upstream.chat_calls) <= 2
    assert {response.answer.text for response in responses} == {responses[0].answer.text}


async def test_no_answer_crosses_a_scope(suite: SuiteProcess, upstream: FakeOpenAI) -> None:
    tool = llm_pb2.Tool(name="look_up", description="looks things up")
    scopes = [
        {"prompt": QUESTION},
        {"prompt": QUESTION, "namespace": "other"},
        {"prompt": QUESTION, "model": "small"},
        {"prompt": QUESTION, "model": "large"},
        {"prompt": QUESTION, "tools": [tool]},
        {"prompt": QUESTION, "options": llm_pb2.GenerationOptions(temperature=0.5)},
        {"messages": [system("Answer in French."), user(QUESTION)]},
        {"messages": [system("Answer in German."), user(QUESTION)]},
    ]
    async with AsyncCompletionClient(suite.address("completion")) as client:
        for number, fields in enumerate(scopes, 1):
            first = await client.complete(completion_pb2.CompleteRequest(**fields))
            assert first.info.cache.outcome == MISS, fields
            assert len(upstream.chat_calls) == number
        for fields in scopes:
            again = await client.complete(completion_pb2.CompleteRequest(**fields))
            assert again.info.cache.outcome == EXACT, fields
            reworded: dict[str, Any] = {**fields}
            if "prompt" in fields:
                reworded["prompt"] = REWORDED
            else:
                reworded["messages"] = [fields["messages"][0], user(REWORDED)]
            assert (await client.complete(completion_pb2.CompleteRequest(**reworded))).info.cache.outcome == SEMANTIC
        assert len(upstream.chat_calls) == len(scopes)


async def test_a_tool_result_is_never_served_by_likeness(suite: SuiteProcess, upstream: FakeOpenAI) -> None:
    def conversation(result: str) -> completion_pb2.CompleteRequest:
        return completion_pb2.CompleteRequest(
            messages=[
                user("What is the weather in Oslo?"),
                llm_pb2.Message(
                    role=llm_pb2.ROLE_ASSISTANT, tool_calls=[llm_pb2.ToolCall(id="1", name="weather", arguments="{}")]
                ),
                llm_pb2.Message(role=llm_pb2.ROLE_TOOL, tool_call_id="1", parts=[llm_pb2.ContentPart(text=result)]),
            ]
        )

    async with AsyncCompletionClient(suite.address("completion")) as client:
        results = ["It is 20 degrees in Oslo now", "It is 21 degrees in Oslo now", "It is 20 degrees in Oslo now"]
        responses = [await client.complete(conversation(result)) for result in results]
    assert outcomes(responses) == [MISS, MISS, EXACT]
    assert len(upstream.chat_calls) == 2


@pytest.mark.parametrize(
    "ruined",
    [
        behaviours.cut_after(2),
        behaviours.clean_end_after(2),
        behaviours.error_after(2),
        behaviours.status(500),
        behaviours.html(),
        behaviours.answering("cut short", finish_reason="length"),
        behaviours.answering("", finish_reason="stop"),
        Behaviour(tokens=("half ",), finish_reason="content_filter"),
    ],
    ids=["cut", "clean end", "error in stream", "500", "html", "length", "empty", "filtered"],
)
async def test_a_ruined_answer_is_not_in_the_cache(
    suite: SuiteProcess, upstream: FakeOpenAI, ruined: Behaviour
) -> None:
    upstream.enqueue(ruined)
    wanted = request(model="small", attempts=completion_pb2.AttemptPolicy(max_tries=1))
    async with AsyncCompletionClient(suite.address("completion")) as client:
        try:
            first = await client.complete(wanted)
        except AntiphonError as error:
            assert error.reason
        else:
            assert first.answer.finish_reason != llm_pb2.FINISH_REASON_STOP or not first.answer.text
        assert len(upstream.chat_calls) == 1
        second = await client.complete(wanted)
        third = await client.complete(wanted)
    assert outcomes([second, third]) == [MISS, EXACT]
    assert len(upstream.chat_calls) == 2


@pytest.mark.fault(8)
async def test_the_model_stops_when_the_last_listener_leaves(suite: SuiteProcess, upstream: FakeOpenAI) -> None:
    gate = Gate()
    upstream.enqueue(Behaviour(tokens=("one ", "two ", "three"), gate=gate, gate_after=1))
    wanted = request()
    async with AsyncCompletionClient(suite.address("completion")) as client:
        async with client.stream(wanted) as first:
            await until_text(first)
            async with client.stream(wanted) as second:
                await until_text(second)
            # One of two has left: the other still listens.
            await upstream.until(lambda s: s.in_flight == 1)
        await upstream.until(lambda s: s.disconnects == 1)
        after = await client.complete(wanted)
    assert after.info.cache.outcome == MISS, "what was cancelled is not cached"
    assert len(upstream.chat_calls) == 2


async def until_text(events: object) -> None:
    async for event in events:
        if event.HasField("delta"):
            return


async def test_an_explicit_model_is_billed_at_its_own_price(suite: SuiteProcess, upstream: FakeOpenAI) -> None:
    upstream.default = behaviours.answering(
        "ok", usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    )
    async with AsyncCompletionClient(suite.address("completion")) as client:
        small = await client.complete(request(model="small"))
        large = await client.complete(request(model="large"))
        again = await client.complete(request(model="large"))
    # USD per million tokens are nano-USD per thousandth of a token: 7 × 1,000 + 3 × 10,000.
    assert small.info.cost.nano_usd == 7 * 1_000 + 3 * 10_000
    assert large.info.cost.nano_usd == 7 * 100_000 + 3 * 1_000_000
    assert again.info.cost.nano_usd == 0
    assert again.info.served_from.cost_saved.nano_usd == large.info.cost.nano_usd
    assert [call.body["model"] for call in upstream.chat_calls] == ["small", "large"]


@pytest.mark.fault(79)
async def test_equal_questions_share_a_call_while_the_cache_is_too_slow(
    suite: SuiteProcess, upstream: FakeOpenAI
) -> None:
    upstream.default = Behaviour(delay_first=0.5)
    cache = suite.pid("cache")
    os.kill(cache, signal.SIGSTOP)
    try:
        async with AsyncCompletionClient(suite.address("completion")) as client:
            responses = await asyncio.gather(*(client.complete(request()) for _ in range(200)))
    finally:
        os.kill(cache, signal.SIGCONT)
    assert set(outcomes(responses)) == {cache_pb2.OUTCOME_BYPASS}
    assert all(response.info.degraded for response in responses)
    assert len(upstream.chat_calls) == 1


async def test_a_model_that_is_waited_for_holds_up_nobody(suite: SuiteProcess, upstream: FakeOpenAI) -> None:
    gate = Gate()
    upstream.enqueue(Behaviour(gate=gate))
    async with AsyncCompletionClient(suite.address("completion")) as client:
        waiting = asyncio.create_task(client.complete(request("Who waits?")))
        await upstream.until(lambda s: s.in_flight == 1)
        # A call that blocks the loop of the service would keep this one from being read.
        other = await client.complete(request("Who does not?"))
        assert other.info.cache.outcome == MISS
        assert not waiting.done()
        gate.open.set()
        assert (await waiting).answer.text
    assert len(upstream.chat_calls) == 2
