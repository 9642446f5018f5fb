"""A cache and a router that answer nonsense are parts that do not work: the caller's request is not to blame."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.message import Message

from antiphon.cache.v1 import cache_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon.router.v1 import router_pb2
from antiphon_client import AsyncCacheClient, AsyncRouterClient
from services.chassis.auth.values import ANYONE
from services.chassis.errors import Reason, Unavailable
from services.completion.adapters.cache import GrpcCache
from services.completion.adapters.router import GrpcRouter
from services.completion.request import CachePolicy, Question
from services.llm.values import Message as Asked
from services.llm.values import Role, TextPart

SECONDS = 20.0
QUESTION = Question((Asked(Role.USER, (TextPart("Hi"),)),))
NO_ANSWER = llm_pb2.Answer(text="Nobody said why it stopped, nor which model it was.")


@asynccontextmanager
async def answering(message: Message) -> AsyncIterator[str]:
    """Serve one message as the answer to whatever is called."""

    async def answer(_request: bytes, _context: object) -> bytes:
        return message.SerializeToString()

    class Anything(grpc.GenericRpcHandler):
        def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Anything(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_a_hit_whose_answer_is_none_is_the_caches_fault() -> None:
    hit = cache_pb2.LookupResponse(outcome=cache_pb2.OUTCOME_EXACT, answer=NO_ANSWER)
    async with answering(hit) as address, AsyncCacheClient(address) as client:
        with pytest.raises(Unavailable) as caught:
            await GrpcCache(client).lookup(ANYONE, QUESTION, CachePolicy(), "", timeout=SECONDS)
    assert caught.value.reason is Reason.CACHE_UNAVAILABLE
    assert caught.value.field is None


async def test_a_filled_wait_whose_answer_is_none_is_the_caches_fault() -> None:
    filled = cache_pb2.WaitFillResponse(filled=cache_pb2.FilledAnswer(answer=NO_ANSWER))
    async with answering(filled) as address, AsyncCacheClient(address) as client:
        with pytest.raises(Unavailable) as caught:
            await GrpcCache(client).wait_fill(ANYONE, "lease", "token", timeout=SECONDS)
    assert caught.value.reason is Reason.CACHE_UNAVAILABLE


async def test_a_price_of_no_date_is_the_routers_fault() -> None:
    listed = router_pb2.ListModelsResponse(
        models=[router_pb2.Model(name="small", prices=router_pb2.Prices(price_date="yesterday"))]
    )
    async with answering(listed) as address, AsyncRouterClient(address) as client:
        with pytest.raises(Unavailable) as caught:
            await GrpcRouter(client).list_models(timeout=SECONDS)
    assert caught.value.reason is Reason.ROUTER_UNAVAILABLE
