"""A validated request as plain immutable values.

Times are seconds, money is nano-USD.
"""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum

from services.catalogue.values import Capability
from services.chassis.auth.values import Caller
from services.chassis.value import value
from services.completion.resilience.policy import AttemptPolicy
from services.llm.values import GenerationOptions, Message, Tool

LEAST_PRIORITY, MOST_PRIORITY = -100, 100


class CacheMode(StrEnum):
    """How a request uses the cache."""

    DEFAULT = "default"
    BYPASS = "bypass"
    """Neither read nor write."""
    REFRESH = "refresh"
    """Do not read; replace what is stored."""
    ONLY_IF_CACHED = "only_if_cached"
    """Read only."""


class Objective(StrEnum):
    """What a caller cares about."""

    COST = "cost"
    QUALITY = "quality"
    LATENCY = "latency"


@value
class CachePolicy:
    """What a caller asks of the cache; `None` means: the operator's limit."""

    mode: CacheMode = CacheMode.DEFAULT
    min_similarity: float | None = None
    max_error_rate: float | None = None
    ttl: float | None = None
    max_age: float | None = None
    no_store: bool = False
    tags: tuple[str, ...] = ()
    stale: float | None = None
    """Seconds after its time that a stored answer is taken all the same."""
    sources: tuple[tuple[str, str], ...] = ()
    """What an answer must have been made from, by name, and in which version."""

    @property
    def stores(self) -> bool:
        """Whether a new answer may be stored."""
        return not self.no_store and self.mode in {CacheMode.DEFAULT, CacheMode.REFRESH}


@value
class Question:
    """A conversation with all that decides which stored answers fit it."""

    messages: tuple[Message, ...]
    model: str = ""
    """The catalogue's name of the model that the caller asked for; empty: any."""
    namespace: str = "default"
    options: GenerationOptions = field(default_factory=GenerationOptions)
    tools: tuple[Tool, ...] = ()
    objective: str = ""
    """A digest of the caller's routing wishes; empty if it has none."""


@value
class Constraints:
    """What a model must satisfy beyond what the request itself needs."""

    allowed: frozenset[str] = frozenset()
    """Only these models; empty: all."""
    denied: frozenset[str] = frozenset()
    max_cost: int | None = None
    """The most nano-USD that the call may be expected to cost."""
    max_latency: float | None = None
    capabilities: frozenset[Capability] = frozenset()


@value
class Request:
    """A request that shares its fill with every other request of the same `key`."""

    key: bytes
    """Equal for requests that ask the same of the same models under the same cache policy, else different.

    Empty if the cache is bypassed: such a request shares with no other.
    """
    question: Question
    caller: Caller
    """Whom every call serves that is made for this request, behind its back, too. Sharing never crosses tenants."""
    policy: CachePolicy = CachePolicy()
    constraints: Constraints = Constraints()
    objective: Objective = Objective.COST
    routing_policy: str = ""
    """Empty: the operator's default."""
    attempts: AttemptPolicy = field(default_factory=AttemptPolicy)
    """What the caller wishes; the operator's policy is tightened by it."""
    priority: int = 0
    """Who waits for the same model goes first if it is higher. Below 0: work that gives way to everybody's."""
