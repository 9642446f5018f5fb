"""Between `antiphon.cache.v1` and plain values; validates what a caller sends.

Every `read_*` raises `InvalidRequest` naming the field that is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

from google.protobuf.duration_pb2 import Duration

from antiphon.cache.v1 import cache_pb2 as pb
from services.cache.entry import Entry
from services.cache.fill_values import Filled, Granted, InProgress
from services.cache.flight import WaitResult
from services.cache.histogram import LATENCY_BOUNDS, P_WRONG_BOUNDS, SIMILARITY_BOUNDS
from services.cache.learning.labels import Source as LabelSource
from services.cache.stats import Learning, Report
from services.cache.tally import Tally
from services.cache.values import (
    Asked,
    Decision,
    Fetch,
    LookupResult,
    Mode,
    Outcome,
    Policy,
    Query,
)
from services.llm.fields import invalid, missing
from services.llm.reading import read_answer, read_messages, read_options, read_tools
from services.llm.values import Answer, Usage
from services.llm.writing import (
    LARGEST,
    fill_answer,
    fill_cost,
    fill_microseconds,
    fill_usage,
    write_answer,
    write_timestamp,
    write_total,
    write_usage,
)

DEFAULT_NAMESPACE = "default"
DEFAULT_MODEL = "auto"
MAX_TAGS = 16
MAX_TAG = 64
MAX_SOURCES = 16
MAX_TOKEN = 64
MAX_LEASE_ID = 128
MAX_AUDIT_ID = 128
MAX_ANSWER_BYTES = 4 * 1024 * 1024
MATCHED_PROMPT = 1_000

_NAMESPACE = re.compile(r"[A-Za-z0-9._:/-]{1,128}")

_MODES = {
    pb.CACHE_MODE_UNSPECIFIED: Mode.DEFAULT,
    pb.CACHE_MODE_DEFAULT: Mode.DEFAULT,
    pb.CACHE_MODE_BYPASS: Mode.BYPASS,
    pb.CACHE_MODE_REFRESH: Mode.REFRESH,
    pb.CACHE_MODE_ONLY_IF_CACHED: Mode.ONLY_IF_CACHED,
}
OUTCOMES = {
    Outcome.EXACT: pb.OUTCOME_EXACT,
    Outcome.SEMANTIC: pb.OUTCOME_SEMANTIC,
    Outcome.STALE: pb.OUTCOME_STALE,
    Outcome.MISS: pb.OUTCOME_MISS,
    Outcome.BYPASS: pb.OUTCOME_BYPASS,
}


def read_namespace(value: str, path: str = "namespace") -> str:
    """A namespace; empty is `default`."""
    if not value:
        return DEFAULT_NAMESPACE
    if not _NAMESPACE.fullmatch(value):
        raise invalid(path, "must be 1 to 128 of a-z A-Z 0-9 . _ : / -")
    return value


def read_lookup(request: pb.LookupRequest) -> Asked:
    """One lookup."""
    return Asked(read_query(request), read_policy(request.policy), read_token(request.fill_token))


def read_query(request: pb.LookupRequest | pb.PutRequest | pb.ExplainRequest) -> Query:
    """The question of a request."""
    if not request.HasField("query"):
        raise missing("query", "is required")
    query = request.query
    return Query(
        messages=read_messages(query.messages, "query.messages"),
        namespace=read_namespace(query.namespace, "query.namespace"),
        model=query.model or DEFAULT_MODEL,
        options=read_options(query.options, "query.options"),
        tools=read_tools(query.tools, "query.tools"),
        objective=query.objective,
    )


def read_policy(policy: pb.CachePolicy) -> Policy:
    """How a request uses the cache."""
    return Policy(
        mode=_MODES[policy.mode],
        min_similarity=_share(policy.min_similarity, "policy.min_similarity")
        if policy.HasField("min_similarity")
        else None,
        max_error_rate=_share(policy.max_error_rate, "policy.max_error_rate")
        if policy.HasField("max_error_rate")
        else None,
        ttl=_seconds(policy.ttl, "policy.ttl") if policy.HasField("ttl") else None,
        max_age=_seconds(policy.max_age, "policy.max_age") if policy.HasField("max_age") else None,
        no_store=policy.no_store,
        tags=read_tags(policy.tags, "policy.tags"),
        stale=_seconds(policy.stale_while_revalidate, "policy.stale_while_revalidate")
        if policy.HasField("stale_while_revalidate")
        else None,
        sources=read_sources(policy.source_versions, "policy.source_versions"),
    )


def read_token(value: str) -> str:
    """A caller's fill token, perhaps empty."""
    if len(value) > MAX_TOKEN:
        raise invalid("fill_token", f"at most {MAX_TOKEN} characters")
    return value


