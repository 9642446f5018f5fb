"""What callers ask and what they get, as plain immutable values. Times are Unix seconds unless a name says `_us`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from services.cache.entry import Entry
from services.cache.fill_values import Granted, InProgress
from services.chassis.value import value
from services.llm.values import Answer, GenerationOptions, Message, Tool

Vector = NDArray[np.float32]
"""A question's embedding: one row of norm 1."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question with all that decides which answers fit it; the last of `messages` is the question."""

    messages: tuple[Message, ...]
    namespace: str = "default"
    model: str = "auto"
    options: GenerationOptions = field(default_factory=GenerationOptions)
    tools: tuple[Tool, ...] = ()
    objective: str = ""


class Mode(StrEnum):
    """How a request uses the cache."""

    DEFAULT = "default"
    BYPASS = "bypass"
    REFRESH = "refresh"
    ONLY_IF_CACHED = "only_if_cached"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a caller asks of the cache; it can only tighten what the operator set. `ttl` and `max_age` in seconds."""

    mode: Mode = Mode.DEFAULT
    min_similarity: float | None = None
    max_error_rate: float | None = None
    ttl: float | None = None
    max_age: float | None = None
    no_store: bool = False
    tags: tuple[str, ...] = ()
    stale: float | None = None
    """Seconds after its time that an answer is taken all the same, while it is made anew."""
    sources: tuple[tuple[str, str], ...] = ()
    """What an answer must have been made from, by name, and in which version; sorted."""


@value
class Asked:
    """One lookup as its caller wants it. `token` tells this attempt from others, or is empty."""

    query: Query
    policy: Policy = Policy()
    token: str = ""


class Outcome(StrEnum):
    """How a lookup ended."""

    EXACT = "exact"
    SEMANTIC = "semantic"
    STALE = "stale"
    MISS = "miss"
    BYPASS = "bypass"


class BypassReason(StrEnum):
    """Why the cache was not asked, or could not say."""

    POLICY = "policy"
    EMBEDDER_UNAVAILABLE = "embedder_unavailable"
    EMBEDDING_TIMEOUT = "embedding_timeout"
    DECISION_TIMEOUT = "decision_timeout"
    HYDRATING = "hydrating"
    OVERLOADED = "overloaded"
    STORE_UNAVAILABLE = "store_unavailable"
    STORE_TIMEOUT = "store_timeout"
    """The answer is in the store only, which is down, or too slow."""


class Fetch(StrEnum):
    """How it ended to fetch an answer's body from the store."""

    DONE = "done"
    CHANGED = "changed"
    """The store had something else, or nothing that can be read."""
    FAILED = "failed"
    """The store is down or slow: each answer that could not be served for it."""


@value
class Decision:
    """Why an entry was served or not; `similarity` and `threshold` are None when nothing was compared.

    `score`, `score_threshold` and `p_wrong` are a fitted verifier's.
    """

    similarity: float | None = None
    threshold: float | None = None
    vetoes: tuple[str, ...] = ()
    age: float | None = None
    score: float | None = None
    score_threshold: float | None = None
    p_wrong: float | None = None


@value
class LookupResult:
    """The whole answer to one lookup; `entry` is what is served, `vector` the question's embedding if it was needed.

    `fill` on a miss: who makes the answer; with a stale entry: who makes it anew.

    `nearest`: on a semantic hit the cosine of what is served, on a miss that of the nearest entry in the semantic tier,
    or None if there is nothing similar. `near_miss`: that cosine reached what was asked for, and something else kept
    the entry from being served. `audit_id`: not empty if the caller is asked to have a semantic hit answered anew.
    """

    outcome: Outcome
    entry: Entry | None = None
    decision: Decision = Decision()
    fill: Granted | InProgress | None = None
    vector: Vector | None = None
    embedding_tokens: int = 0
    nearest: float | None = None
    bypass_reason: BypassReason | None = None
    near_miss: bool = False
    audit_id: str = ""


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What became of a committed answer; `not_stored` is empty if it was stored."""

    entry_id: str = ""
    not_stored: str = ""
    durable: bool = False

    @property
    def stored(self) -> bool:
        """Whether there is an entry now."""
        return not self.not_stored


@dataclass(frozen=True, slots=True)
class ByIds:
    """These entries; all must exist."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ByTags:
    """Entries with at least one of these tags."""

    tags: frozenset[str]


@dataclass(frozen=True, slots=True)
class BySource:
    """Entries that this writer stored."""

    source: str


@dataclass(frozen=True, slots=True)
class ByWriter:
    """Entries that were written for the API key with this id."""

    key_id: str


@dataclass(frozen=True, slots=True)
class BySourceVersion:
    """Entries that were made from this version of a source, or if `version` is empty from any of it."""

    name: str
    version: str


Selector = ByIds | ByTags | BySource | ByWriter | BySourceVersion


class Action(StrEnum):
    """What becomes of the entries that an operator chooses."""

    DELETE = "delete"
    QUARANTINE = "quarantine"
    """They stay, and are not served, as if the operator had called each wrong."""
    RELEASE = "release"
    """They are served again, as if the operator had called each right."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Entries of one namespace (None: of all), written at `since_us` (Unix microseconds) or later."""

    selector: Selector
    namespace: str | None = "default"
    since_us: int = 0


__all__ = [
    "Action",
    "Answer",
    "Asked",
    "ByIds",
    "BySource",
    "ByTags",
    "ByWriter",
    "BypassReason",
    "Chosen",
    "CommitResult",
    "Decision",
    "Fetch",
    "LookupResult",
    "Mode",
    "Outcome",
    "Policy",
    "Query",
    "Selector",
    "Vector",
]
