"""What operators see and do, through the command line and a real cache process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon_client import AsyncCacheClient
from antiphon_client.errors import InvalidArgumentError, NotFoundError
from tests.integration.cache.cache_process import CacheProcess
from tests.integration.edgestore.store_process import StoreProcess
from tests.integration.tenants.methods import answer, query

ASKED = "How do I reset my password?"
REWORDED = "How can I reset my password?"
REVERSED = "How do I avoid to reset my password?"


def antiphon(cache: CacheProcess, *words: str) -> str:
    """Run the command line; return what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("antiphon")), *words],
        env={**kept, "ANTIPHON_CACHE_TARGET": cache.address},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_decision_is_explained(start: Callable[..., CacheProcess]) -> None:
    cache = start().serving()
    async with AsyncCacheClient(cache.address) as client:
        entry = await client.put(pb.PutRequest(query=query(ASKED), answer=answer("Click on 'Forgot password'.")))
        said = await client.explain(pb.ExplainRequest(query=query(REWORDED)))
        assert (said.outcome, said.entry_id, said.rule) == (pb.OUTCOME_SEMANTIC, entry.entry_id, "verifier")
        assert said.decision.score >= said.score_threshold
        assert said.decision.matched_prompt == ASKED
        assert said.scope.comparable_entries == 1
        assert said.scope.embedder.startswith("minilm")
        same = await client.explain(pb.ExplainRequest(query=query(ASKED)))
        assert (same.scope.hash, same.scope.entry_id) == (said.scope.hash, entry.entry_id)
        for limit in (-1, 51):
            with pytest.raises(InvalidArgumentError) as caught:
                await client.explain(pb.ExplainRequest(query=query(ASKED), limit=limit))
            assert list(caught.value.fields) == ["limit"]
        stats = await client.get_stats(pb.GetStatsRequest())
        assert (stats.lookups.semantic, stats.lookups.miss, stats.lookups.fills_granted) == (0, 0, 0)

    shown = antiphon(cache, "explain", REVERSED)
    assert "would be" in shown
    assert "MISS" in shown
    assert "negation" in shown
    assert ASKED in shown
    told = json.loads(antiphon(cache, "explain", REVERSED, "--json", "--limit", "1"))
    assert told["outcome"] == "OUTCOME_MISS"
    assert told["candidates"][0]["features"]["neg"] == 1.0


async def test_entries_are_listed_with_where_they_come_from(
    start: Callable[..., CacheProcess], store: StoreProcess
) -> None:
    cache = start().serving()
    async with AsyncCacheClient(cache.address) as client:
        ids = []
        for number in range(7):
            policy = pb.CachePolicy(tags=["odd"] if number % 2 else [])
            asked = query(f"Question {number}")
            asked.namespace = "first" if number < 3 else "second"
            made = answer("!")
            made.model = "large" if number == 5 else "small"
            put = pb.PutRequest(query=asked, answer=made, policy=policy, durable=True)
            ids.append((await client.put(put)).entry_id)
        gone = pb.PutRequest(query=query("Gone"), answer=answer("!"), policy=pb.CachePolicy(ttl=Duration(nanos=1_000)))
        await client.put(gone)
        lease = (await client.lookup(pb.LookupRequest(query=query("Filled?")))).fill.granted.id
        filled = await client.commit(pb.CommitRequest(lease_id=lease, answer=answer("!"), durable=True))

        async def listed(**filters: object) -> list[pb.Entry]:
            request = pb.ListEntriesRequest(page_size=2, **filters)  # type: ignore[arg-type]
            pages: list[pb.Entry] = []
            while True:
                page = await client.list_entries(request)
                assert len(page.entries) <= 2
                pages += page.entries
                request.page_token = page.next_page_token
                if not request.page_token:
                    return pages

        everything = await listed()
        assert sorted(entry.entry_id for entry in everything) == sorted([*ids, filled.entry_id])
        assert [(e.namespace, e.entry_id) for e in everything] == sorted((e.namespace, e.entry_id) for e in everything)
        assert {entry.entry_id for entry in await listed(namespace="first")} == set(ids[:3])
        assert {entry.entry_id for entry in await listed(tag="odd")} == {ids[1], ids[3], ids[5]}
        assert [entry.entry_id for entry in await listed(model="large", tag="odd")] == [ids[5]]
        assert await listed(namespace="third") == []
        for request, field in (
            (pb.ListEntriesRequest(namespace="?"), "namespace"),
            (pb.ListEntriesRequest(tag="x" * 65), "tag"),
            (pb.ListEntriesRequest(page_size=1_001), "page_size"),
            (pb.ListEntriesRequest(page_token="?"), "page_token"),
            (pb.ListEntriesRequest(page_token="eHh4"), "page_token"),
        ):
            with pytest.raises(InvalidArgumentError) as caught:
                await client.list_entries(request)
            assert list(caught.value.fields) == [field]
    assert cache.end() == 0

    again = start().serving()
    shown = antiphon(again, "entries", "--namespace", "second", "--tag", "odd")
    assert "Question 3" in shown
    assert "Question 4" not in shown
    (one,) = antiphon(again, "entries", "--model", "large", "--json").splitlines()
    entry = json.loads(one)
    assert (entry["entry_id"], entry["prompt"], entry["source"]) == (ids[5], "Question 5", "put")
    assert entry["decision_version"].startswith("guard-")
    assert entry["embedder"].startswith("minilm")
    assert antiphon(again, "entries", "--limit", "1").count("Question") <= 1


