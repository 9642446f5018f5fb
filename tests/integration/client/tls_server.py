"""A gRPC server of the tests that speaks TLS and answers with the name in its caller's certificate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from tests.certificates import Authority

UNARY, STREAM = "/test.Tls/Unary", "/test.Tls/Stream"


def _name(context: Any) -> bytes:
    return b",".join(context.auth_context().get("x509_common_name", []))


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, release: asyncio.Event) -> None:
        self._release = release

    def service(self, handler_call_details: Any) -> Any:
        async def unary(_: bytes, context: Any) -> bytes:
            return _name(context)

        async def stream(_: bytes, context: Any) -> AsyncIterator[bytes]:
            yield _name(context)
            await self._release.wait()
            yield _name(context)

        if handler_call_details.method == UNARY:
            return grpc.unary_unary_rpc_method_handler(unary)
        if handler_call_details.method == STREAM:
            return grpc.unary_stream_rpc_method_handler(stream)
        return None  # health checks above all, which clients make by themselves


@asynccontextmanager
async def serving(trusted: Authority) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Its address, and the event that lets streams go on. It demands certificates that `trusted` has signed."""
    release = asyncio.Event()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Handlers(release),))
    own = trusted.issue()
    credentials = grpc.ssl_server_credentials([(own.key, own.cert)], trusted.pem, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}", release
    finally:
        release.set()
        await server.stop(None)
