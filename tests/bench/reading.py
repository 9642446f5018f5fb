"""What completion costs per token of a stream, per miss and per replay, and how soon a cancel reaches the model.

`python -m tests.bench.reading`, and a part of `make bench`. The readers run in this process, in turn: the openai SDK's
raw response, its typed chunks, and ours from the bytes to the serialised messages of a stream. Then the whole suite.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, aclosing
from pathlib import Path

import openai

from antiphon_client import AsyncCompletionClient
from services.chassis.deadline import Deadline
from services.completion.proto.stream import StreamWriter
from services.completion.request import CacheMode, CachePolicy
from services.completion.streaming.signs import Called
from tests.bench.measure import Body, Line, measure
from tests.bench.peers.asking import BYPASS, CACHED, Ours, prompt
from tests.bench.peers.processes import antiphon, family, upstream
from tests.fakes.behaviours import Behaviour, Gate
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.attempts.world import world
from tests.suite_process import SuiteProcess, environment, two_models
from tests.unit.completion.completion_parts import ask

ROUNDS = 5
LONG = 500
"""Tokens of a stream, so that the call itself counts little."""

STREAMS = 16
KINDS = {"one token per segment": "burst", "5 tokens per segment": "five"}
READERS = ("SDK, raw", "SDK, typed", "antiphon, to the messages")
MOST_RAW, MOST_TYPED = 2.5, 0.3
"""What ours may cost, as multiples of the SDK's raw and of its typed reader."""

CANCELS = 100
"""Of each phase, one at a time."""

Read = Callable[[int], Awaitable[None]]


async def _readers(url: str, stack: AsyncExitStack) -> dict[str, Read]:
    """The three readers of one kind of stream; each takes the number of its question."""
    sdk = await stack.enter_async_context(openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0))
    service = (await stack.enter_async_context(world(primary_url=url))).service

    async def raw(number: int) -> None:
        async with sdk.chat.completions.with_streaming_response.create(
            model="small", messages=[{"role": "user", "content": prompt(number)}], stream=True
        ) as response:
            async for _ in response.iter_bytes():
                pass

    async def typed(number: int) -> None:
        tokens = 0
        async for chunk in await sdk.chat.completions.create(
            model="small", messages=[{"role": "user", "content": prompt(number)}], stream=True
        ):
            tokens += bool(chunk.choices and chunk.choices[0].delta.content)
        assert tokens == LONG

    async def ours(number: int) -> None:
        writer, text = StreamWriter("completion"), ""
        request = ask(prompt(number), policy=CachePolicy(mode=CacheMode.BYPASS))
        with service.fills.join(request, Deadline.after(60), streaming=True) as listener:
            async with aclosing(listener.events(15)) as events:
                async for event in events:
                    if not isinstance(event, Called):
                        message = writer.write(event)
                        message.SerializeToString()
                        text += message.delta.text
        assert text == "word " * LONG

    return dict(zip(READERS, (raw, typed, ours), strict=True))


async def reading(rounds: int) -> dict[str, dict[str, float]]:
    """CPU microseconds of this process per token, by kind and reader; minimum of interleaved rounds."""
    best: dict[str, dict[str, float]] = {kind: dict.fromkeys(READERS, float("inf")) for kind in KINDS}
    with upstream() as base_url:
        root = base_url.removesuffix("/v1")
        for kind, name in KINDS.items():
            async with AsyncExitStack() as stack:
                readers = await _readers(f"{root}/{name}/{LONG}/v1", stack)
                for _ in range(rounds):
                    for reader, read in readers.items():
                        before = time.process_time()
                        for number in range(STREAMS):
                            await read(number)
                        used = (time.process_time() - before) / (STREAMS * LONG) * 1e6
                        best[kind][reader] = min(best[kind][reader], used)
    return best


