"""`make bench-peers`: CPU of all our processes beside that of LiteLLM's proxy, on the same upstream; JSON last.

Prompts of 1 KB, answers of 50 tokens. CPU time of each whole process tree per call, minima over interleaved rounds.
Without a cache: ours in mode BYPASS, theirs without one, all prompts different; beside it, what both cost with theirs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import aiohttp

from antiphon_client import AsyncCompletionClient
from tests.bench.crowded import echoing
from tests.bench.measure import Body, Line, measure
from tests.bench.peers.asking import BYPASS, CACHED, Http, Ours, Side, echo, prompt
from tests.bench.peers.processes import KEY, antiphon, family, litellm, upstream
from tests.bench.peers.upstream import TOKENS

ROUNDS = 3
UNARY = 320
STREAMS = 64
STREAMING = 8
"""Streams at once: with 16 LiteLLM's one worker is at its limit, and its tokens no longer come one by one."""

FIRSTS = 60
"""Streams whose first token is timed, one at a time."""

KINDS = ("unary", "stream, paced", "stream, burst")

GOAL = 0.25
"""Of LiteLLM's CPU time, at most."""


def _bodies(side: Side, *, same: bool = False) -> dict[str, Body]:
    """What is measured of one side, by kind. `same`: always the same question."""

    async def unary(number: int) -> None:
        await side.unary("burst", 0 if same else number)

    async def paced(number: int) -> None:
        await side.stream("paced", 0 if same else number)

    async def burst(number: int) -> None:
        await side.stream("burst", 0 if same else number)

    return {"unary": unary, "stream, paced": paced, "stream, burst": burst}


def _lines(name: str, pids: list[int], bodies: Mapping[str, Body], kinds: tuple[str, ...]) -> list[Line]:
    return [
        Line(f"{name}: {kind}", pids, bodies[kind], UNARY)
        if kind == "unary"
        else Line(f"{name}: {kind}", pids, bodies[kind], STREAMS, concurrency=STREAMING)
        for kind in kinds
    ]


async def _first_tokens(sides: Mapping[str, Side]) -> dict[str, float]:
    """Median milliseconds by which each side delays the first token: one stream at a time, in turn."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(1, FIRSTS + 1):
        for name, side in sides.items():
            times[name].append(await side.stream("late", -number))
    floor = statistics.median(times["the models' server"])
    return {name: (statistics.median(seen) - floor) * 1000 for name, seen in times.items()}


async def _run(executable: Path, rounds: int) -> dict[str, object]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base_url = stack.enter_context(upstream())
        echo_address, echo_pid = stack.enter_context(echoing())
        suite = stack.enter_context(antiphon(folder / "antiphon", base_url))
        print("LiteLLM starts, twice …", file=sys.stderr)
        plain = stack.enter_context(litellm(executable, folder / "litellm", base_url, cache=False))
        caching = stack.enter_context(litellm(executable, folder / "litellm-cache", base_url, cache=True))
        async with AsyncExitStack() as clients:
            client = await clients.enter_async_context(AsyncCompletionClient(suite.address("completion")))
            session = await clients.enter_async_context(
                aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"})
            )
            echoed = await clients.enter_async_context(echo(echo_address))

            async def bare(number: int) -> None:
                await echoed(prompt(number).encode())

            bypass, theirs = Ours(client, BYPASS), Http(session, plain.url)
            remembers, they_remember = Ours(client, CACHED), Http(session, caching.url)
            fresh = Ours(client, CACHED, apart=True)
            us, them, them_caching = family(suite.process.pid), family(plain.pid), family(caching.pid)
            misses, hits = ("unary",), ("unary", "stream, burst")
            lines = [
                Line("bare grpc.aio echo", (echo_pid,), bare, 1600),
                *_lines("antiphon", us, _bodies(bypass), KINDS),
                *_lines("litellm", them, _bodies(theirs), KINDS),
                *_lines("antiphon, cache, miss", us, _bodies(fresh), misses),
                *_lines("litellm, cache, miss", them_caching, _bodies(they_remember), misses),
                *_lines("antiphon, cache, hit", us, _bodies(remembers, same=True), hits),
                *_lines("litellm, cache, hit", them_caching, _bodies(they_remember, same=True), hits),
            ]
            await measure(lines, rounds)
            direct = Http(session, base_url)
            firsts = await _first_tokens({"the models' server": direct, "antiphon": bypass, "litellm": theirs})
    return _report(lines, firsts, rounds)


def _report(lines: list[Line], firsts: Mapping[str, float], rounds: int) -> dict[str, object]:
    best = {line.name: line.best for line in lines}
    floor = best["bare grpc.aio echo"]
    print(f"{'':40}{'CPU µs':>10}{'per token':>11}{'× echo':>9}{'worst':>10}")
    for line in lines:
        token = f"{line.best / TOKENS:11.1f}" if "stream" in line.name else f"{'':11}"
        print(f"{line.name:40}{line.best:10.0f}{token}{line.best / floor:9.1f}{max(line.rounds):10.0f}")
    ratios = {kind: best[f"antiphon: {kind}"] / best[f"litellm: {kind}"] for kind in KINDS}
    for kind, ratio in ratios.items():
        print(f"antiphon / litellm, {kind:20}{ratio:10.3f}   goal: at most {GOAL}")
    print("first token later than from the models' server itself, median of one stream at a time:")
    for name, milliseconds in firsts.items():
        print(f"{name:40}{milliseconds:10.1f} ms")
    return {
        "unit": "CPU microseconds per call, minimum of interleaved rounds",
        "rounds": rounds,
        "tokens": TOKENS,
        **{line.name: {"best": round(line.best), "rounds": [round(r) for r in line.rounds]} for line in lines},
        "ratios": {kind: round(ratio, 3) for kind, ratio in ratios.items()},
        "added to the first token, ms": {name: round(milliseconds, 2) for name, milliseconds in firsts.items()},
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--litellm", type=Path, required=True, help="Its executable.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    print(json.dumps(asyncio.run(_run(args.litellm.absolute(), args.rounds))))


if __name__ == "__main__":
    main()
