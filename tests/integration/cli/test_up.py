"""`antiphon up` and the commands beside it, as a person uses them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.suite_process import ANTIPHON, GUARD, NAMES, SuiteProcess, environment

Start = Callable[..., SuiteProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[SuiteProcess] = []

    def starter(*arguments: str, state: str = "state", **variables: str) -> SuiteProcess:
        started.append(SuiteProcess(environment(tmp_path / state, **variables), *arguments))
        return started[-1]

    yield starter
    for suite in started:
        suite.close()


def antiphon(suite: SuiteProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command against the suite."""
    return subprocess.run(
        [str(ANTIPHON), *arguments], env=suite.environ, capture_output=True, text=True, timeout=GUARD, check=False
    )


def until(condition: Callable[[], bool]) -> None:
    """Wait for a state."""
    deadline = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < deadline, "the state did not come"
        time.sleep(0.02)


def test_the_demo_shows_every_outcome_and_drains(start: Start) -> None:
    suite = start("--demo", "--exit")
    assert suite.wait() == 0, suite.errors
    said = [line for line in suite.lines if " · " in line]
    assert [line.split()[0] for line in said] == ["MISS", "EXACT", "SEMANTIC", "MISS"]
    assert ["offline-small" in line for line in said] == [True, True, True, False]
    assert "offline-large" in said[-1]
    assert all("$" in line and " ms" in line for line in said)
    assert not any("degraded" in line for line in said)
    assert [line for line in suite.lines if "antiphon key create" in line] == [
        "no credentials: everyone on this machine may call everything; `antiphon key create` makes keys"
    ]
    stopped = [line.split()[0] for line in suite.lines if line.endswith("stopped")]
    assert stopped == ["completion", "router", "cache", "edgestore"]


def test_commands_talk_to_the_suite(start: Start) -> None:
    suite = start()
    suite.wait_for("SERVING")
    first = antiphon(suite, "ask", "How do I bake bread?", "--json", "--namespace", "kitchen")
    assert first.returncode == 0, first.stderr
    info = json.loads(first.stdout)["info"]
    assert info["cache"]["outcome"] == "OUTCOME_MISS"
    assert int(info["cost"]["nano_usd"]) > 0
    again = antiphon(suite, "ask", "How do I bake bread?", "--stream", "--pace", "500", "--namespace", "kitchen")
    assert again.stdout.strip() == json.loads(first.stdout)["answer"]["text"]
    assert "EXACT" in again.stderr
    elsewhere = antiphon(suite, "ask", "How do I bake bread?", "--json", "--namespace", "garage")
    assert json.loads(elsewhere.stdout)["info"]["cache"]["outcome"] == "OUTCOME_MISS"
    fresh = antiphon(suite, "ask", "How do I bake bread?", "--json", "--namespace", "kitchen", "--no-cache")
    assert json.loads(fresh.stdout)["info"]["cache"]["outcome"] == "OUTCOME_BYPASS"
    large = antiphon(suite, "ask", "Hello there", "--json", "--model", "offline-large")
    assert json.loads(large.stdout)["info"]["model"] == "offline-large"

    stats = json.loads(antiphon(suite, "stats", "--json").stdout)
    assert (stats["lookups"]["exact"], stats["lookups"]["miss"]) == ("1", "3")
    assert "entries" in antiphon(suite, "stats").stdout
    assert "would clear 1 entry of kitchen" in antiphon(suite, "clear", "--namespace", "kitchen", "--dry-run").stdout
    assert "cleared 1 entry of kitchen" in antiphon(suite, "clear", "--namespace", "kitchen").stdout
    assert "would clear 0 entries" in antiphon(suite, "clear", "--namespace", "kitchen", "--dry-run").stdout

    wrong = antiphon(suite, "ask", "hello", "--model", "no-such-model")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "UNKNOWN_MODEL" in wrong.stderr
    assert antiphon(suite, "ask", "").returncode == 2
    piped = [str(ANTIPHON), "ask", "-", "--json", "--namespace", "kitchen"]
    for text, code in ((b"How do I bake bread?\n", 0), (b"\xff", 65), (b"", 2)):
        done = subprocess.run(piped, input=text, env=suite.environ, capture_output=True, check=False)
        assert done.returncode == code, done.stderr
        if not code:
            assert "“How do I bake bread?”" in json.loads(done.stdout)["answer"]["text"]
    for arguments in (("--pace", "5"), ("--stream", "--pace", "-1"), ("--stream", "--pace", "10001")):
        assert antiphon(suite, "ask", "hello", *arguments).returncode == 2
    empty = antiphon(suite, "ask", "  ")
    assert empty.returncode == 1
    assert "prompt" in empty.stderr

    suite.process.send_signal(signal.SIGINT)
    assert suite.wait() == 0
    gone = antiphon(suite, "ask", "anybody?")
    assert gone.returncode == 69
    assert "antiphon up" in gone.stderr


def test_a_killed_process_is_started_again_and_nothing_is_lost(start: Start) -> None:
    suite = start()
    suite.wait_for("SERVING")
    assert antiphon(suite, "ask", "How do I bake bread?").returncode == 0
    # A restarted store is where it was: the others need not be told.
    address = suite.address("edgestore")
    for name in NAMES:
        before = suite.pid(name)
        os.kill(before, signal.SIGKILL)
        suite.wait_for(f"{name:<10} killed by SIGKILL")
        suite.wait_for(f"{name:<10} serving")
        assert suite.pid(name) != before
    assert suite.address("edgestore") == address

    def served() -> bool:
        asked = antiphon(suite, "ask", "How do I bake bread?", "--json")
        return asked.returncode == 0 and json.loads(asked.stdout)["info"]["cache"]["outcome"] == "OUTCOME_EXACT"

    until(served)


def test_children_end_when_their_parent_is_killed(start: Start) -> None:
    suite = start()
    suite.wait_for("SERVING")
    children = [psutil.Process(suite.pid(name)) for name in NAMES]
    suite.process.kill()
    until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))


def test_a_state_folder_has_one_suite(start: Start) -> None:
    suite = start()
    suite.wait_for("SERVING")
    second = start()
    assert second.wait() == 78
    assert "ANTIPHON_STATE_DIR" in second.errors
    assert suite.process.poll() is None


@pytest.mark.fault(65)
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ANTIPHON_CACHE_TTL", "hunter2"),
        ("ANTIPHON_CACHE_TLL", "hunter2"),
        ("ANTIPHON_NONSENSE", "hunter2"),
        ("ANTIPHON_LOG_LEVEL", "hunter2"),
    ],
)
def test_a_wrong_setting_names_the_key_and_not_the_value(start: Start, variable: str, value: str) -> None:
    suite = start(**{variable: value})
    assert suite.wait() == 78
    assert variable in suite.errors
    assert value not in suite.errors
    assert value not in "\n".join(suite.lines)


def test_an_address_in_use_is_a_setting_that_is_wrong(start: Start) -> None:
    suite = start()
    suite.wait_for("SERVING")
    second = start(state="other", ANTIPHON_CACHE_LISTEN=suite.address("cache"))
    assert second.wait() == 78
    assert "ANTIPHON_CACHE_LISTEN" in second.errors
