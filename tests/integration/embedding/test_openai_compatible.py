"""A remote embedder's answers are checked before they are believed, and its failures are the callers' `Unavailable`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from services.chassis.errors import AntiphonError, FailedPrecondition, InvalidRequest, Reason, Unavailable
from services.embedding import Embedder, EmbeddingSettings, MicroBatcher, create
from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour, Gate
from tests.fakes.openai_server import FakeOpenAI, vector_of

KEY = "sk-test-of-embeddings"
SECRET = "a text that no error may show"


@asynccontextmanager
async def remote(
    server: FakeOpenAI, environ: dict[str, str] | None = None, **settings: object
) -> AsyncIterator[Embedder]:
    made = create(
        EmbeddingSettings.model_validate({"embedder": "openai", "openai_base_url": server.base_url, **settings}),
        environ={"OPENAI_API_KEY": KEY} if environ is None else environ,
    )
    try:
        yield made
    finally:
        await made.aclose()


@pytest.fixture
async def server() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI.start() as running:
        yield running


async def test_vectors_are_the_servers_in_the_order_of_the_texts(server: FakeOpenAI) -> None:
    server.default = Behaviour(vector_fault="reversed")
    async with remote(server) as embedder:
        embedded = await embedder.embed(["one", "two words", "three"])
    expected = np.stack([vector_of(text, 1536) for text in ("one", "two words", "three")])
    np.testing.assert_allclose(embedded.vectors, expected, atol=1e-6)
    assert embedder.identity.dim == 1536
    (call,) = server.embedding_calls
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert "dimensions" not in call.body


async def test_numbers_in_decimal_are_read_as_well_as_base64(server: FakeOpenAI) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [3.0, 4.0]}]
    server.default = Behaviour(body={"object": "list", "model": "small-one", "data": data})
    async with remote(server, openai_model="small-one", dim=2) as embedder:
        embedded = await embedder.embed(["x"])
    np.testing.assert_allclose(embedded.vectors, [[0.6, 0.8]], atol=1e-7)
    assert embedded.tokens == 0


async def test_tokens_are_shared_out_by_length_and_add_up(server: FakeOpenAI) -> None:
    async with remote(server) as embedder:
        embedded = await embedder.embed(["a b c d e f", "g"])
    assert embedded.tokens == 7
    assert embedded.tokens_per_text[0] > embedded.tokens_per_text[1]


async def test_a_shorter_vector_is_asked_for(server: FakeOpenAI) -> None:
    async with remote(server, dim=256) as embedder:
        assert (await embedder.embed(["x"])).vectors.shape == (1, 256)
        shorter = embedder.identity
    assert server.embedding_calls[0].body["dimensions"] == 256
    async with remote(server) as embedder:
        assert embedder.identity.slug != shorter.slug


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(vector_fault="nan"),
        Behaviour(vector_fault="inf"),
        Behaviour(vector_fault="zero"),
        Behaviour(vector_fault="missing"),
        Behaviour(model="another-model"),
        Behaviour(body={"data": "none"}),
        Behaviour(body={"data": [{"index": "0", "embedding": "AAAA"}]}),
        Behaviour(body=b"[]"),
        behaviours.html(),
        behaviours.gzip_bomb(),
        behaviours.rate_limited(7),
        behaviours.out_of_quota(),
        behaviours.status(404),
        behaviours.status(500),
        behaviours.status(503),
    ],
)
async def test_what_is_no_answer_is_unavailable_and_says_nothing_of_the_text(
    server: FakeOpenAI, behaviour: Behaviour
) -> None:
    server.default = behaviour
    async with remote(server) as embedder:
        with pytest.raises(Unavailable) as caught:
            await embedder.embed([SECRET])
        error = caught.value
        assert error.reason is Reason.EMBEDDER_UNAVAILABLE
        assert error.retry_after is None or error.retry_after > 0
        assert SECRET not in repr(error) + str(error.__cause__)
        assert KEY not in repr(error) + str(error.__cause__)
        assert len(server.embedding_calls) == 1, "the embedder retries nothing by itself"
        server.default = Behaviour()
        assert (await embedder.embed(["x"])).vectors.shape == (1, 1536)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (behaviours.status(401), Reason.EMBEDDER_UNAUTHENTICATED),
        (behaviours.status(403), Reason.EMBEDDER_UNAUTHENTICATED),
        (Behaviour(vector_dim=8), Reason.EMBEDDER_DIMENSION),
    ],
)
async def test_what_settings_have_to_mend_has_a_reason_of_its_own(
    server: FakeOpenAI, behaviour: Behaviour, reason: Reason
) -> None:
    server.default = behaviour
    async with remote(server) as embedder:
        with pytest.raises(Unavailable) as caught:
            await embedder.embed([SECRET])
    assert caught.value.reason is reason
    assert SECRET not in repr(caught.value) + str(caught.value.__cause__)
    assert KEY not in repr(caught.value) + str(caught.value.__cause__)


async def test_the_servers_wish_for_a_pause_is_passed_on(server: FakeOpenAI) -> None:
    server.default = behaviours.rate_limited(7)
    async with remote(server) as embedder:
        with pytest.raises(Unavailable) as caught:
            await embedder.embed(["x"])
    assert caught.value.retry_after == 7.0


async def test_a_refused_text_is_the_callers_affair_and_spares_its_neighbours(server: FakeOpenAI) -> None:
    async with remote(server) as embedder:
        server.default = behaviours.context_too_long()
        with pytest.raises(InvalidRequest):
            await embedder.embed(["x"])
        server.default = Behaviour()
        batcher = MicroBatcher(embedder)
        server.enqueue(behaviours.context_too_long(), behaviours.context_too_long())
        tasks = [asyncio.create_task(batcher.embed_one(text)) for text in ("long", "short")]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [InvalidRequest, tuple]
        await batcher.aclose()


async def test_a_text_over_the_limit_is_not_sent_and_not_cut(server: FakeOpenAI) -> None:
    async with remote(server, openai_max_bytes=4) as embedder:
        with pytest.raises(InvalidRequest) as caught:
            await embedder.embed(["ééé"])
        assert caught.value.reason is Reason.CONTEXT_TOO_LONG
        await embedder.embed(["éé"])
    assert len(server.embedding_calls) == 1


async def test_a_redirect_is_not_followed(server: FakeOpenAI) -> None:
    async with FakeOpenAI.start() as elsewhere, remote(server) as embedder:
        server.default = behaviours.redirect(f"{elsewhere.base_url}/embeddings")
        with pytest.raises(Unavailable):
            await embedder.embed([SECRET])
        assert elsewhere.calls == []


async def test_a_silent_server_costs_no_more_than_the_timeout(server: FakeOpenAI) -> None:
    server.default = Behaviour(gate=Gate())
    async with remote(server, openai_timeout=0.05) as embedder:
        with pytest.raises(Unavailable):
            await embedder.embed(["x"])
        await server.until(lambda s: s.disconnects == 1)


async def test_an_endless_drip_costs_no_more_than_the_timeout(server: FakeOpenAI) -> None:
    """Each byte comes in time; only all of them never do."""
    left = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            left.set()
        finally:
            writer.close()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as slow:
        host, port = slow.sockets[0].getsockname()
        async with remote(server, openai_base_url=f"http://{host}:{port}/v1", openai_timeout=0.2) as embedder:
            async with asyncio.timeout(10):
                with pytest.raises(Unavailable):
                    await embedder.embed(["x"])
                await left.wait()


async def test_a_right_answer_in_an_oversize_body_is_not_read_to_its_end(server: FakeOpenAI) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [3.0, 4.0]}]
    answer = json.dumps({"object": "list", "model": "small-one", "data": data}).encode()
    async with remote(server, openai_model="small-one", dim=2) as embedder:
        server.default = Behaviour(body=answer + b" " * (1 << 19))
        await embedder.embed(["x"])
        server.default = Behaviour(body=answer + b" " * (2 << 20))
        with pytest.raises(Unavailable, match="more than"):
            await embedder.embed(["x"])


async def test_a_cancelled_call_closes_its_connection(server: FakeOpenAI) -> None:
    gate = Gate()
    server.default = Behaviour(gate=gate)
    async with remote(server) as embedder:
        batcher = MicroBatcher(embedder)
        caller = asyncio.create_task(batcher.embed_one("x"))
        await gate.reached.wait()
        caller.cancel()
        await server.until(lambda s: s.disconnects == 1)
        await batcher.aclose()


async def test_nobody_listens(server: FakeOpenAI) -> None:
    async with remote(server, openai_base_url="http://127.0.0.1:9/v1") as embedder:
        await embedder.warm()
        with pytest.raises(Unavailable):
            await embedder.embed(["x"])


async def test_a_server_without_keys_gets_none(server: FakeOpenAI) -> None:
    async with remote(server, environ={}) as embedder:
        await embedder.embed(["x"])
    assert "authorization" not in server.embedding_calls[0].headers


async def test_the_sdks_own_variable_names_the_server(server: FakeOpenAI) -> None:
    environ = {"OPENAI_BASE_URL": server.base_url, "MY_KEY": KEY}
    async with remote(server, environ=environ, openai_base_url=None, openai_api_key_env="MY_KEY") as embedder:
        await embedder.embed(["x"])
    assert server.embedding_calls[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("settings", "environ", "named"),
    [
        ({}, {}, "OPENAI_API_KEY"),
        ({"openai_model": "bge-m3"}, {"OPENAI_API_KEY": KEY}, "ANTIPHON_EMBEDDING_DIM"),
    ],
)
def test_what_is_missing_is_named_at_the_start(settings: dict[str, str], environ: dict[str, str], named: str) -> None:
    with pytest.raises(FailedPrecondition, match=named) as caught:
        create(EmbeddingSettings.model_validate({"embedder": "openai", **settings}), environ=environ)
    assert isinstance(caught.value, AntiphonError)
    assert KEY not in str(caught.value)


async def test_two_servers_do_not_share_vectors(server: FakeOpenAI) -> None:
    async with FakeOpenAI.start() as other, remote(server) as one, remote(other) as two:
        assert one.identity.slug != two.identity.slug
