"""From `python -m services.<name>` to a running event loop, and to an exit status that tells what happened.

0        the process was asked to stop and did
70       a defect; the log has it (EX_SOFTWARE)
78       a setting is wrong; one line on stderr names it (EX_CONFIG)
128 + n  signal n came before there was anything to drain
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import uvloop

from services.chassis.arenas import share_arenas
from services.chassis.descriptors import raise_limit
from services.chassis.lifetime import Shutdown, watch_parent
from services.chassis.settings import EX_CONFIG, SettingsError, SuiteSettings, load
from services.chassis.telemetry import Telemetry
from services.chassis.watchdog import Watchdog

EX_SOFTWARE = 70

S = TypeVar("S", bound=SuiteSettings)


@dataclass(frozen=True, slots=True)
class Process:
    """What a process's `main` gets besides its settings."""

    service: str
    telemetry: Telemetry
    shutdown: Shutdown
    supervised: bool = False
    """Whether `antiphon up` runs it, which tells a person what concerns the suite as a whole."""


Main = Callable[[S, Process], Coroutine[Any, Any, None]]


def run(main: Main[S], settings_cls: type[S], service: str, *, environ: Mapping[str, str] | None = None) -> int:
    """Load the settings and run `main` until it returns; the result is the exit status.

    A signal before `main` waits for `process.shutdown.requested` cancels it. Only for a process of its own: it takes
    over the signals, logging and limit of open files.
    """
    environ = os.environ if environ is None else environ
    try:
        settings = load(settings_cls, service=service, environ=environ)
        supervised = watch_parent(environ) is not None
    except SettingsError as error:
        return _wrong_setting(service, error)
    raise_limit()
    share_arenas(environ)
    telemetry = Telemetry(service, log_level=settings.log_level, log_sample=settings.log_sample)
    telemetry.capture_standard_logging()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_supervise(main, settings, Process(service, telemetry, Shutdown(), supervised)))
    except SettingsError as error:
        return _wrong_setting(service, error)
    except Exception as error:
        # A setting may turn out to be wrong while other tasks run already.
        wrong = _first_wrong_setting(error)
        if wrong is not None:
            return _wrong_setting(service, wrong)
        telemetry.log.critical("process failed", exc_info=error)
        return EX_SOFTWARE
    finally:
        telemetry.close()


async def _supervise(main: Main[S], settings: S, process: Process) -> int:
    """Run `main` as a task that the first SIGTERM or SIGINT stops; the result is the exit status."""
    shutdown = process.shutdown
    task = asyncio.create_task(main(settings, process), name=process.service)
    broken_off_by: list[int] = []

    def on_signal(number: signal.Signals) -> None:
        process.telemetry.log.info("asked to stop", signal=number.name)
        shutdown.request()
        if not shutdown.awaited:
            broken_off_by.append(number)
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        with Watchdog(process.telemetry).watching(loop):
            await task
    except asyncio.CancelledError:
        if not broken_off_by:
            raise
        return 128 + broken_off_by[0]
    return 0


def _first_wrong_setting(error: BaseException) -> SettingsError | None:
    if isinstance(error, SettingsError):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    return next(filter(None, map(_first_wrong_setting, error.exceptions)), None)


def _wrong_setting(service: str, error: SettingsError) -> int:
    sys.stderr.write(f"antiphon {service}: {error}\n")
    return EX_CONFIG