def read_lease_id(value: str) -> str:
    """A lease's id."""
    if not value:
        raise missing("lease_id", "is required")
    if len(value) > MAX_LEASE_ID:
        raise invalid("lease_id", f"at most {MAX_LEASE_ID} characters")
    return value


def read_audit_id(value: str) -> str:
    """An audit's id."""
    if not value:
        raise missing("audit_id", "is required")
    if len(value) > MAX_AUDIT_ID:
        raise invalid("audit_id", f"at most {MAX_AUDIT_ID} characters")
    return value


def read_stored_answer(request: pb.CommitRequest | pb.PutRequest | pb.ReportAuditRequest) -> Answer:
    """The answer that a request brings."""
    if not request.HasField("answer"):
        raise missing("answer", "is required")
    if request.answer.ByteSize() > MAX_ANSWER_BYTES:
        raise invalid("answer", f"at most {MAX_ANSWER_BYTES} bytes")
    return read_answer(request.answer)


def read_tags(tags: Sequence[str], path: str) -> tuple[str, ...]:
    """Tags, without repeated ones."""
    if len(tags) > MAX_TAGS:
        raise invalid(path, f"at most {MAX_TAGS}")
    for i, tag in enumerate(tags):
        if not 1 <= len(tag) <= MAX_TAG:
            raise invalid(f"{path}[{i}]", f"1 to {MAX_TAG} characters")
    return tuple(dict.fromkeys(tags))


def read_sources(versions: Mapping[str, str], path: str) -> tuple[tuple[str, str], ...]:
    """Sources and their versions, sorted."""
    if len(versions) > MAX_SOURCES:
        raise invalid(path, f"at most {MAX_SOURCES}")
    for name, version in versions.items():
        if not (1 <= len(name) <= MAX_TAG and 1 <= len(version) <= MAX_TAG):
            raise invalid(path, f"names and versions are 1 to {MAX_TAG} characters")
    return tuple(sorted(versions.items()))


def write_lookup(
    result: LookupResult,
    *,
    lookup_id: str,
    version: str,
    lease: Callable[[Granted], pb.Lease],
) -> pb.LookupResponse:
    """The response to a lookup, what it tells of an entry apart; `version` names what decides."""
    response = pb.LookupResponse(outcome=OUTCOMES[result.outcome], lookup_id=lookup_id)
    if result.outcome is Outcome.BYPASS:
        response.bypass_reason = result.bypass_reason.value if result.bypass_reason else ""
        return response
    _fill_decision(response.decision, result.decision, version)
    if result.embedding_tokens:
        response.embedding_usage.CopyFrom(write_usage(Usage(input=result.embedding_tokens)))
    if result.audit_id:
        response.audit_id = result.audit_id
    if isinstance(result.fill, Granted):
        response.fill.granted.CopyFrom(lease(result.fill))
    elif isinstance(result.fill, InProgress):
        response.fill.in_progress_lease_id = result.fill.lease_id
    return response


def write_served(entry: Entry) -> pb.LookupResponse:
    """What a response tells of the entry that is served, the decision apart."""
    response = pb.LookupResponse()
    _write_served(response, entry)
    return response


