"""Writes whole answers as messages of `antiphon.completion.v1`."""

from __future__ import annotations

from collections.abc import Sequence

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from services.completion.ports import Decision, Routing, ServedFrom
from services.completion.proto.durations import write_duration
from services.completion.proto.words import COMPLEXITY_NUMBERS, OUTCOME_NUMBERS
from services.completion.result import Attempt, CachePart, Delivered
from services.llm.writing import write_answer, write_cost, write_finish_reason, write_timestamp, write_usage


def write_response(
    delivered: Delivered, completion_id: str, request_id: str, *, degraded: Sequence[str] = ()
) -> completion_pb2.CompleteResponse:
    """Return the answer of `Complete`; `degraded` names more reasons than those of the fill."""
    answer, info = write_finished(delivered, completion_id, request_id)
    info.degraded.extend(degraded)
    return completion_pb2.CompleteResponse(answer=answer, info=info)


def write_kept(response: bytes, *, replayed: bool) -> completion_pb2.CompleteResponse:
    """Return a response that was kept, as it was but for `replayed`."""
    message = completion_pb2.CompleteResponse.FromString(response)
    message.info.replayed = replayed
    return message


def write_finished(
    delivered: Delivered, completion_id: str, request_id: str
) -> tuple[llm_pb2.Answer, completion_pb2.CompletionInfo]:
    """Return an answer and everything about it."""
    completed = delivered.completed
    answer = write_answer(completed.answer)
    info = completion_pb2.CompletionInfo(
        completion_id=completion_id,
        request_id=request_id,
        model=completed.answer.model,
        usage=write_usage(delivered.usage),
        cost=write_cost(delivered.cost),
        served_from=None if delivered.served_from is None else _served_from(delivered.served_from),
        route=None if completed.routing is None else _route(completed.routing),
        cache=_cache(completed.cache, shared=delivered.shared),
        attempts=[_attempt(attempt) for attempt in completed.attempts],
        finish_reason=write_finish_reason(completed.answer.finish_reason),
        latency=write_duration(delivered.latency),
        time_to_first_token=write_duration(delivered.time_to_first_token),
        degraded=completed.degraded,
        create_time=write_timestamp(completed.answer.created_at) if completed.answer.created_at > 0 else None,
    )
    return answer, info


def _served_from(served: ServedFrom) -> cache_pb2.ServedFrom:
    return cache_pb2.ServedFrom(usage=write_usage(served.usage), cost_saved=write_cost(served.cost))


def _route(routing: Routing) -> completion_pb2.Route:
    return completion_pb2.Route(
        decision_id=routing.decision_id,
        complexity=COMPLEXITY_NUMBERS[routing.complexity],
        reasons=routing.reasons,
        policy_version=routing.policy_version,
    )


def _cache(part: CachePart, *, shared: bool) -> completion_pb2.CacheInfo:
    return completion_pb2.CacheInfo(
        outcome=OUTCOME_NUMBERS[part.outcome],
        entry_id=part.entry_id,
        decision=None if part.decision is None else _decision(part.decision),
        bypass_reason=part.bypass_reason,
        shared_fill=shared,
    )


def _decision(decision: Decision) -> cache_pb2.Decision:
    return cache_pb2.Decision(
        similarity=decision.similarity,
        p_wrong=decision.p_wrong,
        threshold=decision.threshold,
        veto_reasons=decision.veto_reasons,
        matched_prompt=decision.matched_prompt,
        age=None if decision.age is None else write_duration(decision.age),
        expire_time=None if decision.expires_at is None else write_timestamp(decision.expires_at),
        score=decision.score,
        score_threshold=decision.score_threshold,
        decision_version=decision.version,
    )


def _attempt(attempt: Attempt) -> completion_pb2.Attempt:
    return completion_pb2.Attempt(
        model=attempt.model,
        upstream=attempt.upstream,
        result=attempt.result,
        duration=write_duration(attempt.duration),
        usage=write_usage(attempt.usage),
        cost=write_cost(attempt.cost),
        offset=attempt.offset,
    )
