"""What a process tells about itself: Prometheus metrics in its own registry, and JSON log lines.

Nothing here is global: a process makes one `Telemetry` and hands it on. Log lines never hold an exception's text unless
the level is `debug`, since texts of other libraries may quote what they were given; types and code positions suffice to
find a defect.
"""

from __future__ import annotations

import logging
import random
import sys
import traceback
from collections import Counter as Tally
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, BinaryIO

import orjson
import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)

from services.chassis.batched import Batched
from services.chassis.histograms import Histograms
from services.chassis.log_sink import LogSink

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds; from an exact cache hit to a long completion."""

Logger = structlog.typing.FilteringBoundLogger


class RpcMetrics:
    """The metrics of one method, labels looked up once: a look-up costs more than counting."""

    def __init__(self, telemetry: Telemetry, method: str) -> None:
        self._method = method
        self._total = telemetry.rpcs
        self._by_code: dict[str, Counter] = {}
        self._duration = telemetry.rpc_duration.labels(method)
        self._ended = telemetry.ended
        self._in_flight = 0
        telemetry.rpcs_in_flight.labels(method).set_function(lambda: self._in_flight)

    def started(self) -> None:
        """A call began."""
        self._in_flight += 1

    def finished(self, code: str, seconds: float) -> None:
        """A call ended with the status `code` after `seconds`."""
        self._in_flight -= 1
        self._ended.add((self, code, seconds))

    def observe(self, code: str, seconds: float) -> Counter:
        """Take the time of a call that has ended; returns what counts it."""
        self._duration.observe(seconds)
        counter = self._by_code.get(code)
        if counter is None:
            counter = self._by_code[code] = self._total.labels(self._method, code)
        return counter


def _count(ended: Sequence[tuple[RpcMetrics, str, float]]) -> None:
    for counter, calls in Tally(method.observe(code, seconds) for method, code, seconds in ended).items():
        counter.inc(calls)


class Telemetry:
    """Metrics and log of one process."""

    def __init__(
        self,
        service: str,
        *,
        log_level: str = "info",
        log_sample: float = 0.01,
        stream: BinaryIO | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.service = service
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.ended: Batched[tuple[RpcMetrics, str, float]] = Batched(self.registry, _count)
        """Calls with their status and seconds, on their way to the counters below."""
        self.rpcs = Counter("antiphon_rpcs", "Calls served, by status.", ["method", "code"], registry=self.registry)
        self.rpc_duration = Histograms(
            self.registry,
            "antiphon_rpc_duration_seconds",
            "Time from a call's arrival to its status.",
            "method",
            bounds=LATENCY_BUCKETS,
        )
        self.rpcs_in_flight = Gauge(
            "antiphon_rpcs_in_flight", "Calls being served.", ["method"], registry=self.registry
        )
        self.credentials_keys = Gauge(
            "antiphon_credentials_keys", "API keys known, revoked ones included.", registry=self.registry
        )
        self.credentials_reloads = Counter(
            "antiphon_credentials_reloads",
            "Changes of a file with keys: `loaded`, or `kept` what was in use because the new one was wrong.",
            ["file", "result"],
            registry=self.registry,
        )

        self.certificate_reloads = Counter(
            "antiphon_certificate_reloads",
            "Changes of the certificate files: `loaded`, or `kept` the old ones as the new ones cannot be used.",
            ["result"],
            registry=self.registry,
        )
        self.memory_used = Gauge(
            "antiphon_memory_used_share",
            "Working set by the limit of the process's cgroup; from 0.85 on calls are refused. 0 without a limit.",
            registry=self.registry,
        )
        self.sink = LogSink(stream or sys.stderr.buffer)
        Gauge(
            "antiphon_log_lines_dropped", "Log lines dropped since the reader was stuck.", registry=self.registry
        ).set_function(lambda: self.sink.dropped)
        self._methods: dict[str, RpcMetrics] = {}
        self._sample = log_sample
        self._chance = chance
        level = logging.getLevelNamesMapping()[log_level.upper()]
        self._with_texts = level <= logging.DEBUG
        self.log: Logger = structlog.wrap_logger(
            _LineLogger(self.sink),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                self._describe_exception,
                self._render,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            cache_logger_on_first_use=True,
            service=service,
        )

    def method(self, name: str) -> RpcMetrics:
        """The metrics of one method, named `package.Service/Method`; the same for each server of the process."""
        metrics = self._methods.get(name)
        if metrics is None:
            metrics = self._methods[name] = RpcMetrics(self, name)
        return metrics

    def sampled(self) -> bool:
        """Whether this one of the many unremarkable events is to be logged."""
        return self._chance() < self._sample

    def capture_standard_logging(self) -> None:
        """Send the warnings and errors of libraries that use `logging` to this log. For a process's start only."""
        logging.basicConfig(handlers=[_StandardLoggingHandler(self.log, self._with_texts)], level="WARNING", force=True)

    def close(self) -> None:
        """Write what is still queued."""
        self.sink.close()

    def _describe_exception(
        self, _logger: Any, _name: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        error = event.pop("exc_info", None)
        if error is True:
            error = sys.exc_info()[1]
        if isinstance(error, BaseException):
            event["exception"] = describe(error, with_texts=self._with_texts)
        return event

    @staticmethod
    def _render(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> bytes:
        return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS)


def describe(error: BaseException, *, with_texts: bool) -> list[dict[str, Any]]:
    """An exception and its causes, outermost first: type, code positions, and only if asked for its text."""
    described: list[dict[str, Any]] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        kind = type(current)
        frames = traceback.extract_tb(current.__traceback__)
        entry: dict[str, Any] = {
            "type": f"{kind.__module__}.{kind.__qualname__}",
            "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        }
        if with_texts:
            entry["text"] = str(current)
        described.append(entry)
        if isinstance(current, BaseExceptionGroup):
            entry["group"] = [describe(member, with_texts=with_texts) for member in current.exceptions]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return described


class _LineLogger:
    """What structlog calls with a finished line; it has a method per level only because structlog looks for one."""

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink

    def msg(self, line: bytes) -> None:
        self._sink.write(line)

    debug = info = warning = error = critical = msg


class _StandardLoggingHandler(logging.Handler):
    """Passes records of `logging` on. asyncio writes exceptions' texts into its messages, so only first lines pass."""

    def __init__(self, log: Logger, with_texts: bool) -> None:
        super().__init__()
        self._log = log
        self._with_texts = with_texts

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if self._with_texts:
            text = record.getMessage()
        else:
            text = (str(record.msg) if error else record.getMessage()).partition("\n")[0]
        self._log.log(record.levelno, text, logger=record.name, **({"exc_info": error} if error else {}))