async def calling(rounds: int) -> list[Line]:
    """CPU of the suite's processes for a miss, and for what the cache has, whole and streamed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base_url = stack.enter_context(upstream())
        suite = stack.enter_context(antiphon(folder / "antiphon", base_url))
        async with AsyncCompletionClient(suite.address("completion")) as client:
            missing, hitting = Ours(client, BYPASS), Ours(client, CACHED)
            apart = Ours(client, CACHED, apart=True)

            def body(side: Ours, *, streamed: bool, same: bool) -> Body:
                async def call(number: int) -> None:
                    await (side.stream if streamed else side.unary)("burst", 0 if same else number)

                return call

            everything, completion = family(suite.process.pid), [suite.pid("completion"), suite.pid("cache")]
            lines = [
                Line(
                    "Complete, cache bypassed, 50 tokens (all)",
                    everything,
                    body(missing, streamed=False, same=False),
                    320,
                ),
                Line(
                    "Complete, miss, 1 KB, 50 tokens (all)", everything, body(apart, streamed=False, same=False), 64, 4
                ),
                Line("Complete, hit (completion + cache)", completion, body(hitting, streamed=False, same=True), 640),
                Line(
                    "StreamComplete, replay (completion + cache)",
                    completion,
                    body(hitting, streamed=True, same=True),
                    640,
                ),
            ]
            await measure(lines, rounds)
    return lines


async def cancelling() -> dict[str, float]:
    """Milliseconds from a caller's cancel to the closed connection at the model's server, 99th percentile by phase."""
    phases = {"unary": (False, 0), "before the first token": (True, 0), "in mid-stream": (True, 2)}
    delays: dict[str, list[float]] = {phase: [] for phase in phases}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        async with FakeOpenAI.start() as server:
            catalogue = two_models(folder, server.base_url)
            suite = SuiteProcess(environment(folder / "state", ANTIPHON_CATALOGUE=str(catalogue)))
            stack.callback(suite.close)
            await asyncio.to_thread(suite.wait_for, "SERVING")
            async with AsyncCompletionClient(suite.address("completion")) as client:
                for number in range(CANCELS):
                    for phase, (streamed, after) in phases.items():
                        delays[phase].append(await _cancelled(server, client, number, streamed, after))
    return {phase: sorted(seen)[int(len(seen) * 0.99) - 1] * 1000 for phase, seen in delays.items()}


async def _cancelled(
    server: FakeOpenAI, client: AsyncCompletionClient, number: int, streamed: bool, after: int
) -> float:
    gate = Gate()
    server.default = Behaviour(tokens=("one ", "two ", "three"), gate=gate, gate_after=after)

    async def stream() -> None:
        async with client.stream(f"{number} {streamed} {after}?") as events:
            await events.final()

    async def unary() -> None:
        await client.complete(f"{number}?")

    asking = asyncio.create_task(stream() if streamed else unary())
    await gate.reached.wait()
    left = time.monotonic()
    asking.cancel()
    await asyncio.wait({asking})
    call = server.chat_calls[-1]
    await call.closed.wait()
    assert call.outcome == "disconnected"
    return (call.ended or left) - left


def show(read: Mapping[str, Mapping[str, float]], lines: list[Line], cancels: Mapping[str, float]) -> dict[str, object]:
    """Print it all; return it for the JSON."""
    print(f"{'reading a stream of 500 tokens, per token':48}{'CPU µs':>10}{'× raw':>9}{'× typed':>10}")
    for kind, readers in read.items():
        raw, typed, _ = readers.values()
        for reader, used in readers.items():
            print(f"{f'{kind}: {reader}':48}{used:10.1f}{used / raw:9.2f}{used / typed:10.2f}")
    print(f"goal: at most {MOST_RAW} × raw and {MOST_TYPED} × typed")
    print(f"{'whole suite':48}{'CPU µs':>10}{'worst':>10}")
    for line in lines:
        print(f"{line.name:48}{line.best:10.0f}{max(line.rounds):10.0f}")
    print(f"{'cancelled: closed at the model, wall clock':48}{'p99 ms':>10}")
    for phase, milliseconds in cancels.items():
        print(f"{phase:48}{milliseconds:10.1f}")
    return {
        "per token": {kind: {name: round(used, 2) for name, used in readers.items()} for kind, readers in read.items()},
        **{line.name: round(line.best) for line in lines},
        "cancel p99, ms": {phase: round(milliseconds, 1) for phase, milliseconds in cancels.items()},
    }


async def measured(rounds: int) -> tuple[dict[str, dict[str, float]], list[Line], dict[str, float]]:
    """Everything that `show` shows."""
    return await reading(rounds), await calling(rounds), await cancelling()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    print(json.dumps(show(*asyncio.run(measured(args.rounds)))))


if __name__ == "__main__":
    main()
