"""Seconds as `google.protobuf.Duration`."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration


def write_duration(seconds: float) -> Duration:
    """Write seconds, to the microsecond."""
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1e6))
    return duration


def read_duration(duration: Duration) -> float:
    """Read seconds."""
    return duration.seconds + duration.nanos / 1e9
