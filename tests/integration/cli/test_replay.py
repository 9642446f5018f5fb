"""`antiphon replay` against the whole suite: what was bought once is served from then on, also after SIGKILL."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import pty
import random
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.suite_process import ANTIPHON, GUARD, NAMES, SERVICES, SuiteProcess, environment

PATIENT = {
    "ANTIPHON_COMPLETION_LOOKUP_TIMEOUT": "30",
    "ANTIPHON_COMPLETION_ROUTE_TIMEOUT": "30",
    "ANTIPHON_CACHE_DECISION_BUDGET": "10",
}
"""A machine that is busy with other tests must not make the cache be passed by."""

WORDS = ["harbour", "lantern", "copper", "violin", "meadow", "glacier", "saddle", "orchard", "compass", "velvet"]


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    # At this pace an answer takes about 0.3 s, so that a replay can be interrupted. The ports are free ones, which
    # everybody has to look up.
    listens = {f"ANTIPHON_{name.upper()}_LISTEN": "127.0.0.1:0" for name in SERVICES}
    state = tmp_path_factory.mktemp("replay") / "state"
    return {**environment(state, **PATIENT, ANTIPHON_OFFLINE_PACE="0.005"), **listens}


@pytest.fixture(scope="module")
def suite(environ: dict[str, str]) -> Iterator[SuiteProcess]:
    started = SuiteProcess(environ)
    started.wait_for("SERVING")
    yield started
    started.close()


def write(path: Path, lines: Sequence[dict[str, object]]) -> Path:
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def replay(environ: dict[str, str], *arguments: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ANTIPHON), "replay", *map(str, arguments)],
        env=environ,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )


def summed(environ: dict[str, str], *arguments: object, stdin: str | None = None) -> dict[str, Any]:
    """Replay without an error; return the object of `--json`."""
    done = replay(environ, *arguments, "--json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["errors"] == 0
    return told


def questions(count: int) -> list[dict[str, object]]:
    """Different questions in three namespaces, some with a system message."""
    chance = random.Random(7)
    return [
        {
            "text": f"What does a {' '.join(chance.sample(WORDS, 3))} cost in {1_000 + index}? 价格",
            "namespace": f"shop-{index % 3}",
            **({"system": "Be brief."} if index % 5 == 0 else {}),
        }
        for index in range(count)
    ]


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_was_bought_once_is_served_from_then_on(tmp_path: Path) -> None:
    environ = environment(tmp_path / "state", **PATIENT)
    file = write(tmp_path / "questions.jsonl.gz", questions(150))
    first_suite = SuiteProcess(environ)
    try:
        first_suite.wait_for("SERVING")
        first = summed(environ, file)
        second = summed(environ, file, "--out", tmp_path / "second.jsonl")
        for pid in (first_suite.process.pid, *(first_suite.pid(name) for name in NAMES)):
            os.kill(pid, signal.SIGKILL)
    finally:
        first_suite.close()
    second_suite = SuiteProcess(environ)
    try:
        second_suite.wait_for("SERVING")
        third = summed(environ, file)
    finally:
        second_suite.close()
    assert first["requests"] == 150
    assert first["misses"] > 120
    assert first["misses"] + first["hits_semantic"] == 150
    for again in (second, third):
        assert again["misses"] == 0
        assert again["hits_exact"] == first["misses"]
        assert again["hits_semantic"] == first["hits_semantic"]
        assert again["cost_nano_usd"] == 0
    assert second["saved_nano_usd"] >= first["cost_nano_usd"] > 0
    assert second["hit_p50_ms"] > 0
    assert second["miss_p50_ms"] is None
    written = records(tmp_path / "second.jsonl")
    assert sorted(record["index"] for record in written) == list(range(150))
    for shop in range(3):
        indices = [record["index"] for record in written if record["index"] % 3 == shop]
        assert indices == sorted(indices), "a namespace keeps its order"
    assert {record["outcome"] for record in written} <= {"EXACT", "SEMANTIC"}


def test_a_failed_request_is_counted_and_the_others_go_on(
    suite: SuiteProcess, environ: dict[str, str], tmp_path: Path
) -> None:
    lines = [
        {"text": "How do I bake bread?", "namespace": "errors"},
        {"text": "How do I bake bread?", "namespace": "errors", "model": "no-such-model"},
        {"text": "How do I bake bread?", "namespace": "not a namespace"},
        {"text": "How do I bake bread?", "namespace": "errors"},
    ]
    file = write(tmp_path / "lines.jsonl", lines)
    done = replay(environ, file, "--out", tmp_path / "out.jsonl", "--concurrency", "1")
    assert done.returncode == 1
    assert "INVALID_ARGUMENT UNKNOWN_MODEL" in done.stdout
    assert "INVALID_ARGUMENT INVALID_FIELD" in done.stdout
    assert "name a model of the catalogue" in done.stderr
    by_index = {record["index"]: record for record in records(tmp_path / "out.jsonl")}
    assert [by_index[i]["outcome"] for i in range(4)] == ["MISS", None, None, "EXACT"]
    assert by_index[1]["error"].startswith("INVALID_ARGUMENT UNKNOWN_MODEL: ")
    assert by_index[3]["similarity"] == 1


def test_nothing_is_sent_if_a_line_is_wrong(suite: SuiteProcess, environ: dict[str, str], tmp_path: Path) -> None:
    good = json.dumps({"text": "Is this sent?", "namespace": "unsent"})
    done = replay(environ, "-", "--out", tmp_path / "out.jsonl", stdin=f"{good}\n\nnot json\n{good}\n")
    assert done.returncode == 65
    assert done.stdout == ""
    assert "line 3: is not JSON" in done.stderr
    assert not (tmp_path / "out.jsonl").exists()
    # With a limit that ends before the wrong line, the rest is sent: and it is new.
    told = summed(environ, "-", "--limit", "1", stdin=f"{good}\n\nnot json\n")
    assert (told["requests"], told["misses"]) == (1, 1)


def test_an_empty_file_and_a_limit_of_nothing_are_no_error(
    suite: SuiteProcess, environ: dict[str, str], tmp_path: Path
) -> None:
    empty = write(tmp_path / "empty.jsonl", [])
    some = write(tmp_path / "some.jsonl", [{"text": "one"}])
    assert summed(environ, empty)["requests"] == 0
    assert summed(environ, some, "--limit", "0")["requests"] == 0
    assert replay(environ, empty).returncode == 0


def test_ctrl_c_shows_what_was_done(suite: SuiteProcess, environ: dict[str, str], tmp_path: Path) -> None:
    lines = [{"text": f"What is {index} squared?"} for index in range(1_000)]
    file = write(tmp_path / "lines.jsonl", lines)
    out = tmp_path / "out.jsonl"
    process = subprocess.Popen(
        [str(ANTIPHON), "replay", str(file), "--json", "--out", str(out)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + GUARD
    while not (out.exists() and out.read_text().count("\n")):
        assert time.monotonic() < deadline, "no answer came"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, complained = process.communicate(timeout=GUARD)
    assert process.returncode == 130, complained
    told = json.loads(said)
    assert told["interrupted"] is True
    assert 1 <= told["requests"] < 1_000
    assert told["errors"] == 0
    assert len(records(out)) == told["requests"]


class Terminal:
    """A command in a terminal of 80 columns and 24 lines."""

    def __init__(self, environ: dict[str, str], *arguments: object) -> None:
        self._leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [str(ANTIPHON), *map(str, arguments)],
            env={**environ, "TERM": "xterm-256color"},
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        self.said = ""

    def until(self, text: str) -> None:
        """Read until `text` was written."""
        deadline = time.monotonic() + GUARD
        while text not in self.said:
            assert select.select([self._leader], [], [], max(deadline - time.monotonic(), 0))[0], self.said
            self.said += os.read(self._leader, 65_536).decode(errors="replace")

    def interrupt(self) -> int:
        """Press Ctrl-C; return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        """Read to the end; return the exit code."""
        with suppress(OSError):  # a terminal ends so when the last process has left it
            while part := os.read(self._leader, 65_536):
                self.said += part.decode(errors="replace")
        os.close(self._leader)
        return self.process.wait(GUARD)


