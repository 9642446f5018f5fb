"""The small parts: deadlines, log lines, run files, reasons, places."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from antiphon.errors.v1 import errors_pb2
from services.chassis import errors, runfile
from services.chassis.deadline import Deadline
from services.chassis.door import Door
from services.chassis.limits import Limits
from services.chassis.log_sink import LogSink
from services.chassis.settings_model import dialable
from services.chassis.status import CODES, outcome
from services.chassis.telemetry import Telemetry

SECRET = "the prompt nobody may see"


def test_reasons_are_those_of_the_contract() -> None:
    prefix = "ERROR_REASON_"
    contract = {name.removeprefix(prefix) for name in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name} - {
        "UNSPECIFIED"
    }
    assert contract == {reason.value for reason in errors.Reason}


def test_every_domain_error_has_a_code() -> None:
    assert set(CODES) == set(errors.AntiphonError.__subclasses__())
    assert {outcome(kind("m")).code for kind in CODES} == set(CODES.values())


def test_a_deadline_counts_down_to_zero() -> None:
    now = 100.0
    deadline = Deadline.after(5.0, monotonic=lambda: now)
    assert (deadline.remaining(), deadline.within(2.0), deadline.within(9.0)) == (5.0, 2.0, 5.0)
    assert deadline.earliest(2.0).at == 102.0
    assert deadline.earliest(9.0).at == 105.0
    deadline.check()
    now = 105.0
    assert deadline.passed
    assert deadline.remaining() == 0.0
    with pytest.raises(errors.DeadlineExceeded):
        deadline.check()


def test_places_are_refused_and_given_back() -> None:
    limits = Limits(1, {"waiters": 2})
    assert limits.total == 3
    with limits.group("default"):
        with limits.group("waiters"), limits.group("waiters"):
            pass
        with pytest.raises(errors.Exhausted), limits.group("default"):
            pass
    with limits.group("default"):
        pass
    with pytest.raises(ValueError, match="at least one"):
        Limits(0)


@pytest.mark.parametrize(
    ("listen", "reached"),
    [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("localhost:1", "localhost:1"), ("10.0.0.1:1", "10.0.0.1:1")],
)
def test_a_wildcard_is_dialled_on_loopback(listen: str, reached: str) -> None:
    assert dialable(listen) == reached


# --- the door ---------------------------------------------------------------------------------------------------------


async def test_the_door_holds_calls_until_it_is_opened() -> None:
    door = Door()
    closing = asyncio.create_task(door.close(quiet=0.01, patience=10))
    await asyncio.sleep(0)
    held = [asyncio.create_task(door.hold()) for _ in range(3)]
    await closing
    assert not any(task.done() for task in held)
    door.open()
    await asyncio.gather(*held)
    assert not door.closed


async def test_callers_who_never_fall_quiet_are_not_waited_for_for_long() -> None:
    door = Door()

    async def keep_calling() -> None:
        while True:
            held = asyncio.create_task(door.hold())
            await asyncio.sleep(0)
            held.cancel()

    calling = asyncio.create_task(keep_calling())
    async with asyncio.timeout(10):
        await door.close(quiet=5, patience=0.05)
    calling.cancel()


# --- run files --------------------------------------------------------------------------------------------------------


def test_a_run_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    runfile.write(tmp_path, "cache", now=lambda: 12.5, address="127.0.0.1:1", metrics="127.0.0.1:2")
    assert runfile.read(tmp_path, "cache") == runfile.RunFile(os.getpid(), 12.5, "127.0.0.1:1", "127.0.0.1:2")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["cache.json"]
    runfile.remove(tmp_path, "cache")
    assert runfile.read(tmp_path, "cache") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_run_file_that_is_none_is_as_good_as_absent(tmp_path: Path, content: str) -> None:
    target = runfile.path(tmp_path, "cache")
    target.parent.mkdir()
    target.write_text(content)
    assert runfile.read(tmp_path, "cache") is None


def test_the_run_file_of_a_successor_stays(tmp_path: Path) -> None:
    target = runfile.write(tmp_path, "cache", address="127.0.0.1:1")
    target.write_text(json.dumps({**json.loads(target.read_text()), "pid": os.getpid() + 1}))
    runfile.remove(tmp_path, "cache")
    assert target.exists()


# --- the log ----------------------------------------------------------------------------------------------------------


class Stuck(io.BytesIO):
    """A stream whose reader reads nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.writing = threading.Event()
        self.go_on = threading.Event()

    def write(self, data: Any) -> int:
        self.writing.set()
        assert self.go_on.wait(10)
        return super().write(data)


def test_a_stuck_reader_costs_lines_but_no_time() -> None:
    stream = Stuck()
    sink = LogSink(stream, capacity=3)
    sink.write(b"first")
    assert stream.writing.wait(10)
    for number in range(5):
        sink.write(str(number).encode())
    assert sink.dropped == 2
    assert not sink.flush(0.01)
    stream.go_on.set()
    assert sink.flush(10)
    assert stream.getvalue() == b"first\n0\n1\n2\n"
    sink.close()


def test_a_reader_that_is_gone_is_counted() -> None:
    stream = io.BytesIO()
    stream.close()
    sink = LogSink(stream)
    sink.write(b"lost")
    assert sink.flush(10)
    assert sink.dropped == 1
    sink.close()


def logged(level: str, act: Any) -> list[dict[str, Any]]:
    stream = io.BytesIO()
    telemetry = Telemetry("probe", log_level=level, stream=stream)
    try:
        act(telemetry)
    finally:
        telemetry.close()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail() -> None:
    try:
        dict[str, int]()[SECRET]
    except KeyError as cause:
        raise ValueError(SECRET) from cause


@pytest.mark.parametrize(("level", "shown"), [("info", False), ("debug", True)])
def test_an_exceptions_text_is_only_in_debug_logs(level: str, shown: bool) -> None:
    def act(telemetry: Telemetry) -> None:
        try:
            fail()
        except ValueError as error:
            telemetry.log.error("failed", exc_info=error)  # noqa: TRY400 -- passed, not taken from the context

    (line,) = logged(level, act)
    assert [part["type"] for part in line["exception"]] == ["builtins.ValueError", "builtins.KeyError"]
    assert line["exception"][0]["at"][-1].endswith(" fail")
    assert (SECRET in json.dumps(line)) == shown


def test_lines_below_the_level_are_not_written() -> None:
    def act(telemetry: Telemetry) -> None:
        telemetry.log.info("quiet")
        telemetry.log.warning("loud", n=1)

    (line,) = logged("warning", act)
    assert (line["event"], line["level"], line["service"], line["n"]) == ("loud", "warning", "probe", 1)


def test_warnings_of_libraries_arrive_without_exceptions_texts() -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def act(telemetry: Telemetry) -> None:
        telemetry.capture_standard_logging()
        library = logging.getLogger("library")
        library.info("not this")
        library.warning("took %d ms", 5)
        try:
            fail()
        except ValueError as error:
            library.error(f"Task exception was never retrieved\nfuture: <{error!r}>", exc_info=error)

    try:
        lines = logged("info", act)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert [line["event"] for line in lines] == ["took 5 ms", "Task exception was never retrieved"]
    assert lines[0]["logger"] == "library"
    assert SECRET not in json.dumps(lines)
