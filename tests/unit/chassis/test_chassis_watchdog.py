"""A loop that stands still is told of, with the place; one that has nothing to do, or gets no time, is not."""

from __future__ import annotations

import asyncio
import io
import time

import pytest

from services.chassis.telemetry import Telemetry
from services.chassis.watchdog import LOOK_SECONDS, QUIET_SECONDS, Clocks, Watchdog

BLOCKED = 0.2
TOLD = 0.7


class Bench:
    """A watchdog on clocks that a test moves."""

    def __init__(self) -> None:
        self.now = self.used = 100.0
        self.log = io.BytesIO()
        self.telemetry = Telemetry("test", stream=self.log)
        clocks = Clocks(lambda: self.now, lambda: self.used)
        self.watchdog = Watchdog(self.telemetry, blocked=BLOCKED, told=TOLD, clocks=clocks)

    def pass_by(self, seconds: float, *, notes: bool, works: float = 0.0) -> None:
        """Let time pass: the loop notes it or not, and the process works for a share of it."""
        for _ in range(round(seconds / LOOK_SECONDS)):
            self.now += LOOK_SECONDS
            self.used += works * LOOK_SECONDS
            if notes:
                self.watchdog.note()
            self.watchdog.look()

    def counted(self, name: str) -> float:
        return self.telemetry.registry.get_sample_value(name) or 0.0

    def lines(self) -> list[bytes]:
        self.telemetry.sink.flush(10)
        return [line for line in self.log.getvalue().splitlines() if b"blocked" in line]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_loop_with_nothing_to_do_is_not_told_of(bench: Bench) -> None:
    bench.pass_by(60, notes=True)
    assert bench.lines() == []
    assert bench.counted("antiphon_loop_blocked_seconds_count") == 0


@pytest.mark.fault(56)
def test_a_short_stand_is_counted_and_not_told_of(bench: Bench) -> None:
    bench.pass_by(1, notes=True)
    bench.pass_by(0.5, notes=False)
    bench.pass_by(1, notes=True)
    assert bench.lines() == []
    assert bench.counted("antiphon_loop_blocked_seconds_count") == 1
    assert bench.counted("antiphon_loop_blocked_seconds_sum") == pytest.approx(0.5 + LOOK_SECONDS)


@pytest.mark.fault(56)
def test_a_loop_that_stands_still_is_told_of_once_and_measured(bench: Bench) -> None:
    bench.pass_by(1, notes=True)
    bench.pass_by(3, notes=False)
    assert len(bench.lines()) == 1
    bench.pass_by(1, notes=True)
    assert bench.counted("antiphon_loop_blocked_seconds_count") == 1
    assert bench.counted("antiphon_loop_blocked_seconds_sum") == pytest.approx(3 + LOOK_SECONDS)
    bench.pass_by(1, notes=False)
    bench.pass_by(QUIET_SECONDS, notes=True)
    assert len(bench.lines()) == 1, "not every one of a series is logged"
    assert bench.counted("antiphon_loop_blocked_seconds_count") == 2
    bench.pass_by(1, notes=False)
    assert len(bench.lines()) == 2


@pytest.mark.fault(56)
@pytest.mark.parametrize(("works", "starved"), [(0.1, 1), (0.9, 0)])
def test_a_process_that_did_not_run_is_not_told_of_as_one_that_held_all_up(
    bench: Bench, works: float, starved: int
) -> None:
    bench.pass_by(1, notes=True)
    bench.now += 5.0
    bench.used += works * 5.0
    bench.watchdog.look()
    assert bench.counted("antiphon_process_starved_total") == starved
    assert len(bench.lines()) == 1 - starved


@pytest.mark.fault(56)
async def test_the_log_names_the_place() -> None:
    log = io.BytesIO()
    telemetry = Telemetry("test", stream=log)
    watchdog = Watchdog(telemetry, blocked=0.05, told=0.3)

    def culprit() -> None:
        while b"event loop blocked" not in log.getvalue():
            time.sleep(0.001)
            telemetry.sink.flush(1)

    with watchdog.watching(asyncio.get_running_loop()):
        culprit()
        while not telemetry.registry.get_sample_value("antiphon_loop_blocked_seconds_count"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert b"culprit" in log.getvalue()
    telemetry.close()
