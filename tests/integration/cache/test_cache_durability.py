"""Nothing acknowledged is lost, nothing deleted comes back, no clear is half done: whatever is killed, and when.

`make campaign-durability KILLS=300 SEED=1` kills more often; a failure prints its seed.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

import pytest

from tests.fakes.openai_server import FakeOpenAI
from tests.integration.cache.durability import Durability

KILLS = int(os.environ.get("DURABILITY_KILLS") or 20)
SEED = os.environ.get("DURABILITY_SEED")

SLOWEST = 60
"""Seconds for one kill, with the start of both processes, that the timeout allows for; a guard, not a promise."""


@pytest.mark.timeout(120 + KILLS * SLOWEST)
async def test_kills_lose_nothing_acknowledged_and_bring_nothing_back(tmp_path: Path) -> None:
    seed = int(SEED) if SEED else secrets.randbelow(2**32)
    print(f"DURABILITY_SEED={seed}")
    async with FakeOpenAI.start() as remote:
        result = await Durability(tmp_path, seed, remote).run(KILLS)
    serving = sorted(result.serving)
    figures = {
        "kills": result.kills,
        "acknowledged": result.acknowledged,
        "checked": result.checked,
        "clears": result.clears,
        "imported": result.imported,
        "changes of the embedder": result.embedders,
        "lost or back": 0,
        "seconds to SERVING": {"median": serving[len(serving) // 2], "worst": serving[-1]},
    }
    print(json.dumps(figures))
    assert result.acknowledged > KILLS, "there was something to lose"
    assert result.imported
    assert result.embedders
