"""What the domain needs from the cache and the router, as protocols over plain values.

Every call takes a `timeout` in seconds and raises `services.chassis.errors`: `DeadlineExceeded` when that ran out,
`Unavailable` when the service is down, others as the contract of the service says. `caller` is whom the call serves:
what the services keep belongs to its tenant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Protocol

from services.catalogue.values import Capability, Tier
from services.chassis.auth.values import Caller
from services.chassis.value import value
from services.completion.request import CachePolicy, Question, Request
from services.llm.values import Answer, Cost, Usage


class Outcome(StrEnum):
    """How a lookup ended."""

    EXACT = "exact"
    SEMANTIC = "semantic"
    STALE = "stale"
    MISS = "miss"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class Decision:
    """Why an entry was served or not. `age` is in seconds, `expires_at` in Unix seconds."""

    similarity: float | None = None
    p_wrong: float | None = None
    threshold: float | None = None
    veto_reasons: tuple[str, ...] = ()
    matched_prompt: str = ""
    age: float | None = None
    expires_at: float | None = None
    score: float | None = None
    score_threshold: float | None = None
    version: str = ""


@dataclass(frozen=True, slots=True)
class ServedFrom:
    """What an answer that was not bought now had taken when it was made."""

    usage: Usage
    cost: Cost


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to make the answer to one question; renew it at a third of its duration (seconds)."""

    id: str
    duration: float


@dataclass(frozen=True, slots=True)
class Embedding:
    """A question's vector as the cache sent it: little-endian f32."""

    vector: bytes
    embedder: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a lookup returned: an `answer`, a `lease`, the id of another's lease (`in_progress`), or none of them."""

    outcome: Outcome
    answer: Answer | None = None
    entry_id: str = ""
    decision: Decision | None = None
    served_from: ServedFrom | None = None
    lease: Lease | None = None
    in_progress: str = ""
    bypass_reason: str = ""
    embedding: Embedding | None = None
    audit_id: str = ""
    """Not empty: the cache asks to have this hit answered anew, behind the caller's back."""


@dataclass(frozen=True, slots=True)
class Filled:
    """The answer that someone else made while we waited.

    `outcome`: a miss if it was made for this very question; a hit, with `decision` and the rest as in `Found`, if it
    was made for another one that means the same.
    """

    answer: Answer
    entry_id: str = ""
    outcome: Outcome = Outcome.MISS
    decision: Decision | None = None
    served_from: ServedFrom | None = None
    audit_id: str = ""


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of a committed answer."""

    entry_id: str = ""
    stored: bool = False
    reason: str = ""
    """Why it was not stored."""


class FeedbackSource(StrEnum):
    """Who says whether an answer was right; `antiphon.cache.v1.FeedbackSource` says what follows."""

    USER = "user"
    JUDGE = "judge"
    AUDIT = "audit"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class EntryVerdict:
    """What is said about the entry that a completion was. `answered_at`: its answer's, in Unix seconds."""

    entry_id: str
    namespace: str
    right: bool
    source: FeedbackSource
    semantic: bool
    """The entry was served to another question than its own."""
    user: str
    completion_id: str
    answered_at: float


class Cache(Protocol):
    """The cache service."""

    async def lookup(
        self, caller: Caller, question: Question, policy: CachePolicy, fill_token: str, *, timeout: float
    ) -> Found:
        """Look for a stored answer; a miss may grant the fill."""
        ...

    async def wait_fill(
        self, caller: Caller, lease_id: str, fill_token: str, *, timeout: float
    ) -> Filled | Lease | None:
        """Wait for another's fill: its answer, its lease if it gave up, or `None` if nothing has happened yet."""
        ...

    async def renew(self, caller: Caller, lease_id: str, *, timeout: float) -> Lease:
        """Extend a lease; `Aborted` or `NotFound` if it is lost."""
        ...

    async def commit(self, caller: Caller, lease_id: str, answer: Answer, *, timeout: float) -> Committed:
        """Store the answer of a granted fill; `Aborted` or `NotFound` if the lease is lost."""
        ...

    async def abort(self, caller: Caller, lease_id: str, reason: str, *, timeout: float) -> None:
        """Give up a granted fill."""
        ...

    async def put(
        self, caller: Caller, question: Question, answer: Answer, policy: CachePolicy, *, timeout: float
    ) -> str:
        """Store an answer without a lease; the id of its entry."""
        ...

    async def feedback(self, caller: Caller, verdict: EntryVerdict, *, timeout: float) -> bool:
        """Say whether an entry's answer was right; whether that is new. `NotFound` if it is not there any more."""
        ...

    async def report_audit(self, caller: Caller, audit_id: str, answer: Answer, *, timeout: float) -> None:
        """Report the fresh answer of an audit; the cache compares it with what it served."""
        ...


@value
class Candidate:
    """A model that can take the request; names are the catalogue's."""

    model: str
    upstream: str


@value
class Routing:
    """Candidates, best first, and why. `decision_id` is empty if the router should have been asked and was not."""

    candidates: tuple[Candidate, ...]
    decision_id: str = ""
    complexity: Tier | None = None
    reasons: tuple[str, ...] = ()
    policy_version: str = ""
    foregone: bool = False
    """There was nothing to decide, so the router hears of it with the first report."""


@dataclass(frozen=True, slots=True)
class ListedPrices:
    """Prices as the router lists them: nano-USD per 1M tokens, and per request."""

    input: int
    output: int
    cached_input: int
    cache_write: int
    per_request: int
    date: date
    version: str


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model as the router lists it."""

    name: str
    prices: ListedPrices
    context_tokens: int
    max_output_tokens: int
    capabilities: frozenset[Capability]


class CallStatus(StrEnum):
    """How a call of a model ended."""

    OK = "ok"
    UPSTREAM_ERROR = "upstream_error"
    CANCELLED = "cancelled"


@value
class CallReport:
    """What one call of a model took. Times in seconds."""

    caller: Caller
    """Whose decision it was."""
    decision_id: str
    source: str
    """Distinguishes the calls made for one decision."""
    model: str
    usage: Usage
    cost: Cost
    latency: float
    time_to_first_token: float | None
    status: CallStatus
    policy_version: str = ""
    """Of a decision that the router was not asked for."""


@dataclass(frozen=True, slots=True)
class VerdictReport:
    """What somebody says of an answer whose model the router chose."""

    caller: Caller
    """Who says it, of the tenant whose decision it was."""
    decision_id: str
    source: str
    """Distinguishes those who speak of one decision."""
    model: str
    right: bool


Report = CallReport | VerdictReport


class Router(Protocol):
    """The router service."""

    async def route(self, request: Request, embedding: Embedding | None, *, timeout: float) -> Routing:
        """Rank the models for a request; `InvalidRequest` or `FailedPrecondition` if none can take it."""
        ...

    async def list_models(self, *, timeout: float) -> Sequence[ListedModel]:
        """List what the router offers."""
        ...

    async def record(self, caller: Caller, reports: Sequence[Report], *, timeout: float) -> int:
        """Report how calls ended and what is said of answers, for one caller; return how many were refused.

        Repeating it changes nothing; of verdicts of one source the first counts.
        """
        ...
