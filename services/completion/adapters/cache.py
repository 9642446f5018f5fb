"""The cache service behind `services.completion.ports.Cache`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from antiphon.cache.v1 import cache_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon_client import AsyncCacheClient
from services.chassis.auth.values import Caller
from services.chassis.errors import InvalidRequest, Reason, Unavailable
from services.completion.adapters.errors import translated
from services.completion.adapters.serving import served
from services.completion.ports import (
    Committed,
    Decision,
    Embedding,
    EntryVerdict,
    Filled,
    Found,
    Lease,
    Outcome,
    ServedFrom,
)
from services.completion.proto.durations import read_duration, write_duration
from services.completion.proto.words import MODE_NUMBERS, OUTCOMES, SOURCE_NUMBERS
from services.completion.request import CachePolicy, Question
from services.llm.reading import read_answer, read_cost, read_usage
from services.llm.values import Answer
from services.llm.writing import write_answer, write_message, write_options, write_timestamp, write_tool

T = TypeVar("T")

_PREFIXES = {"query.": "", "policy": "cache"}
"""The cache's fields by the names that they have in a request of ours."""

_VERDICT_PREFIXES = {"entry_id": "completion_id"}
"""The same of feedback."""

_NO_SUCH_NAMESPACE = "antiphon:health"
"""Statistics are asked for an empty namespace: only the store's health is wanted, and nothing has to be counted."""


class GrpcCache:
    """Calls one cache server, for the caller that is named with each call."""

    def __init__(self, client: AsyncCacheClient) -> None:
        self._client = client

    async def lookup(
        self, caller: Caller, question: Question, policy: CachePolicy, fill_token: str, *, timeout: float
    ) -> Found:
        """Look for a stored answer; a miss may grant the fill."""
        request = cache_pb2.LookupRequest(query=_query(question), policy=_policy(policy), fill_token=fill_token)
        return _found(await _call(self._client.lookup(request, timeout=timeout, metadata=served(caller))))

    async def wait_fill(
        self, caller: Caller, lease_id: str, fill_token: str, *, timeout: float
    ) -> Filled | Lease | None:
        """Wait for another's fill: its answer, its lease if it gave up, or `None` if nothing has happened yet."""
        request = cache_pb2.WaitFillRequest(lease_id=lease_id, fill_token=fill_token)
        response = await _call(self._client.wait_fill(request, timeout=timeout, metadata=served(caller)))
        match response.WhichOneof("result"):
            case "filled":
                return _filled(response.filled)
            case "granted":
                return _lease(response.granted)
            case _:
                return None

    async def renew(self, caller: Caller, lease_id: str, *, timeout: float) -> Lease:
        """Extend a lease; `Aborted` or `NotFound` if it is lost."""
        request = cache_pb2.RenewFillRequest(lease_id=lease_id)
        response = await _call(self._client.renew_fill(request, timeout=timeout, metadata=served(caller)))
        return _lease(response.lease)

    async def commit(self, caller: Caller, lease_id: str, answer: Answer, *, timeout: float) -> Committed:
        """Store the answer of a granted fill; `Aborted` or `NotFound` if the lease is lost."""
        request = cache_pb2.CommitRequest(lease_id=lease_id, answer=write_answer(answer))
        response = await _call(self._client.commit(request, timeout=timeout, metadata=served(caller)))
        return Committed(response.entry_id, response.stored, response.not_stored_reason)

    async def abort(self, caller: Caller, lease_id: str, reason: str, *, timeout: float) -> None:
        """Give up a granted fill."""
        request = cache_pb2.AbortRequest(lease_id=lease_id, reason=reason)
        await _call(self._client.abort(request, timeout=timeout, metadata=served(caller)))

    async def put(
        self, caller: Caller, question: Question, answer: Answer, policy: CachePolicy, *, timeout: float
    ) -> str:
        """Store an answer without a lease; the id of its entry."""
        request = cache_pb2.PutRequest(query=_query(question), answer=write_answer(answer), policy=_policy(policy))
        return (await _call(self._client.put(request, timeout=timeout, metadata=served(caller)))).entry_id

    async def feedback(self, caller: Caller, verdict: EntryVerdict, *, timeout: float) -> bool:
        """Say whether an entry's answer was right; whether that is new. `NotFound` if it is not there any more."""
        request = cache_pb2.FeedbackRequest(
            entry_id=verdict.entry_id,
            namespace=verdict.namespace,
            verdict=cache_pb2.VERDICT_RIGHT if verdict.right else cache_pb2.VERDICT_WRONG,
            source=SOURCE_NUMBERS[verdict.source],
            served=cache_pb2.OUTCOME_SEMANTIC if verdict.semantic else cache_pb2.OUTCOME_EXACT,
            feedback_id=verdict.completion_id,
            user=verdict.user,
            answer_create_time=write_timestamp(verdict.answered_at) if verdict.answered_at > 0 else None,
        )
        call = self._client.feedback(request, timeout=timeout, metadata=served(caller))
        return (await translated(call, unavailable=Reason.CACHE_UNAVAILABLE, prefixes=_VERDICT_PREFIXES)).recorded

    async def report_audit(self, caller: Caller, audit_id: str, answer: Answer, *, timeout: float) -> None:
        """Report the fresh answer of an audit; the cache compares it with what it served."""
        request = cache_pb2.ReportAuditRequest(audit_id=audit_id, answer=write_answer(answer))
        await _call(self._client.report_audit(request, timeout=timeout, metadata=served(caller)))

    async def store_healthy(self, *, timeout: float) -> bool:
        """Whether the cache's store answers."""
        request = cache_pb2.GetStatsRequest(namespace=_NO_SUCH_NAMESPACE)
        return (await _call(self._client.get_stats(request, timeout=timeout))).store_healthy