def write_served_decision(entry: Entry) -> pb.Decision:
    """What the decision of a response tells of the entry that is served."""
    decision = pb.Decision()
    _write_served_decision(decision, entry)
    return decision


def write_decision(decision: Decision, version: str) -> pb.Decision:
    """Why an entry was served or not."""
    message = pb.Decision()
    _fill_decision(message, decision, version)
    return message


def _fill_decision(message: pb.Decision, decision: Decision, version: str) -> None:
    """In place: a part that is made apart is copied into its whole."""
    if decision.similarity is not None:
        message.similarity = decision.similarity
    if decision.p_wrong is not None:
        message.p_wrong = decision.p_wrong
    if decision.threshold is not None:
        message.threshold = decision.threshold
    if decision.vetoes:
        message.veto_reasons.extend(decision.vetoes)
    if decision.age is not None:
        fill_microseconds(message.age, round(decision.age * 1e6))
    if decision.score is not None:
        message.score = decision.score
    if decision.score_threshold is not None:
        message.score_threshold = decision.score_threshold
    message.decision_version = version


def write_embedding(response: pb.LookupResponse, result: LookupResult, *, embedder: str) -> None:
    """Add the question's embedding to the response to a miss, if it was computed."""
    if result.outcome is Outcome.MISS and result.vector is not None:
        response.embedding.vector = result.vector.astype("<f4", copy=False).tobytes()
        response.embedding.dim = len(result.vector)
        response.embedding.embedder = embedder


def write_lease(granted: Granted, *, now: float, monotonic: float) -> pb.Lease:
    """A lease, its end told by the wall clock."""
    return pb.Lease(
        id=granted.lease_id,
        # To the millisecond: the two clocks are not read at the same moment, and the same lease should look the same.
        expire_time=write_timestamp(round(now + granted.expires - monotonic, 3)),
        duration=write_duration(granted.duration),
    )


def write_wait(
    result: WaitResult | LookupResult, *, version: str, lease: Callable[[Granted], pb.Lease]
) -> pb.WaitFillResponse:
    """What became of waiting; `version` names what decides."""
    if isinstance(result, LookupResult) and result.entry is not None:
        filled = pb.FilledAnswer(outcome=OUTCOMES[result.outcome], audit_id=result.audit_id)
        _fill_decision(filled.decision, result.decision, version)
        _write_served(filled, result.entry)
        _write_served_decision(filled.decision, result.entry)
        return pb.WaitFillResponse(filled=filled)
    if isinstance(result, Filled):
        filled = pb.FilledAnswer(answer=write_answer(result.answer), entry_id=result.entry_id)
        return pb.WaitFillResponse(filled=filled)
    if isinstance(result, Granted):
        return pb.WaitFillResponse(granted=lease(result))
    return pb.WaitFillResponse(pending=pb.FillPending())


