"""Serves one registry to Prometheus over HTTP, in a thread, so that a busy event loop can still be watched."""

from __future__ import annotations

import socket
import sys
import threading
import time
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from services.chassis.descriptors import EXHAUSTED
from services.chassis.tls import ServerTls

POLL_SECONDS = 0.1
"""How often the thread looks whether it should stop."""

EXHAUSTED_SECONDS = 0.2
"""Between attempts to accept a connection while the process has no file descriptor left."""


class _Quiet(WSGIRequestHandler):
    timeout = 10  # seconds a scraper may take to send its request

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name in the base class
        """Write nothing: a scrape is no event."""


def _server_class(family: socket.AddressFamily, tls: ServerTls | None) -> type[ThreadingWSGIServer]:
    class Server(ThreadingWSGIServer):
        address_family = family

        def get_request(self) -> tuple[socket.socket, Any]:
            try:
                connection, address = super().get_request()
            except OSError as error:
                if error.errno in EXHAUSTED:
                    # The connection stays in the queue, so without a pause the thread would spin until one is freed.
                    time.sleep(EXHAUSTED_SECONDS)
                raise
            if tls is not None:
                # The handshake is made by the first read, in the connection's own thread.
                connection = tls.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            return connection, address

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Write nothing of a scraper that breaks off or speaks no TLS: that is no event either."""
            if not isinstance(sys.exc_info()[1], OSError):
                super().handle_error(request, client_address)

    return Server


class MetricsEndpoint:
    """Listens from construction to `close`; `OSError` if the address cannot be had. `address` is `host:port`."""

    def __init__(self, registry: CollectorRegistry, listen: str, *, tls: ServerTls | None = None) -> None:
        """HTTPS with `tls`, HTTP without."""
        host, _, port = listen.rpartition(":")
        kind = _server_class(socket.AF_INET6 if host.startswith("[") else socket.AF_INET, tls)
        self._http = make_server(host.strip("[]"), int(port), make_wsgi_app(registry), kind, _Quiet)
        self.address = f"{host}:{self._http.server_port}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(POLL_SECONDS,), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; blocks for up to `POLL_SECONDS`, or `EXHAUSTED_SECONDS` when out of descriptors."""
        self._http.shutdown()
        self._http.server_close()
