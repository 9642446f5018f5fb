"""Serves one registry to Prometheus over HTTP, in a thread, so that a busy event loop can still be watched."""

from __future__ import annotations

import socket
import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

POLL_SECONDS = 0.1
"""How often the thread looks whether it should stop."""


class _Quiet(WSGIRequestHandler):
    timeout = 10  # seconds a scraper may take to send its request

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name in the base class
        """Write nothing: a scrape is no event."""


class _OverIpv6(ThreadingWSGIServer):
    address_family = socket.AF_INET6


class MetricsEndpoint:
    """Listens from construction to `close`; `OSError` if the address cannot be had. `address` is `host:port`."""

    def __init__(self, registry: CollectorRegistry, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        kind = _OverIpv6 if host.startswith("[") else ThreadingWSGIServer
        self._http = make_server(host.strip("[]"), int(port), make_wsgi_app(registry), kind, _Quiet)
        self.address = f"{host}:{self._http.server_port}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(POLL_SECONDS,), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; blocks for up to `POLL_SECONDS`."""
        self._http.shutdown()
        self._http.server_close()
