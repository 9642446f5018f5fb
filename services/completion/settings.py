"""All settings of the completion service."""

from __future__ import annotations

from pydantic import Field

from services.chassis.settings import ServiceSettings, SuiteSettings
from services.completion.resilience.policy import MOST_TRIES

SERVICE = "completion"

LEAST_HEARTBEAT = 1.0
MOST_HEARTBEAT = 60.0
"""Seconds: what a stream's caller may ask for, and the operator."""

MOST_PACE = 10_000
"""Tokens per second: the same."""


class OfflineSettings(ServiceSettings):
    """The stand-in for a model. Variables are `ANTIPHON_OFFLINE_<FIELD>`, the TOML table is `[offline]`."""

    pace: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Seconds that the offline stand-in takes per word of a streamed answer, so that streaming shows.",
    )


class CompletionSettings(SuiteSettings):
    """Variables are `ANTIPHON_COMPLETION_<FIELD>`, the TOML table is `[completion]`."""

    lookup_timeout: float = Field(
        default=0.1,
        gt=0,
        le=60,
        description="Seconds for the cache's search and decision and the way to it and back; embedding is extra.",
    )
    embedding_timeout: float = Field(
        default=0.5, ge=0, le=60, description="Seconds that a lookup may take longer per window of the question's text."
    )
    embedding_timeout_max: float = Field(
        default=2.0, ge=0, le=60, description="Seconds that embedding may add to a lookup at most."
    )
    route_timeout: float = Field(
        default=0.5, gt=0, le=60, description="Seconds for the router; afterwards a model is chosen without it."
    )
    answer_limit: int = Field(
        default=4 * 1024 * 1024,
        ge=1024,
        le=8 * 1024 * 1024,
        description="Bytes of an answer, reasoning included; a longer one is broken off with RESOURCE_EXHAUSTED.",
    )
    fill_limit: float = Field(
        default=600.0, gt=0, le=86_400, description="Seconds that making one answer may take, whoever waits for it."
    )
    heartbeat: float = Field(
        default=15.0,
        ge=LEAST_HEARTBEAT,
        le=MOST_HEARTBEAT,
        description="Seconds of silence after which a stream sends a heartbeat, unless its caller says otherwise.",
    )
    coalesce_time: float = Field(
        default=0.02,
        ge=0,
        le=10,
        description="Seconds after a piece of a streamed answer in which what is written is gathered into the next "
        "piece; the first content leaves at once. 0: nothing is held back.",
    )
    coalesce_bytes: int = Field(
        default=4096, ge=1, le=65_536, description="Bytes of a streamed answer that are gathered at most."
    )
    replay_tokens_per_second: int = Field(
        default=0,
        ge=0,
        le=MOST_PACE,
        description="The pace at which an answer of the cache, or of an idempotency key, is streamed, unless its "
        "caller says otherwise; four bytes of text count as a token. 0: at once.",
    )
    reader_backlog: int = Field(
        default=256 * 1024,
        ge=65_536,
        le=8 * 1024 * 1024,
        description="Bytes that the reader of a stream is given at once, and that may be written while it is busy with "
        "them; one that falls further behind gets RESOURCE_EXHAUSTED (READER_TOO_SLOW).",
    )
    reader_patience: float = Field(
        default=1.0,
        ge=0,
        le=600,
        description="Seconds for which a reader may be busy whatever is written meanwhile.",
    )
    resume_time: float = Field(
        default=60.0,
        ge=1,
        le=3600,
        description="Seconds that a stream which its caller wants to be able to resume is kept, and its answer made, "
        "without a reader.",
    )
    resume_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024 * 1024,
        le=16 * 1024**3,
        description="Bytes that streams which can be resumed may take together; beyond that those go that were left "
        "for longest.",
    )
    tries: int = Field(
        default=MOST_TRIES,
        ge=1,
        le=MOST_TRIES,
        description="Calls of models that one answer may take, fallbacks included.",
    )
    retry_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Retries that an upstream is given, as a share of its requests; fallback to another model is none.",
    )
    retry_wait: float = Field(
        default=5.0,
        ge=0,
        le=600,
        description="Seconds that an upstream's `Retry-After` is waited out while another model could answer.",
    )
    continue_elsewhere: bool = Field(
        default=True,
        description="Whether callers may ask for an answer that broke off to be continued by another model.",
    )
    breaker_failures: int = Field(
        default=5, ge=1, le=1_000, description="Failures in a row after which a model is left alone for a while."
    )
    breaker_open: float = Field(
        default=1.0,
        gt=0,
        le=3600,
        description="Seconds that it is left alone at first, until one call tries it; doubled whenever that fails.",
    )
    breaker_open_max: float = Field(
        default=30.0, gt=0, le=3600, description="Seconds that a failing model is left alone at most."
    )
    cooldown: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="Seconds that an upstream is left alone which refuses our key, or whose account is spent.",
    )
    concurrency_start: int = Field(
        default=100,
        ge=1,
        le=1_000,
        description="Calls that a model is given at once to begin with; what it can take shows in its answers.",
    )
    concurrency_max: int = Field(
        default=1_000, ge=1, le=1_000, description="Calls that a model is given at once at most."
    )
    queue_wait: float = Field(
        default=5.0,
        ge=0,
        le=600,
        description="Seconds that a request waits for its turn at a model that has as many calls as it takes; who "
        "would wait longer gets RESOURCE_EXHAUSTED (OVERLOADED) at once.",
    )
    catalogue_refresh: float = Field(
        default=60.0, gt=0, le=86_400, description="Seconds between two readings of the router's catalogue."
    )
    audits_waiting: int = Field(
        default=64,
        ge=0,
        le=10_000,
        description="Semantic hits that the cache asked to have answered anew (`ANTIPHON_CACHE_AUDIT_SHARE`), and "
        "stale answers to be refreshed, that may wait for it; further ones are dropped. One is answered at a time. "
        "0: none is.",
    )
    audits_below: int = Field(
        default=32,
        ge=1,
        le=1_000_000,
        description="Answers in the making at which audits and refreshes are dropped, so that callers have the models "
        "to themselves.",
    )
    feedback_keep: float = Field(
        default=86_400.0,
        ge=60,
        le=30 * 86_400.0,
        description="Seconds for which feedback on an answer is taken, by the process that gave it.",
    )
    feedback_answers: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="Answers that may wait for feedback at once, 0.5 kB each; the oldest are forgotten then.",
    )
    idempotency_keep: float = Field(
        default=86_400.0, ge=60, le=30 * 86_400.0, description="Seconds for which an idempotency key is remembered."
    )
    idempotency_lease: float = Field(
        default=30.0,
        ge=1,
        le=3600,
        description="Seconds in which the holder of an idempotency key must renew it; then another process takes over.",
    )
    store_timeout: float = Field(
        default=2.0, gt=0, le=60, description="Seconds that one call to the store may take; for idempotency keys only."
    )
    replication_factor: int = Field(
        default=1, ge=1, le=32, description="Copies that a Qdrant cluster keeps of idempotency keys."
    )
    write_consistency_factor: int = Field(
        default=1, ge=1, le=32, description="Copies that must have an idempotency key before it counts."
    )
    settle_time: float = Field(
        default=5.0,
        ge=0,
        le=300,
        description="Seconds that a stopping server gives what is still to be told to the cache and the router.",
    )
    offline: OfflineSettings = Field(default_factory=OfflineSettings, description="The stand-in for a model.")