def test_a_terminal_gets_a_bar_and_colours_unless_they_are_unwanted(
    suite: SuiteProcess, environ: dict[str, str], tmp_path: Path
) -> None:
    file = write(tmp_path / "lines.jsonl", [{"text": "How do I bake bread?", "namespace": "bars"}] * 3)
    coloured = Terminal(environ, "replay", file)
    assert coloured.end() == 0
    assert "━" in coloured.said
    assert "\x1b[2m" in coloured.said
    plain = Terminal({**environ, "NO_COLOR": "1"}, "replay", file)
    assert plain.end() == 0
    assert "━" not in plain.said
    assert "\x1b[2K" not in plain.said
    assert "requests" in plain.said


def test_watching_in_a_terminal_draws_and_ends_with_ctrl_c(suite: SuiteProcess, environ: dict[str, str]) -> None:
    live = Terminal(environ, "stats", "--watch", "--interval", "0.1")
    live.until("/s")  # the second reading
    assert live.interrupt() == 0
    assert "likeness" in live.said


def test_watching_goes_on_when_the_service_is_restarted(suite: SuiteProcess, environ: dict[str, str]) -> None:
    asked = subprocess.run(
        [str(ANTIPHON), "ask", "Who is there?", "--namespace", "watched"],
        env=environ,
        capture_output=True,
        timeout=GUARD,
        check=True,
    )
    assert asked.stdout
    watching = subprocess.Popen(
        [str(ANTIPHON), "stats", "--watch", "--interval", "0.1", "--namespace", "watched", "--json"],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert watching.stdout is not None
        readings = (json.loads(line) for line in watching.stdout)
        before = next(readings)
        assert before["lookups"]["miss"] == "1"
        os.kill(suite.pid("cache"), signal.SIGKILL)
        after = next(
            reading for reading in readings if reading.get("start_time", before["start_time"]) != before["start_time"]
        )
        assert "miss" not in after["lookups"], "a new process has counted nothing"
        watching.send_signal(signal.SIGINT)
        assert watching.wait(GUARD) == 0
    finally:
        watching.kill()
        watching.communicate()


def test_nobody_there_ends_the_replay_at_once(tmp_path: Path) -> None:
    nowhere = environment(tmp_path / "state")
    done = replay(nowhere, "-", "--json", stdin='{"text": "anybody?"}\n' * 3)
    assert done.returncode == 69
    assert "antiphon up" in done.stderr
    assert json.loads(done.stdout)["requests"] == 1