def write_report(report: Report) -> pb.GetStatsResponse:
    """Statistics."""
    tally, outcomes = report.tally, report.tally.outcomes
    usage_saved, cost_saved = write_total(tally.usage_saved, tally.cost_saved)
    return pb.GetStatsResponse(
        entries_total=report.entries_total,
        entries_valid=report.entries_valid,
        entries_expired=report.entries_expired,
        entries_quarantined=report.entries_quarantined,
        bytes=report.bytes,
        evictions=tally.evictions.total(),
        evictions_by_reason={reason.value: count for reason, count in tally.evictions.items()},
        lookups=pb.LookupCounts(
            exact=outcomes[Outcome.EXACT],
            semantic=outcomes[Outcome.SEMANTIC],
            miss=outcomes[Outcome.MISS],
            bypass=outcomes[Outcome.BYPASS],
            stale=outcomes[Outcome.STALE],
            fills_granted=tally.fills_granted,
            fills_in_progress=tally.fills_in_progress,
            fills_joined=tally.fills_joined,
            fills_shared=tally.fills_shared,
        ),
        vetoes=dict(tally.vetoes),
        usage_saved=usage_saved,
        cost_saved=cost_saved,
        store_healthy=report.store_healthy,
        embedder=report.embedder,
        start_time=write_timestamp(tally.since),
        writes_not_stored=report.writes_not_stored,
        similarity_histogram=pb.SimilarityHistogram(
            bounds=SIMILARITY_BOUNDS, hits=tally.similar_hits, misses=tally.similar_misses
        ),
        latency_histogram=_latencies(tally),
        bypasses={reason.value: count for reason, count in tally.bypasses.items()},
        audits=_audits(tally, report.learning),
        error_budget=_budget(report.learning),
        p_wrong_histogram=pb.PWrongHistogram(
            bounds=P_WRONG_BOUNDS, hits=tally.p_wrong_hits, misses=tally.p_wrong_misses
        ),
        near_misses=tally.near_misses,
        embeddings_waiting=report.embeddings_waiting,
        hours=[
            pb.HourStats(
                start_time=write_timestamp(hour.start),
                hits=hour.hits,
                misses=hour.misses,
                bypasses=hour.bypasses,
                cost_saved_nano_usd=min(hour.nano_usd, LARGEST),
            )
            for hour in report.hours
        ],
        hot_bytes=report.hot_bytes,
        fetches=tally.fetches[Fetch.DONE],
        fetch_failures=tally.fetches[Fetch.FAILED],
        learning=pb.LearningStats(
            namespaces=report.learning.namespaces,
            alarms=report.learning.alarms,
            free_agreed=tally.compared[LabelSource.FREE, True],
            free_differed=tally.compared[LabelSource.FREE, False],
            threshold=report.learning.threshold,
            score_threshold=report.learning.score_threshold,
        ),
    )


def write_duration(seconds: float) -> Duration:
    """Seconds, to the microsecond."""
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1e6))
    return duration


def _audits(tally: Tally, learning: Learning) -> pb.AuditStats:
    found = learning.audited
    return pb.AuditStats(
        asked=tally.audits_asked,
        agreed=tally.compared[LabelSource.AUDIT, True],
        differed=tally.compared[LabelSource.AUDIT, False],
        wrong_share=found.share if found else None,
        wrong_share_low=found.low if found else None,
        wrong_share_high=found.high if found else None,
    )


def _budget(learning: Learning) -> pb.ErrorBudget | None:
    budget = learning.budget
    if budget is None:
        return None
    return pb.ErrorBudget(max_error_rate=budget.target, hits=budget.hits, wrong=budget.wrong, spent=budget.spent)


def _latencies(tally: Tally) -> pb.LatencyHistogram:
    return pb.LatencyHistogram(
        bounds=[write_duration(bound) for bound in LATENCY_BOUNDS],
        outcomes=[
            pb.OutcomeLatency(outcome=OUTCOMES[outcome], counts=tally.latencies(outcome), total=write_duration(seconds))
            for outcome, seconds in sorted(tally.seconds.items())
        ],
    )


def _write_served(response: pb.LookupResponse | pb.FilledAnswer, entry: Entry) -> None:
    response.entry_id = entry.id
    fill_answer(response.answer, entry.whole_answer)
    fill_usage(response.served_from.usage, entry.answer.usage)
    fill_cost(response.served_from.cost_saved, entry.answer.cost)


def _write_served_decision(decision: pb.Decision, entry: Entry) -> None:
    decision.matched_prompt = entry.question[:MATCHED_PROMPT]
    fill_microseconds(decision.expire_time, entry.expires_us)


def _share(value: float, path: str) -> float:
    if not (math.isfinite(value) and 0.0 <= value <= 1.0):
        raise invalid(path, "must be between 0 and 1")
    return value


def _seconds(duration: Duration, path: str) -> float:
    seconds = duration.seconds + duration.nanos / 1e9
    if seconds <= 0:
        raise invalid(path, "must be more than 0")
    return seconds
