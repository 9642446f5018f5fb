"""An import lengthens no time, exceeds no limit and takes back no word; what it refuses is told by line and field."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from antiphon.cache.v1 import cache_pb2, transfer_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon_client import AsyncCacheClient
from antiphon_client.errors import InvalidArgumentError
from services.cache import late_embedding
from services.cache.exporting import Exported
from services.cache.feedback import Feedback
from services.cache.importing import Fate, Terms
from services.cache.review import FeedbackSource
from services.cache.room import Capacity
from services.cache.scope import Address
from services.cache.values import ByTags, Chosen, Outcome, Policy
from services.chassis.errors import InvalidRequest, Unavailable
from services.llm.values import Message, Role, TextPart
from tests.integration.cache.cache_process import CacheProcess
from tests.integration.cache.stored_cache import StoredCache, until
from tests.integration.cache.transfer import entries_of, requests, sizes, taken_by
from tests.integration.edgestore.store_process import StoreProcess
from tests.unit.cache.cache_parts import ASKED, REWORDED, TENANT, ask

SYSTEM = Message(Role.SYSTEM, (TextPart("Be brief."),))

Caches = Callable[..., StoredCache]


# --- what is refused --------------------------------------------------------------------------------------------------


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


# --- beside what is there ---------------------------------------------------------------------------------------------


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


# --- another embedder, and a store that is down -----------------------------------------------------------------------


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
