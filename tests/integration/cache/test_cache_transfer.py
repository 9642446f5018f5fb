"""What one cache exports another one imports, under another key: the same answers, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing

import pytest

from antiphon.cache.v1 import cache_pb2, transfer_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon_client import AsyncCacheClient
from antiphon_client.errors import InvalidArgumentError, ResourceExhaustedError, UnavailableError
from services.cache import late_embedding
from services.cache.exporting import PAGE, Exported
from services.cache.feedback import Feedback
from services.cache.importing import Fate, Terms
from services.cache.review import FeedbackSource
from services.cache.room import Capacity
from services.cache.scope import Address
from services.cache.servicer import TRANSFER_PLACES
from services.cache.values import ByTags, Chosen, Outcome, Policy
from services.chassis.errors import InvalidRequest, Unavailable
from services.llm.values import Message, Role, TextPart
from tests.integration.cache.cache_process import CacheProcess
from tests.integration.cache.conftest import emptied
from tests.integration.cache.stored_cache import StoredCache, until
from tests.integration.cache.transfer import by_question, entries_of, exported, requests, taken_by
from tests.integration.edgestore.store_process import StoreProcess
from tests.integration.tenants.methods import answer, query
from tests.quality.patience import decided
from tests.unit.cache.cache_parts import TENANT, ask

ASKED = "How do I reset my password?"
REWORDED = "How can I reset my password?"
PATIENCE_S = 60.0
OTHER_KEY = bytes(range(1, 33))
SYSTEM = Message(Role.SYSTEM, (TextPart("Be brief."),))

Caches = Callable[..., StoredCache]


@pytest.fixture(scope="module")
def second_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    """The store of the suite that imports."""
    process = StoreProcess(tmp_path_factory.mktemp("second") / "state")
    yield process
    process.close()


@pytest.fixture
def second(second_process: StoreProcess) -> StoreProcess:
    return emptied(second_process)


@pytest.fixture
async def fresh(second: StoreProcess) -> AsyncIterator[Callable[..., StoredCache]]:
    """Makes caches over the second store, with another key."""
    made: list[StoredCache] = []

    def make(**how: object) -> StoredCache:
        made.append(StoredCache(second, **{"key": OTHER_KEY, **how}))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for cache in made:
        await cache.stop()


@pytest.fixture
def start_second(second: StoreProcess) -> Iterator[Callable[[], CacheProcess]]:
    started: list[CacheProcess] = []

    def starter() -> CacheProcess:
        started.append(CacheProcess(second.state_dir))
        return started[-1]

    yield starter
    for cache in started:
        cache.end(signal.SIGKILL)
    (second.state_dir / "fingerprint.key").unlink(missing_ok=True)


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


async def sizes(client: AsyncCacheClient) -> tuple[int, ...]:
    stats = await client.get_stats(cache_pb2.GetStatsRequest())
    return stats.entries_total, stats.entries_valid, stats.entries_quarantined, stats.bytes, stats.embeddings_waiting


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


async def test_what_is_wrong_is_told_by_line_and_field(
    caches: Caches, fresh: Caches, start_second: Callable[[], CacheProcess]
) -> None:
    cache = await caches().ready()
    for number in range(8):
        await cache.put(f"What is the number {number}?")
    entries = await entries_of(cache)
    entries[1].context_digest = b"short"
    entries[2].address_version = 1
    entries[3].answer.finish_reason = llm_pb2.FINISH_REASON_LENGTH
    entries[4].ClearField("expire_time")
    entries[5].tags[:] = ["x" * 65]
    entries[6].answer.finish_reason = 99  # type: ignore[assignment]
    async with AsyncCacheClient(start_second().serving().address) as there:
        dry = await there.import_(requests(entries, dry_run=True))
        done = await there.import_(requests(entries))
        assert dry.stored == done.stored == 2
        assert dict(done.refused) == {"invalid": 4, "address_version": 1, "finish_reason": 1}
        assert [(one.line, one.reason, one.field) for one in done.problems] == [
            (2, "invalid", "context_digest"),
            (3, "address_version", "address_version"),
            (4, "finish_reason", "answer"),
            (5, "invalid", "expire_time"),
            (6, "invalid", "tags[0]"),
            (7, "invalid", "answer.finish_reason"),
        ]
        assert done.problems[0].message == "must be 32 bytes"
        assert (await sizes(there))[0] == 2
        await there.clear(cache_pb2.ClearRequest())
        with pytest.raises(InvalidArgumentError, match="line 2: context_digest: must be 32 bytes"):
            await there.import_(requests(entries, strict=True))
        assert (await sizes(there))[0] == 1
        late = iter([transfer_pb2.ImportRequest(), transfer_pb2.ImportRequest(options=transfer_pb2.ImportOptions())])
        with pytest.raises(InvalidArgumentError, match="only in the first message"):
            await there.import_(late)


@pytest.mark.fault(48)
async def test_no_time_is_lengthened_and_no_newer_answer_gives_way(caches: Caches, fresh: Caches) -> None:
    cache, other = await caches().ready(), await fresh(ttl=3_600.0).ready()
    for text in ("Short?", "Long?", "Old?", "New?", "Over?"):
        await cache.put(text, "theirs", Policy(ttl=100.0 if text == "Short?" else None))
    entries = {entry.question[0]: entry for entry in await entries_of(cache)}
    now_us = int(time.time() * 1e6)
    entries["Over?"].expire_time.FromMicroseconds(now_us - 1)
    entries["Old?"].create_time.FromMicroseconds(now_us - 10_000_000)
    await other.put("Old?", "ours")
    await other.put("New?", "ours")
    entries["New?"].create_time.GetCurrentTime()
    taken = await taken_by(other, list(entries.values()))
    assert taken.fates == {Fate.STORED: 3, Fate.OLDER: 1, Fate.EXPIRED: 1}
    assert [await other.text(text) for text in entries] == ["theirs", "theirs", "ours", "theirs", None]
    kept = {entry.question[0]: entry for entry in await entries_of(other)}
    assert kept["Short?"] == entries["Short?"]
    assert now_us < kept["Long?"].expire_time.ToMicroseconds() <= time.time() * 1e6 + 3_600e6
    assert kept["Long?"].create_time == entries["Long?"].create_time


async def test_limits_of_size_hold(caches: Caches, fresh: Caches) -> None:
    cache = await caches().ready()
    other = await fresh(capacity=Capacity(entries=3), max_entry_bytes=1_000).ready()
    await cache.put("Large?", "x" * 2_000)
    for number in range(5):
        await cache.put(f"What is the number {number}?", policy=Policy(ttl=1_000.0 + 100 * number))
    taken = await taken_by(other, await entries_of(cache))
    assert (taken.fates, taken.refused) == ({Fate.STORED: 5}, {"too_large": 1})
    assert len(other.cache.entries) == 3


async def test_what_is_larger_than_a_tenant_may_have_is_refused_and_not_said_to_be_stored(
    caches: Caches, fresh: Caches
) -> None:
    cache = await caches().ready()
    await cache.put("Large?", "x" * 100_000)
    await cache.put("Small?")
    other = await fresh(capacity=Capacity(tenant_bytes=50_000)).ready()
    taken = await taken_by(other, await entries_of(cache))
    assert (taken.fates, taken.refused) == ({Fate.STORED: 1}, {"too_large": 1})


async def test_a_verdict_from_the_future_does_not_stand_against_later_ones(caches: Caches, fresh: Caches) -> None:
    cache, other = await caches().ready(), await fresh().ready()
    entry = await cache.put(ASKED)
    await cache.cache.feedback(TENANT, Feedback(entry.id, FeedbackSource.JUDGE, right=True, semantic=False))
    (line,) = await entries_of(cache)
    line.verdicts[0].time.FromSeconds(253_402_300_000)  # in the year 9999
    assert (await taken_by(other, [line])).fates == {Fate.STORED: 1}
    await cache.cache.feedback(TENANT, Feedback(entry.id, FeedbackSource.JUDGE, right=False, semantic=False))
    await taken_by(other, await entries_of(cache))
    assert await other.text(ASKED) is None


async def test_what_was_said_comes_along_and_the_last_word_counts(caches: Caches, fresh: Caches) -> None:
    cache, other = await caches().ready(), await fresh().ready()
    entry = await cache.put(ASKED)
    plain = await entries_of(cache)
    wrong = Feedback(entry.id, FeedbackSource.JUDGE, right=False, semantic=False)
    await cache.cache.feedback(TENANT, wrong)
    held = await entries_of(cache)
    assert (await taken_by(other, plain)).fates == {Fate.STORED: 1}
    assert await other.text(ASKED) is not None
    assert (await taken_by(other, held)).fates == {Fate.STORED: 1}
    assert await other.text(ASKED) is None
    assert (await taken_by(other, plain)).fates == {Fate.UNCHANGED: 1}
    assert await other.text(ASKED) is None
    assert await entries_of(other) == held
    await other.die()
    assert await (await fresh().ready()).text(ASKED) is None


async def test_tags_of_an_import_find_all_of_it(caches: Caches, fresh: Caches) -> None:
    cache, other = await caches().ready(), await fresh().ready()
    for number in range(3):
        await cache.put(f"What is the number {number}?", policy=Policy(tags=("own",)))
    await other.put(ASKED)
    await taken_by(other, await entries_of(cache), Terms(tags=("backup",)))
    assert await other.cache.remove(TENANT, Chosen(ByTags(frozenset({"backup"})), None)) == 3
    assert len(other.cache.entries) == 1


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


@pytest.mark.fault(37)
@pytest.mark.fault(69)
async def test_another_embedder_embeds_anew_also_after_a_kill(
    caches: Caches, fresh: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_embedding, "AGAIN_SECONDS", 0.01)
    cache, other = await caches().ready(), await fresh(slug="other_1").ready()
    earlier = ask("And in French?", SYSTEM, Message(Role.USER, (TextPart("Say hello."),)))
    for one in (ask(ASKED), earlier, *(ask(f"What is the number {number}?") for number in range(9))):
        await cache.put(one)
    other.embedder.error = Unavailable("down")
    taken = await taken_by(other, await entries_of(cache, Exported(vectors=True)))
    assert (taken.fates, taken.late) == ({Fate.STORED: 11}, 10)
    other.embedder.alike(REWORDED, ASKED, 0.95)
    await until(lambda: bool(other.embedder.calls), "nothing was to be embedded")
    other.embedder.error = None
    await until(lambda: not other.cache.transfers.late.waiting(TENANT, None), "not all were tried")
    assert other.cache.entries.rows(_address(other)) == 10
    assert (await other.look(REWORDED)).outcome is Outcome.SEMANTIC
    assert earlier.messages[-1].text not in other.embedder.calls, "only its own words may find it"

    third = await fresh(slug="third_1").ready()
    third.embedder.gate.clear()
    assert (await taken_by(third, await entries_of(cache))).late == 10
    await third.die()
    fourth = await fresh(slug="third_1").ready()
    fourth.embedder.alike(REWORDED, ASKED, 0.95)
    await until(lambda: fourth.cache.entries.rows(_address(fourth)) == 10, "not all were embedded")
    assert (await fourth.look(REWORDED)).outcome is Outcome.SEMANTIC
    assert len([text for text in fourth.embedder.calls if text != REWORDED]) == 10, "each once"


def _address(cache: StoredCache) -> Address:
    return cache.cache.transfers.exporting._addresses.of(TENANT, ask(ASKED))


@pytest.mark.fault(42)
@pytest.mark.fault(45)
async def test_nothing_moves_before_all_is_known_and_while_the_store_is_down(
    caches: Caches, fresh: Caches, second: StoreProcess
) -> None:
    cache, other = await caches().ready(), fresh()
    await cache.put(ASKED)
    entries = await entries_of(cache)
    with pytest.raises(Unavailable):
        await entries_of(other)
    with pytest.raises(Unavailable):
        await taken_by(other, entries)
    await other.ready()
    second.kill()
    try:
        with pytest.raises(Unavailable):
            await taken_by(other, entries)
    finally:
        second.start()
    await until(lambda: not other.cache.writer.failing, "the store did not come back")
    taken = await taken_by(other, entries)
    assert taken.fates == {Fate.UNCHANGED: 1}


async def test_strict_keeps_what_came_before(caches: Caches, fresh: Caches) -> None:
    cache, other = await caches().ready(), await fresh().ready()
    for number in range(3):
        await cache.put(f"What is the number {number}?")
    entries = await entries_of(cache)
    entries[1].model = ""
    with pytest.raises(InvalidRequest, match="line 2: model: is required"):
        await taken_by(other, entries, Terms(strict=True))
    assert [entry.question for entry in await entries_of(other)] == [entries[0].question]
    again = await taken_by(other, entries)
    assert again.fates == {Fate.UNCHANGED: 1, Fate.STORED: 1}
