"""What a client waits while another connection floods the same server, beside what it waits when nobody does."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench.measure import Body
from tests.http2_flood import Kind, flood

CALLS = 200
"""Per round and kind at least, one after the other; more if the flood lasts longer."""

FRAMES = 5_000
"""Sent by the one connection; a server ends one that pings too much before."""

KINDS: Sequence[Kind] = ("resets", "pings")


@dataclass
class Latency:
    """Wall-clock microseconds by round."""

    medians: list[float] = field(default_factory=list)
    worst: list[float] = field(default_factory=list)

    def add(self, seconds: Sequence[float]) -> None:
        """Take in the calls of one round."""
        self.medians.append(statistics.median(seconds) * 1e6)
        self.worst.append(max(seconds) * 1e6)


async def beside_a_flood(body: Body, address: str, path: str, rounds: int) -> dict[str, Latency]:
    """Measure `body` idle and beside each kind of flood of `address`, in turn in every round."""
    found: dict[str, Latency] = {name: Latency() for name in ("idle", *KINDS)}
    for _ in range(rounds):
        found["idle"].add(await _calls(body, None))
        for kind in KINDS:
            # From another process: what making the frames costs must not delay the calls that are measured.
            flooding = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.bench.flooded", address, kind, path, stdout=asyncio.subprocess.PIPE
            )
            assert flooding.stdout is not None
            await flooding.stdout.readline()
            found[kind].add(await _calls(body, flooding))
    return found


async def _calls(body: Body, flooding: asyncio.subprocess.Process | None) -> list[float]:
    taken: list[float] = []
    while len(taken) < CALLS or (flooding is not None and flooding.returncode is None):
        began = time.perf_counter()
        await body(len(taken))
        taken.append(time.perf_counter() - began)
    return taken


if __name__ == "__main__":
    sys.stdout.write("flooding\n")
    sys.stdout.flush()
    asyncio.run(flood(sys.argv[1], "resets" if sys.argv[2] == "resets" else "pings", FRAMES, path=sys.argv[3]))
