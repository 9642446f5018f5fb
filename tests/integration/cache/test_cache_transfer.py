"""What one cache exports another one imports, under another key: the same answers, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing

import pytest

from antiphon.cache.v1 import cache_pb2, transfer_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon_client import AsyncCacheClient
from antiphon_client.errors import ResourceExhaustedError, UnavailableError
from services.cache.exporting import PAGE, Exported
from services.cache.servicer import TRANSFER_PLACES
from services.cache.values import ByTags, Chosen
from tests.integration.cache.cache_process import CacheProcess
from tests.integration.cache.stored_cache import StoredCache
from tests.integration.cache.transfer import by_question, exported, requests, sizes
from tests.integration.tenants.methods import answer, query
from tests.quality.patience import decided
from tests.unit.cache.cache_parts import ASKED, REWORDED, TENANT, ask

PATIENCE_S = 60.0

Caches = Callable[..., StoredCache]


def asked(text: str, *, system: str = "", namespace: str = "", model: str = "") -> cache_pb2.Query:
    made = query(text)
    made.namespace, made.model = namespace, model
    if system:
        role = llm_pb2.ROLE_SYSTEM
        made.messages.insert(0, llm_pb2.Message(role=role, parts=[llm_pb2.ContentPart(text=system)]))
    return made


QUERIES = [
    asked(ASKED),
    asked(ASKED, system="Be brief."),
    asked(ASKED, namespace="shop"),
    asked(ASKED, model="large"),
    *(asked(f"What is the number {number}?", namespace="numbers") for number in range(40)),
]


async def filled(client: AsyncCacheClient) -> None:
    """Store an answer to each of `QUERIES`, and let an operator call the last one wrong."""
    for number, one in enumerate(QUERIES):
        made = answer(f"The answer {number}.")
        made.usage.output_tokens, made.cost.nano_usd = 5, 7
        policy = cache_pb2.CachePolicy(tags=["even"] if number % 2 == 0 else [], source_versions={"docs": "v1"})
        last = await client.put(cache_pb2.PutRequest(query=one, answer=made, policy=policy), timeout=PATIENCE_S)
    wrong = cache_pb2.FeedbackRequest(
        entry_id=last.entry_id, verdict=cache_pb2.VERDICT_WRONG, source=cache_pb2.FEEDBACK_SOURCE_OPERATOR
    )
    await client.feedback(wrong)


ONLY = cache_pb2.CachePolicy(mode=cache_pb2.CACHE_MODE_ONLY_IF_CACHED)


async def served(client: AsyncCacheClient) -> list[tuple[int, bytes, str]]:
    """What is answered to each of `QUERIES`, and to a reworded question."""
    found: list[tuple[int, bytes, str]] = []
    for one in (*QUERIES, asked(REWORDED), asked(REWORDED, system="Be brief."), asked("Something else?")):
        request = cache_pb2.LookupRequest(query=one, policy=ONLY)
        response = await decided(client, request, timeout=PATIENCE_S)
        shown = response.decision.matched_prompt
        found.append((response.outcome, response.answer.SerializeToString(deterministic=True), shown))
    return found


async def test_a_fresh_suite_answers_as_the_one_that_was_exported(
    start: Callable[..., CacheProcess], start_second: Callable[[], CacheProcess]
) -> None:
    first, other = start().serving(), start_second().serving()
    async with AsyncCacheClient(first.address) as here, AsyncCacheClient(other.address) as there:
        await filled(here)
        entries = await exported(here, transfer_pb2.ExportRequest(vectors=True))
        assert len(by_question(entries)) == len(QUERIES)
        done = await there.import_(requests(entries))
        assert (done.stored, dict(done.refused), done.embeddings_waiting) == (len(QUERIES), {}, 0)
        assert await sizes(there) == await sizes(here)
        expected = await served(here)
        assert {outcome for outcome, _, _ in expected} == {
            cache_pb2.OUTCOME_EXACT,
            cache_pb2.OUTCOME_SEMANTIC,
            cache_pb2.OUTCOME_MISS,
        }
        assert await served(there) == expected
        again = await exported(there, transfer_pb2.ExportRequest(vectors=True))
        assert by_question(again) == by_question(entries)

        text = (await there.explain(cache_pb2.ExplainRequest(query=QUERIES[0]))).scope
        assert text.hash != (await here.explain(cache_pb2.ExplainRequest(query=QUERIES[0]))).scope.hash

        some = await exported(here, transfer_pb2.ExportRequest(namespaces=["numbers", "none"], tags=["even"]))
        assert len(some) == 20
        assert all(entry.namespace == "numbers" and not entry.HasField("embedding") for entry in some)

    # What was acknowledged is in the store.
    other.end(signal.SIGKILL)
    async with AsyncCacheClient(start_second().serving().address) as there:
        assert await served(there) == expected


@pytest.mark.fault(45)
@pytest.mark.fault(50)
async def test_an_import_that_is_killed_is_repeated_without_loss_and_without_doubles(
    start: Callable[..., CacheProcess], start_second: Callable[[], CacheProcess]
) -> None:
    first, other = start().serving(), start_second().serving()
    async with AsyncCacheClient(first.address) as here:
        await filled(here)
        entries, expected, size = await exported(here), await served(here), await sizes(here)

    async def broken_off() -> AsyncIterator[transfer_pb2.ImportRequest]:
        async with AsyncCacheClient(other.address) as watching:
            for number, request in enumerate(requests(entries, size=2)):
                yield request
                if number == 10:
                    while (await watching.get_stats(cache_pb2.GetStatsRequest())).entries_total < 10:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    other.end(signal.SIGKILL)

    async with AsyncCacheClient(other.address) as there:
        with pytest.raises(UnavailableError):
            await there.import_(broken_off())
    async with AsyncCacheClient(start_second().serving().address) as there:
        before = (await sizes(there))[0]
        assert 0 < before < len(entries)
        done = await there.import_(requests(entries))
        assert (done.unchanged, done.stored) == (before, len(entries) - before)
        assert (await there.import_(requests(entries))).unchanged == len(entries)
        for _ in range(3_000):
            if not (await sizes(there))[4]:
                break
            await asyncio.sleep(0.02)
        assert await sizes(there) == size
        assert await served(there) == expected
        assert by_question(await exported(there)) == by_question(entries)


async def test_an_entry_comes_once_and_none_that_was_deleted_before(caches: Caches) -> None:
    cache = await caches().ready()
    for number in range(4 * PAGE):
        await cache.put(ask(f"Question {number}?", namespace=f"ns{number % 2}"), durable=False)
    await cache.cache.remove(TENANT, Chosen(ByTags(frozenset({"none"})), None))
    gone = await cache.put("Gone?")
    await cache.cache.remove(TENANT, Chosen(ByTags(frozenset()), None))
    cache.cache.entries.remove(gone)
    seen: list[tuple[str, str]] = []
    pages = cache.cache.transfers.exporting.pages(TENANT, Exported())
    async with aclosing(pages):
        async for page in pages:
            seen += [(entry.namespace, entry.question) for entry in page.entries]
            # All that is left to come is answered anew, one is deleted, and one is new.
            for number in range(4 * PAGE - 1):
                await cache.put(ask(f"Question {number}?", namespace=f"ns{number % 2}"), "anew", durable=False)
            last = cache.cache.entries.bucket(TENANT, "ns1")
            assert last is not None
            victim = next((one for one in last.entries.values() if one.question == f"Question {4 * PAGE - 1}?"), None)
            if victim is not None:
                cache.cache.entries.remove(victim)
            await cache.put(ask(f"New {len(seen)}?", namespace="ns1"), durable=False)
    assert len(set(seen)) == len(seen)
    assert {(f"ns{number % 2}", f"Question {number}?") for number in range(4 * PAGE - 1)} <= set(seen)
    assert not {"Gone?", f"Question {4 * PAGE - 1}?"} & {question for _, question in seen}


async def test_exports_wait_for_their_readers_and_leave_with_them(start: Callable[..., CacheProcess]) -> None:
    cache = start().serving()
    async with AsyncCacheClient(cache.address) as client, AsyncExitStack() as readers:
        for number in range(60):  # more than a connection takes that nobody reads from
            put = cache_pb2.PutRequest(query=query(f"What is the number {number}?"), answer=answer("x" * 200_000))
            await client.put(put, timeout=PATIENCE_S)
        standing = []
        for _ in range(TRANSFER_PLACES):
            standing.append(await readers.enter_async_context(aclosing(client.export(transfer_pb2.ExportRequest()))))
            await anext(standing[-1])
        with pytest.raises(ResourceExhaustedError):
            await exported(client)
        await standing.pop().aclose()
        async with asyncio.timeout(PATIENCE_S):
            while True:  # until the server has heard of it
                try:
                    assert len(await exported(client)) == 60
                except ResourceExhaustedError:
                    await asyncio.sleep(0.01)
                else:
                    break
        left = [part async for part in standing.pop()]
        assert sum(len(part.entries.entries) for part in left) == left[-1].end.entries == 60
