"""The cache as its own process, the way a deployment runs it: settings, key, health, contract, the real embedder."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon.llm.v1 import llm_pb2 as llm
from antiphon_client import AsyncCacheClient, CacheClient
from antiphon_client.channel import OPTIONS, open_channel
from antiphon_client.errors import AntiphonError, InvalidArgumentError, NotFoundError, from_status
from tests.integration.cache.cache_process import EX_CONFIG, GUARD_S, CacheProcess
from tests.integration.cache.conftest import emptied
from tests.integration.edgestore.store_process import StoreProcess


def message(text: str) -> llm.Message:
    return llm.Message(role=llm.ROLE_USER, parts=[llm.ContentPart(text=text)])


def query(text: str = "How do I reset my password?", **fields: object) -> pb.Query:
    return pb.Query(messages=[message(text)], **fields)  # type: ignore[arg-type]


def answer(text: str = "an answer") -> llm.Answer:
    return llm.Answer(text=text, finish_reason=llm.FINISH_REASON_STOP, model="m")


def put(text: str = "How do I reset my password?", **fields: object) -> pb.PutRequest:
    return pb.PutRequest(query=query(text), answer=answer(), durable=True, **fields)  # type: ignore[arg-type]


# --- the key (row 85) ------------------------------------------------------------------------------------------------


@pytest.mark.fault(85)
async def test_the_key_is_made_once_and_its_loss_ends_the_start(
    start: Callable[..., CacheProcess], store: StoreProcess
) -> None:
    key = store.state_dir / "fingerprint.key"
    first = start().serving()
    async with AsyncCacheClient(first.address) as client:
        await client.put(put())
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    secret = key.read_bytes()
    assert len(secret) == 32
    assert first.end() == 0

    key.unlink()
    status, said = start().ended()
    assert status == EX_CONFIG
    assert "ANTIPHON_CACHE_FINGERPRINT_KEY_FILE: is missing" in said
    assert not key.exists(), "a new key in the place of the lost one would hide what is wrong"

    key.write_bytes(bytes(32))
    status, said = start().ended()
    assert status == EX_CONFIG
    assert "ANTIPHON_CACHE_FINGERPRINT_KEY_FILE: is not the key" in said
    assert bytes(32).hex() not in said

    key.write_bytes(secret)
    again = start().serving()
    async with AsyncCacheClient(again.address) as client:
        assert (await client.lookup(pb.LookupRequest(query=query()))).outcome == pb.OUTCOME_EXACT
    assert again.end() == 0
    assert key.read_bytes() == secret


@pytest.mark.fault(85)
@pytest.mark.parametrize(("content", "told"), [(None, "is required"), (b"short", "exactly 32 bytes")])
def test_with_a_server_the_key_must_be_given(
    start: Callable[..., CacheProcess], store: StoreProcess, tmp_path: Path, content: bytes | None, told: str
) -> None:
    environ = {"ANTIPHON_QDRANT_URL": store.url}
    if content is not None:
        (tmp_path / "key").write_bytes(content)
        environ["ANTIPHON_CACHE_FINGERPRINT_KEY_FILE"] = str(tmp_path / "key")
    status, said = start(**environ).ended()
    assert status == EX_CONFIG
    assert "ANTIPHON_CACHE_FINGERPRINT_KEY_FILE: " in said
    assert told in said
    assert not (store.state_dir / "fingerprint.key").exists()


def test_a_server_by_its_url_is_used_with_the_key_and_credential_that_were_given(
    start: Callable[..., CacheProcess], store: StoreProcess, tmp_path: Path
) -> None:
    (tmp_path / "key").write_bytes(os.urandom(32))
    (tmp_path / "token").write_text(store.token)
    cache = start(
        ANTIPHON_QDRANT_URL=store.url,
        ANTIPHON_QDRANT_API_KEY_FILE=str(tmp_path / "token"),
        ANTIPHON_CACHE_FINGERPRINT_KEY_FILE=str(tmp_path / "key"),
    ).serving()
    assert cache.end() == 0


def test_a_refused_credential_ends_the_start(
    start: Callable[..., CacheProcess], store: StoreProcess, tmp_path: Path
) -> None:
    (tmp_path / "key").write_bytes(os.urandom(32))
    (tmp_path / "token").write_text("wrong")
    status, said = start(
        ANTIPHON_QDRANT_URL=store.url,
        ANTIPHON_QDRANT_API_KEY_FILE=str(tmp_path / "token"),
        ANTIPHON_CACHE_FINGERPRINT_KEY_FILE=str(tmp_path / "key"),
    ).ended()
    assert status == EX_CONFIG
    assert "ANTIPHON_QDRANT_URL" in said


# --- health ----------------------------------------------------------------------------------------------------------


async def test_it_serves_before_the_store_does_and_is_ready_after(
    start: Callable[..., CacheProcess], store: StoreProcess
) -> None:
    store.stop()
    cache = start().listening()
    # Clients keep away from a server that is not ready, unless their channel is told to call it all the same.
    async with open_channel(cache.address, options=OPTIONS) as channel, AsyncCacheClient(channel=channel) as client:
        assert not await asyncio.to_thread(cache.is_ready)
        granted = (await client.lookup(pb.LookupRequest(query=query()))).fill.granted
        assert (await client.commit(pb.CommitRequest(lease_id=granted.id, answer=answer(), durable=True))).stored
        found = await client.lookup(pb.LookupRequest(query=query("How can I reset my password?")))
        assert found.outcome == pb.OUTCOME_SEMANTIC
        await asyncio.to_thread(store.start)
        await asyncio.to_thread(cache.serving)
        assert (await client.get_stats(pb.GetStatsRequest())).store_healthy
    assert cache.end() == 0


async def test_who_waits_does_not_hold_up_a_server_that_stops(start: Callable[..., CacheProcess]) -> None:
    cache = start(ANTIPHON_DRAIN_GRACE=str(GUARD_S)).serving()
    async with AsyncCacheClient(cache.address) as client:
        granted = (await client.lookup(pb.LookupRequest(query=query()))).fill.granted
        waiting = [
            asyncio.create_task(client.wait_fill(pb.WaitFillRequest(lease_id=granted.id), timeout=GUARD_S))
            for _ in range(5)
        ]
        # Waiting begins when the call has arrived; the next one on this connection arrives after it.
        await client.renew_fill(pb.RenewFillRequest(lease_id=granted.id))
        begun = time.monotonic()
        assert await asyncio.to_thread(cache.end) == 0
        assert time.monotonic() - begun < GUARD_S / 2
        for ended in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(ended, (pb.WaitFillResponse, AntiphonError))


# --- the contract ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(store_process: StoreProcess) -> Iterator[CacheProcess]:
    """One cache for the tests of the contract, which stay apart by namespace and come last: others empty the store."""
    cache = CacheProcess(emptied(store_process).state_dir)
    yield cache.serving()
    cache.end(signal.SIGKILL)


@pytest.fixture
async def client(shared: CacheProcess) -> AsyncIterator[AsyncCacheClient]:
    async with AsyncCacheClient(shared.address) as made:
        yield made


SEVERAL = [
    (pb.LookupRequest(), "query"),
    (pb.LookupRequest(query=pb.Query()), "query.messages"),
    (pb.LookupRequest(query=query(" \n")), "query.messages[0].parts"),
    (pb.LookupRequest(query=query(namespace="with space")), "query.namespace"),
    (pb.LookupRequest(query=query(namespace="x" * 129)), "query.namespace"),
    (pb.LookupRequest(query=query(), fill_token="x" * 65), "fill_token"),
    *[
        (pb.LookupRequest(query=query(), policy=policy), f"policy.{field}")
        for policy, field in [
            (pb.CachePolicy(min_similarity=1.1), "min_similarity"),
            (pb.CachePolicy(min_similarity=float("nan")), "min_similarity"),
            (pb.CachePolicy(max_error_rate=-0.1), "max_error_rate"),
            (pb.CachePolicy(ttl=Duration()), "ttl"),
            (pb.CachePolicy(max_age=Duration(seconds=-1)), "max_age"),
            (pb.CachePolicy(tags=["x"] * 17), "tags"),
            (pb.CachePolicy(tags=["ok", ""]), "tags[1]"),
            (pb.CachePolicy(stale_while_revalidate=Duration()), "stale_while_revalidate"),
            (pb.CachePolicy(source_versions={"a": ""}), "source_versions"),
            (pb.CachePolicy(source_versions={str(n): "1" for n in range(17)}), "source_versions"),
        ]
    ],
    (pb.PutRequest(query=query()), "answer"),
    (pb.PutRequest(query=query(), answer=llm.Answer(text="x", model="m")), "answer.finish_reason"),
    (pb.PutRequest(query=query(), answer=answer("")), "answer"),
    (pb.PutRequest(query=query(), answer=answer("x" * 5_000_000)), "answer"),
    (pb.CommitRequest(answer=answer()), "lease_id"),
    (pb.CommitRequest(lease_id="x" * 129, answer=answer()), "lease_id"),
    (pb.CommitRequest(lease_id="x"), "answer"),
    (pb.AbortRequest(lease_id="x", reason="x" * 65), "reason"),
    (pb.DeleteRequest(), "selector"),
    (pb.DeleteRequest(source="nobody"), "source"),
    (pb.DeleteRequest(tags=pb.Tags()), "tags.tags"),
    (pb.DeleteRequest(entry_ids=pb.EntryIds(ids=["x"] * 1001)), "entry_ids.ids"),
    (pb.ClearRequest(namespace="?"), "namespace"),
    (pb.GetStatsRequest(namespace="?"), "namespace"),
]


async def test_what_is_wrong_is_named(client: AsyncCacheClient) -> None:
    calls = {
        pb.LookupRequest: client.lookup,
        pb.PutRequest: client.put,
        pb.CommitRequest: client.commit,
        pb.AbortRequest: client.abort,
        pb.DeleteRequest: client.delete,
        pb.ClearRequest: client.clear,
        pb.GetStatsRequest: client.get_stats,
    }
    for request, field in SEVERAL:
        with pytest.raises(InvalidArgumentError) as caught:
            await calls[type(request)](request)  # type: ignore[operator]
        assert list(caught.value.fields) == [field]


async def test_a_whole_conversation_with_the_contract(client: AsyncCacheClient) -> None:
    missed = await client.lookup(pb.LookupRequest(query=query()))
    assert missed.outcome == pb.OUTCOME_MISS
    assert missed.embedding.dim == 384
    assert len(missed.embedding.vector) == 4 * 384
    assert missed.embedding.embedder.startswith("minilm")
    assert missed.embedding_usage.input_tokens > 0
    assert missed.fill.granted.duration.seconds == 30
    assert abs(missed.fill.granted.expire_time.ToSeconds() - time.time() - 30) < 10
    policy = pb.CachePolicy(tags=["t"], ttl=Duration(seconds=100))
    entry = await client.put(put(policy=policy))
    assert 90 < entry.expire_time.ToSeconds() - time.time() <= 100

    exact = await client.lookup(pb.LookupRequest(query=query()))
    assert (exact.outcome, exact.entry_id, exact.answer.text) == (pb.OUTCOME_EXACT, entry.entry_id, "an answer")
    assert exact.decision.expire_time == entry.expire_time
    assert exact.lookup_id != missed.lookup_id
    reworded = await client.lookup(pb.LookupRequest(query=query("How can I reset my password?")))
    assert reworded.outcome == pb.OUTCOME_SEMANTIC
    decision = reworded.decision
    assert decision.similarity >= decision.threshold > 0
    assert decision.score >= decision.score_threshold > 0
    assert 0 <= decision.p_wrong < 1
    assert not decision.veto_reasons
    assert decision.decision_version.startswith("guard-")
    assert reworded.decision.matched_prompt == "How do I reset my password?"
    other = await client.lookup(pb.LookupRequest(query=query("How can I reset my password?", namespace="other")))
    assert (other.outcome, other.decision.matched_prompt) == (pb.OUTCOME_MISS, "")

    with pytest.raises(NotFoundError) as caught:
        await client.delete(pb.DeleteRequest(namespace="other", entry_ids=pb.EntryIds(ids=[entry.entry_id])))
    assert caught.value.reason == "ENTRY_NOT_FOUND"
    tagged = pb.DeleteRequest(tags=pb.Tags(tags=["t"]), dry_run=True)
    assert (await client.delete(tagged)).deleted == 1
    assert (await client.clear(pb.ClearRequest())).cleared == 1
    assert (await client.delete(tagged)).deleted == 0
    # The lease from before the clear is worth nothing now, but whoever made the answer hears no error.
    late = await client.commit(pb.CommitRequest(lease_id=missed.fill.granted.id, answer=answer()))
    assert (late.stored, late.not_stored_reason) == (False, "cleared")
    stats = await client.get_stats(pb.GetStatsRequest(namespace="default"))
    assert (stats.lookups.exact, stats.lookups.semantic, stats.lookups.miss) == (1, 1, 1)
    assert sum(stats.similarity_histogram.hits) == 1
    assert {latency.outcome for latency in stats.latency_histogram.outcomes} == {
        pb.OUTCOME_EXACT,
        pb.OUTCOME_SEMANTIC,
        pb.OUTCOME_MISS,
    }
    assert (await client.get_stats(pb.GetStatsRequest())).lookups.miss >= 2


async def test_a_batch_answers_in_order_and_each_for_itself(client: AsyncCacheClient, shared: CacheProcess) -> None:
    for text in ("How do I reset my password?", "What does the planet Saturn weigh?"):
        stored = pb.PutRequest(query=query(text, namespace="batch"), answer=answer(text))
        await client.put(stored)

    def lookup(text: str, **fields: object) -> pb.LookupRequest:
        return pb.LookupRequest(query=query(text, namespace="batch"), **fields)  # type: ignore[arg-type]

    unknown = lookup("?")
    unknown.policy.mode = 99  # type: ignore[assignment]
    request = pb.BatchLookupRequest(
        lookups=[
            lookup("What does the planet Saturn weigh?"),
            lookup("Nobody asked this before, did they?", fill_token="a"),
            pb.LookupRequest(query=query(namespace="with space")),
            lookup("How can I reset my password?"),
            unknown,
            lookup("Nobody asked this before, did they?", fill_token="b"),
        ]
    )
    results = (await client.batch_lookup(request)).results
    exact, missed, wrong, semantic, too_new, repeated = results
    assert (exact.response.outcome, exact.response.answer.text) == (
        pb.OUTCOME_EXACT,
        request.lookups[0].query.messages[0].parts[0].text,
    )
    assert (semantic.response.outcome, semantic.response.answer.text) == (
        pb.OUTCOME_SEMANTIC,
        "How do I reset my password?",
    )
    assert len(missed.response.embedding.vector) == 4 * 384
    assert missed.response.fill.granted.id == repeated.response.fill.in_progress_lease_id != ""
    for result, field in ((wrong, "query.namespace"), (too_new, "policy.mode")):
        error = from_status(result.error)
        assert isinstance(error, InvalidArgumentError)
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", [field])
    again = await client.batch_lookup(request)
    assert again.results[1].response.fill.granted.id == missed.response.fill.granted.id
    assert len({result.response.lookup_id for result in (*results, *again.results)}) == 9, "and none for errors"

    def blocking() -> pb.BatchLookupResponse:
        with CacheClient(shared.address) as made:
            return made.batch_lookup(request)

    assert [result.response.outcome for result in (await asyncio.to_thread(blocking)).results] == [
        result.response.outcome for result in results
    ]
    stats = await client.get_stats(pb.GetStatsRequest(namespace="batch"))
    counts = stats.lookups
    assert (counts.exact, counts.semantic, counts.miss, counts.fills_granted) == (3, 3, 6, 3)
    alone = await client.lookup(request.lookups[3])
    for response in (alone, semantic.response):
        response.decision.age.Clear()
        for own in ("lookup_id", "embedding_usage", "audit_id"):  # chance has some hits audited
            response.ClearField(own)
    assert alone == semantic.response


async def test_a_batch_is_some_but_not_too_many(client: AsyncCacheClient) -> None:
    one = pb.LookupRequest(query=query(), policy=pb.CachePolicy(mode=pb.CACHE_MODE_BYPASS))
    assert len((await client.batch_lookup(pb.BatchLookupRequest(lookups=[one] * 256))).results) == 256
    for lookups, reason in (([], "MISSING_FIELD"), ([one] * 257, "INVALID_FIELD")):
        with pytest.raises(InvalidArgumentError) as caught:
            await client.batch_lookup(pb.BatchLookupRequest(lookups=lookups))
        assert (caught.value.reason, list(caught.value.fields)) == (reason, ["lookups"])


async def test_a_thousand_equal_questions_are_one_fill(client: AsyncCacheClient) -> None:
    asked = pb.LookupRequest(query=query(namespace="thousand"))
    looked = await asyncio.gather(*(client.lookup(asked) for _ in range(1_000)))
    granted = [found.fill.granted.id for found in looked if found.fill.HasField("granted")]
    assert len(granted) == 1
    assert {found.fill.in_progress_lease_id for found in looked} == {"", granted[0]}
    waiting = [asyncio.create_task(client.wait_fill(pb.WaitFillRequest(lease_id=granted[0]))) for _ in range(999)]
    await client.commit(pb.CommitRequest(lease_id=granted[0], answer=answer()))
    assert {waited.filled.answer.text for waited in await asyncio.gather(*waiting)} == {"an answer"}
    stats = await client.get_stats(pb.GetStatsRequest(namespace="thousand"))
    assert (stats.lookups.fills_granted, stats.lookups.fills_in_progress) == (1, 999)
