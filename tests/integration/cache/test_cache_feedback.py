"""What is said about an entry is kept with it, and decides whether it is served: over the real embedded store."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence

import pytest

from services.cache.adapters.records import to_payload
from services.cache.decision import Veto
from services.cache.entry import Entry
from services.cache.feedback import Feedback, Reviewed
from services.cache.fill_values import Granted
from services.cache.listing import Wanted
from services.cache.ports import Write
from services.cache.review import FeedbackSource
from services.cache.values import Action, ByIds, ByTags, ByWriter, Chosen, Outcome, Policy
from services.chassis.deadline import Deadline
from services.chassis.errors import NotFound, Unavailable
from tests.integration.cache.stored_cache import StoredCache, until
from tests.integration.edgestore.store_process import StoreProcess
from tests.unit.cache.cache_parts import TENANT, answer, ask

Caches = Callable[..., StoredCache]
ASKED = "How do I reset my password?"
REWORDED = "How can I reset my password?"
USER, JUDGE, AUDIT, OPERATOR = FeedbackSource


async def say(
    cache: StoredCache,
    entry: Entry | str,
    source: FeedbackSource = OPERATOR,
    *,
    right: bool = False,
    semantic: bool = False,
    tenant: str = TENANT,
    **fields: object,
) -> Reviewed:
    entry_id = entry if isinstance(entry, str) else entry.id
    feedback = Feedback(entry_id, source, right, semantic, **fields)  # type: ignore[arg-type]
    return await cache.cache.feedback(tenant, feedback)


async def made(caches: Caches, **how: object) -> StoredCache:
    """A cache that is ready and takes the two questions for one."""
    cache = await caches(**how).ready()
    cache.embedder.alike(REWORDED, ASKED, 0.95)
    return cache


async def outcomes(cache: StoredCache) -> tuple[Outcome, Outcome]:
    return (await cache.look(ASKED)).outcome, (await cache.look(REWORDED)).outcome


# --- what is served --------------------------------------------------------------------------------------------------


async def test_storing_the_same_answer_once_more_does_not_take_back_that_it_is_wrong(caches: Caches) -> None:
    cache = await made(caches)
    entry = await cache.put(ASKED)
    await say(cache, entry)
    await cache.put(ASKED)
    assert await outcomes(cache) == (Outcome.MISS, Outcome.MISS)
    await cache.put(ASKED, "a better answer")
    assert await outcomes(cache) == (Outcome.EXACT, Outcome.SEMANTIC)


async def test_what_an_operator_calls_wrong_is_not_served_until_released(caches: Caches) -> None:
    first = await made(caches)
    entry = await first.put(ASKED)
    done = await say(first, entry)
    assert done.recorded
    assert done.entry.review.quarantine is not None
    assert await outcomes(first) == (Outcome.MISS, Outcome.MISS)
    assert (await first.look(ASKED)).decision.vetoes == (Veto.QUARANTINED,)
    assert (await first.look(REWORDED)).decision.vetoes == (Veto.QUARANTINED,)
    await first.die()

    second = await made(caches)
    assert second.cache.entries.quarantined == 1
    assert await outcomes(second) == (Outcome.MISS, Outcome.MISS), "a restart forgets nothing"
    assert (await say(second, entry, right=True)).entry.review.quarantine is None
    assert await outcomes(second) == (Outcome.EXACT, Outcome.SEMANTIC)
    await second.die()
    third = await made(caches)
    assert await outcomes(third) == (Outcome.EXACT, Outcome.SEMANTIC)
    assert third.cache.entries.quarantined == 0


async def test_a_wrong_match_keeps_the_answer_for_its_own_question(caches: Caches) -> None:
    cache = await made(caches)
    entry = await cache.put(ASKED)
    await say(cache, entry, JUDGE, semantic=True)
    assert await outcomes(cache) == (Outcome.EXACT, Outcome.MISS)
    await cache.die()
    assert await outcomes(await made(caches)) == (Outcome.EXACT, Outcome.MISS)


async def test_a_quarantined_entry_does_not_hide_a_good_one_behind_it(caches: Caches) -> None:
    cache = await made(caches)
    near = await cache.put(ASKED, "near")
    cache.embedder.alike("Please reset my password!", REWORDED, 0.92)
    await cache.put("Please reset my password!", "behind")
    assert await cache.text(REWORDED) == "near"
    await say(cache, near)
    assert await cache.text(REWORDED) == "behind"


async def test_a_new_answer_starts_anew(caches: Caches) -> None:
    cache = await made(caches)
    entry = await cache.put(ASKED)
    await say(cache, entry)
    missed = await cache.look(ASKED, Policy())
    assert isinstance(missed.fill, Granted)
    await cache.commit(missed.fill.lease_id, answer("a better one"), durable=True)
    assert await outcomes(cache) == (Outcome.EXACT, Outcome.SEMANTIC)
    assert cache.cache.entries.quarantined == 0
    await cache.die()
    assert await (await made(caches)).text(ASKED) == "a better one"


async def test_the_same_words_from_a_model_once_more_stay_out_of_service(caches: Caches) -> None:
    cache = await made(caches)
    entry = await cache.put(ASKED, "wrong")
    await say(cache, entry)
    missed = await cache.look(ASKED, Policy())
    assert isinstance(missed.fill, Granted)
    await cache.commit(missed.fill.lease_id, answer("wrong"), durable=True)
    assert await outcomes(cache) == (Outcome.MISS, Outcome.MISS)
    await cache.die()
    cache = await made(caches)
    assert await outcomes(cache) == (Outcome.MISS, Outcome.MISS)
    await say(cache, entry, right=True)
    assert await outcomes(cache) == (Outcome.EXACT, Outcome.SEMANTIC)


async def test_several_people_are_needed_and_heard_of_by_every_replica(caches: Caches) -> None:
    one = await made(caches)
    entry = await one.put(ASKED)
    two = await made(caches)
    await say(one, entry, USER, semantic=True, user="a")
    await say(two, entry, USER, semantic=True, user="a", id="once more")
    await say(two, entry, USER, semantic=True, user="b")
    assert await outcomes(two) == (Outcome.EXACT, Outcome.SEMANTIC)
    done = await say(one, entry, USER, semantic=True, key_id="another key")
    assert done.entry.review.quarantine is not None
    assert done.entry.review.quarantine.rule == "users"
    assert await outcomes(one) == (Outcome.EXACT, Outcome.MISS)
    assert len(done.entry.review.said) == 3


# --- what is kept ----------------------------------------------------------------------------------------------------


async def test_the_same_said_again_is_not_new(caches: Caches) -> None:
    cache = await made(caches)
    entry = await cache.put(ASKED)
    assert (await say(cache, entry, USER, id="one")).recorded
    assert not (await say(cache, entry, USER, id="one")).recorded
    assert (await say(cache, entry, USER, id="one", right=True)).recorded
    assert [verdict.feedback.right for verdict in cache.verdicts] == [False, True]
    assert {verdict.entry.id for verdict in cache.verdicts} == {entry.id}
    await cache.die()
    again = await made(caches)
    assert not (await say(again, entry, USER, id="one", right=True)).recorded
    assert again.verdicts == []


async def test_nobodys_name_is_stored(caches: Caches) -> None:
    cache = await made(caches)
    entry = await cache.put(ASKED)
    done = await say(cache, entry, USER, user="ada@example.com", id="order-1843", key_id="key-of-ada")
    kept = str(to_payload(Write(done.entry, None), embedder="known_1", saved_us=1))
    assert all(name not in kept for name in ("ada@", "of-ada", "order-1843"))


async def test_feedback_is_about_the_answer_that_is_meant(caches: Caches) -> None:
    cache = await made(caches)
    await cache.cache.put(
        TENANT, ask(ASKED), Policy(), answer(created_at=1_000.5), durable=True, deadline=Deadline.after(10)
    )
    entry = (await cache.look(ASKED)).entry
    assert entry is not None
    with pytest.raises(NotFound) as other:
        await say(cache, entry, answered_us=1_000_400_000)
    assert other.value.field == "entry_id"
    assert (await say(cache, entry, USER, answered_us=1_000_500_000)).recorded


async def test_an_entry_that_is_not_there_is_not_found(caches: Caches) -> None:
    cache = await made(caches)
    entry = await cache.put(ASKED)
    for fields in ({"namespace": "other"}, {"tenant": "another"}):
        with pytest.raises(NotFound):
            await say(cache, entry, **fields)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        await say(cache, "absent")
    assert (await say(cache, entry, namespace="default")).recorded


async def test_while_the_store_is_down_nothing_changes(caches: Caches, store: StoreProcess) -> None:
    cache = await made(caches)
    entry = await cache.put(ASKED)
    store.kill()
    with pytest.raises(Unavailable):
        await say(cache, entry)
    assert await outcomes(cache) == (Outcome.EXACT, Outcome.SEMANTIC)
    assert cache.verdicts == []
    store.start()
    await say(cache, entry)
    assert await outcomes(cache) == (Outcome.MISS, Outcome.MISS)


async def test_feedback_before_all_is_known_is_refused(caches: Caches) -> None:
    with pytest.raises(Unavailable):
        await say(caches(), "any")


async def test_an_entry_that_waits_to_be_written_keeps_its_vector(
    caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = await made(caches)
    saved: list[list[str]] = []
    saving, go, save = asyncio.Event(), asyncio.Event(), cache.store.save

    async def held(writes: Sequence[Write]) -> list[bool]:
        saved.append([write.entry.question for write in writes])
        saving.set()
        await go.wait()
        return await save(writes)

    monkeypatch.setattr(cache.store, "save", held)
    await cache.put("the first one, which keeps the writer busy", durable=False)
    await saving.wait()
    entry = await cache.put(ASKED, durable=False)
    saying = asyncio.create_task(say(cache, entry, USER, semantic=True, right=True))
    await until(lambda: len(cache.cache._background) == 1, "nothing was said")
    go.set()
    assert (await saying).recorded
    assert saved == [["the first one, which keeps the writer busy"], [ASKED]], "it was written once, with the review"
    await cache.stop()
    second = await made(caches)
    assert await outcomes(second) == (Outcome.EXACT, Outcome.SEMANTIC)
    (stored,) = await second.store.read([entry.id])
    assert len(stored.entry.review.said) == 1


async def test_an_entry_that_is_given_its_embedding_keeps_what_was_said(caches: Caches) -> None:
    cache = await made(caches)
    cache.embedder.gate.clear()
    missed = await cache.look(ASKED, Policy(max_error_rate=0.01))
    assert isinstance(missed.fill, Granted)
    committed = await cache.commit(missed.fill.lease_id, durable=True)
    await until(lambda: cache.embedder.calls == [ASKED], "the answer's question is not embedded")
    await say(cache, committed.entry_id, USER, right=True)
    cache.embedder.gate.set()
    await until(lambda: len(cache.cache._background) == 0, "something goes on for ever")
    found = await cache.look(REWORDED)
    assert found.outcome is Outcome.SEMANTIC
    assert found.entry is not None
    assert len(found.entry.review.said) == 1


async def test_what_is_cleared_or_expired_meanwhile_does_not_come_back(
    caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = await made(caches)
    entry = await cache.put(ASKED)
    saving, go, save = asyncio.Event(), asyncio.Event(), cache.store.save

    async def held(writes: Sequence[Write]) -> list[bool]:
        saving.set()
        await go.wait()
        return await save(writes)

    monkeypatch.setattr(cache.store, "save", held)
    saying = asyncio.create_task(say(cache, entry, USER))
    await saving.wait()
    assert await cache.clear() == (1, 1)
    go.set()
    with pytest.raises(NotFound):
        await saying
    assert await cache.text(ASKED) is None
    await until(lambda: len(cache.cache._background) == 0, "something goes on for ever")
    await cache.stop()
    second = await made(caches)
    assert len(second.cache.entries) == 0
    assert await second.store.read([entry.id]) == []


# --- rollback --------------------------------------------------------------------------------------------------------


async def test_what_a_writer_wrote_since_a_time_is_rolled_back(caches: Caches) -> None:
    now = [1_800_000_000.0]
    cache = await caches(now=lambda: now[0]).ready()
    for number, (writer, namespace) in enumerate([("good", "a"), ("bad", "a"), ("bad", "b"), ("bad", "a")]):
        now[0] += 100
        query = ask(f"the question number {number}", namespace=namespace)
        await cache.cache.put(
            TENANT, query, Policy(tags=("t",)), answer(), durable=True, writer=writer, deadline=Deadline.after(10)
        )
    everything = (await cache.cache.listing.page(TENANT, Wanted(), size=9, after=None)).entries
    assert sorted(entry.writer for entry in everything) == ["bad", "bad", "bad", "good"]
    early = next(entry for entry in everything if entry.question.endswith("1"))
    now[0] += 100
    await say(cache, early, USER, right=True)

    bad = Chosen(ByWriter("bad"), None, since_us=int((1_800_000_000 + 250) * 1e6))
    assert await cache.cache.remove(TENANT, bad, Action.QUARANTINE, dry_run=True) == 2, "not what was judged since"
    assert cache.cache.entries.quarantined == 0
    assert await cache.cache.remove(TENANT, bad, Action.QUARANTINE) == 2
    assert await cache.cache.remove(TENANT, bad, Action.QUARANTINE) == 0
    assert cache.cache.entries.quarantined == 2
    quarantined = Wanted(quarantined=True)
    page = await cache.cache.listing.page(TENANT, quarantined, size=9, after=None)
    assert {entry.question[-1] for entry in page.entries} == {"2", "3"}
    assert await cache.cache.remove("another", bad, Action.RELEASE) == 0
    assert await cache.cache.remove(TENANT, dataclasses.replace(bad, namespace="b"), Action.RELEASE) == 1
    await cache.die()

    second = await caches(now=lambda: now[0]).ready()
    assert second.cache.entries.quarantined == 1
    assert await second.cache.remove(TENANT, Chosen(ByWriter("bad"), None)) == 3
    assert await second.cache.remove(TENANT, Chosen(ByTags(frozenset({"t"})), "a"), dry_run=True) == 1
    with pytest.raises(NotFound):
        await second.cache.remove(TENANT, Chosen(ByIds((early.id,)), None), Action.RELEASE)
    assert len(second.cache.entries) == 1
    assert second.cache.entries.quarantined == 0


async def test_a_release_gives_back_what_operators_took_and_nothing_else(caches: Caches) -> None:
    cache = await caches().ready()
    tagged = Policy(tags=("t",))
    judged, taken, asked_for = [await cache.put(f"the question number {n}", policy=tagged) for n in range(3)]
    await say(cache, judged, JUDGE)
    await say(cache, asked_for, JUDGE)
    chosen = Chosen(ByTags(frozenset({"t"})))
    assert await cache.cache.remove(TENANT, chosen, Action.QUARANTINE) == 1, "two are out of service already"
    assert cache.cache.entries.quarantined == 3
    assert await cache.cache.remove(TENANT, chosen, Action.RELEASE, dry_run=True) == 1
    assert await cache.cache.remove(TENANT, chosen, Action.RELEASE) == 1
    left = await cache.cache.listing.page(TENANT, Wanted(quarantined=True), size=9, after=None)
    assert {entry.id for entry in left.entries} == {judged.id, asked_for.id}
    assert taken.id not in {entry.id for entry in left.entries}
    assert await cache.cache.remove(TENANT, Chosen(ByIds((asked_for.id,))), Action.RELEASE) == 1, "by its id, knowingly"


async def test_a_large_rollback_takes_several_requests(caches: Caches) -> None:
    cache = await caches().ready()
    for number in range(600):
        await cache.put(f"the question number {number}", policy=Policy(tags=("t",)), durable=False)
    assert await cache.cache.remove(TENANT, Chosen(ByTags(frozenset({"t"}))), Action.QUARANTINE) == 600
    await cache.die()
    second = await caches().ready()
    assert second.cache.entries.quarantined == 600
    await second.clear()
    assert second.cache.entries.quarantined == 0
