"""The gRPC server: raw bytes in, token checked, one table from failures to statuses."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, Mapping

import grpc
from google.protobuf.message import DecodeError, Message
from qdrant_client import grpc as pb

from services.chassis.telemetry import Telemetry
from services.edgestore.collections import CollectionsRpcs
from services.edgestore.fields import only
from services.edgestore.points import PointsRpcs
from services.edgestore.refused import RefusedError
from services.edgestore.shards import Shards

TITLE = "antiphon edgestore (a part of Qdrant's API over qdrant-edge; not a Qdrant server)"

_OPTIONS: list[tuple[str, int]] = [
    ("grpc.so_reuseport", 0),  # or a second process could listen on the same port and take half of the calls
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", 256 * 1024 * 1024),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
]

_MOST_CALLS = 1_000
"""Calls at once; more are answered RESOURCE_EXHAUSTED by gRPC itself."""

# The engine raises bare Exceptions; these texts mean that the request is at fault (qdrant-edge 0.9).
_CALLERS_FAULT = (
    "Vector dimension error",
    "Not existing vector name",
    "Validation failed",
    "No range index",
    "Payload type does not match",
    "Wrong input",
)

Method = Callable[..., Message]
Handler = Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[bytes]]


class Server:
    """Serves `shards` at `address` to callers with `token`."""

    def __init__(self, shards: Shards, *, token: str, version: str, telemetry: Telemetry) -> None:
        self._token = token.encode("ascii")
        self._version = version
        self._telemetry = telemetry
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MOST_CALLS)
        self._register("qdrant.Qdrant", {"HealthCheck": (pb.HealthCheckRequest, self._health)}, with_token=False)
        self._register("qdrant.Collections", CollectionsRpcs(shards).methods())
        self._register("qdrant.Points", PointsRpcs(shards).methods())

    async def start(self, address: str) -> int:
        """Serve from now on; returns the port. Raises RuntimeError when the address cannot be bound."""
        port = self._server.add_insecure_port(address)
        await self._server.start()
        return port

    async def stop(self, grace: float) -> None:
        """Take no more calls and let those under way end, for `grace` seconds at most."""
        await self._server.stop(grace)

    def _health(self, request: pb.HealthCheckRequest) -> pb.HealthCheckReply:
        only(request)
        return pb.HealthCheckReply(title=TITLE, version=self._version)

    def _register(
        self, service: str, methods: Mapping[str, tuple[type[Message], Method]], *, with_token: bool = True
    ) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_unary_rpc_method_handler(self._handler(f"{service}/{name}", kind, method, with_token))
            for name, (kind, method) in methods.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    def _handler(self, name: str, kind: type[Message], method: Method, with_token: bool) -> Handler:
        metrics = self._telemetry.method(name)

        async def handle(raw: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            started = time.perf_counter()
            metrics.started()
            body = b""
            refused: RefusedError | None = None
            try:
                if with_token:
                    self._check_token(context)
                response = self._answer(name, kind, method, raw)
                if "time" in response.DESCRIPTOR.fields_by_name:
                    response.time = time.perf_counter() - started  # type: ignore[attr-defined]  # just looked up
                body = response.SerializeToString()
            except RefusedError as error:
                refused = error
            metrics.finished(refused.code.name if refused else "OK", time.perf_counter() - started)
            if refused is not None:
                await context.abort(refused.code, refused.text)
            return body

        return handle

    def _answer(self, name: str, kind: type[Message], method: Method, raw: bytes) -> Message:
        try:
            return method(kind.FromString(raw))
        except RefusedError:
            raise
        except DecodeError:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "the request is malformed") from None
        except ValueError as error:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"Wrong input: {error}") from error
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            # A panic of the engine is a BaseException, which aio would leave unanswered.
            text = str(error)
            if text.startswith(_CALLERS_FAULT):
                raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"Wrong input: {text}") from error
            self._telemetry.log.exception("engine failed", method=name)
            raise RefusedError(grpc.StatusCode.INTERNAL, "the engine failed; see the store's log") from error

    def _check_token(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        for key, value in context.invocation_metadata() or ():
            if key == "api-key":
                given = value if isinstance(value, bytes) else value.encode()
                if hmac.compare_digest(given, self._token):
                    return
        raise RefusedError(grpc.StatusCode.UNAUTHENTICATED, "the metadata `api-key` is absent or wrong")
