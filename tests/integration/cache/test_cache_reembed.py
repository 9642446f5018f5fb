"""`antiphon cache reembed` against the real process: between a local and a remote embedder, through restarts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon.cache.v1 import reembedding_pb2 as reembedding
from antiphon.llm.v1 import llm_pb2 as llm
from antiphon_client import AsyncCacheClient
from antiphon_client.errors import AntiphonError
from services.cache.adapters.disk_queue import DiskQueue
from services.cache.ports import Tombstone
from services.embedding import minilm
from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.cache.cache_process import CacheProcess, until
from tests.integration.edgestore.store_process import StoreProcess
from tests.suite_process import ANTIPHON, GUARD

REMOTE = ("--to", "openai", "--model", "text-embedding-3-small", "--dim", "48")
ASKED = "How do I reset my password?"
REWORDED = "How can I reset my password?"


def query(text: str) -> pb.Query:
    return pb.Query(messages=[llm.Message(role=llm.ROLE_USER, parts=[llm.ContentPart(text=text)])])


async def fill(client: AsyncCacheClient, count: int) -> None:
    for place in range(count):
        text = ASKED if place == 0 else f"question number {place} of many"
        answer = llm.Answer(text=f"answer {place}", finish_reason=llm.FINISH_REASON_STOP, model="m")
        await client.put(pb.PutRequest(query=query(text), answer=answer, durable=True))


async def look(client: AsyncCacheClient, text: str) -> pb.LookupResponse:
    policy = pb.CachePolicy(mode=pb.CACHE_MODE_ONLY_IF_CACHED)
    return await client.lookup(pb.LookupRequest(query=query(text), policy=policy))


def antiphon(cache: CacheProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
    return subprocess.run(
        [str(ANTIPHON), "cache", "reembed", *arguments],
        env={**kept, "ANTIPHON_CACHE_TARGET": cache.address},
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )


async def antiphon_async(cache: CacheProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same, while the fake server of this loop answers."""
    return await asyncio.to_thread(antiphon, cache, *arguments)