async def _call(call: Awaitable[T]) -> T:
    return await translated(call, unavailable=Reason.CACHE_UNAVAILABLE, prefixes=_PREFIXES)


def _query(question: Question) -> cache_pb2.Query:
    return cache_pb2.Query(
        namespace=question.namespace,
        model=question.model,
        messages=[write_message(message) for message in question.messages],
        options=write_options(question.options),
        tools=[write_tool(tool) for tool in question.tools],
        objective=question.objective,
    )


def _policy(policy: CachePolicy) -> cache_pb2.CachePolicy:
    return cache_pb2.CachePolicy(
        mode=MODE_NUMBERS[policy.mode],
        min_similarity=policy.min_similarity,
        max_error_rate=policy.max_error_rate,
        ttl=None if policy.ttl is None else write_duration(policy.ttl),
        max_age=None if policy.max_age is None else write_duration(policy.max_age),
        no_store=policy.no_store,
        tags=policy.tags,
        stale_while_revalidate=None if policy.stale is None else write_duration(policy.stale),
        source_versions=dict(policy.sources),
    )


def _lease(lease: cache_pb2.Lease) -> Lease:
    return Lease(lease.id, read_duration(lease.duration))


def _answer(answer: llm_pb2.Answer) -> Answer:
    try:
        return read_answer(answer)
    except InvalidRequest:
        # Not the caller's mistake: the cache holds something that it should not.
        raise Unavailable("the cache sent an answer that is none", reason=Reason.CACHE_UNAVAILABLE) from None


def _found(response: cache_pb2.LookupResponse) -> Found:
    fill = response.fill.WhichOneof("state")
    return Found(
        # An outcome of a newer cache: there is nothing in it that we could serve.
        outcome=OUTCOMES.get(response.outcome, Outcome.BYPASS),
        answer=_answer(response.answer) if response.HasField("answer") else None,
        entry_id=response.entry_id,
        decision=_decision(response.decision) if response.HasField("decision") else None,
        served_from=_served_from(response.served_from) if response.HasField("served_from") else None,
        lease=_lease(response.fill.granted) if fill == "granted" else None,
        in_progress=response.fill.in_progress_lease_id if fill == "in_progress_lease_id" else "",
        bypass_reason=response.bypass_reason,
        embedding=Embedding(response.embedding.vector, response.embedding.embedder)
        if response.HasField("embedding")
        else None,
        audit_id=response.audit_id,
    )


def _filled(filled: cache_pb2.FilledAnswer) -> Filled:
    return Filled(
        _answer(filled.answer),
        filled.entry_id,
        # Unset: it was made for this very question.
        outcome=OUTCOMES.get(filled.outcome, Outcome.MISS),
        decision=_decision(filled.decision) if filled.HasField("decision") else None,
        served_from=_served_from(filled.served_from) if filled.HasField("served_from") else None,
        audit_id=filled.audit_id,
    )


def _decision(decision: cache_pb2.Decision) -> Decision:
    return Decision(
        similarity=decision.similarity if decision.HasField("similarity") else None,
        p_wrong=decision.p_wrong if decision.HasField("p_wrong") else None,
        threshold=decision.threshold if decision.HasField("threshold") else None,
        veto_reasons=tuple(decision.veto_reasons),
        matched_prompt=decision.matched_prompt,
        age=read_duration(decision.age) if decision.HasField("age") else None,
        expires_at=decision.expire_time.ToMicroseconds() / 1e6 if decision.HasField("expire_time") else None,
        score=decision.score if decision.HasField("score") else None,
        score_threshold=decision.score_threshold if decision.HasField("score_threshold") else None,
        version=decision.decision_version,
    )


def _served_from(served: cache_pb2.ServedFrom) -> ServedFrom:
    return ServedFrom(read_usage(served.usage), read_cost(served.cost_saved))
