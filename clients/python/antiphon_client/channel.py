"""Channels with the limits and keepalive that the servers expect."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import grpc.aio

from antiphon_client._service_config import service_config
from antiphon_client._watched import WatchedChannel
from antiphon_client._watched_sync import WatchedSyncChannel
from antiphon_client.tls import Tls

Options = Sequence[tuple[str, int | str]]
"""Channel arguments of gRPC."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""The largest message that the servers send or take; gRPC's own default of 4 MiB is smaller than an answer may be."""

KEEPALIVE_TIME_MS = 30_000
"""A dead connection is found after this and `KEEPALIVE_TIMEOUT_MS`; the servers allow pings every 10 s."""

KEEPALIVE_TIMEOUT_MS = 10_000

OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    # A ping has a timeout of its own, of a minute, and the later of the two counts.
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.max_pings_without_data", 0),
    # A restarted server is found again within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # New addresses of a name are seen soon after a server has gone; gRPC's own 30 s is longer than a rolling update.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
)
"""For a channel to one server that is called whatever its health, as health checks are."""


def calling_options() -> Options:
    """`OPTIONS` with the service config: calls go to servers that are ready, and are repeated where that is safe."""
    return (
        *OPTIONS,
        ("grpc.service_config", service_config()),
        # Nobody who can answer DNS queries decides how calls are made.
        ("grpc.service_config_disable_resolution", 1),
    )


def wrong_target(target: str) -> str:
    """What is wrong with a target of gRPC, in words; empty if nothing is. A name alone would be called at port 443."""
    if target.lower().startswith(("http://", "https://")):
        return "must be host:port, without http://; TLS is a setting of its own"
    return "" if ":" in target else "must be host:port, or another target of gRPC"


def open_channel(target: str, *, tls: Tls | None = None, options: Options | None = None) -> grpc.aio.Channel:
    """Open a channel to `host:port` or another target of gRPC; it connects lazily and reconnects by itself.

    With `tls` it follows the certificate files: calls that begin after a change use the new ones, calls under way are
    not disturbed. `TlsFileError` if a file cannot be used now; later the last usable ones stay in force.
    `options`: those to use instead of `calling_options()`.
    """
    options = calling_options() if options is None else options
    if tls is None:
        return grpc.aio.insecure_channel(target, options=options)
    return WatchedChannel(target, tls, options)


def open_sync_channel(target: str, *, tls: Tls | None = None, options: Options | None = None) -> grpc.Channel:
    """Open a channel for callers without an event loop; otherwise as `open_channel`."""
    options = calling_options() if options is None else options
    if tls is None:
        return grpc.insecure_channel(target, options=options)
    return WatchedSyncChannel(target, tls, options)