async def test_wrong_answers_are_taken_out_of_service_and_put_back(
    start: Callable[..., CacheProcess], store: StoreProcess
) -> None:
    cache = start(ANTIPHON_CACHE_QUARANTINE_USERS="2").serving()
    async with AsyncCacheClient(cache.address) as client:
        entry = (await client.put(pb.PutRequest(query=query(ASKED), answer=answer("Wrong.")))).entry_id

        async def outcomes() -> list[pb.Outcome.ValueType]:
            policy = pb.CachePolicy(mode=pb.CACHE_MODE_ONLY_IF_CACHED)
            asked = [pb.LookupRequest(query=query(text), policy=policy) for text in (ASKED, REWORDED)]
            return [(await client.lookup(one)).outcome for one in asked]

        served = await client.lookup(pb.LookupRequest(query=query(REWORDED)))
        for user in ("one", "two", "two"):
            said = await client.feedback(
                pb.FeedbackRequest(
                    entry_id=served.entry_id,
                    verdict=pb.VERDICT_WRONG,
                    source=pb.FEEDBACK_SOURCE_USER,
                    served=served.outcome,
                    lookup_id=served.lookup_id,
                    user=user,
                )
            )
        assert not said.recorded
        assert (said.quarantine.rule, said.quarantine.whole) == ("users", False)
        assert await outcomes() == [pb.OUTCOME_EXACT, pb.OUTCOME_MISS]
        explained = await client.explain(pb.ExplainRequest(query=query(REWORDED)))
        assert list(explained.decision.veto_reasons) == ["quarantined"]
        assert explained.candidates[0].quarantine == said.quarantine

        assert "quarantined by operator" in antiphon(cache, "feedback", "wrong", "--entry", entry)
        assert await outcomes() == [pb.OUTCOME_MISS, pb.OUTCOME_MISS]
        assert (await client.explain(pb.ExplainRequest(query=query(ASKED)))).quarantine.rule == "operator"
        stats = await client.get_stats(pb.GetStatsRequest())
        assert (stats.entries_total, stats.entries_valid, stats.entries_quarantined) == (1, 0, 1)
        assert stats.entries_expired == 0
    assert cache.end() == 0

    again = start().serving()
    shown = antiphon(again, "entries", "--quarantined")
    assert "quarantined by operator" in shown
    assert "user 0:2" in shown
    assert entry not in antiphon(again, "entries", "--served")
    assert "quarantined by operator" in antiphon(again, "explain", ASKED)
    assert "it is served" in antiphon(again, "feedback", "right", "--entry", entry)
    assert "would quarantine 1 entry" in antiphon(
        again, "rollback", "--source", "put", "--since", "1h", "--quarantine", "--dry-run"
    )
    assert "quarantined 1 entry" in antiphon(
        again, "rollback", "--source", "put", "--since", "1h", "--quarantine", "--all-namespaces"
    )
    assert json.loads(antiphon(again, "rollback", "--source", "put", "--release", "--json"))["deleted"] == "1"
    nothing = antiphon(again, "rollback", "--writer", "nobody")
    assert "deleted 0 entries" in nothing
    assert "there is no entry in the namespace default written for the key nobody" in nothing
    assert "no entry in any namespace stored by put that an operator has quarantined" in antiphon(
        again, "rollback", "--source", "put", "--release", "--all-namespaces"
    )
    shown_entry = json.loads(antiphon(again, "entries", "--json"))
    meant = ("feedback", "right", "--entry", entry, "--created")
    assert "it is served" in antiphon(again, *meant, shown_entry["create_time"])
    with pytest.raises(AssertionError, match="another answer"):
        antiphon(again, *meant, "2026-01-31T12:00:00Z")
    assert "deleted 1 entry" in antiphon(again, "rollback", "--source", "put")


