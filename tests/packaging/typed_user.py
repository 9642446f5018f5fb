"""A user's file: what mypy has to know about the installed clients, of both kinds. Checked, never run."""

from __future__ import annotations

from typing import assert_type

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.router.v1 import router_pb2
from antiphon_client import (
    AntiphonError,
    AsyncCacheClient,
    AsyncCompletionClient,
    AsyncRouterClient,
    CacheClient,
    CompletionClient,
    RouterClient,
    Tls,
)
from antiphon_client.errors import ResourceExhaustedError


def read_key() -> str:
    return "key"


async def in_a_loop(target: str) -> str:
    async with AsyncCompletionClient(target, api_key=read_key, tls=Tls(ca_file="ca.pem")) as client:
        response = await client.complete("hello", model="m", namespace="n", idempotency_key="k", timeout=5)
        assert_type(response, completion_pb2.CompleteResponse)
        assert_type(response.answer.text, str)
        request = completion_pb2.CompleteRequest(prompt="hello")
        async with client.stream(request, heartbeat_interval=1.5, metadata=[("x-canary", "yes")]) as stream:
            async for event in stream:
                assert_type(event, completion_pb2.StreamCompleteResponse)
            async for sentence in stream.sentence_stream:
                assert_type(sentence, str)
            async for text in stream.text_stream:
                assert_type(text, str)
            assert_type(stream.finished, completion_pb2.Finished | None)
            assert_type(await stream.final(), completion_pb2.Finished)
        said = await client.submit_feedback("id", right=False, user="ada")
        assert_type(said, completion_pb2.SubmitFeedbackResponse)
    async with AsyncCacheClient(target) as cache:
        assert_type(await cache.get_stats(cache_pb2.GetStatsRequest()), cache_pb2.GetStatsResponse)
    async with AsyncRouterClient(target) as router:
        assert_type(await router.list_models(router_pb2.ListModelsRequest()), router_pb2.ListModelsResponse)
    return response.answer.text


def in_a_thread(target: str) -> float | None:
    try:
        with CompletionClient(target, api_key="key") as client:
            assert_type(client.complete("hello", timeout=5).info.cost.nano_usd, int)
            with client.stream("hello", idempotency_key="k") as stream:
                for event in stream:
                    assert_type(event, completion_pb2.StreamCompleteResponse)
                for sentence in stream.sentence_stream:
                    assert_type(sentence, str)
                for text in stream.text_stream:
                    assert_type(text, str)
                assert_type(stream.final().answer.text, str)
        with CacheClient(target) as cache:
            assert_type(cache.clear(cache_pb2.ClearRequest(namespace="n")).cleared, int)
        with RouterClient(target) as router:
            assert_type(router.list_models(router_pb2.ListModelsRequest()), router_pb2.ListModelsResponse)
    except ResourceExhaustedError as error:
        assert_type(error.retry_after, float | None)
        return error.retry_after
    except AntiphonError as error:
        assert_type(error.hint, str)
    return None


async def mistakes(of_a_loop: AsyncCompletionClient, of_a_thread: CompletionClient) -> None:
    """Unused ignores are errors: mypy finds each of these."""
    await of_a_loop.complete(3)  # type: ignore[arg-type]
    await of_a_loop.complete("hello", modell="m")  # type: ignore[call-arg]
    of_a_thread.complete("hello", timeout="5")  # type: ignore[arg-type]
    print(of_a_thread.stream("hello").finished)  # type: ignore[attr-defined]
    with of_a_thread.stream("hello") as stream:
        print(stream.txt_stream)  # type: ignore[attr-defined]