@pytest.mark.fault(69)
async def test_the_embedder_is_changed_while_the_cache_serves_and_stays_so(
    start: Callable[..., CacheProcess],
) -> None:
    async with FakeOpenAI.start() as server:
        environ = {"ANTIPHON_EMBEDDING_OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "k"}
        cache = start(**environ).serving()
        async with AsyncCacheClient(cache.address) as client:
            await fill(client, 30)
            assert (await look(client, REWORDED)).outcome == pb.OUTCOME_SEMANTIC
            assert "never changed" in (await antiphon_async(cache, "--status")).stdout

            done = await antiphon_async(cache, *REMOTE, "--share", "1", "--json")
            assert done.returncode == 0, done.stderr
            told = json.loads(done.stdout)
            assert (told["phase"], told["done"], told["total"]) == ("REEMBEDDING_PHASE_SWITCHED", "30", "30")
            found = await look(client, ASKED)
            assert (found.outcome, found.answer.text) == (pb.OUTCOME_EXACT, "answer 0")
            assert (await look(client, REWORDED)).outcome == pb.OUTCOME_MISS, "the fake embedder finds nothing alike"
            seen = await antiphon_async(cache, "--status")
            assert "minilm → text-embedding-3-small: switched, 30 entries" in seen.stdout
            assert "  text-embedding-3-small answers" in seen.stdout
            assert "  settling for less than a minute" in seen.stdout
            as_json = json.loads((await antiphon_async(cache, "--status", "--json")).stdout)
            assert as_json["serving"] == as_json["target"]["embedder"] == told["target"]["embedder"]
            assert (
                "ANTIPHON_EMBEDDING_EMBEDDER=openai ANTIPHON_EMBEDDING_OPENAI_MODEL=text-embedding-3-small"
                in seen.stdout
            )
        assert cache.end() == 0

        for settings in (
            {},
            {
                "ANTIPHON_EMBEDDING_EMBEDDER": "openai",
                "ANTIPHON_EMBEDDING_OPENAI_MODEL": "text-embedding-3-small",
                "ANTIPHON_EMBEDDING_DIM": "48",
            },
        ):
            cache = start(**environ, **settings).serving()
            async with AsyncCacheClient(cache.address) as client:
                state = await client.get_reembedding(reembedding.GetReembeddingRequest())
                assert state.serving == state.reembedding.target.embedder
                assert (await look(client, ASKED)).outcome == pb.OUTCOME_EXACT
                assert (await client.get_stats(pb.GetStatsRequest())).embeddings_waiting == 0
            assert cache.end() == 0


async def test_a_kill_in_the_middle_is_survived_and_what_is_wrong_is_said(start: Callable[..., CacheProcess]) -> None:
    async with FakeOpenAI.start() as server:
        environ = {"ANTIPHON_EMBEDDING_OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "k"}
        cache = start(**environ).serving()
        async with AsyncCacheClient(cache.address) as client:
            await fill(client, 40)
        begun = await antiphon_async(cache, *REMOTE, "--share", "0.02", "--no-wait")
        assert begun.returncode == 0, begun.stderr
        assert "minilm → text-embedding-3-small: embedding" in begun.stdout
        other = await antiphon_async(
            cache, "--to", "openai", "--model", "text-embedding-3-large", "--dim", "16", "--no-wait"
        )
        assert other.returncode == 1
        assert "another change of the embedder is under way" in other.stderr
        assert "REEMBEDDING_PHASE" in other.stderr
        server.default = behaviours.status(503)
        again = await antiphon_async(cache, *REMOTE, "--share", "0.03", "--no-wait", "--json")
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["share"] == 0.03, "it is shown, and goes on so, while its embedder is down"
        seen = await antiphon_async(cache, "--status")
        assert "  minilm answers at the server that was asked" in seen.stdout
        server.default = Behaviour()
        cache.end(signal.SIGKILL)

        cache = start(**environ).serving()
        done = await antiphon_async(cache, *REMOTE, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["done"] == "40"
        async with AsyncCacheClient(cache.address) as client:
            for place in range(1, 40):
                found = await look(client, f"question number {place} of many")
                assert (found.outcome, found.answer.text) == (pb.OUTCOME_EXACT, f"answer {place}")
            with pytest.raises(AntiphonError) as refused:
                await client.drop_old_embeddings(reembedding.DropOldEmbeddingsRequest())
            assert refused.value.reason == "REEMBEDDING_PHASE"
            assert "reembed --status" in refused.value.hint
            wrong = reembedding.StartReembeddingRequest(to=reembedding.EmbedderChoice(embedder="/nowhere"))
            with pytest.raises(AntiphonError) as absent:
                await client.start_reembedding(wrong)
            assert absent.value.code.name == "FAILED_PRECONDITION"
            server.default = Behaviour(vector_dim=7)
            to = reembedding.EmbedderChoice(embedder="openai", model="text-embedding-3-large")
            with pytest.raises(AntiphonError) as misfit:
                await client.start_reembedding(reembedding.StartReembeddingRequest(to=to))
            assert misfit.value.reason == "EMBEDDER_DIMENSION"
            assert "7 numbers instead of 3,072" in misfit.value.message
        told = await antiphon_async(cache, "--to", "openai", "--model", "text-embedding-3-large")
        assert told.returncode == 1
        assert "--dim" in told.stderr
        server.default = behaviours.status(401)
        told = await antiphon_async(cache, "--to", "openai", "--model", "text-embedding-3-large")
        assert told.returncode == 1
        assert "EMBEDDER_UNAUTHENTICATED" in told.stderr
        assert "OPENAI_API_KEY" in told.stderr
        assert antiphon(cache, "--to", "minilm", "--cancel").returncode == 2
        assert antiphon(cache, "--no-wait", "--drop-old", "--to", "minilm").returncode == 2


async def test_a_verifier_of_the_old_embedder_is_in_the_way(start: Callable[..., CacheProcess]) -> None:
    verifier = resources.files("services.cache").joinpath("verifier", "minilm.json")
    async with FakeOpenAI.start() as server:
        cache = start(
            ANTIPHON_EMBEDDING_OPENAI_BASE_URL=server.base_url,
            OPENAI_API_KEY="k",
            ANTIPHON_CACHE_VERIFIER=str(verifier),
        ).serving()
        refused = await antiphon_async(cache, *REMOTE)
    assert refused.returncode == 1
    assert "ANTIPHON_CACHE_VERIFIER" in refused.stderr
    assert "EMBEDDER_MISMATCH" in refused.stderr


@pytest.mark.fault(69)
async def test_a_delete_that_waited_on_disk_is_done_under_the_new_embedder(start: Callable[..., CacheProcess]) -> None:
    async with FakeOpenAI.start() as server:
        environ = {"ANTIPHON_EMBEDDING_OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "k"}
        cache = start(**environ).serving()
        async with AsyncCacheClient(cache.address) as client:
            await fill(client, 3)
            listed = await client.list_entries(pb.ListEntriesRequest())
            done = await antiphon_async(cache, *REMOTE, "--share", "1", "--json")
            assert done.returncode == 0, done.stderr
        assert cache.end() == 0
        slug = json.loads(done.stdout)["source"]["embedder"]
        folder = cache.run_file.parent.parent / "queue" / slug
        queue = DiskQueue(folder, embedder=slug, dim=384)
        gone = [entry.entry_id for entry in listed.entries]
        now_us = int(time.time() * 1e6)
        await queue.append(
            [Tombstone(one, "default", "default", now_us, 0, now_us, now_us + 10**9) for one in gone], durable=True
        )
        queue.close()
        cache = start(**environ).serving()
        until(lambda: not (folder / "cache.queue").stat().st_size, "the queue was not taken over")
        async with AsyncCacheClient(cache.address) as client:
            assert (await look(client, ASKED)).outcome == pb.OUTCOME_MISS
            assert not (await client.list_entries(pb.ListEntriesRequest())).entries
        assert cache.end() == 0


async def test_what_a_cancelled_change_has_filled_is_dropped(start: Callable[..., CacheProcess]) -> None:
    async with FakeOpenAI.start() as server:
        cache = start(ANTIPHON_EMBEDDING_OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="k").serving()
        async with AsyncCacheClient(cache.address) as client:
            await fill(client, 40)
            begun = await antiphon_async(cache, *REMOTE, "--share", "0.02", "--no-wait")
            assert begun.returncode == 0, begun.stderr
            cancelled = await antiphon_async(cache, "--cancel")
            assert "--drop-old" in cancelled.stdout
            dropped = await antiphon_async(cache, "--drop-old")
            assert dropped.returncode == 0, dropped.stderr
            assert "dropped" in dropped.stdout
            assert "it was cancelled: minilm answers" in dropped.stdout
            assert "let the servers' settings" not in dropped.stdout
            assert (await look(client, REWORDED)).outcome == pb.OUTCOME_SEMANTIC
            state = await client.get_reembedding(reembedding.GetReembeddingRequest())
            assert state.serving == state.reembedding.source.embedder


async def test_an_embedder_that_settings_make_another_of_is_refused_at_the_start(
    start: Callable[..., CacheProcess],
) -> None:
    async with FakeOpenAI.start() as server:
        environ = {
            "ANTIPHON_EMBEDDING_OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_KEY": "k",
            "ANTIPHON_EMBEDDING_EMBEDDER": "openai",
            "ANTIPHON_EMBEDDING_OPENAI_MODEL": "text-embedding-3-small",
            "ANTIPHON_EMBEDDING_DIM": "48",
        }
        cache = start(**environ).serving()
        async with AsyncCacheClient(cache.address) as client:
            await fill(client, 2)
        done = await antiphon_async(cache, "--to", "minilm", "--share", "1")
        assert done.returncode == 0, done.stderr
        assert cache.end() == 0
        status, said = start(**environ, ANTIPHON_EMBEDDING_WINDOW_PIECES="64").ended()
        assert status == 78
        assert "ANTIPHON_EMBEDDING_EMBEDDER" in said
        assert "makes another embedder" in said


async def _begun(client: AsyncCacheClient) -> reembedding.GetReembeddingResponse:
    """Wait until the change has filled a part."""
    async with asyncio.timeout(GUARD):
        while True:
            state = await client.get_reembedding(reembedding.GetReembeddingRequest())
            if state.reembedding.done:
                return state
            await asyncio.sleep(0.05)


async def test_ctrl_c_ends_the_bar_and_says_that_the_change_goes_on(start: Callable[..., CacheProcess]) -> None:
    async with FakeOpenAI.start() as server:
        cache = start(ANTIPHON_EMBEDDING_OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="k").serving()
        async with AsyncCacheClient(cache.address) as client:
            await fill(client, 40)
            bar = await asyncio.create_subprocess_exec(
                str(ANTIPHON),
                "cache",
                "reembed",
                *REMOTE,
                "--share",
                "0.001",
                env={**os.environ, "ANTIPHON_CACHE_TARGET": cache.address},
                stderr=asyncio.subprocess.PIPE,
            )
            state = await _begun(client)
            bar.send_signal(signal.SIGINT)
            _, said = await bar.communicate()
            assert bar.returncode == 130
            assert "goes on in the background" in said.decode()
            assert "--cancel" in said.decode()
            assert state.role == reembedding.REEMBEDDING_ROLE_MOVES
            state = await client.get_reembedding(reembedding.GetReembeddingRequest())
            assert state.reembedding.phase == reembedding.REEMBEDDING_PHASE_EMBEDDING


@pytest.mark.fault(69)
async def test_the_store_that_is_back_says_what_is_served(
    start: Callable[..., CacheProcess], store: StoreProcess
) -> None:
    async with FakeOpenAI.start() as server:
        environ = {"ANTIPHON_EMBEDDING_OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "k"}
        cache = start(**environ).serving()
        async with AsyncCacheClient(cache.address) as client:
            await fill(client, 40)
            begun = await antiphon_async(cache, *REMOTE, "--share", "0.001", "--no-wait")
            assert begun.returncode == 0, begun.stderr
            await _begun(client)
        cache.end(signal.SIGKILL)
        store.kill()
        target = {
            "ANTIPHON_EMBEDDING_EMBEDDER": "openai",
            "ANTIPHON_EMBEDDING_OPENAI_MODEL": "text-embedding-3-small",
            "ANTIPHON_EMBEDDING_DIM": "48",
        }
        cache = start(**environ, **target).listening()
        async with AsyncCacheClient(cache.address) as client:
            assert not cache.is_ready()
            store.start()
            await asyncio.to_thread(until, cache.is_ready, "the cache did not become ready")
            for place in range(1, 40):
                found = await look(client, f"question number {place} of many")
                assert (found.outcome, found.answer.text) == (pb.OUTCOME_EXACT, f"answer {place}")
            state = await client.get_reembedding(reembedding.GetReembeddingRequest())
            assert (state.serving, state.problem) == (state.reembedding.source.embedder, "")
        assert cache.end() == 0


async def test_who_lacks_the_embedder_that_serves_says_so(start: Callable[..., CacheProcess], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    models = Path(os.environ.get("ANTIPHON_MODEL_DIR") or minilm.default_model_dir(os.environ))
    folder.symlink_to(minilm.folder(models))
    cache = start().serving()
    async with AsyncCacheClient(cache.address) as client:
        await fill(client, 2)
        done = await antiphon_async(cache, "--to", str(folder), "--share", "1")
        assert done.returncode == 0, done.stderr
    assert cache.is_well("embedder")
    assert cache.end() == 0
    folder.unlink()
    cache = start().serving()
    seen = await antiphon_async(cache, "--status")
    assert "  minilm answers at the server that was asked" in seen.stdout
    assert "it does not look up by the embedder that serves" in seen.stdout
    await asyncio.to_thread(until, lambda: not cache.is_well("embedder"), "health says nothing of it")
    assert cache.is_ready(), "it serves all the same"
    assert cache.end() == 0