FEEDBACK = pb.FeedbackRequest(entry_id="x", verdict=pb.VERDICT_WRONG, source=pb.FEEDBACK_SOURCE_USER)


def feedback(**fields: object) -> pb.FeedbackRequest:
    request = pb.FeedbackRequest()
    request.CopyFrom(FEEDBACK)
    request.MergeFrom(pb.FeedbackRequest(**fields))  # type: ignore[arg-type]
    return request


async def test_what_is_wrong_with_feedback_and_rollbacks_is_named(start: Callable[..., CacheProcess]) -> None:
    cache = start().serving()
    unknown = feedback()
    unknown.source = 99  # type: ignore[assignment]
    wrong_feedback: list[tuple[pb.FeedbackRequest, str, str]] = [
        (pb.FeedbackRequest(verdict=pb.VERDICT_WRONG, source=pb.FEEDBACK_SOURCE_USER), "entry_id", "MISSING_FIELD"),
        (pb.FeedbackRequest(entry_id="x", source=pb.FEEDBACK_SOURCE_USER), "verdict", "MISSING_FIELD"),
        (pb.FeedbackRequest(entry_id="x", verdict=pb.VERDICT_WRONG), "source", "MISSING_FIELD"),
        (feedback(entry_id="x" * 129), "entry_id", "INVALID_FIELD"),
        (feedback(feedback_id="x" * 129), "feedback_id", "INVALID_FIELD"),
        (feedback(lookup_id="x" * 129), "lookup_id", "INVALID_FIELD"),
        (feedback(user="x" * 129), "user", "INVALID_FIELD"),
        (feedback(namespace="?"), "namespace", "INVALID_FIELD"),
        (feedback(answer_create_time=Timestamp(seconds=10**17)), "answer_create_time", "INVALID_FIELD"),
        (unknown, "source", "INVALID_FIELD"),
    ]
    wrong_deletes: list[tuple[pb.DeleteRequest, str, str]] = [
        (pb.DeleteRequest(), "selector", "MISSING_FIELD"),
        (pb.DeleteRequest(writer="?"), "writer", "INVALID_FIELD"),
        (pb.DeleteRequest(writer="w", namespace="n", all_namespaces=True), "namespace", "INVALID_FIELD"),
        (pb.DeleteRequest(writer="w", since=Timestamp(nanos=-1)), "since", "INVALID_FIELD"),
        (pb.DeleteRequest(writer="w", action=99), "action", "INVALID_FIELD"),  # type: ignore[arg-type]
    ]
    async with AsyncCacheClient(cache.address) as client:
        for said, field, reason in wrong_feedback:
            with pytest.raises(InvalidArgumentError) as caught:
                await client.feedback(said)
            assert (list(caught.value.fields), caught.value.reason) == ([field], reason)
        for request, field, reason in wrong_deletes:
            with pytest.raises(InvalidArgumentError) as caught:
                await client.delete(request)
            assert (list(caught.value.fields), caught.value.reason) == ([field], reason)
        with pytest.raises(NotFoundError) as absent:
            await client.feedback(FEEDBACK)
        assert (absent.value.reason, list(absent.value.fields)) == ("ENTRY_NOT_FOUND", ["entry_id"])
