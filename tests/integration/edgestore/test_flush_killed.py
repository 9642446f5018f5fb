"""A kill in the middle of a flush loses nothing that was acknowledged, also of writes that had a condition."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

from tests.integration.edgestore.flushing import IDS, Flushing, Versions

KILLS = 15
WRITES = 60
"""Acknowledged in each round before its kill."""

LONGEST_SECONDS = 0.02
"""From then to the kill, at most: some flushes."""


def test_a_kill_in_the_middle_of_a_flush_loses_no_conditional_write(tmp_path: Path) -> None:
    expected: Versions = dict.fromkeys(IDS)
    tried: Versions = {}
    tidied = 0
    for round_ in range(KILLS + 1):
        found, acknowledged, trying, times = written_until_killed(tmp_path, seed=round_)
        wrong = {
            id_: (found[id_], ver) for id_, ver in expected.items() if found[id_] not in {ver, tried.get(id_, ver)}
        }
        assert not wrong, f"round {round_}: found and acknowledged"
        expected, tried = found | acknowledged, trying
        tidied += times
    assert tidied > 0


def written_until_killed(folder: Path, *, seed: int) -> tuple[Versions, Versions, Versions, int]:
    """What was there, what was acknowledged then, what was being written at the kill, and how often it was tidied."""
    chance = random.Random(seed)
    tidied = 0
    said: dict[str, Versions] = {"found": {}, "tried": {}, "acknowledged": {}}
    command = [sys.executable, "-m", Flushing.__module__, str(folder), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for number, line in enumerate(process.stdout):
            if number == 2 * WRITES:
                time.sleep(chance.uniform(0, LONGEST_SECONDS))
                process.kill()  # what it has said until then is read to its end
            if line.endswith("\n"):
                kind, versions = json.loads(line)
                if kind == "tidied":
                    tidied += 1
                    continue
                said[kind] |= versions
                if kind == "acknowledged":
                    said["tried"] = {}
    return said["found"], said["acknowledged"], said["tried"], tidied
