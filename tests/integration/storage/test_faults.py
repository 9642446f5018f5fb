"""What callers of the adapter see when the store is down, silent, old, or not theirs."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import grpc
import pytest
from qdrant_client import grpc as pb

from services.chassis.errors import FailedPrecondition, Reason, Unavailable
from services.storage import CollectionSpec, Index, IndexKind, Point, Store
from tests.integration.edgestore.store_process import StoreProcess

SPEC = CollectionSpec("entries", 4, indexes=(Index("ns", IndexKind.TENANT),))
ID = "00000000-0000-0000-0000-000000000001"


@asynccontextmanager
async def connected(url: str, key: str | None = None, timeout: float = 5.0) -> AsyncIterator[Store]:
    store = await Store.connect(url, api_key=key, timeout=timeout)
    try:
        yield store
    finally:
        await store.aclose()


@contextmanager
def black_hole() -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@asynccontextmanager
async def qdrant_of_version(version: str) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that answers HealthCheck as Qdrant does; the list has the rpcs it was asked for."""
    asked: list[str] = []

    async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        asked.append("HealthCheck")
        return pb.HealthCheckReply(title="qdrant - vector search engine", version=version).SerializeToString()

    class Anything(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            if details.method.endswith("/HealthCheck"):
                return grpc.unary_unary_rpc_method_handler(answer)
            asked.append(details.method)
            return None

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Anything(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}", asked
    finally:
        await server.stop(None)


async def test_connecting_does_not_need_the_store() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with connected(f"http://127.0.0.1:{port}") as store:
        assert await store.ping() is False
        with pytest.raises(Unavailable) as down:
            await store.ensure(SPEC)
    assert down.value.reason is Reason.STORE_UNAVAILABLE
    assert down.value.retry_after is not None
    assert down.value.retry_after > 0


async def test_a_silent_store_costs_the_timeout_and_no_more() -> None:
    with black_hole() as url:
        async with connected(url, timeout=0.3) as store:
            started = time.monotonic()
            with pytest.raises(Unavailable) as silent:
                await store.ensure(SPEC)
            assert time.monotonic() - started < 3.0
    assert silent.value.reason is Reason.STORE_UNAVAILABLE


async def test_the_callers_own_deadline_comes_through() -> None:
    with black_hole() as url:
        async with connected(url, timeout=30.0) as store:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await store.ensure(SPEC)


async def test_a_store_that_dies_and_returns_is_used_again(process: StoreProcess) -> None:
    process.environ["ANTIPHON_EDGESTORE_LISTEN"] = _free_address()
    process.start()
    async with connected(process.url, process.token) as store:
        collection = await store.ensure(SPEC)
        await collection.upsert([Point(ID, None, {"ns": "a"})], durable=True)
        process.kill()
        with pytest.raises(Unavailable):
            await collection.count()
        assert await store.ping() is False
        process.start()
        async with asyncio.timeout(20):
            while not await store.ping():  # noqa: ASYNC110 the state of another process
                await asyncio.sleep(0.02)
        assert await collection.count() == 1


@pytest.mark.parametrize("key", [None, "wrong"])
async def test_a_wrong_credential_is_a_precondition_and_not_shown(process: StoreProcess, key: str | None) -> None:
    process.start()
    async with connected(process.url, key) as store:
        with pytest.raises(FailedPrecondition) as refused:
            await store.ensure(SPEC)
    assert refused.value.reason is Reason.STORE_MISMATCH
    assert "wrong" not in refused.value.message


@pytest.mark.parametrize("version", ["1.16.3", "1.9.0"])
async def test_a_server_that_would_ignore_conditions_is_refused_before_anything_is_sent(version: str) -> None:
    async with qdrant_of_version(version) as (url, asked), connected(url) as store:
        with pytest.raises(FailedPrecondition) as refused:
            await store.ensure(SPEC)
    assert refused.value.reason is Reason.STORE_MISMATCH
    assert "1.17" in refused.value.message
    assert asked == ["HealthCheck"]


@pytest.mark.parametrize("version", ["1.17.0", "2.0.1"])
async def test_a_new_server_is_asked_further(version: str) -> None:
    async with qdrant_of_version(version) as (url, asked), connected(url) as store:
        with pytest.raises(FailedPrecondition):  # this one has no other rpc
            await store.ensure(SPEC)
    assert "/qdrant.Collections/Get" in asked


@pytest.mark.parametrize(
    "url", ["", "localhost:6334", "ftp://a:1", "http://", "http://user:secret@a:1", "http://a:1/path", "http://a:1?x=1"]
)
async def test_an_url_that_cannot_be_one_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError) as refused:
        await Store.connect(url, api_key=None, timeout=1.0)
    assert "secret" not in str(refused.value)


async def test_errors_name_no_payload(process: StoreProcess) -> None:
    process.start()
    async with connected(process.url, process.token) as store:
        collection = await store.ensure(SPEC)
        with pytest.raises(FailedPrecondition) as refused:
            async for _ in collection.scroll(None, order_by="confidential"):
                pass
    assert "confidential" not in refused.value.message


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"
